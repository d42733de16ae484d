"""What a diffusion sampler adds to the score evaluations it asks for, against diffusers' Euler scheduler on one score.

Both walk the same sigmas from the same x; the score sees the same x in both. diffusers computes its steps in float32.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from benchmarks.mixture import mixture
from benchmarks.timing import Case, Ratio
from diffusion import LogLinear, conditioned, edm, euler, sample, trajectory
from diffusion.models import Field

STEPS, SCALE = 100, 3.0


def cases() -> Iterator[Case]:
    """Yield the samplers over one score, and guidance over two."""
    toy, _ = mixture("isotropic", 2, 8)
    cond, uncond = conditioned(toy.score, 1), conditioned(toy.score)
    sigmas = edm(STEPS)
    start = sigmas[0] * torch.randn(256, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    yield _samplers(uncond, start, sigmas)
    yield _guidance(cond, uncond, start, sigmas)


def walk(score: Field, start: Tensor, sigmas: Tensor) -> Tensor:
    """Return arguide's Euler sample, [n, d]."""
    return sample(score, tuple(start.shape), sigmas, step=euler, draw=lambda _: start / sigmas[0]).x


def diffusers_walk(score: Field, start: Tensor, sigmas: Tensor) -> Tensor:
    """Return diffusers' Euler sample, [n, d], by the loop of its pipelines."""
    scheduler = cast(Any, EulerDiscreteScheduler)()
    scheduler.set_timesteps(sigmas=sigmas[:-1].tolist())
    x = start
    for index, timestep in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(x, timestep)
        sigma = sigmas[index]
        x = scheduler.step(-sigma * score(x, sigma), timestep, x).prev_sample
    return x


def _samplers(score: Field, start: Tensor, sigmas: Tensor) -> Case:
    path = [start, *(state.x for state in trajectory(score, start, sigmas, euler, torch.zeros_like))]
    pairs = list(zip(path, sigmas[:-1], strict=False))

    def scores_alone() -> None:
        for x, sigma in pairs:
            score(x, sigma)

    ours, peer = walk(score, start, sigmas), diffusers_walk(score, start, sigmas)
    torch.testing.assert_close(ours, path[-1])
    torch.testing.assert_close(ours, peer.double(), atol=1e-2, rtol=1e-2)
    return Case(
        f"Euler sampler, {STEPS} steps, n = {len(start)}",
        {
            "arguide": lambda: walk(score, start, sigmas),
            "scores": scores_alone,
            "diffusers": lambda: diffusers_walk(score, start, sigmas),
        },
        (
            Ratio("arguide ÷ its scores alone", "arguide", "scores"),
            Ratio("diffusers ÷ its scores alone", "diffusers", "scores"),
            Ratio("diffusers ÷ arguide", "diffusers", "arguide"),
        ),
    )


def _guidance(cond: Field, uncond: Field, start: Tensor, sigmas: Tensor) -> Case:
    def plain(x: Tensor, sigma: Tensor) -> Tensor:
        return SCALE * cond(x, sigma) + (1 - SCALE) * uncond(x, sigma)

    guided = LogLinear.guidance(cond, uncond, SCALE)
    torch.testing.assert_close(guided(start, sigmas[0]), plain(start, sigmas[0]))
    return Case(
        f"guided Euler sampler, {STEPS} steps, n = {len(start)}",
        {"arguide": lambda: walk(guided, start, sigmas), "plain": lambda: walk(plain, start, sigmas)},
        (Ratio("LogLinear ÷ two scores combined by hand", "arguide", "plain"),),
    )
