"""One protocol: every sampler has the same names, results of the same shapes, and the endpoints γ = 0 and 1."""

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import arguide
import diffusion
from analysis import Table
from analysis.toys.mixture import GaussianMixture
from arguide import continuous, particles, repeats, sampling
from diffusion.discrete import masked, uniform

N, T, COUNT, LABEL = 24, 3, 3, 1
SAMPLE = ("x", "log_target", "log_proposal", "log_normalizer")
JOINT = ("x", "log_weights", "log_evidence", "ess", "ancestors", "std_error", "evidences", "log_target", "log_normalizer")
GRID = diffusion.edm(9, 0.1, 10.0)
TIMES = diffusion.geometric(9, 0.05, 8.0)


def table():
    rng = np.random.default_rng(5)
    joint = rng.gamma(0.8, size=(2, 2, 3, 2)) + 0.02
    return Table(joint / joint.sum())


def mixture():
    means, variances = torch.tensor([[-1.3], [0.4], [2.1]]).double(), torch.tensor([0.3, 0.8, 1.1]).double()
    return GaussianMixture(means, variances, torch.tensor([[0.05, 0.2, 0.15], [0.3, 0.25, 0.05]]).double())


def conditionals(x, label=None):
    """Return x_t | x_<t, a mixture of two that depends on the value before and on the label."""
    before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
    shift = 0.0 if label is None else 0.7
    means = torch.stack([before / 2 + shift, -before / 3], -1)
    return continuous.Mixture(torch.tensor([0.3, 0.7]).double().log().expand_as(means), means, 0 * means - 0.2)


class Sampler(NamedTuple):
    """A sampler as its caller sees it; `branch` and `guided` make the models, `args` are what follows the model and n."""

    module: Any
    sample: Callable
    branch: Callable
    guided: Callable
    args: tuple
    steps: int
    joint: Any
    repeats: Any
    shaped: bool = False

    def of(self, n):
        """Return the arguments after the model, for n draws."""
        return ((n, 1), *self.args) if self.shaped else (n, *self.args)


def tokens():
    law = lambda label: table().autoregressive(label) if label is not None else table().autoregressive()  # noqa: E731
    guided = lambda scale: arguide.LogLinear.guidance(law(LABEL), law(None), scale)  # noqa: E731
    return Sampler(sampling, arguide.sample, law, guided, (T,), T, particles, repeats)


def values():
    law = lambda label: partial(conditionals, label=label)  # noqa: E731
    guided = lambda scale: continuous.LogLinear.guidance(law(LABEL), law(None), scale)  # noqa: E731
    from arguide.continuous import sampling as module

    return Sampler(module, continuous.sample, law, guided, (T,), T, continuous, continuous)


def noise(score, module, args, steps, joint, repeated, **shaped):
    law = lambda label: diffusion.LogLinear((diffusion.conditioned(score, label),), (1.0,))  # noqa: E731
    guided = lambda scale: diffusion.LogLinear.guidance(  # noqa: E731
        diffusion.conditioned(score, LABEL), diffusion.conditioned(score), scale
    )
    return Sampler(module, module.sample, law, guided, args, steps, joint, repeated, **shaped)


SAMPLERS = {
    "tokens": tokens,
    "values": values,
    "diffusion": lambda: noise(
        mixture().score, diffusion.sampling, (GRID,), 9, diffusion.particles, diffusion.repeats, shaped=True
    ),
    "masked": lambda: noise(table().denoise_masked, masked, (T,), T, masked, masked),
    "uniform": lambda: noise(table().denoise_uniform, uniform, ((2, 3, 2), TIMES), 9, uniform, uniform),
}


@pytest.fixture(params=SAMPLERS)
def sampler(request):
    return SAMPLERS[request.param]()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def run(sampler, function, model, n=N, seed=0, **options):
    return function(model, *sampler.of(n), generator=seeded(seed), **options)


# ------------------------------------------------------------------------------------------------------------------- names


