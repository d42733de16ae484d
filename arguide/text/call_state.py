"""The state of one guided call of `generate`, and its steps in place of those of the model."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from arguide import checks
from arguide.text.caches import check_cached
from arguide.text.combination import Combination, Guided
from arguide.text.prompts import Prompt
from arguide.text.reading import Reading
from arguide.text.seam import CACHE, CACHES, OWN, cache_name, drafts, keeps_cache, takes_static_cache

LAWS = ("sequential", "joint")


@dataclass
class CallState:
    """The state of one call of `generate`; `arguide.text.seam.Hooks` calls its methods.

    Attributes:
        combination: the branches and their weights.
        beam_law: "sequential" or "joint", see `GuidedLM.generate`.
        model: the model that generates.
        width: number of tokens of `input_ids` that are not generated.
        chunk: number of positions of a prompt to read at once; None for all.
        encoded: the prompts of an encoder; all of `input_ids` is then the decoder's.
        ends: the tokens that end a text.
        scored: whether to record log Z_t [n], the branches' log-probs [K, n, V] and log ρ [n, K] of every token.
        last: result of the last forward pass.
        log_normalizers: log Z_t of every token, [n].
        branch_scores: log p_k of every token, [K, n, V].
        log_posteriors: with priors, log ρ before every token, [n, K].
    """

    combination: Combination
    beam_law: str
    model: PreTrainedModel
    width: int = 0
    chunk: int | None = None
    encoded: Prompt | None = None
    ends: tuple[int, ...] = ()
    scored: bool = False
    last: Guided | None = None
    log_normalizers: list[Tensor] = field(default_factory=list)
    branch_scores: list[Tensor] = field(default_factory=list)
    log_posteriors: list[Tensor] = field(default_factory=list)

    def encode(self, inputs: Tensor | None, encoder_outputs: Any, mask: Tensor | None) -> BaseModelOutput:
        """Record the prompts of an encoder.

        Args:
            inputs: its token ids, [n, L].
            encoder_outputs: its output, if it has already been run.
            mask: of either, [n, L].

        Returns:
            An output of the encoder of the same length, without features.

        Raises:
            ValueError: no token ids, or no prompt for the unconditional branch.
        """
        if encoder_outputs is not None:
            if any(branch.last for branch in self.combination.branches):
                raise ValueError("encoder_outputs give no default unconditional prompt; pass negative_prompt_ids")
            inputs = encoder_outputs[0]
        elif inputs is None or inputs.ndim != 2:
            raise checks.refusal("input_ids", "given, [n, L], to guide an encoder-decoder", inputs)
        self.encoded = Prompt.of(inputs, mask, right=True)
        width = max(self.encoded.width, self._widest)  # a static cache needs room for it
        return BaseModelOutput(last_hidden_state=torch.empty(len(inputs), width, 0, device=inputs.device))

    def prepare_cache(self, config: GenerationConfig, given: dict[str, Any], mode: Any, rows: int, length: int) -> None:
        """Put empty caches for all branches into the arguments of the next step, unless no cache is wanted.

        Args:
            config: the kind of cache.
            given: the arguments that `generate` passes from step to step.
            mode: mode of generation.
            rows: number of prompts, before beams and samples multiply them.
            length: number of tokens that a static cache has room for after the prompts' own tokens.

        Raises:
            ValueError: a mode that cannot be guided.
        """
        models = self.combination.models
        self._check_mode(config, given)
        ends = [] if config.eos_token_id is None else config.eos_token_id
        self.ends = tuple(torch.as_tensor(ends, dtype=torch.long).flatten().tolist())
        if config.use_cache is False or not all(map(cache_name, models)):
            return
        if self.encoded is None:
            length += max(0, self._widest - self.width)
        for name in CACHES:
            given.pop(name, None)
        reading = Reading.of(models, config, rows, length=length, mode=mode, encoded=given.get("encoder_outputs"))
        if drafts(mode):
            reading.activate_past_recording()
        given[CACHE] = reading

    def processors(self, config: GenerationConfig, width: int, others: LogitsProcessorList) -> LogitsProcessorList:
        """Return the logits processors of a call.

        Args:
            config: the settings of the call.
            width: number of tokens of the prompts; token healing may have changed it.
            others: the processors of the model; for beams of the joint law, one that restores log Z_t comes first.

        Raises:
            ValueError: a branch without room for the text, or logits that would be normalised again.
        """
        self.width = width
        if self.encoded is None:
            self.combination.check_room(width, config.max_length - width, self.model)
        self.scored = bool(config.return_dict_in_generate and config.output_scores)
        if self.beam_law != "joint" or (config.num_beams or 1) == 1:
            return others
        if config.renormalize_logits:
            raise ValueError("renormalize_logits must be False with the joint law of beams, got True; it would undo that law")
        return LogitsProcessorList([Unnormalized(self), *others])

    def unchunked(self, config: GenerationConfig) -> GenerationConfig:
        """Record the size of a chunk, in which every branch reads its prompts; return the configuration without it."""
        if config.prefill_chunk_size is None:
            return config
        self.chunk = config.prefill_chunk_size
        config = copy.copy(config)
        config.prefill_chunk_size = None
        return config

    def inputs(self, input_ids: Tensor, rows: Tensor | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of `step`.

        Args:
            input_ids: prompts and text, [n, L].
            rows: index of each row's prompt, [n].
            given: the further inputs that `generate` gives to a model.

        Raises:
            ValueError: inputs besides the text, an image for example.
        """
        if unknown := {name for name, value in given.items() if value is not None} - OWN:
            raise ValueError(f"inputs must be text alone, got {', '.join(sorted(unknown))}; leave them out to guide")
        return {
            "input_ids": input_ids,
            "mask": given.get("attention_mask"),
            "rows": rows,
            "reading": given.get(CACHE),
            "logits_to_keep": given.get("logits_to_keep") or 1,  # assisted decoding changes it before `step`
            "embeds": given.get("inputs_embeds"),
        }

    def step(
        self,
        input_ids: Tensor,
        mask: Tensor | None,
        rows: Tensor,
        reading: Reading | None,
        logits_to_keep: int,
        embeds: Tensor | None,
    ) -> Tensor:
        """Read the new tokens in every branch.

        Args:
            input_ids: prompts and text, [n, L].
            mask: of the prompts, [n, ≥ L].
            rows: index of each row's prompt, [n].
            reading: the caches of all branches; None to read everything again.
            logits_to_keep: number of positions whose logits are returned, the last ones.
            embeds: embeddings of the prompts in place of their tokens.

        Returns:
            Guided logits, [n, logits_to_keep, V].
        """
        mixes = self.combination.log_prior is not None  # then the posterior needs the laws of all tokens
        if reading is not None and reading.started:
            read = reading.get_seq_length()
            new = input_ids[:, min(read, input_ids.shape[1] - 1) :]  # at least one: other processes may not have finished
            keep = new.shape[1] if mixes else logits_to_keep
            logits = reading.extend(new, keep=keep)
        else:
            prompt, tokens = self._prompt(input_ids, mask, rows, embeds)
            reading = reading or Reading.uncached(self.combination.models)
            reading.before = input_ids.shape[1] - tokens.shape[1]
            reading.posterior = self.combination.posterior(self.ends)
            new = input_ids[:, self.width :]
            keep = new.shape[1] + 1 if mixes else logits_to_keep
            logits = reading.read(self.combination.prompts(prompt, rows), tokens, keep=keep, chunk=self.chunk)
        guided = self.combination.guide(logits, input_ids.shape[1] - self.width - keep + 1, rows, reading.posterior, new)
        self.last = guided.last(logits_to_keep) if mixes else guided
        return self.last.logits

    def keep(self, tokens: int) -> None:
        """Record the first `tokens` positions of the last forward pass, whose tokens were accepted."""
        assert self.last is not None
        if self.scored:
            self.log_normalizers += self.last.log_normalizer[:, :tokens].unbind(1)
            self.branch_scores += torch.stack([law[:, :tokens] for law in self.last.branches]).unbind(2)
            if self.last.log_posterior is not None:
                self.log_posteriors += self.last.log_posterior[:, :tokens].unbind(1)

    @property
    def _widest(self) -> int:
        """Length of the longest prompt that a branch has of its own."""
        return max(branch.own.width if branch.own is not None else 0 for branch in self.combination.branches)

    def _prompt(self, input_ids: Tensor, mask: Tensor | None, rows: Tensor, embeds: Tensor | None) -> tuple[Prompt, Tensor]:
        """Return the prompts of all rows, and the tokens after them."""
        if self.encoded is not None:
            return self.encoded.select(rows), input_ids
        inputs = input_ids[:, : self.width] if embeds is None else embeds
        prompt = Prompt.of(inputs, None if mask is None else mask[:, : inputs.shape[1]])
        return prompt, input_ids[:, self.width :]

    def _check_mode(self, config: GenerationConfig, given: Mapping[str, Any]) -> None:
        """Raise ValueError for caches and outputs that cannot be those of all branches."""
        cache = config.cache_implementation
        for model in self.combination.models:
            check_cached(model, keeps_cache(model))
            if cache == "static" and not takes_static_cache(model):
                wanted = f"dynamic for {type(model).__name__}"
                raise checks.refusal("cache_implementation", wanted, cache, "a static cache is not tested there")
        if cache not in (None, "dynamic", "static"):
            raise checks.refusal("cache_implementation", "dynamic or static", cache, "other caches cannot be guided")
        if named := next((name for name in CACHES if given.get(name) is not None), None):
            raise ValueError(f"{named} must be None, for a guided call makes its own caches; leave out {named}")
        if config.output_attentions or config.output_hidden_states:
            raise ValueError("attentions and hidden states belong to one branch; try the unguided model for them")


