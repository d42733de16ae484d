"""Estimates of scale factors and of the gap: against enumeration of the texts of small models, and against exact tables."""

import math
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t as student
from small import build

import arguide
from analysis import Table
from analysis.figures import measurement as figures
from analysis.metrics import gap_estimates, scale_factors

WORDS, LENGTH, PROMPT, NEGATIVE, END = 5, 3, [1, 2, 3], [4], 0
SCALE = 2.5


class Exact:
    """Every text of at most three words of a model, padded with the end, and both its laws, in float64."""

    def __init__(self, model, weights, base, end=None, cap="truncate"):
        every = [x for x in product(range(WORDS), repeat=LENGTH) if end is None or self._proper(x, end)]
        self.ended = torch.tensor([end in x for x in every])
        self.sizes = torch.tensor([x.index(end) + 1 if end in x else LENGTH for x in every])
        self.texts = torch.tensor(every)
        laws = {}
        with torch.no_grad():
            for name, prompt in (("cond", PROMPT), ("uncond", NEGATIVE)):
                ids = torch.cat([torch.tensor([prompt] * len(every)), self.texts], 1)
                laws[name] = model(ids).logits[:, len(prompt) - 1 : -1].double().log_softmax(-1)
        guided = sum(weight * laws[name] for name, weight in weights.items())
        inside = torch.arange(LENGTH) < self.sizes[:, None]
        if cap == "force":
            guided[:, -1, [v for v in range(WORDS) if v != end]] = -math.inf
        kept = self.ended if cap == "force" else torch.ones_like(self.ended)
        rows = torch.arange(len(every))[kept]
        self.texts, self.sizes, self.ended, inside = self.texts[rows], self.sizes[rows], self.ended[rows], inside[rows]
        at = self.texts[..., None]
        target = guided[rows].gather(-1, at)[..., 0].masked_fill(~inside, 0.0)
        normalizers = guided[rows].logsumexp(-1).masked_fill(~inside, 0.0)
        self.log_base = laws[base][rows].gather(-1, at)[..., 0].masked_fill(~inside, 0.0).sum(1)
        self.log_target, self.log_path = target.sum(1), normalizers.sum(1)
        self.q = (self.log_target - self.log_path).exp()
        self.log_z = self.log_target.logsumexp(0)
        self.kl = float(self.log_z - (self.q * self.log_path).sum())

    @staticmethod
    def _proper(x, end):
        return end not in x or all(word == end for word in x[x.index(end) :])

    def row(self, tokens):
        padded = [*tokens, *[END] * (LENGTH - len(tokens))]
        return int((self.texts == torch.tensor(padded)).all(1).nonzero()[0, 0])


