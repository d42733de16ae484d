"""Prompts: what a branch reads before the text, padded on one side."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from arguide import checks


class Prompt(NamedTuple):
    """n prompts, padded on the left: token ids [n, L] or embeddings [n, L, d], and their mask [n, L], 1 on tokens."""

    inputs: Tensor
    mask: Tensor

    @classmethod
    def of(cls, inputs: Tensor, mask: Tensor | None = None, *, right: bool = False) -> Self:
        """Return prompts with their padding, wherever it was, moved to the left (or right) and cut to what the longest needs.

        Raises:
            ValueError: a prompt without a token, or a mask of another shape.
        """
        if inputs.ndim not in (2, 3):
            raise ValueError(f"prompts must be token ids [n, L], not of shape {tuple(inputs.shape)}")
        if not inputs.shape[1] or (mask is not None and not mask.any(1).all()):
            raise ValueError("every prompt needs at least one token; the beginning-of-text token will do")
        if mask is None:
            return cls(inputs, torch.ones(inputs.shape[:2], dtype=torch.long, device=inputs.device))
        if mask.shape != inputs.shape[:2]:
            raise ValueError(f"the mask of a prompt must have its shape {tuple(inputs.shape[:2])}, not {tuple(mask.shape)}")
        mask = mask.to(inputs.device, torch.long)
        if mask.all():
            return cls(inputs, mask)
        order = mask.argsort(dim=1, stable=True, descending=right)
        inputs, mask = along(inputs, order), mask.gather(1, order)
        width = int(mask.sum(1).max())
        kept = slice(None, width) if right else slice(-width, None)
        return cls(inputs[:, kept], mask[:, kept])

    @property
    def width(self) -> int:
        """L, with padding."""
        return self.mask.shape[1]

    def to(self, device: torch.device) -> "Prompt":
        """Return the prompts on a device."""
        return Prompt(self.inputs.to(device), self.mask.to(device))

    def select(self, rows: Tensor) -> "Prompt":
        """Return the prompts of these rows, [m] indices."""
        return Prompt(self.inputs[rows], self.mask[rows])

    def followed_by(self, tokens: Tensor, model: PreTrainedModel, mask: Tensor | None = None) -> "Prompt":
        """Return the prompts with tokens [n, t] after them, padded on the right where a mask [n, t] says so."""
        if not tokens.shape[1]:
            return self
        more = tokens if self.inputs.ndim == 2 else model.get_input_embeddings()(tokens)
        after = torch.ones_like(tokens) if mask is None else mask.to(self.mask)
        return Prompt(torch.cat([self.inputs, more], 1), torch.cat([self.mask, after], 1))

    def widened(self, width: int) -> "Prompt":
        """Return the prompts with more padding on the left."""
        missing = width - self.width
        if not missing:
            return self
        features = (0, 0) * (self.inputs.ndim - 2)
        return Prompt(functional.pad(self.inputs, (*features, missing, 0)), functional.pad(self.mask, (missing, 0)))

    def distinct(self) -> tuple["Prompt", Tensor | None]:
        """Return the distinct prompts, and for every row which one it is; None if all differ."""
        if len(self.mask) == 1 or self.inputs.ndim == 3:
            return self, None
        keys, index = torch.unique(torch.where(self.mask.bool(), self.inputs, -1), dim=0, return_inverse=True)
        if len(keys) == len(index):
            return self, None
        first = torch.full((len(keys),), len(index), device=index.device)
        first.scatter_reduce_(0, index, torch.arange(len(index), device=index.device), "amin")
        return self.select(first), index


def along(inputs: Tensor, index: Tensor) -> Tensor:
    """Return the positions `index`, [n, l], of token ids [n, L] or embeddings [n, L, d]."""
    return torch.take_along_dim(inputs, index if inputs.ndim == 2 else index[..., None], 1)


def first_tokens(model: PreTrainedModel, n: int) -> Tensor:
    """Return what a decoder reads before the text if an encoder has read the prompt, [n, 1]; nothing, [n, 0], otherwise."""
    if not model.config.is_encoder_decoder:
        return torch.empty(n, 0, dtype=torch.long, device=model.device)
    assert model.generation_config is not None
    start = model.generation_config.decoder_start_token_id
    return torch.full((n, 1), model.config.decoder_start_token_id if start is None else start, device=model.device)


def padded(rows: Sequence[list[int]], pad: int = 0, *, right: bool = False) -> Prompt:
    """Return lists of token ids as one batch, padded on the left (or right) with any token."""
    width = max(map(len, rows))
    gaps = [width - len(row) for row in rows]
    pairs = list(zip(rows, gaps, strict=True))
    ids = [row + [pad] * gap if right else [pad] * gap + row for row, gap in pairs]
    mask = [[1] * len(row) + [0] * gap if right else [0] * gap + [1] * len(row) for row, gap in pairs]
    return Prompt(torch.tensor(ids), torch.tensor(mask))


def check_tokens(name: str, ids: Tensor | None, model: PreTrainedModel) -> None:
    """Raise ValueError where token ids, [n, L], are not of a model's vocabulary; embeddings and None pass."""
    if ids is None or ids.ndim != 2 or not ids.numel():
        return
    least, largest = (int(end) for end in ids.aminmax())
    size = model.get_input_embeddings().weight.shape[0]
    if least < 0 or largest >= size:
        raise checks.refusal(name, f"tokens from 0 to {size - 1}", least if least < 0 else largest)


def found_mask(ids: Tensor, pad: int, *, ends: int | Sequence[int] | None = None) -> Tensor | None:
    """Return the mask of prompts that are padded with `pad`, as `transformers` finds it: none where `pad` also ends texts."""
    ends = (ends,) if isinstance(ends, int) else tuple(ends or ())
    return None if pad in ends or ids.ndim != 2 else (ids != pad).long()
