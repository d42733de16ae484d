"""Every public name of `diffusion` refuses bad arguments, with one line that names the argument."""

import pytest
import torch
from bad_calls import COUNTS, FUNCTIONS, INF, NAN, NUMBERS, POSITIVE, SHARES, cases, refused

import diffusion
from analysis import Table
from analysis.toys.gaussian import Gaussian
from arguide import continuous
from diffusion import LogLinear, langevin, masked, noise, nonlinear_guidance, predictions, uniform

TWO = torch.tensor([[0.5, -1.0], [1.0, 2.0]], dtype=torch.float64)
LAW = Gaussian(torch.tensor([0.3, -0.2]).double(), torch.eye(2).double())
COND, UNCOND = LAW.score, Gaussian(torch.zeros(2).double(), 2 * torch.eye(2).double()).score
LINEAR = nonlinear_guidance.rescaled(2.0, 0.0)
MODEL = LogLinear.guidance(COND, UNCOND, 2.0)
GRID = diffusion.edm(5)
SIGMA = torch.tensor(0.7).double()
SCALES = [*NUMBERS, torch.tensor(NAN), torch.tensor([1.0, INF]), torch.tensor([1.0 + 1j, 1.0])]
TENSORS = [3.0, [[0.1, 0.2]], "scores", torch.zeros(2, 0), TWO.to(torch.complex64)]
GRIDS = {
    "rises": [1.0, 2.0, 0.0],
    "stays": [2.0, 1.0, 1.0, 0.0],
    "NaN": [2.0, NAN, 0.0],
    "inf": [INF, 1.0, 0.0],
    "below 0": [2.0, 0.0, -1.0],
    "one level": [2.0],
    "none": [],
    "zero alone": [0.0],
}
BAD_GRIDS = [torch.tensor(grid, dtype=torch.float64) for grid in GRIDS.values()]
BAD_GRIDS += [[2.0, 1.0, 0.0], "edm", 5, GRID[None], torch.tensor([3, 1, 0]), None]
OPEN = [torch.tensor([2.0, 1.0, 0.5]).double()]
SHAPES = [(), 3, "3", (0, 2), (2, -1), (2.5, 2), None]
TABLE = Table(torch.tensor([[[0.2, 0.1, 0.05], [0.05, 0.05, 0.1]], [[0.1, 0.05, 0.1], [0.1, 0.05, 0.05]]]))
MASKED = LogLinear((diffusion.conditioned(TABLE.denoise_masked, 0), diffusion.conditioned(TABLE.denoise_masked)), (2.0, -1.0))
UNIFORM = LogLinear(
    (diffusion.conditioned(TABLE.denoise_uniform, 0), diffusion.conditioned(TABLE.denoise_uniform)), (2.0, -1.0)
)
MODELS = [None, 3, "unet", COND]
NETWORK = continuous.MixtureNetwork(2, components=2, hidden=4).double()
BOUND = [NETWORK, lambda x: NETWORK(x, 1)]
NO_TARGETS = [lambda x: (x.sum(1) * NAN, x), lambda x: (x.sum(1), x * NAN), lambda x: (x.sum(1) - INF, x)]


def spoilt(x, sigma):
    return torch.where(sigma < 1, NAN, COND(x, sigma))


def nothing(x, *_):
    return torch.full((*x.shape, 3), NAN, dtype=torch.float64)


def sample(score=MODEL, shape=(4, 2), sigmas=GRID, **options):
    return diffusion.sample(score, shape, sigmas, **options)


def joint(model=MODEL, shape=(4, 2), sigmas=GRID, **options):
    return diffusion.sample_joint(model, shape, sigmas, **options)


def joints(count=2, **options):
    return diffusion.sample_joints(MODEL, count, (4, 2), GRID, **options)


def walk(score=MODEL, x=TWO, sigmas=GRID, step=diffusion.heun, draw=torch.zeros_like):
    return list(diffusion.trajectory(score, x, sigmas, step, draw))


def target(x):
    return LAW.log_density(x), LAW.score(x)


