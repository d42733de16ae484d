"""Prompts: the tokens that a branch reads before the text, padded on one side."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationMixin, PreTrainedModel

from arguide import checks

EMPTY = "every prompt must have at least one token, got none; try the beginning-of-text token"


class Prompt(NamedTuple):
    """n prompts, padded on one side: token ids [n, L] or embeddings [n, L, d], and their mask [n, L], 1 on tokens."""

    inputs: Tensor
    mask: Tensor

    @classmethod
    def of(cls, inputs: Tensor, mask: Tensor | None = None, *, right: bool = False) -> Self:
        """Return prompts with all padding moved to one side, and cut to the length of the longest.

        Args:
            inputs: token ids [n, L], or embeddings [n, L, d].
            mask: [n, L], 1 on tokens; no padding by default.
            right: whether padding moves to the right, and not to the left.

        Raises:
            ValueError: a prompt without a token, or a mask of another shape.
        """
        if inputs.ndim not in (2, 3):
            raise checks.refusal("prompts", "token ids [n, L]", inputs)
        if not inputs.shape[1]:
            raise ValueError(EMPTY)
        if mask is None:
            return cls(inputs, torch.ones(inputs.shape[:2], dtype=torch.long, device=inputs.device))
        if not isinstance(mask, Tensor) or mask.shape != inputs.shape[:2]:
            raise checks.refusal("the mask of a prompt", f"of the shape of its tokens {tuple(inputs.shape[:2])}", mask)
        mask = mask.to(inputs.device, torch.long)
        if not mask.any(1).all():
            raise ValueError(EMPTY)
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

    def last(self) -> "Prompt":
        """Return the last token of every prompt, [n, 1]."""
        at = self.mask.cumsum(1).argmax(1, keepdim=True)
        return Prompt(along(self.inputs, at), torch.ones_like(at))

    def followed_by(self, tokens: Tensor, model: PreTrainedModel, mask: Tensor | None = None) -> "Prompt":
        """Return the prompts with tokens after them.

        Args:
            tokens: [n, t].
            model: embeds the tokens where the prompts are embeddings.
            mask: of the tokens, [n, t], which may have padding on the right; None without padding.
        """
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
        """Return the distinct prompts, and every row's index among them, [n]; None if all rows differ."""
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
    """Return the start token of the decoder of an encoder-decoder, [n, 1]; no token, [n, 0], for other models."""
    if not model.config.is_encoder_decoder:
        return torch.empty(n, 0, dtype=torch.long, device=model.device)
    assert model.generation_config is not None
    start = model.generation_config.decoder_start_token_id
    return torch.full((n, 1), model.config.decoder_start_token_id if start is None else start, device=model.device)


def padded(rows: Sequence[list[int]], pad: int = 0, *, right: bool = False) -> Prompt:
    """Return lists of token ids as one batch.

    Args:
        rows: n lists of token ids.
        pad: the token to pad with; the mask hides it.
        right: whether padding stands on the right, and not on the left.
    """
    side = "right" if right else "left"
    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    masks = [torch.ones_like(row) for row in ids]
    return Prompt(pad_sequence(ids, True, pad, side), pad_sequence(masks, True, 0, side))


def check_model(name: str, model: Any) -> None:
    """Raise ValueError unless an object is a model of transformers that generates."""
    if isinstance(model, GenerationMixin) and model.can_generate():
        return
    hint = "try AutoModelForCausalLM.from_pretrained(name)"
    hint = "try its attribute model" if isinstance(getattr(model, "model", None), GenerationMixin) else hint
    raise checks.refusal(name, "a transformers model with `generate`", model, hint)


def check_rows(name: str, ids: Any) -> None:
    """Raise ValueError unless prompts are a tensor with one row per prompt; None passes."""
    if ids is not None and (not isinstance(ids, Tensor) or ids.ndim < 2):
        raise checks.refusal(name, "a tensor of token ids, [n, L]", ids, _as_rows(name, ids))


def _as_rows(name: str, ids: Any) -> str:
    """Return what to try with prompts that are no tensor [n, L]."""
    if isinstance(ids, Mapping):
        return "try model.generate(**inputs)" if name == "inputs" else "try inputs.input_ids"
    if isinstance(ids, Tensor):
        return "try ids[None] for one prompt"
    texts = isinstance(ids, str) or (isinstance(ids, Sequence) and any(isinstance(each, str) for each in ids))
    return 'try tokenizer(text, return_tensors="pt").input_ids' if texts else "try torch.tensor"


def check_tokens(name: str, ids: Any, model: PreTrainedModel) -> None:
    """Raise ValueError unless prompts are token ids of a model's vocabulary, [n, L]; None passes.

    Args:
        name: of the argument, for the message.
        ids: token ids.
        model: the model that reads them.
    """
    check_rows(name, ids)
    if ids is None or not ids.numel():
        return
    if ids.ndim != 2 or ids.dtype not in (torch.long, torch.int):
        raise ValueError(f"{name} must be token ids, integers [n, L], got {ids.dtype} of shape {tuple(ids.shape)}")
    least, largest = (int(end) for end in ids.aminmax())
    size = model.get_input_embeddings().weight.shape[0]
    if least < 0 or largest >= size:
        raise checks.refusal(name, f"tokens from 0 to {size - 1}", least if least < 0 else largest)


def found_mask(ids: Tensor, pad: int, *, ends: int | Sequence[int] | None = None) -> Tensor | None:
    """Return the mask of prompts by their padding token, as `transformers` finds it; None if that token also ends texts.

    Args:
        ids: token ids [n, L].
        pad: the padding token.
        ends: the tokens that end texts.
    """
    ends = (ends,) if isinstance(ends, int) else tuple(ends or ())
    return None if pad in ends or ids.ndim != 2 else (ids != pad).long()
