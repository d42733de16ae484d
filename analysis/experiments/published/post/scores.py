"""The post on scores: its formula, its correction, its hunch, and scores multiplied by γ."""

from collections.abc import Iterator

import torch
from torch import Tensor

import diffusion
from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim
from analysis.metrics.confidence import mean_of
from analysis.toys import GaussianPair, GaussianSequence
from analysis.toys.example_tables import one_gaussian, two_classes, two_modes
from analysis.toys.gaussian import diffused, w2
from diffusion.models import Field

SCALE = 2.0
PAIR = GaussianPair.scalar(1.0, 1.0, 2.0)
GAUSSIANS = "N(1, 1) against N(0, 2)"
DRAWS, STEPS, RUNS, PARTICLES = 20_000, 100, 4, 2000
LOUD = 30.0  # λ
LENGTH, HUNCH = 8, 3.0  # T and γ of the hunch
POWER = "“raise the whole thing to the γ’th power simply by multiplying the score function with γ”"
CORRELATIONS = (-0.9, -0.7, -0.5, -0.3, -0.1, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)


def claims(seed: int) -> Iterator[Claim]:
    """Yield the claims on guided and multiplied scores."""
    yield from _formula()
    yield from _correction(seed)
    yield from _multiplied(seed)
    yield from _hunch()


def _formula() -> Iterator[Claim]:
    """Yield the guided score at a point, by the post's formula and as the gradient of the tilt."""
    mixture, label = two_classes(), 0
    point = torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True)
    log_class = mixture.log_class_probability(point)[:, label]
    (slope,) = torch.autograd.grad((mixture.log_density(point) + SCALE * log_class).sum(), point)
    cond, uncond = (mixture.score(point.detach(), 0.0, each) for each in (label, None))
    yield Claim(
        "(1 − γ)∇log p(x) + γ∇log p(x|y)",
        "guided score of two Gaussian classes at x = ½, γ = 2",
        float((1 - SCALE) * uncond + SCALE * cond),
        float(slope),
        float(cond),
        "γ = 1",
        note="The gradient of log p(x) + γ log p(y|x), by automatic differentiation.",
    )


def _correction(seed: int) -> Iterator[Claim]:
    """Yield what guided diffusion draws beside the tilt; the post held both equal until its correction."""
    tilt, laws, weights = PAIR.joint_guided(0, SCALE).law, (PAIR.uncond, PAIR.cond), (1 - SCALE, SCALE)
    grid = diffusion.geometric(STEPS, 0.02, 3000.0).double()
    guided = diffusion.LogLinear.guidance(diffusion.conditioned(PAIR.score, 0), diffusion.conditioned(PAIR.score), SCALE)
    x = diffusion.sample(guided, (DRAWS, 1), grid, generator=stream(seed, 30)).x
    gap, error = float(x.var() - tilt.covariance), float(x.var()) * (2 / DRAWS) ** 0.5
    loud = diffused(laws, weights, LOUD)
    yield Claim(
        "correction of 29 May: the laws that guidance modifies are p_t(x|y), “not p(x|y)”",
        f"variance of the guided ODE’s draws − the tilt’s, {GAUSSIANS}, γ = 2",
        "< -0.1",
        gap,
        float(loud.covariance - tilt.covariance),
        f"noise λ = {LOUD:g}",
        std_error=error,
        note=f"{DRAWS:,} draws in {STEPS} steps; the control by moment equations, and λ → ∞ leads to the tilt.",
    )
    yield Claim(
        "the same correction",
        f"variance of the tilt of p_t − that of the noised tilt of p_0 at σ = 1, {GAUSSIANS}",
        "< -0.1",
        _noised_gap(SCALE),
        _noised_gap(1.0),
        "γ = 1",
        note="Precisions add: γ/(a + 1) + (1 − γ)/(b + 1) against 1 over the tilt’s variance plus 1.",
    )


def _noised_gap(scale: float) -> float:
    """Return the variance of the tilt of p_t minus that of the noised tilt of p_0, at σ = 1."""
    (a, b), noise = (float(law.covariance) for law in (PAIR.cond, PAIR.uncond)), 1.0
    return 1 / (scale / (a + noise) + (1 - scale) / (b + noise)) - float(PAIR.joint_guided(0, scale).law.covariance) - noise