def mala(target=target, x=TWO, step_size=0.1, steps=2):
    return diffusion.mala(target, x, step_size=step_size, steps=steps)


def annealed(score=COND, x=TWO, sigmas=GRID[2:], steps=1, ratio=0.1):
    return diffusion.annealed(score, x, sigmas, steps=steps, ratio=ratio)


def annealed_mala(target_at=lambda _: target, x=TWO, sigmas=GRID[2:], steps=1, ratio=0.1):
    return diffusion.annealed_mala(target_at, x, sigmas, steps=steps, ratio=ratio)


def unmasked(model=MASKED, n=2, length=2, run=masked.sample, **options):
    return run(model, n, length, **options)


def renoised(model=UNIFORM, n=2, sizes=(2, 3), times=GRID, run=uniform.sample, **options):
    return run(model, n, sizes, times, **options)


def drawn(models=BOUND, weights=(2.0, -1.0), n=2, length=3, **options):
    return continuous.sample_joint(continuous.LogLinear(models, weights), n, length, **options)


def broken(x):
    return continuous.Mixture(*(rows * NAN for rows in NETWORK(x)))


def blurred(x):
    return NETWORK(x)._replace(means=NETWORK(x).means * NAN)


RULE = cases(
    ("guide", "scale", lambda v: diffusion.guide(TWO, -TWO, v), [*SCALES, torch.ones(3), torch.ones(2, 2)]),
    (
        "guide",
        "scores",
        lambda v: diffusion.guide(v, TWO, 2.0),
        [*TENSORS, torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(2)],
    ),
    ("combine", "weights", lambda v: diffusion.combine((TWO, TWO), v), [(1.0,), (1.0, 2.0, 3.0), (), 2.0, "ab", None]),
    ("combine", "weights", lambda v: diffusion.combine((TWO, TWO), (v, 0.5)), SCALES),
    ("combine", "scores", lambda v: diffusion.combine((TWO, v), (2.0, -1.0)), [*TENSORS, torch.zeros(1, 2)]),
    ("combine", "scores", lambda v: diffusion.combine(v, v), [()]),
    ("log_normalizer", "variance", lambda v: diffusion.log_normalizer((TWO, TWO), (2.0, -1.0), v), NUMBERS),
    ("log_normalizer", "weights", lambda v: diffusion.log_normalizer((TWO, TWO), (v, -1.0), 1.0), SCALES),
    ("LogLinear", "models", lambda v: LogLinear((v,), (1.0,)), [None, 3, "unet", TWO]),
    ("LogLinear", "models", lambda v: LogLinear(v, v), [()]),
    ("LogLinear", "weights", lambda v: LogLinear((COND, UNCOND), v), [(1.0,), (1.0, 1.0, 1.0), 2.0, None, "ab"]),
    ("LogLinear", "weights", lambda v: LogLinear((COND, UNCOND), (v, 0.5)), SCALES),
    ("LogLinear.guidance", "scale", lambda v: LogLinear.guidance(COND, UNCOND, v), SCALES),
    ("LogLinear.guidance", "scale", lambda v: LogLinear.guidance(COND, UNCOND, lambda _: v)(TWO, SIGMA), SCALES),
    ("LogLinear.guidance", "temperature", lambda v: LogLinear.guidance(COND, UNCOND, 2.0, temperature=v), POSITIVE),
    ("LogLinear.guidance", "models", lambda v: LogLinear.guidance(v, UNCOND, 2.0), FUNCTIONS),
    ("LogLinear.composition", "scales", lambda v: LogLinear.composition(UNCOND, [COND], v), [(1.0, 2.0), (), 2.0, "2"]),
    ("LogLinear.composition", "scale", lambda v: LogLinear.composition(UNCOND, [COND], [v]), SCALES),
    ("check_proper", "shape", lambda v: MODEL.check_proper(v, SIGMA), [*SHAPES, (4,)]),
    ("check_proper", "sigma", lambda v: MODEL.check_proper((4, 2), v), [torch.tensor(NAN), torch.tensor(-1.0), 0.1, "1"]),
    ("check_proper", "radius", lambda v: MODEL.check_proper((4, 2), SIGMA, radius=v), POSITIVE),
    ("check_proper", "scores", lambda v: LogLinear((v,), (1.0,)).check_proper((4, 2), SIGMA), [spoilt]),
    ("conditioned", "score", diffusion.conditioned, FUNCTIONS),
    ("from_denoiser", "denoiser", diffusion.from_denoiser, FUNCTIONS),
    ("from_noise", "noise", diffusion.from_noise, FUNCTIONS),
    ("from_velocity", "velocity", diffusion.from_velocity, FUNCTIONS),
    ("with_classifier", "score", lambda v: diffusion.with_classifier(v, COND, 2.0), FUNCTIONS),
    ("with_classifier", "log_classifier", lambda v: diffusion.with_classifier(COND, v, 2.0), FUNCTIONS),
    ("with_classifier", "scale", lambda v: diffusion.with_classifier(COND, COND, v), SCALES),
)

