"""He, Rojas and Tao (2025): what guidance does to masked diffusion, on small tables whose guided laws are exact.

Their w is γ − 1.
"""

import math
from collections.abc import Iterator

import torch
from scipy.stats import binom, norm

from analysis.experiments.published.claims import Claim, arxiv
from analysis.metrics.confidence import LEVEL
from analysis.toys import Table, guidance
from analysis.toys.discrete_diffusion import masked_law

LENGTH, NORMAL = 5, float(norm.ppf((1 + LEVEL) / 2))
PRINTED = {  # density × 10³ of an x of the first class by the number of its 2s, 0 … 5
    1.0: ("4.984", "4.541", "4.020", "3.386", "2.208", "0.280"),
    2.0: ("5.573", "4.783", "3.867", "2.844", "1.588", "0.200"),
}
SAMPLES, TOGETHER = 25_000, 12  # draws, and numbers with simultaneous intervals
NOTE = (
    "Theirs at w = {w:g}: draws by a small network in 50 steps, whose densities sum to {total:.4f} over all x of the class. "
    "All of them are shares of 25,000 draws, six are not of the 10,000 that a reader names. “±” is the exact interval of a "
    "share of 25,000, simultaneous over twelve. Ours is exact, by dynamic programming over the sets of unmasked x_j."
)


def claims(_seed: int) -> Iterator[Claim]:
    """Yield the densities of the five-dimensional example, and the laws of one and two dimensions against the tilt."""
    table = classes(LENGTH)
    for w, texts in PRINTED.items():
        counts = [math.comb(LENGTH, twos) * 2 ** (LENGTH - twos) for twos in range(LENGTH + 1)]
        total = sum(count * float(text) for count, text in zip(counts, texts, strict=True)) / 1e3
        weights = guidance(0, 1 + w)
        masked, tilt = masked_law(table, weights, normalized=False).exp(), table.log_joint(weights)[0].exp()
        for twos, (text, count) in enumerate(zip(texts, counts, strict=True)):
            x = (2,) * twos + (0,) * (LENGTH - twos)
            exact = float(masked[x])
            yield Claim(
                "five dimensions, classes uniform on {0, 1, 2}⁵ and {2, 3, 4}⁵",
                f"10³ × density at w = {w:g}, {twos} of the x_j = 2",
                text,
                1e3 * exact,
                1e3 * float(tilt[x]),
                "the joint tilt",
                std_error=1e3 * _farthest(count * exact) / count / NORMAL,
                note=NOTE.format(w=w, total=total),
            )
    one, two = (_distance(length, 2.0) for length in (1, 2))
    yield Claim("theorem 3.1, one dimension", "total variation to the joint tilt at w = 2", 0.0, one, two, "two dimensions")
    yield Claim("section 3, two dimensions", "total variation to the joint tilt at w = 2", "> 0.01", two, one, "one dimension")
    yield from _two_dimensions()


def _farthest(probability: float) -> float:
    """Return how far a share of the draws may be from its probability, in all twelve numbers with 95 %."""
    tail = (1 - LEVEL) / (2 * TOGETHER)
    return float(max(abs(binom.ppf((tail, 1 - tail), SAMPLES, probability) / SAMPLES - probability)))


def classes(length: int) -> Table:
    """Return two classes of equal weight, uniform on {0, 1, 2}^T and on {2, 3, 4}^T."""
    joint = torch.zeros(2, *(5,) * length, dtype=torch.float64)
    joint[0][(slice(0, 3),) * length] = joint[1][(slice(2, 5),) * length] = 0.5 * 3.0**-length
    return Table(joint)


def _distance(length: int, w: float) -> float:
    """Return the total variation between the law of guided masked diffusion and the joint tilt."""
    table, weights = classes(length), guidance(0, 1 + w)
    masked = masked_law(table, weights, normalized=False).exp()
    return float((masked - table.log_joint(weights)[0].exp()).abs().sum()) / 2


def _two_dimensions() -> Iterator[Claim]:
    """Yield the law of theorem 3.2 on a table of two bits, (1/c(x_1) + 1/d(x_2))/(S_1 + S_2) times the tilt's w(x).

    c(x_1) = Σ_{x_2} p(x_2|x_1)^{−w} p(x_2|x_1, y)^{1+w}, d likewise, and S_j = Σ p(x_j)^{−w} p(x_j|y)^{1+w}.
    """
    cond = torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64)
    both = torch.stack([cond, cond.flip(0, 1)]) / 2
    w, p = 2.0, both.sum(0)
    tilt = p**-w * cond ** (1 + w)
    factors = []
    for axis in (0, 1):
        single = p.sum(1 - axis, keepdim=True) ** -w * cond.sum(1 - axis, keepdim=True) ** (1 + w)
        factors.append((single, tilt.sum(1 - axis, keepdim=True) / single))
    (first, along_first), (second, along_second) = factors
    formula = tilt * (1 / along_first + 1 / along_second) / (first.sum() + second.sum())
    table, weights = Table(both), guidance(0, 1 + w)
    ours, normalized = (masked_law(table, weights, normalized=each).exp() for each in (False, True))
    for x in ((0, 0), (1, 1)):
        yield Claim(
            "theorem 3.2, two bits with p(x|y) = .1, .2, .3, .4 and their reverse",
            f"probability of {x} at w = 2",
            float(formula[x]),
            float(ours[x]),
            float(normalized[x]),
            "rates normalised at every position",
            note="Dynamic programming over the sets of unmasked bits, which sums over both orders.",
        )


SOURCE = arxiv(
    "2506.10971",
    "He et al., What exactly does guidance do in masked discrete diffusion models (2025)",
    claims,
    "a reader’s notes",
)
