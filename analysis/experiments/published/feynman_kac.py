"""Skreta et al. (2025), Feynman–Kac correctors: weights that make guided, tempered and multiplied diffusion exact."""

from collections.abc import Iterator
from functools import partial

import torch

import diffusion
from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim, arxiv
from analysis.metrics.confidence import mean_of
from analysis.toys import GaussianMixture, guidance, temperature
from diffusion import LogLinear

MIXTURE = GaussianMixture(torch.tensor([[-1.0], [1.0]]), torch.ones(2), torch.tensor([0.5, 0.5]))
RIGHT, LEFT, WHOLE = (diffusion.conditioned(MIXTURE.score, label) for label in (1, 0, None))
RUNS, PARTICLES = 8, 2000
GRID = diffusion.geometric(300, 0.02, 50.0).double()
CASES = (
    ("proposition 3.1: guidance with β = 2 to one of two Gaussians", LogLinear.guidance(RIGHT, WHOLE, 2.0), guidance(1, 2.0)),
    ("proposition 3.2: annealing of two Gaussians with β = 2", LogLinear.temperature(WHOLE, 0.5), temperature(0.5)),
    ("proposition 3.3: product of N(1, 1) and N(−1, 1)", LogLinear((RIGHT, LEFT), (1.0, 1.0)), {1: 1.0, 0: 1.0}),
)


def claims(seed: int) -> Iterator[Claim]:
    """Yield E[x²] of weighted draws, beside that of the law that each proposition names."""
    for number, (where, model, weights) in enumerate(CASES):
        target = float(MIXTURE.on_grid().log_joint(weights)[0].exp() @ MIXTURE.axes()[0].square())
        draw = partial(stream, seed, number + 1)
        runs = [diffusion.sample_joint(model, (PARTICLES, 1), GRID, generator=draw(run + 1)) for run in range(RUNS)]
        weighted = mean_of([float(run.log_weights.softmax(0) @ run.x[:, 0].square()) for run in runs])
        plain = diffusion.sample(model, (RUNS * PARTICLES, 1), GRID, step=diffusion.sde(1.0), generator=draw(RUNS + 1)).x
        yield Claim(
            where,
            "E[x²] of the target",
            target,
            weighted.value,
            float(plain.square().mean()),
            "no weights",
            std_error=weighted.std_error,
            note=f"{RUNS} runs of {PARTICLES:,} weighted draws in {len(GRID) - 1} steps; the target by quadrature.",
        )


SOURCE = arxiv("2503.02819", "Skreta et al., Feynman–Kac correctors in diffusion (2025)", claims)
