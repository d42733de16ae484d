"""Decoding: what one call of `generate` carries from step to step."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import LogitsProcessor

from arguide.text.caches import Reading
from arguide.text.combination import Combination
from arguide.text.prompts import Prompt

LAWS = ("sequential", "joint")


@dataclass
class Guidance:
    """What one call of `generate` carries along: the combination, the prompts' length, and what it has recorded.

    width: how many tokens of `input_ids` are not generated.
    encoded: what an encoder reads; then all of `input_ids` is the decoder's.
    recorded: for every token so far, log Z_t [n] and the branches' log-probs [K, n, V].
    """

    combination: Combination
    beam_law: str
    width: int = 0
    chunk: int | None = None
    encoded: Prompt | None = None
    recording: bool = False
    scored: bool = False
    last: tuple[Tensor, list[Tensor]] | None = None
    log_normalizers: list[Tensor] = field(default_factory=list)
    branch_scores: list[Tensor] = field(default_factory=list)

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
        guided = self.combination.guide(laws, input_ids.shape[1] - self.width - keep + 1, rows)
        if self.recording or self.scored:
            self.last = guided.logits.logsumexp(-1), guided.branches
        return guided.logits

    @property
    def widest(self) -> int:
        """The longest prompt of the branches, as far as it does not depend on the prompts themselves."""
        return max(self.combination.widths)

    def keep(self, tokens: int) -> None:
        """Record the first `tokens` positions of the last forward pass: those whose tokens were accepted."""
        if self.scored and self.last is not None:
            log_normalizer, laws = self.last
            self.log_normalizers += log_normalizer[:, :tokens].unbind(1)
            self.branch_scores += torch.stack([law[:, :tokens] for law in laws]).unbind(2)

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
        guidance.recording = True

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return log p̃ = log p + log Z_t, [n, V]."""
        del input_ids
        if self.guidance.last is None:
            return scores
        return scores + self.guidance.last[0][:, -1:].to(scores)
