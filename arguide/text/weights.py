r"""Weights: from the scale of every branch to the weights w_k of Σ_k w_k log p_k, at every position and in every row.

    w = (γ, 1 − γ − Σ_i γ_i, γ_1, γ_2, …) / τ for (cond, uncond, further conditions).

A scale is a number, one a prompt, or a function of the position to either.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arguide import checks
from arguide.guidance import Weight, check_temperature

Scale = float | Tensor | Callable[[int], float | Tensor]


@dataclass(frozen=True)
class Weights:
    """The weights of the branches that are read.

    scales: γ, γ_1, γ_2, …
    rows: n, the number of prompts.
    branches: which of (cond, uncond, conditions) are read.
    temperature: τ of all of them together; weights are divided by it.
    """

    scales: tuple[Scale, ...]
    rows: int
    branches: tuple[int, ...]
    temperature: float = 1.0

    @classmethod
    def of(cls, scales: Sequence[Scale], rows: int, *, always: Sequence[int] = (), temperature: float = 1.0) -> "Weights":
        """Return the weights, without the branches that weigh 0 everywhere unless they are among `always`.

        Raises:
            ValueError: a scale that is neither a number nor one for each of the prompts, or not finite, or a temperature
                that is not positive.
        """
        check_temperature(temperature)
        read = tuple(scale if callable(scale) else _number_or_rows(scale, rows) for scale in scales)
        numbers = [scale for scale in read if isinstance(scale, float)]
        rest = 1 - sum(numbers) if len(numbers) == len(read) else None
        counted = [isinstance(weight, Tensor) or weight != 0 for weight in (read[0], rest, *read[1:])]
        return cls(read, rows, tuple(k for k, counts in enumerate(counted) if counts or k in always), temperature)

    @property
    def vary(self) -> bool:
        """Whether they depend on the position."""
        return any(callable(scale) for scale in self.scales)

    def at(self, position: int) -> list[Weight]:
        """Return K weights, each a number or one a prompt, [n]."""
        now = [_number_or_rows(scale(position), self.rows) if callable(scale) else scale for scale in self.scales]
        every = [now[0], 1 - sum(now), *now[1:]]
        return [every[k] / self.temperature for k in self.branches]

    def over(self, position: int, tokens: int, rows: Tensor) -> list[Weight]:
        """Return K weights of t tokens from `position` on, each a number or [n, t]; `rows` says whose prompt a row has."""
        steps = [self.at(position + i) for i in range(tokens if self.vary else 1)]
        return [_over(column, rows) for column in zip(*steps, strict=True)]


def _over(weights: Sequence[Weight], rows: Tensor) -> Weight:
    if len(weights) == 1 and isinstance(weights[0], float):
        return weights[0]
    wide = torch.float32 if rows.device.type == "mps" else torch.float64  # which that device lacks
    values = [torch.as_tensor(weight, dtype=torch.float64).to(wide).to(rows.device) for weight in weights]
    return torch.stack([each[rows] if each.ndim else each.expand(len(rows)) for each in values], 1)


def _number_or_rows(scale: float | Tensor, n: int) -> Weight:
    """Return a scale in double precision: a number if it is one for all rows, else [n]."""
    try:
        values = torch.as_tensor(scale.cpu() if isinstance(scale, Tensor) else scale, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise checks.refusal("guidance_scale", f"a number, or one for each of the {n} prompts", scale) from None
    if values.ndim > 1 or values.numel() not in (1, n):
        raise ValueError(f"a scale must be a number, or one for each of the {n} prompts, not of shape {tuple(values.shape)}")
    if not values.isfinite().all():
        raise ValueError("scales must be finite")
    return float(values.flatten()[0]) if (values == values.flatten()[0]).all() else values