SAMPLERS = cases(
    ("sample", "sigmas", lambda v: sample(sigmas=v), BAD_GRIDS + OPEN),
    ("sample", "sigmas", lambda v: sample(sigmas=v, ends_at_zero=False), BAD_GRIDS),
    ("sample", "shape", lambda v: sample(shape=v), SHAPES),
    ("sample", "score", lambda v: sample(score=v), FUNCTIONS),
    ("sample", "x", lambda v: sample(score=v), [spoilt, lambda x, sigma: INF * x, lambda x, sigma: x / 0]),
    ("sample", "total_weight", lambda v: sample(total_weight=v), POSITIVE),
    ("sample", "step", lambda v: sample(step=v), FUNCTIONS),
    ("sample", "draw", lambda v: sample(draw=v), FUNCTIONS),
    ("sample", "x", lambda v: sample(draw=lambda like: like * v), [NAN, INF]),
    ("trajectory", "sigmas", lambda v: walk(sigmas=v), [grid for grid in BAD_GRIDS if grid is not BAD_GRIDS[1]]),
    ("trajectory", "x", lambda v: walk(x=v), [3.0, [[1.0]], TWO * NAN, torch.zeros(0, 2)]),
    ("trajectory", "x", lambda v: walk(score=v), [spoilt]),
    *(("trajectory", name, lambda v, name=name: walk(**{name: v}), FUNCTIONS) for name in ("score", "step", "draw")),
    ("sde", "noise", diffusion.sde, [NAN, -1.0, INF, "1", None]),
    ("sde", "noise_scale", lambda v: diffusion.sde(noise_scale=v), [NAN, -1.0, INF, "1"]),
    ("sde", "after", lambda v: diffusion.sde(after=v), SHARES),
    ("sde", "solver", lambda v: diffusion.sde(solver=v), FUNCTIONS),
    ("cfg_plus_plus", "strength", lambda v: diffusion.cfg_plus_plus(UNCOND, v), SCALES),
    ("cfg_plus_plus", "uncond", lambda v: diffusion.cfg_plus_plus(v, 0.5), FUNCTIONS),
    ("sample_joint", "sigmas", lambda v: joint(sigmas=v), BAD_GRIDS + OPEN),
    ("sample_joint", "shape", lambda v: joint(shape=v), SHAPES),
    ("sample_joint", "model", lambda v: joint(model=v), MODELS),
    ("sample_joint", "NaN", lambda v: joint(model=LogLinear((v,), (1.0,))), [spoilt]),
    ("sample_joint", "noise", lambda v: joint(noise=v), [NAN, -1.0, INF, "1"]),
    ("sample_joint", "threshold", lambda v: joint(threshold=v), SHARES),
    *(("sample_joint", name, lambda v, name=name: joint(**{name: v}), FUNCTIONS) for name in ("solver", "draw", "resample")),
    ("sample_joints", "count", lambda v: joints(count=v), COUNTS),
    ("mala", "step_size", lambda v: mala(step_size=v), [*POSITIVE, torch.tensor(NAN)]),
    ("mala", "steps", lambda v: mala(steps=v), COUNTS),
    ("mala", "x", lambda v: mala(x=v), [3.0, [[1.0]], TWO * NAN, torch.zeros(0, 2), torch.zeros(2, 2).long()]),
    ("mala", "target", lambda v: mala(target=v), FUNCTIONS),
    ("mala", "target", lambda v: mala(target=v), NO_TARGETS),
    ("unadjusted", "step_size", lambda v: diffusion.unadjusted(COND, TWO, SIGMA, v, torch.zeros_like), POSITIVE),
    *(
        group
        for name, run in {"annealed": annealed, "annealed_mala": annealed_mala}.items()
        for group in (
            (name, "sigmas", lambda v, run=run: run(sigmas=v), [grid for grid in BAD_GRIDS if grid is not BAD_GRIDS[5]]),
            (name, "steps", lambda v, run=run: run(steps=v), COUNTS),
            (name, "ratio", lambda v, run=run: run(ratio=v), POSITIVE),
            (name, "x", lambda v, run=run: run(x=v), [3.0, TWO * NAN, torch.zeros(0, 2)]),
        )
    ),
    ("annealed", "score", lambda v: annealed(score=v), FUNCTIONS),
    ("annealed", "score", lambda v: annealed(score=v), [spoilt]),
    ("annealed_mala", "target_at", lambda v: annealed_mala(target_at=v), FUNCTIONS),
)

