"""Caches: the states of a model, filled by its forward pass, and merged from prompts of unequal length."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from arguide.text import seam
from arguide.text.prompts import Prompt

ROOM = 32  # further tokens that a layer has room for
# Models that take a mask [m, 1, 1, L] unchanged, each tested; others make their own mask at every step.
READY_MASKS = {"gemma", "gpt2", "gpt_neox", "llama", "opt", "phi3", "qwen2", "qwen3"}


class RoomyLayer(DynamicLayer):
    """Keys and values with room for further tokens; the layer of transformers copies all of them at every token."""

    keys: Tensor
    values: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.rooms: dict[str, Tensor] = {}

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Append states [n, heads, t, d]; return all states, [n, heads, L + t, d]."""
        if self.get_seq_length() == 0:
            return super().update(key_states, value_states, *args, **options)
        self.keys = self._followed("keys", self.keys, key_states)
        self.values = self._followed("values", self.values, value_states)
        return self.keys, self.values

    def reset(self) -> None:
        """Remove all states."""
        super().reset()
        self.rooms.clear()

    def _followed(self, name: str, states: Tensor, new: Tensor) -> Tensor:
        """Return states with new ones after them, written into the room if it still holds these states."""
        old, total = states.shape[-2], states.shape[-2] + new.shape[-2]
        room = self.rooms.get(name)
        if room is None or room.data_ptr() != states.data_ptr() or len(room) != len(states) or room.shape[-2] < total:
            room = states.new_empty((*states.shape[:-2], total + ROOM, states.shape[-1]))
            room.narrow(-2, 0, old).copy_(states)
            self.rooms[name] = room
        room.narrow(-2, old, total - old).copy_(new)
        return room.narrow(-2, 0, total)


def add_room(cache: Cache) -> None:
    """Give the layers of an empty dynamic cache room for further tokens; leave other caches as they are."""
    if isinstance(cache, DynamicCache):
        cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        if cache.layer_class_to_replicate is DynamicLayer:
            cache.layer_class_to_replicate = RoomyLayer


def mergeable(model: PreTrainedModel) -> bool:
    """Whether caches of a model can be merged: its layers hold keys and values, or states without a length."""
    return all(type(layer) in seam.MERGEABLE for layer in seam.full_cache(model).layers)


def merge(target: Cache, caches: list[Any]) -> None:
    """Fill an empty cache with the rows of others, padded on the left to one length."""
    for i, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        if seam.is_recurrent(layers[0]):
            seam.fill_states(target, i, [_below(states) for states in zip(*map(seam.recurrent_states, layers), strict=True)])
        elif getattr(layers[0], "keys", None) is not None:
            keys, values = _padded([layer.keys for layer in layers]), _padded([layer.values for layer in layers])
            for layer in layers:  # so that at most one layer is in memory twice
                layer.keys = layer.values = None
            target.update(keys, values, i)


def forward(
    model: PreTrainedModel,
    inputs: Tensor,
    mask: Tensor | None,
    positions: Tensor | None,
    cache: Cache | None,
    keep: int,
    *,
    first: bool,
    call: Callable[..., Any] | None = None,
    **context: Any,
) -> Tensor:
    """Read inputs after a cache.

    Args:
        model: the model that reads them.
        inputs: token ids [m, t], or embeddings [m, t, d].
        mask: of all positions, [m, L]; None without padding.
        positions: of the inputs, [m, t].
        cache: states of all tokens before the inputs; filled in place.
        keep: number of positions whose logits are returned, the last ones.
        first: whether no tokens come before the inputs.
        call: the compiled model, if there is one.
        context: further arguments of the model.

    Returns:
        Logits, [m, keep, V].
    """
    kind, name, device = model.__class__, seam.cache_name(model), model.device
    inputs, mask = inputs.to(device), None if mask is None else mask.to(device)
    given: dict[str, Any] = {"use_cache": cache is not None, "attention_mask": mask, **context}
    if name:
        given[name] = cache
    if positions is not None and "position_ids" in seam.arguments(kind):
        given["position_ids"] = positions.to(device)
    if "logits_to_keep" in seam.arguments(kind):
        given["logits_to_keep"] = keep
    if inputs.ndim == 3:
        given["inputs_embeds"] = inputs
        inputs = torch.empty(inputs.shape[:2], dtype=torch.long, device=inputs.device)
    fixed = cache is not None and cache.is_compileable
    with torch.inference_mode():
        if fixed or model.config.is_encoder_decoder or not seam.prepares_plainly(kind):
            given = model.prepare_inputs_for_generation(inputs, is_first_iteration=first, **given)
        elif "inputs_embeds" not in given:
            given["input_ids"] = inputs
        return (call or model)(**given, return_dict=True).logits[:, -keep:]


