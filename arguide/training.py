r"""Learning a conditional and an unconditional model in one: conditioning dropout, and the loop that both wings train with.

With probability π a batch's label is replaced by the null label, so that one network learns p(x|y) and p(x) (Ho & Salimans,
"Classifier-free diffusion guidance", 2022, algorithm 1). Dropout may begin late, in a finetuning phase only (Nichol et al.,
"GLIDE", 2021, section 2.3). The loop writes checkpoints; a run that was killed goes on from the last one to the same result,
since all that is random comes from one generator whose state is kept.
"""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from arguide import checks, files

Loss = Callable[[Tensor, Tensor, torch.Generator], Tensor]
Track = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        steps: of the optimizer, AdamW; its rate rises over the first twentieth and falls to 0 by a cosine.
        batch: rows a step, drawn evenly over the labels if `balanced`, evenly over the rows otherwise.
        rate: the highest learning rate.
        dropout: π, the share of labels that are dropped.
        dropout_from: the share of the steps after which dropout begins; 0 for all steps.
        decay: of the weights.
        average: decay of the exponential average of the weights, which is what is kept in the end; 0 keeps the last.

    Raises:
        ValueError: a number out of range.
    """

    steps: int
    batch: int = 128
    rate: float = 3e-3
    dropout: float = 0.15
    dropout_from: float = 0.0
    balanced: bool = True
    decay: float = 0.01
    average: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            checks.integer(name, getattr(self, name))
        checks.positive("rate", self.rate)
        checks.not_negative("decay", self.decay)
        for name in ("dropout", "dropout_from", "average"):
            checks.share(name, getattr(self, name))

    def dropout_at(self, step: int) -> float:
        """Return π at a step."""
        return self.dropout if step >= self.dropout_from * self.steps else 0.0

    def rate_at(self, step: int) -> float:
        """Return the learning rate at a step."""
        warm = max(1, self.steps // 20)
        return self.rate * min((step + 1) / warm, (1 + math.cos(math.pi * step / self.steps)) / 2)


def drop(labels: Tensor, null: int, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Return labels [n] of which each is the null label with probability `share`: conditioning dropout."""
    dropped = torch.rand(labels.shape, generator=generator) < share
    return labels.masked_fill(dropped.to(labels.device), null)


def fit(
    model: nn.Module,
    data: Tensor,
    labels: Tensor,
    null: int,
    loss: Loss,
    recipe: Recipe,
    *,
    generator: torch.Generator,
    checkpoint: Path | None = None,
    every: int = 100,
    track: Track = iter,
) -> list[float]:
    """Train a model in place; return the loss of every step.

    Args:
        data: rows [n, …], what the labels [n] belong to.
        null: the label that stands for none.
        loss: (rows [b, …], labels [b] after dropout, generator) ↦ [], of the model being trained.
        generator: all randomness, on the cpu.
        checkpoint: a file that is written every so many steps, and gone on from if it is there.
        track: wraps the numbers of the steps that are left, for a progress bar.

    Raises:
        ValueError: a checkpoint that cannot be read or written or is damaged, or a loss that is not finite.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay, betas=(0.9, 0.98))
    average = [p.detach().clone() for p in model.parameters()] if recipe.average else []
    losses: list[float] = []
    if checkpoint is not None and checkpoint.exists():
        losses = _restore(checkpoint, model, optimizer, average, generator)
    groups = [(labels == label).nonzero()[:, 0].cpu() for label in torch.unique(labels)] if recipe.balanced else []
    model.train()
    for step in track(range(len(losses), recipe.steps)):
        rows = _rows(groups, len(data), recipe.batch, generator).to(data.device)
        given = drop(labels[rows], null, recipe.dropout_at(step), generator)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate_at(step)
        value = loss(data[rows], given, generator)
        if not value.isfinite():
            raise ValueError(f"the loss is {float(value.detach())} at step {step + 1}; lower the learning rate")
        optimizer.zero_grad()
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(value.detach()))
        if average:
            share = min(recipe.average, (step + 1) / (step + 10))
            torch._foreach_lerp_(average, [p.detach() for p in model.parameters()], 1 - share)
        if checkpoint is not None and (step + 1) % every == 0 and step + 1 < recipe.steps:
            _keep(checkpoint, model, optimizer, average, generator, losses)
    with torch.no_grad():
        for parameter, mean in zip(model.parameters(), average, strict=bool(average)):
            parameter.copy_(mean)
    model.eval()
    return losses


def _rows(groups: Sequence[Tensor], n: int, batch: int, generator: torch.Generator) -> Tensor:
    """Draw the rows of a batch."""
    if not groups:
        return torch.randint(n, (batch,), generator=generator)
    sizes = torch.tensor([len(group) for group in groups])
    which = torch.randint(len(groups), (batch,), generator=generator)
    within = (torch.rand(batch, generator=generator) * sizes[which]).long()
    starts = functional.pad(sizes.cumsum(0), (1, 0))[:-1]
    return torch.cat(list(groups))[starts[which] + within]


def _keep(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: list[Tensor],
    generator: torch.Generator,
    losses: list[float],
) -> None:
    """Write a checkpoint whole or not at all, with its digest at the end."""
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average,
        "generator": generator.get_state(),
        "losses": losses,
    }

    def save(place: Path) -> None:
        held = io.BytesIO()
        torch.save(state, held)  # not to the file, where torch raises no OSError when the disk is full
        place.write_bytes(held.getbuffer())
        files.seal(place)

    files.write(path, save)


def _restore(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: list[Tensor], generator: torch.Generator
) -> list[float]:
    """Put back what a checkpoint holds, and return its losses."""
    try:
        content = io.BytesIO(files.unsealed(path))
        state = torch.load(content, weights_only=True, map_location=next(model.parameters()).device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for mean, kept in zip(average, state["average"], strict=True):
            mean.copy_(kept)
        generator.set_state(state["generator"].cpu())
        losses: list[float] = state["losses"]
    except Exception as error:  # a broken pickle may raise anything
        raise ValueError(f"{path} is no checkpoint of this training; delete it to begin anew") from error
    return losses