@pytest.fixture(scope="module")
def small():
    """A model whose laws are far apart: KL(sequential ‖ joint) is .3 nats for guidance, .7 with ends, .7 for temperature."""
    model = build("llama", seed=11, vocab_size=WORDS, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    model.generation_config.eos_token_id = None
    return model


GUIDANCE = {"cond": SCALE, "uncond": 1 - SCALE}
CASES = {
    "guidance": (GUIDANCE, "uncond", None, "truncate"),
    "ends": (GUIDANCE, "uncond", END, "truncate"),
    "forced ends": (GUIDANCE, "uncond", END, "force"),
    "temperature": ({"cond": 2.0}, "cond", END, "truncate"),
    "temperature, unconditional base": ({"cond": 2.0}, "uncond", None, "truncate"),
    "both": ({"cond": 2 * SCALE, "uncond": 2 - 2 * SCALE}, "uncond", None, "truncate"),
}
TAUS = {"temperature": 0.5, "temperature, unconditional base": 0.5, "both": 0.5}


def of_case(model, name):
    """Return the enumeration of a case, and the laws that the library has for it."""
    weights, base, end, cap = CASES[name]
    given = {"negative_prompt_ids": torch.tensor([NEGATIVE])}
    given |= {} if end is None else {"max_new_tokens": LENGTH, "eos_token_id": end}
    ids = torch.tensor([PROMPT])
    scale = SCALE if len(weights) == 2 else 1.0
    law = arguide.continuation(model, ids, guidance_scale=scale, temperature=TAUS.get(name, 1.0), cap=cap, **given)
    own = arguide.continuation(model, ids, guidance_scale=float(base == "cond"), **given)
    return Exact(model, weights, base, end, cap), law, own


def measure(law, base, seed=0, plan=(100, 100, 4), **options):
    generator = torch.Generator().manual_seed(seed)
    return gap_estimates.measure(law, base, LENGTH, gap_estimates.Plan(*plan), generator=generator, **options)


@pytest.mark.parametrize("name", CASES)
def test_factors_are_the_enumerated_factors(small, name):
    """Up to the error of log Ẑ, the same for every text; eight errors by Student's t of nine degrees: 2e-5."""
    exact, law, base = of_case(small, name)
    measured = measure(law, base, plan=(100, 100, 10))
    frame = measured.sequences
    rows = [exact.row(tokens) for tokens in measured.tokens]
    assert len(set(rows)) > 4
    log_target, log_path, log_base = (x[rows].numpy() for x in (exact.log_target, exact.log_path, exact.log_base))
    exact_z = float(exact.log_z)
    np.testing.assert_allclose(frame.log_s + frame.log_z - exact_z, log_target - exact_z - log_base, atol=1e-4)
    np.testing.assert_allclose(frame.log_s_prime, log_target - log_path - log_base, atol=1e-4)
    np.testing.assert_allclose(frame.log_path, log_path, atol=1e-4)
    np.testing.assert_allclose(frame.log_s - frame.log_s_prime, frame.log_path - frame.log_z, atol=1e-9)
    assert frame.tokens.tolist() == exact.sizes[rows].tolist() == list(map(len, measured.tokens))
    assert frame.ended.tolist() == exact.ended[rows].tolist()
    assert (frame.log_z == measured.diagnosis.log_evidence).all()
    np.testing.assert_allclose(frame.log_s_high - frame.log_s, 2.262157 * measured.diagnosis.std_error, rtol=1e-6)
    np.testing.assert_allclose(frame.log_s - frame.log_s_low, 2.262157 * measured.diagnosis.std_error, rtol=1e-6)
    last = measured.lengths.iloc[-1]
    assert last.kl_per_token == pytest.approx(last.kl / frame.tokens.mean())
    assert abs(measured.diagnosis.log_evidence - exact_z) < 8 * measured.diagnosis.std_error + 1e-4
    assert abs(last.kl - exact.kl) < 2 * (last.kl_high - last.kl_low) + 1e-4


def toy_case(make_joint, kind):
    """Return the laws of a table, and the same as autoregressive models; γ = 3, or β = 3 for temperature."""
    table = Table(make_joint(7, (2, 3, 3, 3)))
    cond, uncond = table.autoregressive(1), table.autoregressive()
    if kind == "guidance":
        law = arguide.LogLinear.guidance(cond, uncond, 3.0)
        return law, uncond, scale_factors.scale_factors(table, 1, 3.0), scale_factors.summary(table, 1, 3.0)
    law = arguide.LogLinear.temperature(uncond, 1 / 3)
    given = {"scale": 0.0, "temperature": 1 / 3}  # of the unconditional law
    return law, uncond, scale_factors.scale_factors(table, 1, **given), scale_factors.summary(table, 1, **given)


@pytest.mark.parametrize(("samples", "repeats"), [(3, 6), (40, 2)])
def test_the_gap_has_welchs_interval_of_its_runs_and_texts(make_joint, samples, repeats):
    """Student's t of R − 1 degrees of freedom for R runs and n − 1 for n texts, joined by Welch and Satterthwaite."""
    table = Table(make_joint(4, (2, 2, 3)))
    cond, uncond = table.autoregressive(0), table.autoregressive()
    plan = gap_estimates.Plan(samples, 400, repeats)
    law = arguide.LogLinear.guidance(cond, uncond, 3.0)
    found = gap_estimates.measure(law, uncond, 2, plan, generator=torch.Generator().manual_seed(0))
    last = found.lengths.iloc[-1]
    of_runs, of_texts = last["log_z_std_error"] ** 2, last["log_path_std_error"] ** 2
    freedom = (of_runs + of_texts) ** 2 / (of_runs**2 / (repeats - 1) + of_texts**2 / (samples - 1))
    half = student.ppf(0.975, freedom) * np.sqrt(of_runs + of_texts)
    assert last["kl"] == pytest.approx(last["log_z"] - last["log_path"])
    assert [last["kl_low"], last["kl_high"]] == pytest.approx([last["kl"] - half, last["kl"] + half])


@pytest.mark.parametrize("kind", ["guidance", "temperature"])
def test_intervals_hold_the_exact_gap(make_joint, kind):
    """28 of 40 or fewer have probability 1e-6 at 95 %. The control: half the KL, and a log Z as wrong, are not covered."""
    law, base, exact, summary = toy_case(make_joint, kind)
    kl, held = summary["kl_sequential_joint"], torch.zeros(4, dtype=torch.long)
    assert kl > 0.1
    for seed in range(40):
        generator, plan = torch.Generator().manual_seed(seed), gap_estimates.Plan(1000, 500, 4)
        measured = gap_estimates.measure(law, base, 3, plan, generator=generator)
        last, first, cell = measured.lengths.iloc[-1], measured.sequences.iloc[0], tuple(measured.tokens[0])
        assert first.log_s_prime == pytest.approx(float(exact.log_sequential[cell]), abs=1e-9)
        assert first.log_path == pytest.approx(float(exact.log_path[cell]), abs=1e-9)
        log_s = float(exact.log_joint[cell])
        inside = [last.kl_low <= kl - wrong <= last.kl_high for wrong in (0.0, kl / 2)]
        inside += [first.log_s_low <= log_s - wrong <= first.log_s_high for wrong in (0.0, kl / 2)]
        held += torch.tensor(inside)
    assert min(held[0], held[2]) > 28 > max(held[1], held[3]), held


def test_the_gap_grows_from_nothing_with_length(small):
    """The row of a prefix length is the last row of a measurement of this length."""
    exact, law, base = of_case(small, "guidance")
    measured = measure(law, base, plan=(4000, 1000, 10))
    frame = measured.lengths
    assert frame.length.tolist() == [1, 2, 3]
    for size in (1, 2, 3):
        heads = exact.texts[:, :size]
        _, index = torch.unique(heads, dim=0, return_inverse=True)
        firsts = torch.zeros(WORDS**size, dtype=torch.long).scatter_(0, index, torch.arange(len(index)))
        short = {"q": torch.zeros(WORDS**size, dtype=torch.float64).index_add(0, index, exact.q)}
        rows = exact.texts[firsts]
        assert short["q"].sum() == pytest.approx(1)
        log_target, log_path = prefixes(small, rows, size)
        log_z = float(log_target.logsumexp(0))
        kl = log_z - float((short["q"] * log_path).sum())
        row = frame.iloc[size - 1]
        assert row.log_z == pytest.approx(log_z, abs=8 * row.log_z_std_error + 1e-4)
        assert row.log_path == pytest.approx(log_z - kl, abs=8 * row.log_path_std_error + 1e-4)
        assert row.kl == pytest.approx(row.log_z - row.log_path, abs=1e-12)
        assert row.kl_per_token == pytest.approx(row.kl / size)
        weights = (log_path - log_z).exp()
        share = 1 / float((short["q"] * weights.square()).sum())  # E[w]² / E[w²]; E[w] = 1
        assert row.ess_share == pytest.approx(share, abs=0.15)
        assert row.ess == pytest.approx(4000 * row.ess_share)
    assert abs(frame.kl[0]) < 1e-4 < frame.kl[1] < frame.kl[2]
    assert frame.kl_high[0] - frame.kl_low[0] < 1e-4 < frame.kl_high[2] - frame.kl_low[2]


def prefixes(model, texts, size):
    """Return Σ log p̃ and Σ log Z_t over the first words of texts, by guidance."""
    laws = []
    with torch.no_grad():
        for prompt in (PROMPT, NEGATIVE):
            ids = torch.cat([torch.tensor([prompt] * len(texts)), texts], 1)
            laws.append(model(ids).logits[:, len(prompt) - 1 : -1].double().log_softmax(-1))
    guided = (SCALE * laws[0] + (1 - SCALE) * laws[1])[:, :size]
    return guided.gather(-1, texts[:, :size, None]).sum((1, 2)), guided.logsumexp(-1).sum(1)


def test_a_prefix_is_compared_with_z_of_its_length(small):
    exact, law, base = of_case(small, "ends")
    given = [[1, 2, 3], [4], [3, END], [2, 2]]
    measured = measure(law, base, given=given, plan=(50, 3, 3))
    frame = measured.sequences
    assert measured.tokens == given
    assert frame.ended.tolist() == [False, False, True, False]
    log_z = measured.lengths.log_z
    assert frame.log_z.tolist() == [log_z[2], log_z[0], log_z[2], log_z[1]]
    for i in (0, 2):
        row = exact.row(given[i])
        assert frame.log_s[i] + frame.log_z[i] == pytest.approx(float(exact.log_target[row] - exact.log_base[row]), abs=1e-4)
    again = measure(law, base, plan=(50, 3, 3))
    pd.testing.assert_frame_equal(again.lengths, measured.lengths)  # the gap is measured on samples, not on given texts
    scores = arguide.score(
        small,
        torch.tensor([PROMPT]),
        torch.tensor([[2, 2]]),
        guidance_scale=SCALE,
        negative_prompt_ids=torch.tensor([NEGATIVE]),
    )
    assert frame.log_s[3] == pytest.approx(float(scores.joint - scores.branches[1]) - log_z[1], abs=1e-4)
    assert frame.log_s_prime[3] == pytest.approx(float(scores.sequential - scores.branches[1]), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("guidance", [[1], []], "text 2 must have from 1 to 3 tokens, got 0"),
        ("guidance", [[1, 2, 3, 4]], "text 1 must have from 1 to 3 tokens, got 4"),
        ("ends", [[1], [END, 2]], "text 2 must end with its ending token"),
        ("forced ends", [[1, END], [1, 2, 3]], "text 2 must have a positive probability under the guided law"),
    ],
)
def test_a_text_without_factors_is_refused(small, name, given, says):
    _, law, base = of_case(small, name)
    with pytest.raises(ValueError, match=says):
        measure(law, base, given=given)


