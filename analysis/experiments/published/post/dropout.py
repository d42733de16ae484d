"""The post on conditioning dropout: what it costs the conditional model, how much is enough, and whether late is better.

The bounds were fixed before the first run. A network reads four pixels of digits in turn, and gives each a mixture
of Gaussians.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim
from analysis.metrics.confidence import Estimate, combined, mean_of
from arguide import continuous
from arguide.training import Recipe, fit

SEEDS, STEPS, FINETUNED = 2, 300, 0.2
USUAL, MOST = 0.15, 0.9
NEGLIGIBLE, CLOSE = 0.02, 0.05  # nats per pixel
NONE, KEPT, MOSTLY, LATE = "no dropout", "dropout .15", "dropout .9", "dropout .15 in the last fifth"
RECIPES = {
    NONE: Recipe(STEPS, rate=1e-2, dropout=0.0),
    KEPT: Recipe(STEPS, rate=1e-2, dropout=USUAL),
    MOSTLY: Recipe(STEPS, rate=1e-2, dropout=MOST),
    LATE: Recipe(STEPS, rate=1e-2, dropout=USUAL, dropout_from=1 - FINETUNED),
}


class Pixels(NamedTuple):
    """Rows of pixels with labels, for training and held out."""

    rows: Tensor
    labels: Tensor
    held: Tensor
    held_labels: Tensor


class Losses(NamedTuple):
    """−log p(x) of every held-out row per pixel, with and without its label, means over the trainings, and all of them."""

    cond: Tensor
    uncond: Tensor


def claims(seed: int) -> Iterator[Claim]:
    """Yield the differences between trainings with other shares of dropped labels, in held-out loss."""
    data = pixels(seed)
    found = {name: _losses(data, recipe, seed) for name, recipe in RECIPES.items()}
    note = (
        f"{SEEDS} trainings of {STEPS} steps each, on {len(data.rows):,} digits, {len(data.held):,} held out. Errors are of "
        "paired rows and of trainings. The bounds were fixed before the run. Late dropout changes the unconditional loss by "
        f"{_difference(found[LATE], found[KEPT], 'unconditional').value:+.3f} nats per pixel."
    )
    cases = (
        ("cost to the conditional model “negligible in practice”", "conditional", NEGLIGIBLE, (KEPT, NONE), (MOSTLY, NONE)),
        (
            "dropout “only in a finetuning phase”: “perhaps there is a good reason”, but “I rather suspect” that there is none",
            "conditional",
            NEGLIGIBLE,
            (KEPT, LATE),
            (MOSTLY, NONE),
        ),
        ("“10-20% tends to work well”", "unconditional", CLOSE, (KEPT, MOSTLY), (NONE, MOSTLY)),
    )
    for where, which, bound, pair, others in cases:
        gap, control = (_difference(found[left], found[right], which) for left, right in (pair, others))
        yield Claim(
            where,
            f"held-out {which} loss in nats per pixel, {' − '.join(pair)}",
            f"< {bound:g}",
            gap.value,
            control.value,
            " − ".join(others),
            std_error=gap.std_error,
            note=note,
            freedom=gap.freedom,
        )


def pixels(seed: int) -> Pixels:
    """Return the four pixels in the middle of digits scaled to 4 × 4, in [−1, 1], with noise within a grey level."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = torch.nn.functional.avg_pool2d(torch.from_numpy(loaded.images)[:, None].float() / 8 - 1, 2)
    rows, labels = images[:, 0, 1:3, 1:3].flatten(1), torch.from_numpy(loaded.target)
    rows = rows + (torch.rand(rows.shape, generator=stream(seed, 20)) - 0.5) / 32
    order = torch.randperm(len(rows), generator=stream(seed, 21))
    held, kept = order[: len(order) // 3], order[len(order) // 3 :]
    return Pixels(rows[kept], labels[kept], rows[held], labels[held])


def _losses(data: Pixels, recipe: Recipe, seed: int) -> Losses:
    """Return the held-out losses of every training, [SEEDS, n] each."""
    found = []
    for run in range(SEEDS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 * seed + run)
            network = continuous.MixtureNetwork(int(data.labels.max()) + 1)
        loss = partial(continuous.loss, network)
        fit(network, data.rows, data.labels, network.none, loss, recipe, generator=stream(seed, 22, run))
        with torch.no_grad():
            pair = (partial(network, label=data.held_labels), network)
            found.append([-continuous.log_density(model, data.held) / data.held.shape[1] for model in pair])
    return Losses(*(torch.stack(part).double() for part in zip(*found, strict=True)))


def _difference(left: Losses, right: Losses, which: str) -> Estimate:
    """Return the mean difference of two trainings, with the error of rows and that of trainings."""
    gaps = left.cond - right.cond if which == "conditional" else left.uncond - right.uncond
    rows, runs = mean_of(gaps.mean(0)), mean_of(gaps.mean(1))
    return combined((1.0, 1.0), (rows, runs))._replace(value=rows.value)