def _multiplied(seed: int) -> Iterator[Claim]:
    """Yield what γ times the score draws on N(0, 1), where p^γ has variance 1/γ, and on two modes."""
    normal, modes = one_gaussian(), two_modes()
    score = diffusion.conditioned(normal.score)
    grid = diffusion.geometric(STEPS, 0.05, 30.0).double()
    samplers = (
        ("ODE", diffusion.heun, "σ²(1 + σ²)^−γ at the largest σ, 0.001 here"),
        ("SDE", diffusion.sde(1.0), "1/(2γ − 1)"),
    )
    for number, (name, step, theory) in enumerate(samplers):
        fields = (diffusion.scaled(score, SCALE), diffusion.gaussian_correction(score, SCALE, 1.0))
        found, right = (_variance(field, grid, step, seed, number) for field in fields)
        yield Claim(
            POWER,
            f"variance of {name} draws ÷ that of p^γ, N(0, 1), γ = 2",
            1.0,
            SCALE * found,
            SCALE * right,
            "the Gaussian correction",
            std_error=SCALE * max(found, right) * (2 / DRAWS) ** 0.5,
            note=f"The variance is {theory}. What the post calls terrible is not p^γ; that law itself is not judged here.",
        )
    right = float((modes.on_grid().log_joint({None: SCALE})[0].exp() * (modes.axes()[0] > 0)).sum())
    model = diffusion.LogLinear.temperature(diffusion.conditioned(modes.score), 1 / SCALE)
    scaled = diffusion.scaled(diffusion.conditioned(modes.score), SCALE)
    x = diffusion.sample(scaled, (DRAWS, 1), grid, generator=stream(seed, 34)).x
    weighted = mean_of([_right(model, grid, stream(seed, 35, run)) for run in range(RUNS)])
    share = float((x > 0).double().mean())
    yield Claim(
        POWER,
        "share of ODE draws in the lighter of two modes, γ = 2",
        right,
        share,
        weighted.value,
        "weights",
        std_error=max((right * (1 - right) / DRAWS) ** 0.5, weighted.std_error),
        note=f"¾ N(−1.5, ½) + ¼ N(1.5, ½), where p^γ has {right:.3f} at x > 0, by quadrature.",
    )


def _variance(field: Field, grid: Tensor, step: diffusion.sampling.Step, seed: int, number: int) -> float:
    return float(diffusion.sample(field, (DRAWS, 1), grid, step=step, generator=stream(seed, 33, number)).x.var())


def _right(model: diffusion.LogLinear, grid: Tensor, generator: torch.Generator) -> float:
    """Return the weighted share of particles above 0."""
    drawn = diffusion.sample_joint(model, (PARTICLES, 1), grid, generator=generator)
    return float(drawn.log_weights.softmax(0) @ (drawn.x[:, 0] > 0).double())


def _hunch() -> Iterator[Claim]:
    """Yield which is farther from the joint tilt of a Gaussian sequence, diffusion or guided factors."""

    def excess(correlation: float) -> float:
        toy = GaussianSequence(LENGTH, correlation)
        joint, sequential = (law(1.0, HUNCH).law for law in (toy.joint_guided, toy.sequential_guided))
        ode = diffused((toy.uncond, toy.law(1.0)), (1 - HUNCH, HUNCH), 0.0)
        return float(w2(ode, joint) - w2(sequential, joint))

    found = mean_of([excess(correlation) for correlation in CORRELATIONS])
    yield Claim(
        "the hunch: it works “precisely because we are able to apply it to the joint distribution”",
        f"W2 to the joint tilt, guided ODE − guided factors, x_t = y + AR(1) noise, T = {LENGTH}, γ = {HUNCH:g}, mean over ρ",
        "< 0",
        found.value,
        excess(CORRELATIONS[-1]),
        f"ρ = {CORRELATIONS[-1]:g}",
        std_error=found.std_error,
        freedom=found.freedom,
        note=f"All laws are Gaussian and exact; {len(CORRELATIONS)} values of ρ from −0.9 to 0.9. Guided diffusion is nearer "
        "to the joint tilt where ρ < 0, guided factors where ρ > 0. How good samples look is another question.",
    )
