"""Caches: what branches have read, kept as the rows of one batch, and merged from prompts of unequal length."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, GenerationConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from arguide.text.seam import (
    MERGEABLE,
    attention_kind,
    empty_cache,
    fill_states,
    full_cache,
    is_recurrent,
    record_past,
    recurrent_states,
    recurs,
    take_back,
)

ROOM = 32  # tokens that a layer has room for beyond those it holds
# Models that take a mask [m, 1, 1, L] as it is, each tested; others make theirs anew at every step.
READY_MASKS = {"gemma", "gpt2", "gpt_neox", "llama", "opt", "phi3", "qwen2", "qwen3"}


class RoomyLayer(DynamicLayer):
    """Keys and values that have room for further tokens, which are written there; transformers copies all at every token."""

    keys: Tensor
    values: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.rooms: dict[str, Tensor] = {}

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Append states [n, heads, t, d], and return all."""
        if self.get_seq_length() == 0:
            return super().update(key_states, value_states, *args, **options)
        self.keys = self._followed("keys", self.keys, key_states)
        self.values = self._followed("values", self.values, value_states)
        return self.keys, self.values

    def reset(self) -> None:
        """Drop all."""
        super().reset()
        self.rooms.clear()

    def _followed(self, name: str, states: Tensor, new: Tensor) -> Tensor:
        old, total = states.shape[-2], states.shape[-2] + new.shape[-2]
        room = self.rooms.get(name)
        if room is None or room.data_ptr() != states.data_ptr() or len(room) != len(states) or room.shape[-2] < total:
            room = states.new_empty((*states.shape[:-2], total + ROOM, states.shape[-1]))
            room.narrow(-2, 0, old).copy_(states)
            self.rooms[name] = room
        room.narrow(-2, old, total - old).copy_(new)
        return room.narrow(-2, 0, total)


