r"""The log-linear combination of a model's branches, with their weights at every position.

    w = (γ, 1 − γ − Σ_i γ_i, γ_1, γ_2, …) / τ,    log p̃(v | x_<t) = Σ_k w_k log p_k(v | x_<t)

over (cond, uncond, further conditions), as `arguide.text.settings` defines them. A branch whose weight is 0 at every position
is not read. With priors two laws are combined, cond and the mixture of all branches.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arguide.coherent.mixture import mixed
from arguide.coherent.posterior import Posterior
from arguide.guidance import combine
from arguide.text.prompts import Prompt, check_tokens
from arguide.text.settings import Condition, Guidance, Weights
from arguide.transforms import defensive, one_of


@dataclass(frozen=True)
class Branch:
    """One law p_k of the combination: a model, its prompts and its temperature.

    Attributes:
        model: the model.
        temperature: τ_k.
        own: its own prompts, n or one for all rows; None if it reads the prompt itself.
        last: whether it reads only the last token of the prompt.
    """

    model: PreTrainedModel
    temperature: float = 1.0
    own: Prompt | None = None
    last: bool = False

    def prompt(self, given: Prompt, rows: Tensor) -> Prompt:
        """Return the prompts of this branch, given the prompts themselves, [n, L], and the index of each row's prompt, [n]."""
        if self.own is None:
            return given.last() if self.last else given
        index = rows if len(self.own.mask) > 1 else torch.zeros_like(rows)
        return self.own.select(index.to(self.own.mask.device)).to(given.inputs.device)

    def width(self, given: int, model: PreTrainedModel | None) -> int:
        """Return the width of this branch's prompts, given that of the prompts themselves; 0 if `model` checks them itself."""
        if self.own is not None:
            return self.own.width
        return 0 if self.model is model else given

    def check_context(self, number: int, length: int, tokens: int) -> None:
        """Raise ValueError unless the context has room for a prompt and all new tokens but the last, which nothing follows.

        Args:
            number: of the branch, for the message.
            length: number of tokens of the prompt.
            tokens: number of new tokens.
        """
        config = self.model.config.get_text_config(decoder=True)
        limit: int = getattr(config, "max_position_embeddings", None) or 0
        if 0 < limit < length + tokens - 1:
            found = f"{length} tokens of branch {number} and {tokens} new ones exceed its model's context of {limit}"
            raise ValueError(f"{found}; try a shorter prompt or fewer new tokens")

    def law(self, logits: Tensor, guidance: Guidance) -> Tensor:
        """Return log p_k, normalised, in float32 at least: softmax(logits / τ_k) on the tokens of the settings, smoothed."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if guidance.tokens is not None:
            logits = logits.masked_fill(~one_of(guidance.tokens, logits), -math.inf)
        law = (logits if self.temperature == 1 else logits / self.temperature).log_softmax(-1)
        return defensive(guidance.smoothing)(law) if guidance.smoothing else law


class Guided(NamedTuple):
    """Guided logits, [n, t, V], the log-probs of the branches, K tensors [n, t, V], and with priors log ρ, [n, t, K]."""

    logits: Tensor
    branches: list[Tensor]
    log_posterior: Tensor | None = None

    def last(self, positions: int) -> "Guided":
        """Return the last positions."""
        kept = slice(-positions, None)
        log_posterior = None if self.log_posterior is None else self.log_posterior[:, kept]
        return Guided(self.logits[:, kept], [law[:, kept] for law in self.branches], log_posterior)

    @property
    def log_normalizer(self) -> Tensor:
        """Log Z_t = log Σ_v Π_k p_k(v)^{w_k}, [n, t]."""
        return self.logits.logsumexp(-1)


@dataclass(frozen=True)
class Combination:
    """A log-linear combination of K branches.

    Attributes:
        branches: the branches whose weight is not 0; with priors all branches.
        weights: w_k at every position; with priors those of (cond, mixture).
        guidance: the settings.
        log_prior: log π of the branches, [K]; None without a mixture.
    """

    branches: tuple[Branch, ...]
    weights: Weights
    guidance: Guidance
    log_prior: Tensor | None = None

    @classmethod
    def of(cls, model: PreTrainedModel, guidance: Guidance, *, rows: int, mixes: bool = False) -> "Combination":
        """Return the combination that settings define.

        Args:
            model: the model that reads the prompt.
            guidance: the settings.
            rows: n, the number of prompts.
            mixes: whether a mixture is read whatever it weighs; a scale of None then means 1.

        Raises:
            ValueError: a scale, a prior or a prompt that does not fit, or models with different vocabularies.
        """
        log_prior = guidance.log_prior
        further = guidance.negative_prompt_ids is not None or guidance.negative_model is not None or guidance.conditions
        if guidance.guidance_scale is None and further and not (mixes and log_prior is not None):
            raise ValueError("guidance_scale must be given with a negative prompt, a negative model or conditions, got None")
        branches = _branches(model, guidance, rows)
        _check_vocabularies([branch.model for branch in branches])
        scale = 1.0 if guidance.guidance_scale is None else guidance.guidance_scale
        scales = (scale, *(each.scale for each in guidance.conditions if each.scale is not None))
        always = [0] * (guidance.plausibility > 0) + [1] * (mixes and log_prior is not None)
        weights = Weights.of(scales, rows, always=always, temperature=guidance.temperature)
        if log_prior is not None and 1 in weights.branches:
            return cls(tuple(branches), weights, guidance, log_prior)
        return cls(tuple(branches[k] for k in weights.branches), weights, guidance)

    def posterior(self, ends: Sequence[int] = ()) -> Posterior | None:
        """Return the posterior of the branches before any token; None without a mixture. It stops at the tokens `ends`."""
        return None if self.log_prior is None else Posterior(self.log_prior, ends)

    @property
    def models(self) -> list[PreTrainedModel]:
        """The model of every branch."""
        return [branch.model for branch in self.branches]

    def is_just(self, model: PreTrainedModel) -> bool:
        """Whether the law is that of `model` after the prompt itself."""
        changes = self.guidance.plausibility or self.guidance.smoothing or self.guidance.tokens is not None
        return not changes and self.branches == (Branch(model),) and self.weights.at(0) == [1]

    def lends(self, model: PreTrainedModel) -> bool:
        """Whether a model other than `model` reads its prompt."""
        return any(branch.model is not model and branch.own is None for branch in self.branches)

    def check_room(self, width: int, tokens: int, model: PreTrainedModel | None = None) -> None:
        """Raise ValueError unless every branch has room for its prompt and the new tokens.

        Args:
            width: length of the prompts themselves.
            tokens: number of new tokens.
            model: a model that checks the prompts themselves; None to check them here.
        """
        for k, branch in enumerate(self.branches, 1):
            if length := branch.width(width, model):
                branch.check_context(k, length, tokens)

    def check_rows(self, prompts: Sequence[Prompt], tokens: Tensor) -> None:
        """Raise ValueError unless every branch has room for each of its prompts, K times n, and the row's new tokens, [n]."""
        for k, (branch, prompt) in enumerate(zip(self.branches, prompts, strict=True), 1):
            lengths = prompt.mask.sum(1)
            row = (lengths + tokens).argmax()
            branch.check_context(k, int(lengths[row]), int(tokens[row]))

    def prompts(self, prompt: Prompt, rows: Tensor) -> list[Prompt]:
        """Return the prompts of every branch, given the prompts themselves [n, L] and the index of each row's prompt, [n]."""
        return [branch.prompt(prompt, rows) for branch in self.branches]

    def guide(
        self,
        logits: Sequence[Tensor],
        position: int,
        rows: Tensor,
        posterior: Posterior | None = None,
        tokens: Tensor | None = None,
    ) -> Guided:
        """Combine the branches.

        Args:
            logits: K tensors [n, t, V], of the tokens from `position` on.
            position: of the first of these tokens, 0 after the prompt.
            rows: index of each row's prompt, [n].
            posterior: of the branches before this pass; it is advanced.
            tokens: the tokens of the text that this pass has read, see `Posterior.advance`.

        Returns:
            Σ_k w_k log p_k, −∞ where the plausibility cut-off removes a token, the K laws log p_k, and log ρ.

        Raises:
            ValueError: an improper tilt without a floor.
        """
        settings, device = self.guidance, logits[0].device
        laws = [branch.law(each.to(device), settings) for branch, each in zip(self.branches, logits, strict=True)]
        combined, log_posterior = laws, None
        if posterior is not None:
            assert tokens is not None
            log_posterior = posterior.advance(laws, tokens)
            pair = laws[0], mixed(laws, log_posterior)
            combined = [pair[k] for k in self.weights.branches]
        guided = combine(combined, self.weights.over(position, laws[0].shape[1], rows), floor=settings.floor)
        if settings.plausibility:
            least = laws[0].amax(-1, keepdim=True) + math.log(settings.plausibility)
            guided = guided.masked_fill(laws[0] < least, -math.inf)
        return Guided(guided, laws, log_posterior)


