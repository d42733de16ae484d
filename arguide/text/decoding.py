"""Decoding: what one call of `generate` carries from step to step."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor
from transformers.modeling_outputs import BaseModelOutput

from arguide.text.caches import Reading, takes_cache
from arguide.text.combination import Combination, Guided, last_token
from arguide.text.prompts import Prompt

LAWS = ("sequential", "joint")


@dataclass
class Guidance:
    """What one call of `generate` carries along: the combination, the prompts' length, and what it has recorded.

    width: how many tokens of `input_ids` are not generated.
    encoded: what an encoder reads; then all of `input_ids` is the decoder's.
    scored: whether to record, for every token, log Z_t [n] and the branches' log-probs [K, n, V].
    last: what the last forward pass gave.
    """

    combination: Combination
    beam_law: str
    width: int = 0
    chunk: int | None = None
    encoded: Prompt | None = None
    scored: bool = False
    last: Guided | None = None
    log_normalizers: list[Tensor] = field(default_factory=list)
    branch_scores: list[Tensor] = field(default_factory=list)

    def encode(self, inputs: Tensor, encoder_outputs: Any, mask: Tensor | None) -> BaseModelOutput:
        """Note what the branches will encode, or what has been encoded; return as long an encoding without features."""
        if encoder_outputs is None and inputs.ndim != 2:
            raise ValueError("an encoder-decoder is guided by what it reads as input_ids, not by embeddings")
        if encoder_outputs is not None and last_token in self.combination.sources:
            raise ValueError("encoder_outputs have no last token that knows nothing of the others; give negative_prompt_ids")
        self.encoded = Prompt.of(inputs if encoder_outputs is None else encoder_outputs[0], mask, right=True)
        width = max(self.encoded.width, self.widest)  # which static caches need room for
        return BaseModelOutput(last_hidden_state=torch.empty(len(inputs), width, 0, device=inputs.device))

    def reading(
        self, config: GenerationConfig, mode: Any, rows: int, length: int, encoder_outputs: Any = None
    ) -> Reading | None:
        """Return empty caches for all branches, as `config` asks for; None where there is to be no cache.

        Args:
            rows: the number of prompts; beams and further samples multiply them.
            length: how many tokens a static cache has room for after the prompts' own tokens.
        """
        if config.use_cache is False or not all(takes_cache(model) for model in self.combination.branches.models):
            return None
        if self.encoded is None:
            length += max(0, self.widest - self.width)
        return self.combination.branches.reading(config, rows, length=length, mode=mode, encoded=encoder_outputs)

    def logits(
        self, input_ids: Tensor, mask: Tensor | None, rows: Tensor, reading: Reading | None, keep: int, embeds: Tensor | None
    ) -> Tensor:
        """Return guided logits of the last `keep` positions, [n, keep, V], after reading what is new in `input_ids`."""
        branches = self.combination.branches
        if reading is not None and reading.started:
            read = reading.tokens + (self.width if self.encoded is None else 0)
            new = input_ids[:, min(read, input_ids.shape[1] - 1) :]  # a peer of this process may still be at work
            laws = branches.extend(new, reading, keep=keep)
        else:
            prompt, tokens = self._prompt(input_ids, mask, rows, embeds)
            prompts = self.combination.prompts(prompt, rows)
            laws = branches.read(prompts, tokens, reading, keep=keep, chunk=self.chunk)
        self.last = self.combination.guide(laws, input_ids.shape[1] - self.width - keep + 1, rows)
        return self.last.logits

    @property
    def widest(self) -> int:
        """The longest prompt of the branches, as far as it does not depend on the prompts themselves."""
        return max(self.combination.widths)

    def keep(self, tokens: int) -> None:
        """Record the first `tokens` positions of the last forward pass: those whose tokens were accepted."""
        assert self.last is not None
        if self.scored:
            self.log_normalizers += self.last.log_normalizer[:, :tokens].unbind(1)
            self.branch_scores += torch.stack([law[:, :tokens] for law in self.last.branches]).unbind(2)

    def _prompt(self, input_ids: Tensor, mask: Tensor | None, rows: Tensor, embeds: Tensor | None) -> tuple[Prompt, Tensor]:
        if self.encoded is not None:
            return self.encoded.select(rows), input_ids
        inputs = input_ids[:, : self.width] if embeds is None else embeds
        prompt = Prompt.of(inputs, None if mask is None else mask[:, : inputs.shape[1]])
        return prompt, input_ids[:, self.width :]


class Unnormalized(LogitsProcessor):
    """Gives normalised log-probs of the last step their log Z_t back."""

    def __init__(self, guidance: Guidance) -> None:
        self.guidance = guidance

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return log p̃ = log p + log Z_t, [n, V]."""
        del input_ids
        assert self.guidance.last is not None
        return scores + self.guidance.last.log_normalizer[:, -1:].to(scores)
