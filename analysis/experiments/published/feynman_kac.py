"""Skreta et al. (2025), Feynman–Kac correctors: weights that make guided, tempered and multiplied diffusion exact."""

from collections.abc import Iterator

import torch

import diffusion
from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim, arxiv
from analysis.metrics.confidence import mean_of
from analysis.toys import GaussianMixture
from diffusion import LogLinear

MIXTURE = GaussianMixture(torch.tensor([[-1.0], [1.0]]), torch.ones(2), torch.tensor([0.5, 0.5]))
RIGHT, LEFT, WHOLE = (diffusion.conditioned(MIXTURE.score, label) for label in (1, 0, None))
RUNS, PARTICLES, STEPS = 8, 2000, 300
NOISE = 1.0


def claims(seed: int) -> Iterator[Claim]:
    """Yield means and variances of weighted draws, beside those of the law that the propositions name."""
    cases = (
        (
            "proposition 3.1, guidance with β = 2 to one of two Gaussians",
            LogLinear.guidance(RIGHT, WHOLE, 2.0),
            {1: 2.0, None: -1.0},
        ),
        ("proposition 3.2, annealing q^β with β = 2 of two Gaussians", LogLinear.temperature(WHOLE, 0.5), {None: 2.0}),
        ("proposition 3.3, product of N(1, 1) and N(−1, 1)", LogLinear((RIGHT, LEFT), (1.0, 1.0)), {1: 1.0, 0: 1.0}),
    )
    for number, (where, model, weights) in enumerate(cases):
        axis = MIXTURE.axes()[0]
        law = MIXTURE.on_grid().log_joint(weights)[0].exp()
        exact = float(law @ axis.square())
        found = []
        for run in range(RUNS):
            grid = diffusion.geometric(STEPS, 0.02, 50.0).double()
            drawn = diffusion.sample_joint(model, (PARTICLES, 1), grid, generator=stream(seed, number + 1, run + 1))
            squares = drawn.x[:, 0].square()
            found.append([float(drawn.log_weights.softmax(0) @ squares)])
        plain = diffusion.sample(
            model, (RUNS * PARTICLES, 1), grid, step=diffusion.sde(NOISE), generator=stream(seed, number + 1, 99)
        ).x
        estimate = mean_of([each[0] for each in found])
        yield Claim(
            where,
            "E[x²] of the target",
            exact,
            estimate.value,
            float(plain.square().mean()),
            "no weights",
            std_error=estimate.std_error,
            note=f"{RUNS} runs of {PARTICLES:,} weighted draws in {STEPS} steps; the target by quadrature.",
        )


SOURCE = arxiv(
    "2503.02819",
    "Skreta et al., Feynman–Kac correctors in diffusion: annealing, guidance, and product of experts (2025)",
    claims,
)