def check_names(function, *, joint):
    """Raise AssertionError unless a sampler's options are named as everywhere, by keyword, without `**options`."""
    parameters = inspect.signature(function).parameters
    kinds = {each.kind for each in parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    keywords = {name for name, each in parameters.items() if each.kind is inspect.Parameter.KEYWORD_ONLY}
    assert {"draw", "generator"} <= keywords
    assert not joint or {"resample", "threshold"} <= keywords
    assert next(iter(parameters)) in ("model", "score")
    assert "choose" not in parameters


def test_options_have_the_same_names(sampler):
    check_names(sampler.sample, joint=False)
    check_names(sampler.joint.sample_joint, joint=True)
    check_names(sampler.joint.sample_joints, joint=True)
    assert list(inspect.signature(sampler.joint.sample_joints).parameters)[1] == "count"
    single = inspect.signature(sampler.joint.sample_joint)
    assert "count" not in single.parameters
    assert getattr(single.return_annotation, "__name__", single.return_annotation) == "JointSample"
    repeated = inspect.signature(sampler.repeats.repeat_joint).parameters
    assert {"repeats", "probes", "generator", "threshold"} <= set(repeated)
    for part in ("init", "step"):
        assert callable(getattr(sampler.module, part))
    assert "draw" in inspect.signature(sampler.module.step).parameters


def test_coherent_guidance_has_the_same_names():
    """Its joint law is drawn by acceptance, so it has no particles."""
    for function in (diffusion.coherent.sample, diffusion.sample_accepted):
        names = list(inspect.signature(function).parameters)
        assert names[0] in ("model", "mixture")
        assert {"draw", "generator", "sigmas", "shape"} <= set(names)
    check_names(diffusion.coherent.sample, joint=False)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda model, n, *, choose=None, generator=None: None,
        lambda model, n, **options: None,
        lambda n, model, *, draw=None, generator=None: None,
    ],
)
def test_other_names_are_noticed(wrong):
    with pytest.raises(AssertionError):
        check_names(wrong, joint=False)


# ------------------------------------------------------------------------------------------------------------------ shapes


def test_a_sample_has_its_fields_by_step(sampler):
    found = run(sampler, sampler.sample, sampler.guided(1.7))
    assert isinstance(found, arguide.Sample)
    assert found._fields == SAMPLE
    assert found.tokens is found.x
    assert len(found.x) == N
    assert all(rows.shape == (N, sampler.steps) for rows in found[1:])
    assert found.log_weights.shape == (N,)


def test_a_joint_sample_has_its_fields_by_step(sampler):
    for found in (
        run(sampler, sampler.joint.sample_joint, sampler.guided(1.7)),
        *sampler.joint.sample_joints(sampler.guided(1.7), COUNT, *sampler.of(N), generator=seeded()),
    ):
        assert isinstance(found, arguide.JointSample)
        assert found._fields == JOINT
        assert len(found.x) == len(found.log_weights) == N
        assert float(found.log_weights.exp().sum()) == pytest.approx(1)
        assert found.log_evidence.shape == found.std_error.shape == ()
        assert found.ess.shape == found.evidences.shape == (sampler.steps,)
        assert float(found.evidences[-1]) == pytest.approx(float(found.log_evidence))
        assert found.log_target.shape == found.log_normalizer.shape == (N, sampler.steps)
        assert found.draw(5, seeded()).shape == (5, *found.x.shape[1:])


def test_populations_are_pooled_and_diagnosed(sampler):
    runs = sampler.joint.sample_joints(sampler.guided(1.2), COUNT, *sampler.of(N), generator=seeded())
    assert len(runs) == COUNT
    assert not runs[0].x.equal(runs[1].x)
    whole = arguide.pooled(runs)
    assert len(whole.x) == COUNT * N
    assert whole.log_target.shape == (COUNT * N, sampler.steps)
    assert isinstance(arguide.diagnose(runs), arguide.Diagnosis)
    drawn, diagnosis = run(sampler, sampler.repeats.repeat_joint, sampler.guided(1.2), repeats=2, probes=1)
    assert len(drawn) == 2
    assert isinstance(diagnosis, arguide.Diagnosis)
    assert math.isfinite(diagnosis.missed)
    assert run(sampler, sampler.repeats.repeat_joint, sampler.guided(1.2), repeats=2, probes=1)[1] == diagnosis  # one seed


# ------------------------------------------------------------------------------------------------------------------- seeds


def test_a_seed_fixes_the_draws(sampler):
    for function in (sampler.sample, sampler.joint.sample_joint):
        one, again, other = (run(sampler, function, sampler.guided(1.7), seed=seed) for seed in (1, 1, 2))
        assert one.x.equal(again.x)
        assert not one.x.equal(other.x)


