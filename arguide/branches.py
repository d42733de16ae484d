r"""Several branches read as one batch: each after a prompt of its own, then all after the same tokens.

In Σ_k w_k log p_k branch k reads prompt k, possibly with a model of its own. Branches of one model are the rows of one
batch, branch-major: row k·n + i is branch k of sequence i, so that a step is one forward pass. Prompts of one length are read
together, others each at their own length, equal rows once; their caches are then padded on the left and merged.

Positions count the tokens of a row, so padding changes nothing but the shape.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)
from transformers.modeling_outputs import BaseModelOutput

# Models that take a mask [m, 1, 1, L] as it is, each tested; others make theirs anew at every step.
READY_MASKS = {"gemma", "gpt2", "gpt_neox", "llama", "opt", "phi3", "qwen2", "qwen3"}
MERGEABLE = {DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer, DummyLayer}
ROOM = 128  # positions that a mask is longer than its prompt at first


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
        inputs, mask = torch.take_along_dim(inputs, _like(order, inputs), 1), mask.gather(1, order)
        width = int(mask.sum(1).max())
        kept = slice(None, width) if right else slice(-width, None)
        return cls(inputs[:, kept], mask[:, kept])

    @property
    def width(self) -> int:
        """L, with padding."""
        return self.mask.shape[1]

    def select(self, rows: Tensor) -> "Prompt":
        """Return the prompts of these rows, [m] indices."""
        return Prompt(self.inputs[rows], self.mask[rows])

    def followed_by(self, tokens: Tensor, model: PreTrainedModel) -> "Prompt":
        """Return the prompts with tokens [n, t] after them."""
        if not tokens.shape[1]:
            return self
        more = tokens if self.inputs.ndim == 2 else model.get_input_embeddings()(tokens)
        return Prompt(torch.cat([self.inputs, more], 1), torch.cat([self.mask, torch.ones_like(tokens)], 1))

    def widened(self, width: int) -> "Prompt":
        """Return the prompts with more padding on the left."""
        missing = width - self.width
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


@dataclass
class Reading:
    """What the branches have read so far: the state that decoding hands on, in the place of a cache.

    caches: one a model, of k·n rows for its k branches.
    masks: one a model, [k·n, L + room], 1 on tokens and on the room for more; None where no row is padded.
    lengths: tokens in every prompt, one a model, [k·n].
    widths: the longest of them, one a model.
    tokens: how many tokens came after the prompts.
    context: what else a forward pass needs at every step, one a model (an encoder's output).
    """

    caches: list[Cache]
    masks: list[Tensor | None] = field(default_factory=list)
    lengths: list[Tensor] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    tokens: int = 0
    context: list[dict[str, Any]] = field(default_factory=list)
    is_compileable: bool = False

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

    @property
    def is_croppable(self) -> bool:
        """Whether `crop` can undo any number of tokens."""
        return all(cache.is_croppable for cache in self.caches)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the longest number of tokens read."""
        del layer_idx
        return self.tokens + max(self.widths, default=0)

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

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens, −`tokens_to_remove` of them."""
        for cache in self.caches:
            cache.crop(tokens_to_remove)
        self.tokens -= abs(tokens_to_remove)

    def activate_past_recording(self) -> None:
        """Keep what `crop` may need."""
        for cache in self.caches:
            cache.activate_past_recording()


@dataclass(frozen=True)
class Branches:
    """K branches, each with the model that reads it; equal models are read in one pass."""

    models: tuple[PreTrainedModel, ...]

    @cached_property
    def groups(self) -> list[tuple[PreTrainedModel, list[int]]]:
        """Every model with the branches it reads."""
        groups: dict[int, tuple[PreTrainedModel, list[int]]] = {}
        for k, model in enumerate(self.models):
            groups.setdefault(id(model), (model, []))[1].append(k)
        return list(groups.values())

    def read(
        self, prompts: Sequence[Prompt], tokens: Tensor, reading: Reading | None, *, keep: int = 1, chunk: int | None = None
    ) -> list[Tensor]:
        """Read K prompts of n rows and the tokens after them, [n, t]; return the logits of the last `keep` positions.

        Args:
            reading: empty, filled here; None reads without a cache.
            chunk: how many positions to read at once; all by default.

        Returns:
            K tensors [n, keep, V].
        """
        logits: dict[int, Tensor] = {}
        for i, (model, members) in enumerate(self.groups):
            cache = None if reading is None else reading.caches[i]
            read = _read_encoded if model.config.is_encoder_decoder else _read_prompts
            out, start = read(model, [prompts[k] for k in members], tokens, cache, keep, chunk)
            logits.update(zip(members, out, strict=True))
            if reading is not None:
                reading.masks.append(None if start.mask is None else functional.pad(start.mask.bool(), (0, ROOM), value=True))
                reading.widths.append(start.width)
                reading.lengths.append(start.lengths)
                reading.context.append(start.context)
        if reading is not None:
            reading.tokens = tokens.shape[1]
        return [logits[k] for k in range(len(self.models))]

    def extend(self, tokens: Tensor, reading: Reading, *, keep: int = 1) -> list[Tensor]:
        """Read more tokens in every branch, [n, t]; return the logits of the last `keep` positions, K tensors [n, keep, V]."""
        logits: dict[int, Tensor] = {}
        n, t = tokens.shape
        after = torch.arange(reading.tokens, reading.tokens + t, device=tokens.device)
        for i, (model, members) in enumerate(self.groups):
            rows, mask = tokens.repeat(len(members), 1), reading.mask(i, t)
            if mask is not None and t == 1 and _takes_ready_mask(model, reading.caches[i]):
                mask = mask[:, None, None]
            positions = reading.lengths[i][:, None] + after
            out = forward(model, rows, mask, positions, reading.caches[i], keep, first=False, **reading.context[i])
            logits.update(zip(members, out.split(n), strict=True))
        reading.tokens += t
        return [logits[k] for k in range(len(self.models))]


class Start(NamedTuple):
    """Where decoding of one model starts: masks [k·n, L], lengths [k·n], the longest, and the context of every later step."""

    mask: Tensor | None
    lengths: Tensor
    width: int
    context: dict[str, Any]


def cache_name(model: PreTrainedModel) -> str:
    """Return the argument under which a model takes its cache."""
    return "cache_params" if "cache_params" in _arguments(type(model)) else "past_key_values"


def forward(
    model: PreTrainedModel,
    inputs: Tensor,
    mask: Tensor | None,
    positions: Tensor | None,
    cache: Cache | None,
    keep: int,
    *,
    first: bool,
    **context: Any,
) -> Tensor:
    """Read inputs [m, t] (or embeddings) after the cache; return the logits of the last `keep` positions, [m, keep, V]."""
    arguments, name = _arguments(type(model)), cache_name(model)
    given: dict[str, Any] = {"use_cache": cache is not None, "attention_mask": mask, name: cache, **context}
    if positions is not None and "position_ids" in arguments:
        given["position_ids"] = positions
    if "logits_to_keep" in arguments:
        given["logits_to_keep"] = keep
    if inputs.ndim == 3:
        given["inputs_embeds"] = inputs
        inputs = torch.empty(inputs.shape[:2], dtype=torch.long, device=inputs.device)
    with torch.inference_mode():
        if not _plain(type(model)) or model.config.is_encoder_decoder or (cache is not None and cache.is_compileable):
            given = model.prepare_inputs_for_generation(inputs, is_first_iteration=first, **given)
        elif "inputs_embeds" not in given:
            given["input_ids"] = inputs
        return model(**given, return_dict=True).logits[:, -keep:]


def _read_prompts(
    model: PreTrainedModel, prompts: list[Prompt], tokens: Tensor, cache: Cache | None, keep: int, chunk: int | None
) -> tuple[list[Tensor], Start]:
    """Read prompts with a decoder, each at its own length."""
    n = len(tokens)
    parts = _parts(model, [prompt.followed_by(tokens, model) for prompt in prompts])
    logits, caches = [], []
    for part in parts:
        once, index = part.distinct()
        alone = len(parts) == 1 and (index is None or isinstance(cache, DynamicCache))
        filled = cache if alone or cache is None else _scratch(model)
        out = _read_part(model, once, filled, keep, chunk)
        if index is not None:
            out = out[index]
            if filled is not None:
                filled.reorder_cache(index)
        logits.extend(out.split(n))
        caches.append(filled)
    if cache is not None and caches[0] is not cache:
        _merge(cache, caches)
    width = max(prompt.width for prompt in prompts)
    mask = torch.cat([functional.pad(prompt.mask, (width - prompt.width, 0)) for prompt in prompts])
    return logits, Start(None if mask.all() else mask, mask.sum(1), width, {})


def _read_part(model: PreTrainedModel, prompt: Prompt, cache: Cache | None, keep: int, chunk: int | None) -> Tensor:
    """Read prompts of one width, `chunk` positions at a time if asked; [m, keep, V]."""
    mask = None if prompt.mask.all() else prompt.mask
    positions = (prompt.mask.cumsum(1) - 1).clamp(min=0)
    step = prompt.width if chunk is None or cache is None else max(chunk, keep)
    for start in range(0, prompt.width, step):
        here = slice(start, start + step)
        seen = None if mask is None else mask[:, : start + step]
        logits = forward(model, prompt.inputs[:, here], seen, positions[:, here], cache, keep, first=start == 0)
    return logits


def _read_encoded(
    model: PreTrainedModel, prompts: list[Prompt], tokens: Tensor, cache: Cache | None, keep: int, chunk: int | None
) -> tuple[list[Tensor], Start]:
    """Encode prompts, padded on the right, and read the tokens with the decoder; embeddings stand for encoded prompts."""
    del chunk
    width = max(prompt.width for prompt in prompts)
    hidden = torch.cat([functional.pad(_encoded(model, prompt), (0, 0, 0, width - prompt.width)) for prompt in prompts])
    mask = torch.cat([functional.pad(prompt.mask, (0, width - prompt.width)) for prompt in prompts])
    context = {"encoder_outputs": BaseModelOutput(last_hidden_state=hidden), "attention_mask": mask}
    logits = forward(model, tokens.repeat(len(prompts), 1), None, None, cache, keep, first=True, **context)
    return list(logits.split(len(tokens))), Start(None, torch.zeros_like(mask[:, 0]), 0, context)


def _encoded(model: PreTrainedModel, prompt: Prompt) -> Tensor:
    if prompt.inputs.ndim == 3:
        return prompt.inputs
    once, index = prompt.distinct()
    states = model.get_encoder()(input_ids=once.inputs, attention_mask=once.mask, return_dict=True).last_hidden_state
    return states if index is None else states[index]


def _parts(model: PreTrainedModel, prompts: list[Prompt]) -> list[Prompt]:
    """Return prompts as batches to read: all at once if of one width, or if their caches could not be merged."""
    alike = len({prompt.inputs.ndim for prompt in prompts}) == 1
    width = max(prompt.width for prompt in prompts)
    if any(prompt.width != width for prompt in prompts) and alike and not _mergeable(model):
        prompts = [prompt.widened(width) for prompt in prompts]
    if not alike or any(prompt.width != width for prompt in prompts):
        return prompts
    return [Prompt(torch.cat([prompt.inputs for prompt in prompts]), torch.cat([prompt.mask for prompt in prompts]))]


def _scratch(model: PreTrainedModel) -> DynamicCache:
    """Return an empty cache that keeps all it is given, also beyond a sliding window."""
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    for layer in cache.layers:
        if isinstance(layer, CacheLayerMixin) and hasattr(layer, "activate_past_recording"):
            layer.record_past = True
    return cache


def _mergeable(model: PreTrainedModel) -> bool:
    """Whether the layers of a model's cache are keys and values, or states without a length."""
    return all(type(layer) in MERGEABLE for layer in _scratch(model).layers)


def _merge(target: Cache, caches: list[Any]) -> None:
    """Fill an empty cache with others below one another, padded on the left to one length."""
    for i, layers in enumerate(zip(*(cache.layers for cache in caches), strict=True)):
        if isinstance(layers[0], LinearAttentionCacheLayerMixin):
            for s in range(layers[0].number_of_states):
                target.update_conv_state(torch.cat([layer.conv_states[s] for layer in layers]), i, state_idx=s)
                if layers[0].recurrent_states[s] is not None:
                    target.update_recurrent_state(torch.cat([layer.recurrent_states[s] for layer in layers]), i, state_idx=s)
        elif getattr(layers[0], "keys", None) is not None:
            width = max(layer.keys.shape[-2] for layer in layers)
            keys, values = (
                torch.cat([functional.pad(state, (0, 0, width - state.shape[-2], 0)) for state in states])
                for states in ([layer.keys for layer in layers], [layer.values for layer in layers])
            )
            target.update(keys, values, i)


def _like(index: Tensor, inputs: Tensor) -> Tensor:
    return index if inputs.ndim == 2 else index[..., None]


def _selected(value: Any, index: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[index]
    return type(value)(**{name: _selected(part, index) for name, part in value.items()})


@lru_cache(maxsize=128)
def _arguments(kind: type) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


@lru_cache(maxsize=128)
def _plain(kind: type) -> bool:
    """Whether a model's inputs need no preparation of its own."""
    return kind.prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation


def _takes_ready_mask(model: PreTrainedModel, cache: Cache) -> bool:
    """Whether one more token may come with a mask [m, 1, 1, L], which spares the model making one."""
    config = model.config
    return config.model_type in READY_MASKS and config._attn_implementation == "sdpa" and _all_dynamic(cache)


def _all_dynamic(cache: Cache) -> bool:
    return all(type(layer) is DynamicLayer for layer in cache.layers)