@dataclass
class Reading:
    """What the branches have read so far: the state that decoding hands on, in the place of a cache.

    caches: one a model, of k·n rows for its k branches.
    calls: one a model, what reads a further token: the model, or its compiled form.
    masks: one a model, [k·n, L + room], 1 on tokens and on the room for more; None where no row is padded.
    lengths: tokens in every prompt, one a model, [k·n].
    widths: the longest of them, one a model.
    ready: whether a further token may come with a mask [k·n, 1, 1, L], one a model.
    tokens: how many tokens came after the prompts.
    before: how many positions of the text that `generate` knows stand before those tokens.
    context: what else a forward pass needs at every step, one a model (an encoder's output).
    """

    caches: list[Cache]
    calls: list[Callable[..., Any]]
    masks: list[Tensor | None] = field(default_factory=list)
    lengths: list[Tensor] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    ready: list[bool] = field(default_factory=list)
    tokens: int = 0
    before: int = 0
    context: list[dict[str, Any]] = field(default_factory=list)
    is_compileable: bool = False

    @property
    def is_croppable(self) -> bool:
        """Whether tokens can be taken back; `activate_past_recording` refuses where they cannot."""
        return not any(map(recurs, self.caches))

    @property
    def is_linear(self) -> list[bool]:
        """Whether a layer has no length, for one layer that stands for all."""
        return [False]

    @property
    def started(self) -> bool:
        """Whether the prompts have been read."""
        return bool(self.lengths)

    def mask(self, i: int, tokens: int) -> Tensor | None:
        """Return which positions of model i's rows are tokens after `tokens` more, [k·n, L]; None where all are."""
        mask = self.masks[i]
        if mask is None:
            return None
        width = self.widths[i] + self.tokens + tokens
        if width > mask.shape[1]:
            mask = self.masks[i] = functional.pad(mask, (0, width), value=True)
        return mask[:, :width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many positions of the text have been read."""
        del layer_idx
        return self.tokens + self.before

    def reorder_cache(self, rows: Tensor) -> None:
        """Let row i go on from what row rows[i] has read: beams, or a resampling."""
        for i, cache in enumerate(self.caches):
            n = len(rows)
            index = torch.cat([rows + k * n for k in range(len(self.lengths[i]) // n)])
            cache.reorder_cache(index)
            self.lengths[i] = self.lengths[i][index]
            mask = self.masks[i]
            self.masks[i] = None if mask is None else mask[index]
            self.context[i] = {name: _selected(value, index) for name, value in self.context[i].items()}

    def crop(self, length: int) -> None:
        """Forget the last −`length` tokens; keep the first `length` positions of the text if it is positive."""
        forgotten = self.get_seq_length() - length if length > 0 else -length
        for cache in self.caches:
            take_back(cache, forgotten)
        self.tokens -= forgotten

    def activate_past_recording(self) -> None:
        """Keep what `crop` may need.

        Raises:
            ValueError: a recurrent state, which cannot be taken back in every branch.
        """
        if not self.is_croppable:
            raise ValueError("drafts cannot be taken back from a recurrent state; leave out the assistant or prompt lookup")
        for cache in self.caches:
            record_past(cache)


def prepared(
    model: PreTrainedModel, config: GenerationConfig, *, rows: int = 1, length: int = 0, mode: Any = None, encoded: Any = None
) -> tuple[Cache, Callable[..., Any]]:
    """Return an empty cache as `config` asks for, and what reads a further token into it: the model, or its compiled form.

    Args:
        rows: how many prompts, before beams and samples multiply them.
        length: how many tokens a static cache has room for.
        mode: the mode of generation, if there is one.
        encoded: what an encoder has given.
    """
    cache, call = empty_cache(model, config, rows=rows, length=length, mode=mode, encoded=encoded)
    if isinstance(cache, DynamicCache):
        cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        if cache.layer_class_to_replicate is DynamicLayer:
            cache.layer_class_to_replicate = RoomyLayer
    return cache, call


def mergeable(model: PreTrainedModel) -> bool:
    """Whether the layers of a model's cache are keys and values, or states without a length."""
    return all(type(layer) in MERGEABLE for layer in full_cache(model).layers)


def check_filled(model: PreTrainedModel, cache: Cache) -> None:
    """Raise ValueError if a model has kept a recurrent state outside of its cache, where branches would share it."""
    for layer in cache.layers:
        if is_recurrent(layer) and all(state is None for pair in recurrent_states(layer) for state in pair):
            raise ValueError(f"{type(model).__name__} keeps its state in a way of its own, which cannot be guided")


def merge(target: Cache, caches: list[Any]) -> None:
    """Fill an empty cache with others below one another, padded on the left to one length."""
    for i, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        if is_recurrent(layers[0]):
            fill_states(target, i, [_below(states) for states in zip(*map(recurrent_states, layers), strict=True)])
        elif getattr(layers[0], "keys", None) is not None:
            width = max(layer.keys.shape[-2] for layer in layers)
            keys, values = (
                torch.cat([functional.pad(state, (0, 0, width - state.shape[-2], 0)) for state in states])
                for states in ([layer.keys for layer in layers], [layer.values for layer in layers])
            )
            for layer in layers:  # so that no more than one layer is held twice
                layer.keys = layer.values = None
            target.update(keys, values, i)


def takes_ready_mask(model: PreTrainedModel, cache: Cache) -> bool:
    """Whether one more token may come with a mask [m, 1, 1, L], which spares the model making one."""
    return model.config.model_type in READY_MASKS and attention_kind(model) == "sdpa" and _all_dynamic(cache)


def _all_dynamic(cache: Cache) -> bool:
    return all(type(layer) in (DynamicLayer, RoomyLayer) for layer in cache.layers)


def _below(states: Any) -> tuple[Tensor | None, Tensor | None]:
    """Return the (convolution, recurrent) states of several caches below one another; None where there are none."""
    conv, recurrent = (None if parts[0] is None else torch.cat(parts) for parts in zip(*states, strict=True))
    return conv, recurrent


def _selected(value: Any, index: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[index]
    return type(value)(**{name: _selected(part, index) for name, part in value.items()})