def fill(
    model: PreTrainedModel, prompt: Prompt, index: Tensor | None, cache: Cache | None, keep: int, chunk: int | None
) -> Tensor:
    """Read distinct prompts of one width.

    Args:
        model: the model that reads them.
        prompt: the prompts, m rows.
        index: index of the prompt of each of n rows, [n]; None for one row per prompt.
        cache: filled in place; None to read without one.
        keep: number of positions whose logits are returned, the last ones.
        chunk: number of positions to read at once; None for all.

    Returns:
        Logits, [n, keep, V].

    Raises:
        ValueError: a model that keeps a recurrent state outside of its cache.
    """
    mask = None if prompt.mask.all() else prompt.mask
    positions = (prompt.mask.cumsum(1) - 1).clamp(min=0)
    # A recurrent state takes padding in one piece only.
    step = prompt.width if chunk is None or cache is None or seam.recurs(cache) else chunk
    for start in range(0, prompt.width, step):
        here = slice(start, start + step)
        past = None if mask is None else mask[:, : start + step]
        logits = forward(model, prompt.inputs[:, here], past, positions[:, here], cache, keep, first=start == 0)
    if cache is not None:
        check_cached(model, not any(map(_is_empty, filter(seam.is_recurrent, cache.layers))))
        if index is not None:
            cache.reorder_cache(index)
    return logits if index is None else logits[index]


def grows_plainly(cache: Any) -> bool:
    """Whether all layers of a cache hold the keys and values of all tokens, so that it can be cropped to any length."""
    return isinstance(cache, DynamicCache) and all(type(layer) in (DynamicLayer, RoomyLayer) for layer in cache.layers)


def takes_ready_mask(model: PreTrainedModel, cache: Cache) -> bool:
    """Whether the model takes a mask [m, 1, 1, L] with one more token, and so need not make one."""
    return grows_plainly(cache) and model.config.model_type in READY_MASKS and seam.attention_kind(model) == "sdpa"


def check_cached(model: PreTrainedModel, cached: bool) -> None:
    """Raise ValueError unless the whole state of a model is `cached`: all branches would share a state outside of the cache."""
    if not cached:
        name = type(model).__name__
        raise ValueError(f"model must keep its state in a cache of transformers to be guided, got {name}, which does not")


def _is_empty(layer: Any) -> bool:
    """Whether a recurrent layer has no state."""
    return all(state is None for pair in seam.recurrent_states(layer) for state in pair)


def _padded(states: list[Tensor]) -> Tensor:
    """Return states [n_i, heads, t_i, d] below one another, with zeros before the shorter ones, [Σ n_i, heads, t, d]."""
    width = max(each.shape[-2] for each in states)
    return torch.cat([functional.pad(each, (0, 0, width - each.shape[-2], 0)) for each in states])


def _below(states: Any) -> tuple[Tensor | None, Tensor | None]:
    """Return the (convolution, recurrent) states of several caches as rows of one; None where there are none."""
    conv, recurrent = (None if parts[0] is None else torch.cat(parts) for parts in zip(*states, strict=True))
    return conv, recurrent