DISCRETE = cases(
    *(
        group
        for run in (masked.sample, masked.sample_joint)
        for group in (
            (f"masked.{run.__name__}", "n", lambda v, run=run: unmasked(n=v, run=run), COUNTS),
            (f"masked.{run.__name__}", "length", lambda v, run=run: unmasked(length=v, run=run), COUNTS),
            (f"masked.{run.__name__}", "model", lambda v, run=run: unmasked(model=v, run=run), MODELS),
            (f"masked.{run.__name__}", "rule", lambda v, run=run: unmasked(rule=v, run=run), FUNCTIONS),
            (f"masked.{run.__name__}", "draw", lambda v, run=run: unmasked(draw=v, run=run), FUNCTIONS),
            (
                f"masked.{run.__name__}",
                "logits",
                lambda v, run=run: unmasked(model=LogLinear((v,), (2.0,)), run=run),
                [nothing],
            ),
        )
    ),
    *(
        group
        for run in (uniform.sample, uniform.sample_joint)
        for group in (
            (f"uniform.{run.__name__}", "n", lambda v, run=run: renoised(n=v, run=run), COUNTS),
            (f"uniform.{run.__name__}", "sizes", lambda v, run=run: renoised(sizes=v, run=run), SHAPES),
            (f"uniform.{run.__name__}", "times", lambda v, run=run: renoised(times=v, run=run), BAD_GRIDS + OPEN),
            (f"uniform.{run.__name__}", "model", lambda v, run=run: renoised(model=v, run=run), MODELS),
            (f"uniform.{run.__name__}", "draw", lambda v, run=run: renoised(draw=v, run=run), FUNCTIONS),
            (
                f"uniform.{run.__name__}",
                "logits",
                lambda v, run=run: renoised(model=LogLinear((v,), (2.0,)), run=run),
                [nothing],
            ),
        )
    ),
    ("masked.sample_joint", "threshold", lambda v: unmasked(run=masked.sample_joint, threshold=v), SHARES),
    ("uniform.sample_joint", "threshold", lambda v: renoised(run=uniform.sample_joint, threshold=v), SHARES),
)

