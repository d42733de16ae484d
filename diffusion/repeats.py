r"""Repeat a sample of the joint law of diffusion and diagnose it: runs, and probes on a finer grid.

Feynman–Kac weights have heavy tails where the noise level λ is small, and large errors where a grid is coarse for it; the
effective sample size shows neither. So runs are repeated: their means must not differ by much more than effective sample
sizes imply. Probes draw from the same target on a grid of twice the steps, with the default λ, which is larger there; their
log Ẑ must agree.
"""

import torch
from torch import Tensor

from arguide.smc.diagnostics import Diagnosis, diagnose
from diffusion.models import LogLinear
from diffusion.particles import JointSample, sample_joint

ADVICE = "use a finer grid of noise levels, the default λ, more particles, or a scale nearer 1"


def refined(sigmas: Tensor) -> Tensor:
    """Return the grid with the geometric mean of every two positive neighbours put between them."""
    middle = (sigmas[:-1] * sigmas[1:]).sqrt()
    between = torch.stack([sigmas[:-1], middle], 1).flatten()
    return torch.cat([between[between > 0], sigmas[-1:]])


def repeat_joint(
    model: LogLinear,
    shape: tuple[int, ...],
    sigmas: Tensor,
    *,
    repeats: int = 4,
    probes: int = 2,
    noise: float | None = None,
    generator: torch.Generator | None = None,
    threshold: float = 0.5,
) -> tuple[list[JointSample], Diagnosis]:
    """Draw from the joint law several times and compare: `repeats` runs of `sample_joint`, and probes on a finer grid.

    Args:
        model, shape, sigmas, noise, threshold: as in `particles.sample_joints`.
        probes: number of runs on the grid of twice the steps; their particles serve the diagnosis alone.

    Raises:
        ValueError: fewer than two runs; and as `sample_joint`.
    """

    def draw(grid: Tensor, noise: float | None) -> JointSample:
        return sample_joint(model, shape, grid, noise=noise, threshold=threshold, generator=generator)

    runs = [draw(sigmas, noise) for _ in range(repeats)]
    finer = [draw(refined(sigmas), None) for _ in range(probes)]
    return runs, diagnose(runs, probes=finer, values=[run.x for run in runs], advice=ADVICE)