def _branches(model: PreTrainedModel, guidance: Guidance, rows: int) -> list[Branch]:
    """Return the branches (cond, uncond, further conditions)."""
    cond, uncond = guidance.branch_temperatures
    own = guidance.negative_prompt_ids, guidance.negative_prompt_attention_mask, guidance.negative_model
    negative = Condition(0.0, *own, uncond)  # its weight follows from the others'
    further = [_branch(model, each, rows, "input_ids of a condition") for each in guidance.conditions]
    rest = _branch(model, negative, rows, "negative_prompt_ids", last=guidance.negative_model is None)
    return [Branch(model, cond), rest, *further]


def _branch(model: PreTrainedModel, condition: Condition, rows: int, name: str, *, last: bool = False) -> Branch:
    """Return a branch with its own prompts, or one that reads the prompt itself, or only its `last` token."""
    reader, ids, mask = condition.model or model, condition.input_ids, condition.attention_mask
    if ids is None:
        if mask is not None:
            raise ValueError(f"{name} must be given with their attention mask, got None")
        return Branch(reader, condition.temperature, last=last)
    check_tokens(name, ids, reader)
    own = Prompt.of(ids, mask, right=model.config.is_encoder_decoder)
    if len(own.mask) not in (1, rows):
        raise ValueError(f"{name} must be one for each of the {rows} prompts, or one for all, got {len(own.mask)}")
    return Branch(reader, condition.temperature, own)


def _check_vocabularies(models: Sequence[PreTrainedModel]) -> None:
    """Raise ValueError unless all models are decoders, or all encoder-decoders, with vocabularies of one size."""
    if len({bool(model.config.is_encoder_decoder) for model in models}) > 1:
        raise ValueError("models must all be decoders, or all encoder-decoders, got both")
    size, *sizes = [model.get_output_embeddings().weight.shape[0] for model in models]
    for model, other in zip(models[1:], sizes, strict=True):
        if other != size:
            wanted, found = type(models[0]).__name__, type(model).__name__
            raise ValueError(f"models must share one vocabulary, {size} tokens as in {wanted}, got {other} in {found}")
