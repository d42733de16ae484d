"""Temporal score rescaling (2025): exact on a Gaussian, and on two modes it narrows each and keeps their weights.

At noise of variance τ their factor is (a/τ + 1)/(a/(kτ) + 1) = k(a + τ)/(a + kτ), `diffusion.gaussian_correction`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

import diffusion
from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim, arxiv
from analysis.toys import GaussianMixture
from analysis.toys.example_tables import one_gaussian

SCALE, WIDTH = 2.0, 0.25
HEAVY = 0.75
MODES = GaussianMixture(torch.tensor([[-2.0], [2.0]]), torch.full((2,), WIDTH), torch.tensor([[HEAVY, 1 - HEAVY]]))
DRAWS, STEPS = 20_000, 120


def claims(seed: int) -> Iterator[Claim]:
    """Yield the variance on a Gaussian, and weight and variance of a mode of two."""
    normal = diffusion.conditioned(one_gaussian().score)
    for number, (name, step) in enumerate((("ODE", diffusion.heun), ("SDE", diffusion.sde(1.0)))):
        fields = (diffusion.gaussian_correction(normal, SCALE, 1.0), diffusion.scaled(normal, SCALE))
        x, plain = (_drawn(field, step, seed, number) for field in fields)
        found = float(x.var())
        yield Claim(
            "exact for a Gaussian: the variance is σ²/k",
            f"variance of {name} draws of N(0, 1), k = {SCALE:g}",
            1 / SCALE,
            found,
            float(plain.var()),
            "score × k",
            std_error=found * (2 / DRAWS) ** 0.5,
            note=f"{DRAWS:,} draws in {STEPS} steps.",
        )
    modes = diffusion.conditioned(MODES.score)
    x, plain = (
        _drawn(field, diffusion.sde(1.0), seed, 2)
        for field in (diffusion.gaussian_correction(modes, SCALE, WIDTH), diffusion.scaled(modes, SCALE))
    )
    share, other = (float((each > 0).double().mean()) for each in (x, plain))
    tilt = float((MODES.on_grid().log_joint({None: SCALE})[0].exp() * (MODES.axes()[0] > 0)).sum())
    where, note = "local temperature: the modes narrow, and their weights stay", f"p^k has weight {tilt:.3f}, by quadrature."
    yield Claim(
        where,
        f"weight of the lighter mode of ¾ N(−2, ¼) + ¼ N(2, ¼), SDE, k = {SCALE:g}",
        1 - HEAVY,
        share,
        other,
        "score × k",
        std_error=(share * (1 - share) / DRAWS) ** 0.5,
        note=note,
    )
    light, narrow = x[x > 0], float(x[x > 0].var())
    yield Claim(
        where,
        "variance within that mode, from ¼/k",
        WIDTH / SCALE,
        narrow,
        float(plain[plain > 0].var()),
        "score × k",
        std_error=narrow * (2 / len(light)) ** 0.5,
        note=note,
    )


def _drawn(field: diffusion.models.Field, step: diffusion.sampling.Step, seed: int, number: int) -> Tensor:
    grid = diffusion.geometric(STEPS, 0.02, 50.0).double()
    return diffusion.sample(field, (DRAWS, 1), grid, step=step, generator=stream(seed, 70, number)).x


SOURCE = arxiv(
    "2510.01184", "Xu et al., Temporal score rescaling for temperature sampling (2025)", claims, "readers’ notes and codes"
)
