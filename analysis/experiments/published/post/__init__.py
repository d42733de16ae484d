"""Dieleman (2022): the sentences of the post that can be tested, asides included, with its correction of 29 May."""

from collections.abc import Iterator

from analysis.experiments.published.claims import Claim, Source
from analysis.experiments.published.post import classifiers, dropout, factors, langevin, scores

PARTS = (factors, scores, classifiers, dropout, langevin)


def claims(seed: int) -> Iterator[Claim]:
    """Yield the claims of all parts of the post."""
    for part in PARTS:
        yield from part.claims(seed)


SOURCE = Source(
    "post",
    "Dieleman, Guidance: a cheat code for diffusion models (2022), with its correction of 29 May",
    "https://sander.ai/2022/05/26/guidance.html",
    claims,
)