def test_one_population_is_what_sample_joint_draws(sampler):
    one = run(sampler, sampler.joint.sample_joint, sampler.guided(1.7))
    (same,) = sampler.joint.sample_joints(sampler.guided(1.7), 1, *sampler.of(N), generator=seeded())
    for a, b in zip(one, same, strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


# --------------------------------------------------------------------------------------------------------------- endpoints


@pytest.mark.parametrize(("scale", "label"), [(0.0, None), (1.0, LABEL)])
def test_scale_0_and_1_draw_from_the_models_themselves(sampler, scale, label):
    nested = sampler.sample is continuous.sample  # its candidates are drawn from the first model, here the one to draw from
    options = {"candidates": 1} if nested else {}
    models = [sampler.branch(each) for each in (label, LABEL if label is None else None)]
    guided = continuous.LogLinear(tuple(models), (1.0, 0.0)) if nested else sampler.guided(scale)
    found = run(sampler, sampler.sample, guided, **options)
    own, other = (run(sampler, sampler.sample, model) for model in models)
    torch.testing.assert_close(found.x, own.x, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found.x, other.x)
    assert not torch.allclose(found.x, run(sampler, sampler.sample, sampler.guided(2.5)).x)
    torch.testing.assert_close(found.log_weights, torch.zeros(N).double(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_scale_0_and_1_have_equal_weights(sampler, scale):
    if sampler.sample is continuous.sample and scale == 0:
        pytest.skip("candidates are drawn from the conditional model, so weights at scale 0 correct for it")
    found = run(sampler, sampler.joint.sample_joint, sampler.guided(scale))
    tilted = run(sampler, sampler.joint.sample_joint, sampler.guided(2.5))
    assert float(found.log_weights.exp().max()) == pytest.approx(1 / N)
    assert float(found.log_evidence) == pytest.approx(0, abs=1e-9)
    assert float(tilted.log_weights.exp().max()) > 1.01 / N


# ----------------------------------------------------------------------------------------------------------------- chains


def test_chains_of_both_wings_have_one_type():
    target = lambda x: (mixture().log_density(x, 0.0, LABEL), mixture().score(x, torch.tensor(0.0), LABEL))  # noqa: E731
    x, score = torch.zeros(N, 1).double(), diffusion.conditioned(mixture().score)
    found = [
        arguide.sample_metropolis(tokens().guided(1.7), N, T, 4, generator=seeded()),
        diffusion.mala(target, x, step_size=0.1, steps=4, generator=seeded()),
        diffusion.annealed(score, x, GRID, steps=2, generator=seeded()),
        diffusion.annealed_mala(lambda sigma: target, x, GRID, steps=2, generator=seeded()),
    ]
    for chains in found:
        assert isinstance(chains, arguide.Chains)
        assert len(chains.x) == len(chains.log_target) == N
        assert chains.log_normalizer.shape == chains.log_target.shape
        assert chains.accepted.shape == (N,)
        assert ((chains.accepted >= 0) & (chains.accepted <= 1)).all()
        assert chains.log_weight.shape[1] == N


def test_a_ladder_has_the_fields_of_chains_and_of_a_verdict():
    check_names(arguide.sample_ladder, joint=False)
    ladder = arguide.sample_ladder(tokens().guided(1.7), N, T, levels=3, sweeps=4, burn_in=8, generator=seeded())
    assert isinstance(ladder, arguide.Ladder)
    assert ladder.tokens is ladder.x
    assert ladder.x.shape == ladder.log_target.shape == ladder.log_normalizer.shape == (N, T)
    assert ladder.log_evidence.shape == ladder.std_error.shape == ladder.integrated.shape == ()
    assert ladder.accepted.shape == ladder.exchanged.shape == (2,)
    assert ladder.ratios.shape == (4, 3, N)
    assert ladder.verdict.startswith(("no disagreement found: ", "not converged: "))


# ---------------------------------------------------------------------------------------------------------- one public face


@pytest.mark.parametrize("name", SAMPLERS)
def test_log_linear_has_one_face(name):
    sampler = SAMPLERS[name]()
    made = sampler.guided(2.0)
    kind, models = type(made), made.models
    assert list(made.weights_at(0)) == [2.0, -1.0]
    assert list(kind.guidance(*models, lambda _: 3.0).weights_at(0)) == [3.0, -2.0]
    assert list(kind.temperature(models[0], 0.5).weights_at(0)) == [2.0]
    assert list(kind.composition(models[1], models[:1], (0.5,), temperature=0.5).weights_at(0)) == [1.0, 1.0]
    for wrong in (0.0, -1.0, math.inf, math.nan):
        for make in (partial(kind.temperature, models[0]), lambda tau: kind.guidance(*models, 2.0, temperature=tau)):
            with pytest.raises(ValueError, match="temperature must be positive and finite"):
                make(wrong)
    with pytest.raises(ValueError, match="scale"):
        kind.guidance(*models, math.nan)
    with pytest.raises(ValueError, match="models must be"):
        kind((3,), (1.0,))