def test_a_text_of_probability_0_under_the_base_law_is_refused():
    joint = torch.tensor([[0.4, 0.1, 0.2, 0.3], [0.1, 0.4, 0.3, 0.2]]).double().reshape(2, 2, 2)
    law = Table(joint / joint.sum()).autoregressive(0)
    gone = joint.clone()
    gone[:, 1] = 0.0
    with pytest.raises(ValueError, match="positive probability under the base law"):
        gap_estimates.measure(
            arguide.LogLinear.temperature(law, 0.5), Table(gone / gone.sum()).autoregressive(), 2, gap_estimates.Plan(50, 50, 2)
        )


@pytest.mark.parametrize("numbers", [(1, 2, 2), (2, 1, 2), (2, 2, 1)])
def test_a_plan_without_errors_is_refused(numbers):
    with pytest.raises(ValueError, match="at least 2"):
        gap_estimates.Plan(*numbers)


def test_a_probe_corrects_an_estimate_and_casts_doubt():
    """A word of probability 1e-7 has most of the weight: runs never draw it and agree to the last digit, probes draw it."""
    rare, far = 1e-7, 1e-4
    first = torch.tensor([0.6, 0.4 - rare, rare], dtype=torch.float64)[:, None]
    cond, uncond = (
        Table((first * torch.tensor([[0.5, 0.5], [0.5, 0.5], [1 - e, e]]))[None].numpy()).autoregressive()
        for e in (far, 1 - far)
    )
    measured = gap_estimates.measure(
        arguide.LogLinear.guidance(cond, uncond, 3.0),
        uncond,
        2,
        gap_estimates.Plan(50, 200, 3),
        generator=torch.Generator().manual_seed(0),
    )
    assert measured.lengths.log_z.iloc[-1] == measured.diagnosis.log_evidence > 0.5
    assert measured.diagnosis.missed > 1
    assert not measured.diagnosis.consistent


