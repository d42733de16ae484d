r"""Training of one network as a conditional and an unconditional model: conditioning dropout, and the loop of both wings.

Each label of a batch is replaced by the null label with probability π, so that one network learns p(x|y) and p(x) (Ho &
Salimans, "Classifier-free diffusion guidance", arXiv:2207.12598, algorithm 1). Dropout may be restricted to a finetuning phase
(Nichol et al., "GLIDE", arXiv:2112.10741, section 2.3). The loop writes checkpoints. A killed run resumes from the last one and
gives the same result, because all randomness comes from one generator whose state is saved.
"""

import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
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
    """Settings of training.

    Attributes:
        steps: number of steps of the optimizer, AdamW; its rate rises over the first twentieth of them and falls to 0 by a
            cosine.
        batch: number of rows per step.
        rate: the highest learning rate.
        dropout: π, the share of labels that are dropped.
        dropout_from: the share of the steps before dropout begins; 0 for dropout in all steps.
        balanced: whether rows are drawn uniformly over the labels, and not over the rows.
        decay: weight decay.
        average: decay of the exponential average of the weights, which replaces the weights at the end; 0 for no average.

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
    """Return labels [n], each replaced by the null label with probability `share`: conditioning dropout.

    Args:
        labels: [n].
        null: the null label.
        share: π.
        generator: source of randomness, on the CPU.
    """
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
        model: the model.
        data: rows [n, …].
        labels: one per row, [n].
        null: the null label.
        loss: (rows [b, …], labels [b] after dropout, generator) ↦ the loss of the model, [].
        recipe: settings of training.
        generator: of all randomness, on the CPU.
        checkpoint: a file that is written after every `every` steps; training resumes from it if it exists.
        every: number of steps between two checkpoints.
        track: wraps the numbers of the remaining steps, for a progress bar.

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
            raise checks.refusal(f"the loss at step {step + 1}", "finite", value, "lower the learning rate")
        optimizer.zero_grad()
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(value.detach()))
        if average:
            share = min(recipe.average, (step + 1) / (step + 10))
            torch._foreach_lerp_(average, [p.detach() for p in model.parameters()], 1 - share)
        if checkpoint is not None and (step + 1) % every == 0 and step + 1 < recipe.steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "generator": generator.get_state()}
            files.write(checkpoint, partial(_save, state | {"average": average, "losses": losses}))
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


def _save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint with its digest at the end."""
    buffer = io.BytesIO()
    torch.save(state, buffer)  # not to the file, where torch raises no OSError when the disk is full
    path.write_bytes(buffer.getbuffer())
    files.seal(path)


def _restore(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: list[Tensor], generator: torch.Generator
) -> list[float]:
    """Restore the state of a checkpoint, and return its losses."""
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
        raise ValueError(f"{path} is no checkpoint of this training; delete it to start again") from error
    return losses
