r"""Reading: several branches read as one batch, each after its own prompt, then all after the same tokens.

Branches of one model are rows of one batch, branch-major: row k·n + i is branch k of sequence i, so a step is one forward pass
per model. Prompts of one length are read together, others separately at their own length, and equal rows once; the caches are
then padded on the left and merged. Positions count the tokens of a row, so padding changes only the shape.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, GenerationConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput

from arguide.coherent.posterior import Posterior
from arguide.text.caches import add_room, fill, forward, merge, mergeable, takes_ready_mask
from arguide.text.cpu_matmul import stepping
from arguide.text.prompts import Prompt
from arguide.text.seam import empty_cache, full_cache, record_past, recurs, take_back

ROOM = 128  # positions by which a mask is first longer than its prompt


@dataclass
class ModelCache:
    """The cache of one model for its k branches, k·n rows.

    Attributes:
        model: the model.
        branches: indices of the branches.
        cache: its cache; None to read everything again at every step.
        call: the function for one further token: the model, or its compiled form.
        lengths: number of tokens of every prompt, [k·n]; None before the prompts are read.
        width: length of the longest prompt.
        mask: [k·n, L + room], 1 on tokens and on the room for further ones; None if no row is padded.
        context: further arguments of every forward pass (an encoder's output).
    """

    model: PreTrainedModel
    branches: list[int]
    cache: Cache | None = None
    call: Callable[..., Any] | None = None
    lengths: Tensor | None = None
    width: int = 0
    mask: Tensor | None = None
    context: dict[str, Any] = field(default_factory=dict)

    def read(
        self, prompts: list[Prompt], tokens: Tensor, mask: Tensor | None, keep: int, chunk: int | None
    ) -> tuple[Tensor, ...]:
        """Read prompts and the tokens after them; return logits, k tensors [n, keep, V].

        Args:
            prompts: k prompts of n rows.
            tokens: [n, t].
            mask: of the tokens, [n, t]; None without padding.
            keep: number of positions whose logits are returned, the last ones.
            chunk: number of positions to read at once; None for all.
        """
        self.width = max(prompt.width for prompt in prompts)
        if self.model.config.is_encoder_decoder:
            return self._encode(prompts, tokens, keep)  # no token of the decoder attends to the padding after it
        texts = [prompt.followed_by(tokens, self.model, mask) for prompt in prompts]
        return self._prefill(prompts, texts, keep, chunk)

    def extend(self, tokens: Tensor, before: int, keep: int) -> tuple[Tensor, ...]:
        """Read further tokens; return logits, k tensors [n, keep, V].

        Args:
            tokens: [n, t].
            before: number of tokens between the prompts and these.
            keep: number of positions whose logits are returned, the last ones.
        """
        assert self.lengths is not None
        t = tokens.shape[1]
        mask = self._mask(self.width + before + t)
        if mask is not None and t == 1 and self._takes_ready_mask:
            mask = mask[:, None, None]
        positions = self.lengths[:, None] + torch.arange(before, before + t, device=tokens.device)
        call = self.call if t == 1 else self.model
        rows = tokens.repeat(len(self.branches), 1)
        out = forward(self.model, rows, mask, positions, self.cache, keep, first=False, call=call, **self.context)
        return _by_branch(out, len(tokens))

    def select(self, rows: Tensor) -> None:
        """Let row i of every branch continue from row rows[i], [n]."""
        assert self.lengths is not None
        assert self.cache is not None
        index = torch.cat([rows + k * len(rows) for k in range(len(self.branches))])
        self.cache.reorder_cache(index)
        self.lengths = self.lengths[index]
        self.mask = None if self.mask is None else self.mask[index]
        self.context = {name: _selected(value, index) for name, value in self.context.items()}

    def _mask(self, width: int) -> Tensor | None:
        """Return the mask of the first positions, [k·n, width]; None if no row is padded."""
        if self.mask is None:
            return None
        if width > self.mask.shape[1]:
            self.mask = functional.pad(self.mask, (0, width), value=True)
        return self.mask[:, :width]

    @cached_property
    def _takes_ready_mask(self) -> bool:
        return takes_ready_mask(self.model, self.cache)

    def _prefill(self, prompts: list[Prompt], texts: list[Prompt], keep: int, chunk: int | None) -> tuple[Tensor, ...]:
        """Read texts, the prompts with the tokens after them, with a decoder, each prompt at its own length."""
        batches = _batches(self.model, texts)
        distinct = [batch.distinct() for batch in batches]
        expands = distinct[0][1] is not None and not isinstance(self.cache, DynamicCache)  # other caches have a fixed size
        merges = self.cache is not None and (len(batches) > 1 or expands)
        caches = [full_cache(self.model) if merges else self.cache for _ in batches]
        logits = [fill(self.model, *pair, cache, keep, chunk) for pair, cache in zip(distinct, caches, strict=True)]
        if merges:
            merge(self.cache, caches)
        mask = torch.cat([functional.pad(prompt.mask, (self.width - prompt.width, 0)) for prompt in prompts])
        self.lengths = mask.sum(1)
        self.mask = None if mask.all() else functional.pad(mask.bool(), (0, ROOM), value=True)
        return tuple(branch for each in logits for branch in _by_branch(each, len(prompts[0].mask)))

    def _encode(self, prompts: list[Prompt], tokens: Tensor, keep: int) -> tuple[Tensor, ...]:
        """Encode prompts, padded on the right, and read the tokens with the decoder; embeddings are encoded prompts."""
        gaps = [self.width - prompt.width for prompt in prompts]
        states = [_encoded(self.model, prompt) for prompt in prompts]
        hidden = torch.cat([functional.pad(each, (0, 0, 0, gap)) for each, gap in zip(states, gaps, strict=True)])
        mask = torch.cat([functional.pad(prompt.mask, (0, gap)) for prompt, gap in zip(prompts, gaps, strict=True)])
        self.context = {"encoder_outputs": BaseModelOutput(last_hidden_state=hidden), "attention_mask": mask}
        self.lengths, self.width = torch.zeros_like(mask[:, 0]), 0  # the decoder has read no prompt
        logits = forward(self.model, tokens.repeat(len(prompts), 1), None, None, self.cache, keep, first=True, **self.context)
        return _by_branch(logits, len(tokens))


@dataclass
class Reading:
    """The caches of all branches; `generate` passes it from step to step in place of a cache.

    Attributes:
        caches: one per model.
        tokens: number of tokens after the prompts.
        before: number of positions before these tokens in the text of `generate`.
        posterior: of the branches, if they are mixed.
    """

    caches: list[ModelCache]
    tokens: int = 0
    before: int = 0
    posterior: Posterior | None = None
    is_compileable: bool = False

    @classmethod
    def of(
        cls,
        models: Sequence[PreTrainedModel],
        config: GenerationConfig,
        rows: int,
        *,
        length: int = 0,
        mode: Any = None,
        encoded: Any = None,
    ) -> "Reading":
        """Return empty caches for K branches.

        Args:
            models: the model of every branch; branches of one model share a forward pass.
            config: the kind of cache, and by how many beams and samples the prompts are multiplied.
            rows: n, the number of prompts.
            length: number of tokens that a static cache has room for.
            mode: mode of generation, if there is one.
            encoded: output of an encoder, if there is one.
        """
        reading = cls.uncached(models)
        expanded = rows * max(config.num_beams or 1, config.num_return_sequences or 1)
        for each in reading.caches:
            k = len(each.branches)
            each.cache, call = empty_cache(each.model, config, rows=rows * k, length=length, mode=mode, encoded=encoded)
            add_room(each.cache)
            each.call = stepping(each.model, expanded * k) if call is each.model else call
        return reading

    @classmethod
    def uncached(cls, models: Sequence[PreTrainedModel]) -> "Reading":
        """Return a reading of K branches without caches, for one pass."""
        groups: dict[int, ModelCache] = {}
        for k, model in enumerate(models):
            groups.setdefault(id(model), ModelCache(model, [])).branches.append(k)
        return cls(list(groups.values()))

    @property
    def started(self) -> bool:
        """Whether the prompts have been read."""
        return self.caches[0].lengths is not None

    def read(
        self, prompts: Sequence[Prompt], tokens: Tensor, *, mask: Tensor | None = None, keep: int = 1, chunk: int | None = None
    ) -> list[Tensor]:
        """Read the prompts and the tokens after them.

        Args:
            prompts: K prompts of n rows.
            tokens: [n, t].
            mask: of tokens with padding on the right, [n, t]; only without a cache, and without effect on an encoder-decoder.
            keep: number of positions whose logits are returned, the last ones.
            chunk: number of positions to read at once; all by default.

        Returns:
            Logits, K tensors [n, keep, V].
        """
        out = [each.read([prompts[k] for k in each.branches], tokens, mask, keep, chunk) for each in self.caches]
        self.tokens = tokens.shape[1]
        return self._in_order(out)

    def extend(self, tokens: Tensor, *, keep: int = 1) -> list[Tensor]:
        """Read further tokens, [n, t], in every branch; return the logits of the last `keep` positions, K × [n, keep, V]."""
        out = [each.extend(tokens, self.tokens, keep) for each in self.caches]
        self.tokens += tokens.shape[1]
        return self._in_order(out)

    def _in_order(self, out: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return logits that are grouped by model in the order of the branches."""
        numbered = zip((k for each in self.caches for k in each.branches), itertools.chain.from_iterable(out), strict=True)
        return [logits for _, logits in sorted(numbered, key=lambda pair: pair[0])]

    @property
    def is_croppable(self) -> bool:
        """Whether tokens can be removed again."""
        return not any(recurs(each.cache) for each in self.caches)

    @property
    def is_linear(self) -> list[bool]:
        """Whether each layer has no length; one entry for all layers."""
        return [False]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of positions of the text that have been read."""
        del layer_idx
        return self.tokens + self.before

    def reorder_cache(self, rows: Tensor) -> None:
        """Replace the state of row i by that of row rows[i], [n]: for beams, or for resampling."""
        for each in self.caches:
            each.select(rows)
        if self.posterior is not None:
            self.posterior.select(rows)

    def crop(self, length: int) -> None:
        """Keep the first `length` positions of the text; remove the last −`length` tokens if it is not positive."""
        removed = self.get_seq_length() - length if length > 0 else -length
        for each in self.caches:
            take_back(each.cache, removed)
        self.tokens -= removed
        if self.posterior is not None:
            self.posterior.crop(removed)

    def activate_past_recording(self) -> None:
        """Record what `crop` needs.

        Raises:
            ValueError: a recurrent state, from which no token can be removed.
        """
        if not self.is_croppable:
            raise ValueError("drafts cannot be removed from a recurrent state; leave out the assistant or prompt lookup")
        for each in self.caches:
            record_past(each.cache)


def _batches(model: PreTrainedModel, prompts: list[Prompt]) -> list[Prompt]:
    """Return prompts as the batches to read: one batch if all have one width, or if their caches could not be merged."""
    widths = {prompt.width for prompt in prompts}
    if len({prompt.inputs.ndim for prompt in prompts}) > 1 or (len(widths) > 1 and mergeable(model)):
        return prompts
    same = [prompt.widened(max(widths)) for prompt in prompts]
    return [Prompt(torch.cat([prompt.inputs for prompt in same]), torch.cat([prompt.mask for prompt in same]))]


def _encoded(model: PreTrainedModel, prompt: Prompt) -> Tensor:
    """Return the encoder's states of prompts, [n, L, d]."""
    if prompt.inputs.ndim == 3:
        return prompt.inputs
    once, index = prompt.distinct()
    states = model.get_encoder()(input_ids=once.inputs, attention_mask=once.mask, return_dict=True).last_hidden_state
    return states if index is None else states[index]


def _by_branch(logits: Tensor, n: int) -> tuple[Tensor, ...]:
    """Split the rows of a batch, [k·n, …], into k branches [n, …]."""
    return logits.reshape(-1, n, *logits.shape[1:]).unbind(0)


def _selected(value: Any, index: Tensor) -> Any:
    """Return the rows `index` of a tensor, or of every tensor of a model's output."""
    if isinstance(value, Tensor):
        return value[index]
    return type(value)(**{name: _selected(part, index) for name, part in value.items()})
