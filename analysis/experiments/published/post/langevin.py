"""The post's aside on continuous autoregressive models: their gradients, and Langevin dynamics on the guided joint law."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

import diffusion
from analysis.experiments.base import stream
from analysis.experiments.continuous import models
from analysis.experiments.published.claims import Claim
from analysis.metrics.confidence import mean_of
from analysis.toys import GaussianSequence
from arguide import continuous

LENGTH, LABEL, SCALE = 8, 1.0, 3.0
CHAINS, STEPS, STEP_SIZE = 4000, 150, 0.12
LEARNED_CHAINS, LEARNED_STEPS, LEARNED_STEP_SIZE = 1000, 200, 0.08
RUNS, PARTICLES = 4, 4000
SEQUENCE = f"x_t = y + AR(1) noise, T = {LENGTH}, y = 1, γ = 3"
LANGEVIN = "“sample from the model using Langevin dynamics”, guided jointly"


def claims(seed: int) -> Iterator[Claim]:
    """Yield the claims of the aside: on an exact law, and on a network that was trained."""
    toy = GaussianSequence(LENGTH)
    model = models.guided(models.LinearGaussian(toy), LABEL, SCALE)
    yield from _gradients(toy, model, seed)
    yield from _exact(toy, model, seed)
    yield from _learned(seed)


def _gradients(toy: GaussianSequence, model: continuous.LogLinear, seed: int) -> Iterator[Claim]:
    """Yield the guided score by automatic differentiation, and gradients of guided factors against combined gradients."""
    x = models.draw(toy.law(LABEL), 1, stream(seed, 40))

    def score(of: continuous.LogLinear) -> Tensor:
        return diffusion.langevin.target(of)(x)[1]

    joint, sequential = (law(LABEL, SCALE).law for law in (toy.joint_guided, toy.sequential_guided))
    yield Claim(
        "“you can actually get gradients w.r.t. the input”",
        f"first component of the guided score at a draw, {SEQUENCE}",
        float(joint.score(x)[0, 0]),
        float(score(model)[0, 0]),
        float(sequential.score(x)[0, 0]),
        "the score of the sequential law",
        note="Automatic differentiation of the factors’ log-densities, against −Σ^−1 (x − μ) of the joint tilt.",
    )
    at = x.clone().requires_grad_()
    logs = [weight * each(x).log_density(at).sum() for each, weight in zip(model.models, model.weights_at(0), strict=True)]
    (combination,) = torch.autograd.grad(torch.stack(logs).sum(), at)  # by x_t alone: x_<t has no gradient
    factor = torch.linalg.cholesky(sequential.covariance)
    guided = -torch.linalg.solve_triangular(factor, (x - sequential.mean).mT, upper=False).mT / factor.diagonal()
    yield Claim(
        "log-probabilities or gradients: no difference, “because the gradient operator is linear”",
        f"largest difference of ∂/∂x_t of guided log-factors to the combination of both gradients, {SEQUENCE}",
        0.0,
        float((guided - combination).abs().max()),
        float((sequential.score(x) - score(model)).abs().max()),
        "gradients with respect to all of x",
        note="Z_t(x_<t) has no gradient by x_t, but one by earlier components. So the score of the product of guided factors "
        "is not the combined one. The post says so next: “There is an important difference however”.",
    )


def _exact(toy: GaussianSequence, model: continuous.LogLinear, seed: int) -> Iterator[Claim]:
    """Yield the mean of chains on a Gaussian sequence, whose joint and sequential laws are Gaussians."""
    start = models.draw(toy.law(LABEL), CHAINS, stream(seed, 41))
    x = models.langevin(model, start, STEP_SIZE, STEPS, stream(seed, 42)).x
    joint, sequential = (law(LABEL, SCALE).law for law in (toy.joint_guided, toy.sequential_guided))
    first, variance = mean_of(x[:, 0]), float(x[:, 0].var())
    of_variance = variance * (2 / CHAINS) ** 0.5
    note = f"{CHAINS:,} chains of {STEPS} Metropolis-adjusted steps, from draws without guidance; the tilt’s moments are exact."
    cases = (
        ("mean of x_1", float(joint.mean[0]), first.value, float(sequential.mean[0]), first.std_error),
        ("variance of x_1", float(joint.covariance[0, 0]), variance, float(sequential.covariance[0, 0]), of_variance),
    )
    for claim, tilt, found, other, error in cases:
        yield Claim(LANGEVIN, f"{claim}, {SEQUENCE}", tilt, found, other, "guided factors", std_error=error, note=note)


def _learned(seed: int) -> Iterator[Claim]:
    """Yield the mean of chains, and of weighted particles, of a network's joint law, by quadrature the published one."""
    network = models.trained(seed)
    cond, like = partial(network, label=0), torch.zeros(1)
    model = models.guided(network, 0, SCALE)
    grid = models.on_grid(model)
    start = continuous.sample(cond, LEARNED_CHAINS, 2, like=like, generator=stream(seed, 45)).x
    x = models.langevin(model, start, LEARNED_STEP_SIZE, LEARNED_STEPS, stream(seed, 46)).x
    drawn = continuous.sample(model, PARTICLES, 2, like=like, generator=stream(seed, 47)).x
    runs, _ = continuous.repeat_joint(model, PARTICLES, 2, repeats=RUNS, like=like, generator=stream(seed, 48))
    weighted = mean_of([float(run.log_weights.softmax(0) @ run.x[:, 0]) for run in runs])
    chains, note = mean_of(x[:, 0]), "A recurrent network of Gaussian mixtures, trained on two arcs; its tilt by quadrature."
    exact, other = grid.expectation(grid.cells[:, 0].double()), float(drawn[:, 0].mean())
    yield Claim(
        LANGEVIN,
        "mean of x_1 of a learned model in the plane, γ = 3",
        exact,
        chains.value,
        other,
        "guided factors",
        std_error=chains.std_error,
        note=note,
    )
    yield Claim(
        "the same aside, by weights in place of gradients",
        "mean of x_1 of the same model",
        exact,
        weighted.value,
        other,
        "guided factors",
        std_error=weighted.std_error,
        freedom=weighted.freedom,
        note=f"{RUNS} runs of {PARTICLES:,} particles of `arguide.continuous.repeat_joint`.",
    )
