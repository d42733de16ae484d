r"""Repeat a sample of the joint law of diffusion and diagnose it: runs, and probes on a finer grid.

Feynman–Kac weights have heavy tails where the stochasticity λ is small, and large errors where a grid is coarse for it; the
effective sample size shows neither. So runs are repeated: their means must not differ by much more than effective sample
sizes imply. Probes draw from the same target on a grid of twice the steps, with the default λ, which is larger there; their
log Ẑ must agree.
"""

from functools import partial

import torch
from torch import Tensor

from arguide import checks
from arguide.smc.diagnostics import Diagnosis
from arguide.smc.repeats import repeat
from arguide.smc.samples import JointSample
from diffusion.models import LogLinear
from diffusion.noise import refined
from diffusion.particles import sample_joint

ADVICE = "use a finer grid of noise levels, the default λ, more particles, or a scale nearer 1"


@checks.with_hint(checks.GRID)
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
        model: as in `particles.sample_joints`, as are shape, sigmas, noise and threshold.
        shape: [N, …].
        sigmas: the grid of the runs.
        repeats: number of runs, 2 at least.
        probes: number of runs on the grid of twice the steps; their particles serve the diagnosis alone.
        noise: λ of the runs.
        generator: of all randomness.
        threshold: of the ESS.

    Raises:
        ValueError: fewer than two runs; and as `sample_joints`.

    Example:
        >>> pair = analysis.GaussianPair.scalar(1.0, 1.0, 4.0)
        >>> cond, uncond = diffusion.conditioned(pair.score, 0), diffusion.conditioned(pair.score)
        >>> score = diffusion.LogLinear.guidance(cond, uncond, 1.5)
        >>> runs, diagnosis = diffusion.repeat_joint(score, (500, 1), diffusion.edm(100, 0.05, 20.0))
        >>> len(runs), diagnosis.consistent
        (4, True)
    """
    draw = partial(sample_joint, model, shape, generator=generator, threshold=threshold)
    finer = [partial(draw, refined(sigmas))] * probes
    return repeat(partial(draw, sigmas, noise=noise), finer, repeats, values=lambda run: run.x, advice=ADVICE)
