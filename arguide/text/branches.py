r"""Several branches read as one batch: each after a prompt of its own, then all after the same tokens.

In Σ_k w_k log p_k branch k reads prompt k, possibly with a model of its own. Branches of one model are the rows of one
batch, branch-major: row k·n + i is branch k of sequence i, so that a step is one forward pass. Prompts of one length are read
together, others each at their own length, equal rows once; their caches are then padded on the left and merged.

Positions count the tokens of a row, so padding changes nothing but the shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, GenerationConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput

from arguide.text.caches import Reading, check_filled, merge, mergeable, prepared, takes_ready_mask
from arguide.text.products import stepping
from arguide.text.prompts import Prompt
from arguide.text.seam import arguments, cache_name, full_cache, prepares_plainly, recurs

ROOM = 128  # positions that a mask is longer than its prompt at first


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

    def reading(
        self, config: GenerationConfig, rows: int, *, length: int = 0, mode: Any = None, encoded: Any = None
    ) -> Reading:
        """Return empty caches for `rows` prompts in every branch, before beams and samples multiply them; see `prepared`."""
        caches, calls = [], []
        for model, members in self.groups:
            n = rows * len(members)
            step = stepping(model, n * max(config.num_beams or 1, config.num_return_sequences or 1))
            cache, call = prepared(model, config, rows=n, length=length, mode=mode, encoded=encoded)
            caches.append(cache)
            calls.append(step if call is model else call)
        return Reading(caches, calls)

    def read(
        self,
        prompts: Sequence[Prompt],
        tokens: Tensor,
        reading: Reading | None,
        *,
        mask: Tensor | None = None,
        keep: int = 1,
        chunk: int | None = None,
    ) -> list[Tensor]:
        """Read K prompts of n rows and the tokens after them, [n, t]; return the logits of the last `keep` positions.

        Args:
            reading: empty, filled here; None reads without a cache.
            mask: of the tokens, [n, t], where they are padded on the right; only without a cache, and not for an encoder's.
            chunk: how many positions to read at once; all by default.

        Returns:
            K tensors [n, keep, V].
        """
        logits: dict[int, Tensor] = {}
        for i, (model, members) in enumerate(self.groups):
            cache = None if reading is None else reading.caches[i]
            read = _read_encoded if model.config.is_encoder_decoder else _read_prompts
            out, start = read(model, [prompts[k] for k in members], tokens, mask, cache, keep, chunk)
            logits.update(zip(members, out, strict=True))
            if reading is not None:
                reading.masks.append(None if start.mask is None else functional.pad(start.mask.bool(), (0, ROOM), value=True))
                reading.widths.append(start.width)
                reading.ready.append(takes_ready_mask(model, reading.caches[i]))
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
            rows, mask = torch.cat([tokens] * len(members)), reading.mask(i, t)
            if mask is not None and t == 1 and reading.ready[i]:
                mask = mask[:, None, None]
            positions = reading.lengths[i][:, None] + after
            call = reading.calls[i] if t == 1 else model
            out = forward(model, rows, mask, positions, reading.caches[i], keep, first=False, call=call, **reading.context[i])
            logits.update(zip(members, _by_branch(out, n), strict=True))
        reading.tokens += t
        return [logits[k] for k in range(len(self.models))]


class Start(NamedTuple):
    """Where decoding of one model starts: masks [k·n, L], lengths [k·n], the longest, and the context of every later step."""

    mask: Tensor | None
    lengths: Tensor
    width: int
    context: dict[str, Any]


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
    """Read inputs [m, t] (or embeddings) after the cache; return the logits of the last `keep` positions, [m, keep, V].

    `call` stands for the model where it has been compiled.
    """
    known, name, device = arguments(model.__class__), cache_name(model), model.device
    inputs, mask = inputs.to(device), None if mask is None else mask.to(device)
    given: dict[str, Any] = {"use_cache": cache is not None, "attention_mask": mask, **context}
    if name:
        given[name] = cache
    if positions is not None and "position_ids" in known:
        given["position_ids"] = positions.to(device)
    if "logits_to_keep" in known:
        given["logits_to_keep"] = keep
    if inputs.ndim == 3:
        given["inputs_embeds"] = inputs
        inputs = torch.empty(inputs.shape[:2], dtype=torch.long, device=inputs.device)
    with torch.inference_mode():
        if (
            not prepares_plainly(model.__class__)
            or model.config.is_encoder_decoder
            or (cache is not None and cache.is_compileable)
        ):
            given = model.prepare_inputs_for_generation(inputs, is_first_iteration=first, **given)
        elif "inputs_embeds" not in given:
            given["input_ids"] = inputs
        return (call or model)(**given, return_dict=True).logits[:, -keep:]


def _read_prompts(
    model: PreTrainedModel,
    prompts: list[Prompt],
    tokens: Tensor,
    token_mask: Tensor | None,
    cache: Cache | None,
    keep: int,
    chunk: int | None,
) -> tuple[list[Tensor], Start]:
    """Read prompts with a decoder, each at its own length."""
    n = len(tokens)
    parts = _parts(model, [prompt.followed_by(tokens, model, token_mask) for prompt in prompts])
    logits: list[Tensor] = []
    caches: list[Any] = []
    for part in parts:
        once, index = part.distinct()
        alone = len(parts) == 1 and (index is None or isinstance(cache, DynamicCache))
        filled = cache if alone or cache is None else full_cache(model)
        out = _read_part(model, once, filled, keep, chunk)
        if filled is not None:
            check_filled(model, filled)
        if index is not None:
            out = out[index]
            if filled is not None:
                filled.reorder_cache(index)
        logits.extend(_by_branch(out, n))
        caches.append(filled)
    if cache is not None and caches[0] is not cache:
        merge(cache, caches)
    width = max(prompt.width for prompt in prompts)
    mask = torch.cat([functional.pad(prompt.mask, (width - prompt.width, 0)) for prompt in prompts])
    return logits, Start(None if mask.all() else mask, mask.sum(1), width, {})


def _read_part(model: PreTrainedModel, prompt: Prompt, cache: Cache | None, keep: int, chunk: int | None) -> Tensor:
    """Read prompts of one width, `chunk` positions at a time if asked; [m, keep, V]."""
    mask = None if prompt.mask.all() else prompt.mask
    positions = (prompt.mask.cumsum(1) - 1).clamp(min=0)
    whole = chunk is None or cache is None or recurs(cache)  # a recurrent state takes padding in one piece only
    step = prompt.width if whole or chunk is None else chunk
    for start in range(0, prompt.width, step):
        here = slice(start, start + step)
        seen = None if mask is None else mask[:, : start + step]
        logits = forward(model, prompt.inputs[:, here], seen, positions[:, here], cache, keep, first=start == 0)
    return logits


def _read_encoded(
    model: PreTrainedModel,
    prompts: list[Prompt],
    tokens: Tensor,
    token_mask: Tensor | None,
    cache: Cache | None,
    keep: int,
    chunk: int | None,
) -> tuple[list[Tensor], Start]:
    """Encode prompts, padded on the right, and read the tokens with the decoder; embeddings stand for encoded prompts."""
    del token_mask, chunk  # what stands before a token does not see padding after it
    width = max(prompt.width for prompt in prompts)
    hidden = torch.cat([functional.pad(_encoded(model, prompt), (0, 0, 0, width - prompt.width)) for prompt in prompts])
    mask = torch.cat([functional.pad(prompt.mask, (0, width - prompt.width)) for prompt in prompts])
    context = {"encoder_outputs": BaseModelOutput(last_hidden_state=hidden), "attention_mask": mask}
    logits = forward(model, tokens.repeat(len(prompts), 1), None, None, cache, keep, first=True, **context)
    return list(_by_branch(logits, len(tokens))), Start(None, torch.zeros_like(mask[:, 0]), 0, context)


def _encoded(model: PreTrainedModel, prompt: Prompt) -> Tensor:
    if prompt.inputs.ndim == 3:
        return prompt.inputs
    once, index = prompt.distinct()
    states = model.get_encoder()(input_ids=once.inputs, attention_mask=once.mask, return_dict=True).last_hidden_state
    return states if index is None else states[index]


def _parts(model: PreTrainedModel, prompts: list[Prompt]) -> list[Prompt]:
    """Return prompts as batches to read: all at once if of one width, or if their caches could not be merged."""
    widths = {prompt.width for prompt in prompts}
    if len({prompt.inputs.ndim for prompt in prompts}) > 1:
        return prompts
    if len(widths) > 1 and mergeable(model):
        return prompts
    same = [prompt.widened(max(widths)) for prompt in prompts]
    return [Prompt(torch.cat([prompt.inputs for prompt in same]), torch.cat([prompt.mask for prompt in same]))]


def _by_branch(logits: Tensor, n: int) -> tuple[Tensor, ...]:
    """Split the rows of a batch, [k·n, …], into k branches [n, …]."""
    return logits.reshape(-1, n, *logits.shape[1:]).unbind(0)