def test_batches_change_the_draws_only(small):
    _, law, base = of_case(small, "ends")
    given = [[1, 2, 3], [4], [3, END], [2, 2], [END]]
    one, parts = (measure(law, base, given=given, plan=(20, n, 2)).sequences for n in (20, 2))
    columns = ["tokens", "ended", "log_path", "log_s_prime", "log_base"]
    pd.testing.assert_frame_equal(one[columns], parts[columns], atol=1e-5)
    jobs = []
    measure(law, base, given=given, plan=(20, 7, 3), track=lambda items: jobs.append(len(items)) or items)
    assert jobs == [1 + 3 + 3 + gap_estimates.PROBES]


def test_the_figure_draws_the_frames(small):
    _, law, base = of_case(small, "guidance")
    measured = measure(law, base)
    figure = figures.draw(measured.sequences, measured.lengths, "careful")
    points, gap, share = figure.axes
    assert figure.get_suptitle() == "careful"
    assert figures.draw(measured.sequences, measured.lengths).get_suptitle() == ""
    dots = next(line for line in points.lines if len(line.get_xdata()) == 100)
    assert np.asarray(dots.get_xdata()).tolist() == measured.sequences.log_s.tolist()
    assert np.asarray(dots.get_ydata()).tolist() == measured.sequences.log_s_prime.tolist()
    assert np.asarray(gap.lines[-1].get_ydata()).tolist() == measured.lengths.kl.tolist()
    assert np.asarray(share.lines[-1].get_ydata()).tolist() == measured.lengths.ess_share.tolist()
    plt.close("all")
