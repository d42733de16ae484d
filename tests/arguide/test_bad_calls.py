"""Every public name of `arguide` refuses bad arguments, with one line that names the argument."""

import pytest
import torch
from bad_calls import COUNTS, FUNCTIONS, INF, NAN, NUMBERS, POSITIVE, SHARES, cases, refused

import arguide
from analysis import MarkovChain, Table
from arguide import Ending, LogLinear, guidance, schedules, training, transforms

TABLE = Table(torch.tensor([[[0.2, 0.1, 0.05], [0.05, 0.05, 0.1]], [[0.1, 0.05, 0.1], [0.1, 0.05, 0.05]]]))
COND, UNCOND = TABLE.autoregressive(0), TABLE.autoregressive()
LAW = LogLinear.guidance(COND, UNCOND, 2.0)
LOGS = torch.tensor([[-0.5, -1.5, -2.0], [-1.0, -1.0, -1.2]]).log_softmax(-1)
SPOILT = torch.tensor([[-0.5, NAN, -2.0], [-1.0, -1.0, -1.2]])
CERTAIN = torch.tensor([[-0.5, INF, -2.0], [-1.0, -1.0, -1.2]])
NOTHING = torch.full((2, 3), -INF)
OTHER = MarkovChain(torch.full((1, 4), 0.25), torch.full((1, 4, 4), 0.25), 2).autoregressive()  # of another vocabulary
RUNS = [arguide.sample_joint(LAW, 4, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
SCALES = [*NUMBERS, torch.tensor(NAN), torch.tensor([1.0, INF]), torch.tensor([1.0 + 1j, 1.0])]
ROWS = [torch.ones(3), torch.ones(2, 3), torch.ones(2, 1)]
LOGITS = [3.0, [[0.1, 0.2, 0.7]], "logits", torch.tensor(1.0), torch.zeros(2, 0), LOGS.to(torch.complex64), SPOILT, CERTAIN]
SPOILT_LAWS = [3.0, [0.5, 0.5], torch.tensor(1.0), torch.zeros(2, 0), SPOILT, NOTHING]
WEIGHTS = [torch.tensor([NAN, 0.0]), NOTHING[0], torch.tensor([0.0, INF]), torch.zeros(0), torch.zeros(2, 2), [0.0, 1.0]]
STARTS = [torch.zeros(3, 2).long(), torch.zeros(2, 3).long(), torch.zeros(2, 2), torch.zeros(2).long(), [[0, 1], [1, 1]], "01"]
OUTSIDE = [torch.tensor([[0, -1], [0, 0]]), torch.tensor([[0, 3], [0, 0]]), torch.tensor([[9, 0], [0, 0]])]


class Spoilt:
    """A model whose law is NaN after the first token."""

    def start(self, n):
        return UNCOND.start(n)

    def append(self, state, token):
        state = UNCOND.append(state, token)
        return state._replace(log_probs=state.log_probs * NAN)

    def select(self, state, index):
        return UNCOND.select(state, index)


def joint(n=4, length=2, model=LAW, **options):
    return arguide.sample_joint(model, n, length, **options)


def joints(count=2, n=4, length=2, **options):
    return arguide.sample_joints(LAW, count, n, length, **options)


def sample(n=2, length=2, model=LAW, **options):
    return arguide.sample(model, n, length, **options)


def chains(n=2, length=2, steps=1, model=LAW, **options):
    return arguide.sample_metropolis(model, n, length, steps, **options)


def ladder(n=2, length=2, model=LAW, **options):
    return arguide.sample_ladder(model, n, length, **{"levels": 2, "sweeps": 2, "burn_in": 0} | options)


GUIDANCE = cases(
    ("guide", "scale", lambda v: arguide.guide(LOGS, LOGS.flip(0), v), SCALES + ROWS),
    ("guide", "cond", lambda v: arguide.guide(v, LOGS, 2.0), LOGITS[:6]),
    ("guide", "uncond", lambda v: arguide.guide(LOGS, v, 2.0), LOGITS[:6]),
    ("guide", "logits", lambda v: arguide.guide(v, LOGS, 2.0), LOGITS[6:]),
    ("guide", "vocabulary", lambda v: arguide.guide(v, LOGS, 2.0), [torch.zeros(2, 4), torch.zeros(2, 1), torch.zeros(1)]),
    ("guide", "rows", lambda v: arguide.guide(v, LOGS, 2.0), [torch.zeros(3, 3), torch.zeros(4, 3, 3)]),
    ("guide", "floor", lambda v: arguide.guide(LOGS, LOGS, 2.0, floor=v), [NAN, INF, "-20"]),
    ("combine", "weights", lambda v: arguide.combine((LOGS, LOGS), (v, 0.5)), [*NUMBERS, torch.tensor([1.0, NAN])]),
    ("combine", "weights", lambda v: arguide.combine((LOGS, LOGS), v), [(1.0,), (1.0, 0.5, 0.5), (), 3.0, None, "ab"]),
    ("combine", "branch", lambda v: arguide.combine(v, v), [()]),
    ("combine", "logits", lambda v: arguide.combine((LOGS, v), (0.5, 0.5)), [*LOGITS, torch.zeros(2, 4), torch.zeros(5, 3)]),
    ("guidance_weights", "scale", arguide.guidance_weights, SCALES),
    ("composition_weights", "scale", lambda v: guidance.composition_weights((1.0, v)), SCALES),
    ("normalize", "logits", arguide.normalize, LOGITS),
)

MODELS = cases(
    ("LogLinear", "models", lambda v: LogLinear((v,), (1.0,)), [None, 3, "gpt2", torch.zeros(3)]),
    ("LogLinear", "weights", lambda v: LogLinear((COND, UNCOND), v), [(1.0,), (1.0, 1.0, 1.0), (), 2.0, "ab", None]),
    ("LogLinear", "weights", lambda v: LogLinear((COND, UNCOND), (v, 0.5)), SCALES),
    ("LogLinear", "models", lambda v: LogLinear((), v), [()]),
    ("LogLinear", "floor", lambda v: LogLinear((COND,), (1.0,), v), [NAN, INF, "-20"]),
    ("LogLinear.guidance", "scale", lambda v: LogLinear.guidance(COND, UNCOND, v), SCALES),
    ("LogLinear.guidance", "scale", lambda v: LogLinear.guidance(COND, UNCOND, lambda _: v).start(2), SCALES),
    ("LogLinear.guidance", "temperature", lambda v: LogLinear.guidance(COND, UNCOND, 1.0, temperature=v), POSITIVE),
    ("LogLinear.guidance", "models", lambda v: LogLinear.guidance(v, UNCOND, 1.0), [None, 3, "gpt2"]),
    ("LogLinear.guidance", "vocabulary", lambda v: LogLinear.guidance(v, UNCOND, 2.0).start(2), [OTHER]),
    ("LogLinear.composition", "scales", lambda v: LogLinear.composition(UNCOND, [COND], v), [(1.0, 2.0), (), 2.0, "2"]),
    ("LogLinear.composition", "scale", lambda v: LogLinear.composition(UNCOND, [COND], [v]), SCALES),
    ("LogLinear.composition", "temperature", lambda v: LogLinear.composition(UNCOND, [COND], [1.0], temperature=v), POSITIVE),
    ("LogLinear.temperature", "temperature", lambda v: LogLinear.temperature(COND, v), POSITIVE),
    ("Ending", "tokens", lambda v: Ending(LAW, v, 2), [(), (-1,), (1.5,), ("1",), 1, "1", None]),
    ("Ending", "tokens", lambda v: sample(model=Ending(LAW, v, 2)), [(3,), (1, 99)]),
    ("Ending", "length", lambda v: Ending(LAW, (0,), v), COUNTS),
    ("Ending", "cap", lambda v: Ending(LAW, (0,), 2, v), ["stop", None, 3]),
    ("Ending", "model", lambda v: Ending(v, (0,), 2), [None, 3, "gpt2"]),
    ("Ending", "length", lambda v: sample(length=v, model=Ending(LAW, (0,), 2)), [1, 3]),
)

SAMPLERS = cases(
    ("sample", "n", lambda v: sample(n=v), COUNTS),
    ("sample", "length", lambda v: sample(length=v), COUNTS[1:]),
    ("sample", "model", lambda v: sample(model=v), [None, 3, "gpt2"]),
    ("sample", "log_probs", lambda v: sample(model=v), [Spoilt()]),
    *(("sample", name, lambda v, name=name: sample(**{name: v}), FUNCTIONS) for name in ("draw", "transform", "propose")),
    ("sample_joint", "n", lambda v: joint(n=v), COUNTS),
    ("sample_joint", "length", lambda v: joint(length=v), COUNTS[1:]),
    ("sample_joint", "model", lambda v: joint(model=v), [None, 3, "gpt2"]),
    ("sample_joint", "logits", lambda v: joint(model=LogLinear((v,), (2.0,))), [Spoilt()]),
    ("sample_joint", "threshold", lambda v: joint(threshold=v), [*SHARES, None]),
    ("sample_joint", "block", lambda v: joint(block=v), COUNTS),
    *(
        ("sample_joint", name, lambda v, name=name: joint(**{name: v}), FUNCTIONS)
        for name in ("draw", "transform", "propose", "resample", "twist")
    ),
    ("sample_joints", "count", lambda v: joints(count=v), COUNTS),
    ("sample_joints", "n", lambda v: joints(n=v), COUNTS),
    ("sample_joints", "threshold", lambda v: joints(threshold=v), SHARES),
    ("JointSample.draw", "n", lambda v: RUNS[0].draw(v), COUNTS),
    ("pooled", "runs", arguide.pooled, [[], RUNS[:1], ()]),
    ("over_runs", "values", lambda v: arguide.over_runs(v, [0.0, 0.0]), [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], []]),
    ("over_runs", "values", lambda v: arguide.over_runs(v, v), [[1.0], []]),
    ("sample_metropolis", "n", lambda v: chains(n=v), COUNTS),
    ("sample_metropolis", "length", lambda v: chains(length=v), COUNTS),
    ("sample_metropolis", "steps", lambda v: chains(steps=v), COUNTS[1:]),
    ("sample_metropolis", "model", lambda v: chains(model=v), [None, 3, "gpt2"]),
    ("sample_metropolis", "first", lambda v: chains(first=v), STARTS),
    ("sample_metropolis", "tokens", lambda v: chains(first=v), OUTSIDE),
    *(
        ("sample_metropolis", name, lambda v, name=name: chains(**{name: v}), FUNCTIONS)
        for name in ("draw", "transform", "propose")
    ),
    *(("sample_ladder", name, lambda v, name=name: ladder(**{name: v}), [*COUNTS, 1]) for name in ("n", "levels", "sweeps")),
    ("sample_ladder", "length", lambda v: ladder(length=v), COUNTS),
    ("sample_ladder", "burn_in", lambda v: ladder(burn_in=v), COUNTS[1:]),
    ("sample_ladder", "model", lambda v: ladder(model=v), [None, 3, "gpt2", COND, arguide.Mixture([COND], [0.0])]),
    ("sample_ladder", "scale", lambda v: ladder(model=LogLinear.guidance(COND, UNCOND, v)), [torch.tensor([1.0, 2.0])]),
    ("sample_ladder", "start", lambda v: ladder(start=v), [2, -1, 0.5, "cond"]),
    ("sample_ladder", "first", lambda v: ladder(first=v), [*STARTS[1:], torch.zeros(0, 2).long(), torch.zeros(2, 1).long()]),
    ("sample_ladder", "tokens", lambda v: ladder(first=v), OUTSIDE),
    ("sample_ladder", "draw", lambda v: ladder(draw=v), FUNCTIONS),
)

PARTS = cases(
    *(
        (name, "log_weights", getattr(arguide, name), WEIGHTS)
        for name in ("multinomial", "residual", "stratified", "systematic")
    ),
    ("temperature", "tau", arguide.temperature, [*POSITIVE, None]),
    ("top_k", "k", arguide.top_k, COUNTS),
    ("nucleus", "mass", arguide.nucleus, [*SHARES, 0.0, None]),
    ("typical", "mass", arguide.typical, [*SHARES, 0.0, None]),
    ("defensive", "share", arguide.defensive, [*SHARES, 1.0, None]),
    ("only", "tokens", arguide.only, [(), (-1,), (0.5,), 3, "3", None, torch.tensor([-1])]),
    ("only", "tokens", lambda v: arguide.only(v)(LOGS), [(3,), (0, 99)]),
    ("only", "log_probs", arguide.only((1,)), [torch.tensor([[0.0, -INF, -INF]])]),
    ("compose", "transforms", arguide.compose, FUNCTIONS),
    *(
        (name, "log_probs", transform, SPOILT_LAWS)
        for name, transform in {
            "temperature": arguide.temperature(0.7),
            "top_k": arguide.top_k(1),
            "nucleus": arguide.nucleus(0.5),
            "typical": arguide.typical(0.5),
            "defensive": transforms.defensive(0.1),
            "only": arguide.only((0, 2)),
        }.items()
    ),
    ("interval", "scale", schedules.interval, NUMBERS),
    ("interval", "outside", lambda v: schedules.interval(2.0, outside=v), NUMBERS),
    ("interval", "start", lambda v: schedules.interval(2.0, v, 5), [NAN, "3", None]),
    ("interval", "stop", lambda v: schedules.interval(2.0, 5, v), [NAN, 5, 3, "9", None]),
    ("ramp", "first", lambda v: schedules.ramp(v, 1.0, 3), NUMBERS),
    ("ramp", "length", lambda v: schedules.ramp(0.0, 1.0, v), COUNTS),
    ("Recipe", "steps", training.Recipe, COUNTS),
    ("Recipe", "batch", lambda v: training.Recipe(1, batch=v), COUNTS),
    ("Recipe", "rate", lambda v: training.Recipe(1, rate=v), POSITIVE),
    ("Recipe", "decay", lambda v: training.Recipe(1, decay=v), [NAN, -1.0, INF, "1"]),
    *(
        ("Recipe", name, lambda v, name=name: training.Recipe(1, **{name: v}), SHARES)
        for name in ("dropout", "dropout_from", "average")
    ),
)


@pytest.mark.parametrize(("call", "argument"), [*GUIDANCE, *MODELS, *SAMPLERS, *PARTS])
def test_a_bad_call_is_refused_in_one_line_that_names_the_argument(call, argument):
    refused(call, argument)


@pytest.mark.parametrize("scale", [-2.0, 0.0, 1.0, 7.5, torch.tensor([-1.0, 3.0]), 2, torch.tensor(2)])
def test_every_finite_scale_is_legal(scale):
    assert arguide.guide(LOGS, LOGS.flip(0), scale).isfinite().all()
    assert LogLinear.guidance(COND, UNCOND, scale).start(2).log_probs.exp().sum(-1).allclose(torch.ones(2).double())


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3), (1, 2, 3)])
def test_any_leading_shape_is_legal(shape):
    cond = LOGS[0].expand(shape)
    assert arguide.guide(cond, LOGS[1], 2.0).shape == shape
    assert arguide.normalize(cond).log_normalizer.shape == shape[:-1]


def test_what_looks_like_a_number_of_runs_or_rows_is_refused():
    run = arguide.sample_joint(COND, 4, 2)
    refused(lambda: arguide.pooled(run), "runs")
    refused(lambda: arguide.sample(COND, True, 2), "n")
    refused(lambda: arguide.sample(COND, 2**70, 2), "n")
    refused(lambda: arguide.over_runs([1.0, float("nan")], [0.0, 0.0]), "values")
    refused(lambda: arguide.over_runs([1.0, 2.0], [float("nan"), 0.0]), "log_evidences")


@pytest.mark.parametrize("scheme", ["multinomial", "stratified", "systematic", "residual"])
def test_integer_weights_are_resampled_as_numbers(scheme):
    ancestors = getattr(arguide, scheme)(torch.tensor([0, 40]), torch.Generator().manual_seed(0))
    assert ancestors.tolist() == [1, 1]