class Unnormalized(LogitsProcessor):
    """Adds log Z_t to the normalised log-probs of the last step."""

    def __init__(self, call: CallState) -> None:
        self.call = call

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return log p̃ = log p + log Z_t, [n, V]."""
        del input_ids
        assert self.call.last is not None
        return scores + self.call.last.log_normalizer[:, -1:].to(scores)


def check_arguments(given: Mapping[str, Any], ids: Tensor | None, *, lent: bool) -> None:
    """Raise ValueError for arguments of `generate` that a branch could not follow.

    Args:
        given: the arguments.
        ids: the prompts, [n, L]; None if they are given as embeddings or features.
        lent: whether another model reads the prompt too.
    """
    mask = given.get("attention_mask")
    if ids is not None and mask is not None and mask.shape != ids.shape:
        raise checks.refusal("attention_mask", f"of the shape of the tokens, {tuple(ids.shape)}", mask)
    if lent and any(given.get(name) is not None for name in ("inputs_embeds", "encoder_outputs")):
        raise ValueError("other models cannot read inputs_embeds or encoder_outputs; pass input_ids, or prompts of their own")
    if given.get("position_ids") is not None:
        raise ValueError("position_ids must be None, for every branch has positions of its own; leave out position_ids")
    if given.get("cache_implementation") == "paged":
        raise ValueError("cache_implementation must be dynamic or static, got 'paged'; continuous batching cannot be guided")