CONTINUOUS = cases(
    ("continuous.sample_joint", "n", lambda v: drawn(n=v), COUNTS),
    ("continuous.sample_joint", "length", lambda v: drawn(length=v), COUNTS),
    ("continuous.sample_joint", "candidates", lambda v: drawn(candidates=v), COUNTS),
    ("continuous.sample_joint", "weights", lambda v: drawn(weights=v), [(1.0,), (), 2.0, "ab", (NAN, 1.0), ("1", 0.0)]),
    ("continuous.sample_joint", "models", lambda v: drawn(models=v, weights=v), [()]),
    ("continuous.sample_joint", "models", lambda v: drawn(models=(v, NETWORK)), FUNCTIONS),
    ("continuous.sample_joint", "threshold", lambda v: drawn(threshold=v), SHARES),
    ("continuous.sample_joint", "NaN", lambda v: drawn(models=v), [(broken, NETWORK), (NETWORK, blurred)]),
    ("continuous.sample", "n", lambda v: continuous.sample(NETWORK, v, 2), COUNTS),
    ("continuous.sample", "length", lambda v: continuous.sample(NETWORK, 2, v), COUNTS),
    ("continuous.target", "weights", lambda v: langevin.target(continuous.LogLinear(BOUND, v)), [(1.0,), (NAN, 1.0), 2.0]),
    ("continuous.guided", "scale", lambda v: langevin.guided(NETWORK, 1, v), NUMBERS),
    ("continuous.guided", "model", lambda v: langevin.guided(v, 1, 2.0), FUNCTIONS),
    ("Mixture.sample", "m", lambda v: continuous.Mixture(*(torch.zeros(2, 3) for _ in range(3))).sample(v), COUNTS),
    (
        "Mixture.sample",
        "weights",
        lambda v: continuous.Mixture(torch.full((2, 3), v), *torch.zeros(2, 2, 3)).sample(2),
        [NAN, INF, -INF],
    ),
    ("MixtureNetwork", "labels", continuous.MixtureNetwork, COUNTS),
    ("MixtureNetwork", "components", lambda v: continuous.MixtureNetwork(2, components=v), COUNTS),
    ("MixtureNetwork", "hidden", lambda v: continuous.MixtureNetwork(2, hidden=v), COUNTS),
    ("MixtureNetwork", "label", lambda v: NETWORK(TWO, v), [3, -1, 0.5, torch.tensor([0, 3])]),
    ("MixtureNetwork", "x", NETWORK, [3.0, torch.zeros(2).double()]),
)

