"""What weights and resampling add to sequential sampling on one table model, and what a draw takes."""

import itertools
from collections.abc import Iterator

import torch

from analysis import Table
from arguide import LogLinear, sample, sample_joint, sampling
from benchmarks.exact import LABEL, SCALE, random_joint
from benchmarks.timing import Case, Ratio


def cases() -> Iterator[Case]:
    """Yield the driver against the plain sampler, few particles and many, and the draw of a token against torch's own."""
    table, length = Table(random_joint(3, 8)), 8
    model = LogLinear.guidance(table.autoregressive(LABEL), table.autoregressive(), SCALE)
    for n in (100, 10_000):
        yield _case(model, n, length)
    for size, n in itertools.product((512, 32_000, 50_257), (1, 32, 256)):
        yield _draw(size, n)


def _draw(size: int, n: int) -> Case:
    generator = torch.Generator().manual_seed(0)
    law = torch.randn(n, size, generator=generator).mul(3).log_softmax(-1)
    draw = sampling.categorical(generator)
    return Case(
        f"one token a row, V = {size}, n = {n}",
        {"inverted": lambda: draw(law), "multinomial": lambda: torch.multinomial(law.exp(), 1, generator=generator)},
        (Ratio("torch.multinomial ÷ arguide", "multinomial", "inverted"),),
    )


def _case(model: LogLinear, n: int, length: int) -> Case:
    generator = torch.Generator().manual_seed(0)
    return Case(
        f"particle driver, T = {length}, n = {n}",
        {
            "sample": lambda: sample(model, n, length, generator=generator),
            "weighted": lambda: sample_joint(model, n, length, generator=generator, threshold=0.0),
            "resampled": lambda: sample_joint(model, n, length, generator=generator, threshold=1.0),
        },
        (
            Ratio("weights only ÷ sample", "weighted", "sample"),
            Ratio("resampling at every step ÷ sample", "resampled", "sample"),
        ),
    )
