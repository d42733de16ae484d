"""Decoding: what one call of `generate` carries from step to step, and does in the place of the model."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from arguide.text.caches import Reading
from arguide.text.combination import Combination, Guided, last_token
from arguide.text.modes import check_inputs, check_mode
from arguide.text.prompts import Prompt
from arguide.text.seam import CACHE, CACHES, cache_name, drafts

LAWS = ("sequential", "joint")


@dataclass
class Guidance:
    """What one call of `generate` carries along: the combination, the prompts' length, and what it has recorded.

    model: the one that generates.
    width: how many tokens of `input_ids` are not generated.
    encoded: what an encoder reads; then all of `input_ids` is the decoder's.
    scored: whether to record, for every token, log Z_t [n] and the branches' log-probs [K, n, V].
    last: what the last forward pass gave.
    """

    combination: Combination
    beam_law: str
    model: PreTrainedModel
    width: int = 0
    chunk: int | None = None
    encoded: Prompt | None = None
    scored: bool = False
    last: Guided | None = None
    log_normalizers: list[Tensor] = field(default_factory=list)
    branch_scores: list[Tensor] = field(default_factory=list)

    def encode(self, inputs: Tensor | None, encoder_outputs: Any, mask: Tensor | None) -> BaseModelOutput:
        """Note what the branches will encode, or what has been encoded; return as long an encoding without features.

        Raises:
            ValueError: nothing to encode, embeddings, or no prompt for the unconditional branch.
        """
        if encoder_outputs is not None:
            if last_token in self.combination.sources:
                raise ValueError("encoder_outputs give no default unconditional prompt; pass negative_prompt_ids")
            inputs = encoder_outputs[0]
        elif inputs is None or inputs.ndim != 2:
            raise ValueError("an encoder-decoder needs input_ids [n, L] to be guided; inputs_embeds are not enough")
        self.encoded = Prompt.of(inputs, mask, right=True)
        width = max(self.encoded.width, self.widest)  # which static caches need room for
        return BaseModelOutput(last_hidden_state=torch.empty(len(inputs), width, 0, device=inputs.device))

    def begin(self, width: int) -> None:
        """Note how many tokens the prompts have, with padding."""
        self.width = width

    def cache(self, config: GenerationConfig, given: dict[str, Any], mode: Any, rows: int, length: int) -> Reading | None:
        """Return empty caches for all branches, as `config` asks for; None where there is to be no cache.

        Args:
            given: what `generate` hands on from step to step.
            mode: the mode of generation.
            rows: the number of prompts; beams and further samples multiply them.
            length: how many tokens a static cache has room for after the prompts' own tokens.

        Raises:
            ValueError: a mode that cannot be guided.
        """
        branches = self.combination.branches
        check_mode(config, given, branches.models)
        if config.use_cache is False or not all(map(cache_name, branches.models)):
            return None
        if self.encoded is None:
            length += max(0, self.widest - self.width)
        for name in CACHES:
            given.pop(name, None)
        reading = branches.reading(config, rows, length=length, mode=mode, encoded=given.get("encoder_outputs"))
        if drafts(mode):
            reading.activate_past_recording()
        return reading

    def processors(self, config: GenerationConfig) -> list[LogitsProcessor]:
        """Return the logits processors that go before all others: for beams of the joint law, what undoes normalisation.

        Raises:
            ValueError: a branch without room for the text, or logits that are to be normalised again.
        """
        if self.encoded is None:
            self.combination.check_room(self.width, config.max_length - self.width, self.model)
        self.scored = bool(config.return_dict_in_generate and config.output_scores)
        if self.beam_law != "joint" or (config.num_beams or 1) == 1:
            return []
        if config.renormalize_logits:
            raise ValueError("renormalize_logits would turn the joint law of beams into the sequential one; leave it out")
        return [Unnormalized(self)]

    def chunked(self, config: GenerationConfig) -> GenerationConfig:
        """Note in which chunks each branch reads its prompts; return the configuration without them."""
        if config.prefill_chunk_size is None:
            return config
        self.chunk = config.prefill_chunk_size
        config = copy.copy(config)
        config.prefill_chunk_size = None
        return config

    def inputs(self, input_ids: Tensor, rows: Tensor | None, given: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of a step, from what `generate` gives to all models.

        Raises:
            ValueError: inputs besides the text.
        """
        check_inputs(given)
        return {
            "input_ids": input_ids,
            "mask": given.get("attention_mask"),
            "rows": rows,
            "reading": given.get(CACHE),
            "logits_to_keep": given.get("logits_to_keep") or 1,
            "embeds": given.get("inputs_embeds"),
        }

    def step(self, inputs: dict[str, Any]) -> tuple[Tensor, Reading | None]:
        """Read what is new in every branch; return guided logits, [n, keep, V], and the caches."""
        keep = inputs.pop("logits_to_keep")
        return self.logits(**inputs, keep=keep), inputs["reading"]

    def logits(
        self, input_ids: Tensor, mask: Tensor | None, rows: Tensor, reading: Reading | None, keep: int, embeds: Tensor | None
    ) -> Tensor:
        """Return guided logits of the last `keep` positions, [n, keep, V], after reading what is new in `input_ids`."""
        branches = self.combination.branches
        if reading is not None and reading.started:
            read = reading.get_seq_length()
            new = input_ids[:, min(read, input_ids.shape[1] - 1) :]  # a peer of this process may still be at work
            laws = branches.extend(new, reading, keep=keep)
        else:
            prompt, tokens = self._prompt(input_ids, mask, rows, embeds)
            prompts = self.combination.prompts(prompt, rows)
            if reading is not None:
                reading.before = input_ids.shape[1] - tokens.shape[1]
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