PARTS = cases(
    *(
        group
        for name, make in {"geometric": diffusion.geometric, "edm": diffusion.edm}.items()
        for group in (
            (name, "steps", lambda v, make=make: make(v, 0.1, 10.0), [1, *COUNTS]),
            (name, "sigma_min", lambda v, make=make: make(5, v, 10.0), [NAN, 0.0, -1.0, INF, "1"]),
            (name, "sigma_max", lambda v, make=make: make(5, 0.1, v), [NAN, 0.1, 0.05, INF, "1"]),
        )
    ),
    ("edm", "rho", lambda v: diffusion.edm(5, rho=v), [NAN, 0.0, INF, "7"]),
    ("variance_preserving", "steps", diffusion.variance_preserving, [1, *COUNTS]),
    ("variance_preserving", "time_min", lambda v: diffusion.variance_preserving(5, time_min=v), [NAN, 0.0, -1.0, "1"]),
    ("variance_preserving", "time_max", lambda v: diffusion.variance_preserving(5, time_max=v), [NAN, 1e-4, INF, "1"]),
    ("variance_preserving", "beta_min", lambda v: diffusion.variance_preserving(5, beta_min=v), [NAN, -1.0, INF, "1"]),
    ("variance_preserving", "beta_max", lambda v: diffusion.variance_preserving(5, beta_max=v), [NAN, -1.0, INF, "1"]),
    ("variance_preserving", "levels", lambda v: diffusion.variance_preserving(5, 0.1, v), [1e4]),
    ("interval", "scale", noise.interval, NUMBERS),
    ("interval", "outside", lambda v: noise.interval(2.0, outside=v), NUMBERS),
    ("interval", "low", lambda v: noise.interval(2.0, v, 5.0), [NAN, -1.0, "0"]),
    ("interval", "high", lambda v: noise.interval(2.0, 1.0, v), [NAN, 1.0, 0.5, "2"]),
    ("ramp", "first", lambda v: noise.ramp(v, 1.0, 5.0, 0.5), NUMBERS),
    ("ramp", "low", lambda v: noise.ramp(2.0, 1.0, 5.0, v), [NAN, 0.0, -1.0, "0"]),
    ("ramp", "high", lambda v: noise.ramp(2.0, 1.0, v, 0.5), [NAN, 0.5, INF, "2"]),
    ("scaled", "beta", lambda v: diffusion.scaled(COND, v), POSITIVE),
    ("scaled", "score", lambda v: diffusion.scaled(v, 2.0), FUNCTIONS),
    ("gaussian_correction", "beta", lambda v: diffusion.gaussian_correction(COND, v, 1.0), POSITIVE),
    ("gaussian_correction", "variance", lambda v: diffusion.gaussian_correction(COND, 2.0, v), POSITIVE),
    ("gaussian_correction", "score", lambda v: diffusion.gaussian_correction(v, 2.0, 1.0), FUNCTIONS),
    ("dynamic_threshold", "quantile", diffusion.dynamic_threshold, SHARES),
    ("dynamic_threshold", "bound", lambda v: diffusion.dynamic_threshold(0.9, v), POSITIVE),
    ("with_denoised", "score", lambda v: diffusion.with_denoised(v, torch.tanh), FUNCTIONS),
    ("with_denoised", "transform", lambda v: diffusion.with_denoised(COND, v), FUNCTIONS),
    ("rescaled", "scale", diffusion.rescaled, SCALES),
    ("rescaled", "mix", lambda v: diffusion.rescaled(2.0, v), SHARES),
    ("projected", "scale", diffusion.projected, SCALES),
    ("projected", "scale", lambda v: diffusion.projected(lambda _: v)(TWO, -TWO, SIGMA), SCALES),
    ("projected", "parallel", lambda v: diffusion.projected(2.0, parallel=v), NUMBERS),
    ("projected", "threshold", lambda v: diffusion.projected(2.0, threshold=v), [NAN, 0.0, -1.0, "1"]),
    ("Momentum", "beta", lambda v: diffusion.Momentum(LINEAR, v), [NAN, 1.0, -1.0, INF, "0"]),
    ("Momentum", "rule", diffusion.Momentum, FUNCTIONS),
    (
        "guided_by",
        "cond",
        lambda v: diffusion.guided_by(v, UNCOND, LINEAR, predictions.noise),
        FUNCTIONS,
    ),
    (
        "guided_by",
        "uncond",
        lambda v: diffusion.guided_by(COND, v, LINEAR, predictions.noise),
        FUNCTIONS,
    ),
    ("guided_by", "rule", lambda v: diffusion.guided_by(COND, UNCOND, v, predictions.noise), FUNCTIONS),
    (
        "guided_by",
        "prediction",
        lambda v: diffusion.guided_by(COND, UNCOND, LINEAR, v),
        ["noise", None],
    ),
    ("from_diffusers", "alphas_cumprod", lambda v: diffusion.from_diffusers(COND, v), [None, 3, "ddim"]),
    ("Denoiser", "alphas_cumprod", lambda v: diffusion.Denoiser(COND, v), [None, 3, "ddim"]),
    ("noise_levels", "alphas_cumprod", diffusion.noise_levels, [None, 3, "ddim"]),
)


@pytest.mark.parametrize(("call", "argument"), [*RULE, *SAMPLERS, *DISCRETE, *CONTINUOUS, *PARTS])
def test_a_bad_call_is_refused_in_one_line_that_names_the_argument(call, argument):
    refused(call, argument)


@pytest.mark.parametrize(
    "scale", [-2.0, 0.0, 1.0, 7.5, torch.tensor([-1.0, 3.0]), 2, torch.tensor(2), torch.tensor([[1.0], [2.0]])]
)
def test_every_finite_scale_is_legal(scale):
    assert diffusion.guide(TWO, -TWO, scale).isfinite().all()
    assert LogLinear.guidance(COND, UNCOND, scale)(TWO, SIGMA).isfinite().all()
