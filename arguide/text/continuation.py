r"""Continuations: the law of the text after a prompt under guidance, as an autoregressive model of `arguide.models`.

    log p̃(x_t | x_<t) = (1/τ) (γ log p_c + (1 − γ − Σ_i γ_i) log p_u + Σ_i γ_i log p_i)

All particles and all branches are rows of one batch; a prompt is read once for all of them. `sampling`, `particles` and
`metropolis` run here unchanged, as they are checked exactly on tables. τ divides the weights, so the joint law is that of
guidance to the power 1/τ; γ = 1 alone is p(x)^{1/τ}, known as power sampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple, Unpack

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from arguide import checks
from arguide.guidance import normalize
from arguide.stopping import Ending
from arguide.text.caches import check_cached, grows_plainly
from arguide.text.combination import Combination
from arguide.text.generation import guided, takes_settings, with_settings
from arguide.text.prompts import Prompt, check_tokens, first_tokens
from arguide.text.reading import Reading
from arguide.text.seam import cache_name, keeps_cache
from arguide.text.settings import Guidance, Settings


class Read(NamedTuple):
    """n prefixes of one prompt's continuation; `append` and `select` change it in place, and make it invalid.

    Attributes:
        reading: what the branches have read.
        laws: every branch's law of the next token, K tensors [n, V].
        log_probs: the guided law, [n, V].
        log_normalizer: log Z_t, [n].
        position: t.
        log_posterior: with a `guidance_prior`, log ρ_k(x_<t) of every branch, [n, K].
    """

    reading: Reading
    laws: tuple[Tensor, ...]
    log_probs: Tensor
    log_normalizer: Tensor
    position: int
    log_posterior: Tensor | None = None


@dataclass(frozen=True)
class Continuation:
    """The guided law of the text after one prompt; an `arguide.Autoregressive`.

    Attributes:
        model: the conditional branch's model.
        combination: the branches and their weights.
        prompt: [1, L]; or [n, L], one per prefix, if the n prefixes do not all follow one prompt.
        ends: the tokens after which the posterior of the branches stays as it is.

    Example:
        >>> config = transformers.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=None)
        >>> model = transformers.GPT2LMHeadModel(config)
        >>> law = arguide.continuation(model, torch.tensor([[1, 2, 3]]), guidance_scale=2.0)
        >>> law.start(5).log_probs.shape
        torch.Size([5, 9])
    """

    model: PreTrainedModel
    combination: Combination
    prompt: Prompt
    ends: tuple[int, ...] = ()

    @property
    def log_prior(self) -> Tensor | None:
        """Log π of the branches, [K], the prompt's first; None without a `guidance_prior`.

        Raises:
            ValueError: a temperature or a cut-off of the guided law, which acceptance would not apply.
        """
        settings, prior = self.combination.guidance, self.combination.log_prior
        if prior is not None and (settings.temperature, settings.plausibility) != (1, 0):
            found = f"temperature {settings.temperature:g}, plausibility {settings.plausibility:g}"
            raise ValueError(f"acceptance must have temperature 1 and plausibility 0, got {found}; try sample_joint")
        return prior

    def start(self, n: int) -> Read:
        """Return the state of n empty prefixes; one prompt is read once for each branch.

        Raises:
            ValueError: a number n that is not that of the prompts, if each prefix has prompts of its own.
        """
        own = max(self.combination.weights.rows, len(self.prompt.mask))
        if own not in (1, n):
            raise checks.refusal("n", f"{own}, the number of prompts", n, "each prefix has a prompt of its own")
        reading = Reading.of(self.combination.models, GenerationConfig(), n)
        reading.posterior = self.combination.posterior(self.ends)
        each = torch.arange(n, device=self.model.device)
        given = self.prompt.select(each if len(self.prompt.mask) > 1 else torch.zeros_like(each))
        prompts = self.combination.prompts(given, self._rows(n))
        with torch.inference_mode():
            first = first_tokens(self.model, n)
            return self._state(reading, reading.read(prompts, first), 0, first[:, :0])

    def append(self, state: Read, token: Tensor) -> Read:
        """Return the state after one more token per row, [n]."""
        new = token[:, None]
        with torch.inference_mode():
            return self._state(state.reading, state.reading.extend(new), state.position + 1, new)

    def select(self, state: Read, index: Tensor) -> Read:
        """Return the state whose row i is row index[i] of this one, [n]."""
        if index.equal(torch.arange(len(state.log_probs), device=index.device)):
            return state
        with torch.inference_mode():
            state.reading.reorder_cache(index)
            laws = tuple(law[index] for law in state.laws)
            log_posterior = None if state.log_posterior is None else state.log_posterior[index]
            law = state.log_probs[index], state.log_normalizer[index]
            return Read(state.reading, laws, *law, state.position, log_posterior)

    def resume(self, state: Read | None, tokens: Tensor, kept: int) -> Read:
        """Return the state after tokens, [n, t], from caches that are cropped; arguments as in `models.resumed`.

        One forward pass per model reads all tokens after those that are kept. Caches that cannot be cropped (recurrent states,
        windows of attention, encoder-decoders) and a `guidance_prior` are read again from the prompt on, token by token.
        """
        if state is None or not min(kept, tokens.shape[1]) or state.log_posterior is not None or not _crops(state.reading):
            return reduce(self.append, tokens.unbind(1), self.start(len(tokens)))
        kept = min(kept, tokens.shape[1] - 1)  # the law after the last token is the result of a forward pass
        with torch.inference_mode():
            state.reading.crop(kept - state.reading.tokens)
            further = state.reading.extend(tokens[:, kept:])
            return self._state(state.reading, further, tokens.shape[1], tokens[:, -1:])

    def _rows(self, n: int) -> Tensor:
        """Return the index of each row's own prompts, [n]."""
        rows = torch.arange(n, device=self.model.device)
        return rows if self.combination.weights.rows > 1 else torch.zeros_like(rows)

    def _state(self, reading: Reading, logits: Sequence[Tensor], position: int, tokens: Tensor) -> Read:
        """Return the state after the branches' logits, K tensors [n, 1, V], and the text's new tokens, [n, 0 or 1]."""
        n = len(tokens)
        guided_logits, laws, log_posterior = self.combination.guide(logits, position, self._rows(n), reading.posterior, tokens)
        last = None if log_posterior is None else log_posterior[:, -1]
        return Read(reading, tuple(law[:, 0] for law in laws), *normalize(guided_logits[:, 0]), position, last)


@takes_settings
def continuation(
    model: PreTrainedModel,
    input_ids: Tensor,
    *,
    guidance: Guidance | None = None,
    attention_mask: Tensor | None = None,
    max_new_tokens: int | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    cap: str = "truncate",
    **settings: Unpack[Settings],
) -> Continuation | Ending:
    """Return the law of the text after a prompt, for `sample`, `sample_joint` and `sample_metropolis`.

    Args:
        model: a causal or encoder-decoder language model, or a guided view of one.
        input_ids: the prompt, [1, L].
        guidance: settings of the guided law.
        attention_mask: of the prompt, [1, L].
        max_new_tokens: the cap T; None for texts without an end.
        eos_token_id: the tokens that end a text; the model's own by default, none if it is an empty sequence.
        cap: "truncate" or "force", see `arguide.stopping`.
        settings: fields of `Guidance`, which replace those of `guidance`.

    Returns:
        A `Continuation`, within an `arguide.Ending` if texts end. With a `guidance_prior` all branches are read whatever γ is,
        which is 1 by default, and `sample_accepted` draws the joint law of any γ ≥ 0. Negative prompts and conditions with n
        rows give each of n prefixes prompts of its own.

    Raises:
        ValueError: arguments that do not fit, several prompts, no room in a context, no token for a cap to force, or a model
            without a cache.

    Example:
        >>> config = transformers.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=None)
        >>> model = transformers.GPT2LMHeadModel(config)
        >>> prompt, negative = torch.tensor([[1, 2, 3]]), torch.tensor([[4]])
        >>> law = arguide.continuation(model, prompt, guidance_scale=2.0, negative_prompt_ids=negative)
        >>> arguide.sample_joint(law, 16, 4).tokens.shape
        torch.Size([16, 4])
    """
    plain, guidance = guided(model).unguided, with_settings(guidance, dict(settings))
    check_tokens("input_ids", input_ids, plain)
    if len(input_ids) != 1:
        raise checks.refusal("input_ids", "one prompt, [1, L]", input_ids)
    if max_new_tokens is not None:
        checks.integer("max_new_tokens", max_new_tokens)
    combination = Combination.of(plain, guidance, rows=_own_rows(guidance), mixes=True)
    for each in combination.models:
        check_cached(each, keeps_cache(each) and bool(cache_name(each)))
    prompt = Prompt.of(input_ids, attention_mask, right=plain.config.is_encoder_decoder)
    law = Continuation(plain, combination, prompt)
    if max_new_tokens is None:
        return law
    if not plain.config.is_encoder_decoder:
        combination.check_room(prompt.width, max_new_tokens)
    ends = plain.generation_config.eos_token_id if eos_token_id is None else eos_token_id
    ends = (ends,) if isinstance(ends, int) else tuple(ends or ())
    if cap == "force" and not ends:
        raise ValueError("no token ends the texts of this model, so a cap has nothing to force; try truncate")
    return Ending(replace(law, ends=ends), ends, max_new_tokens, cap) if ends else law


def _crops(reading: Reading) -> bool:
    """Whether all caches can be cropped to any length."""
    return all(grows_plainly(each.cache) for each in reading.caches)


def _own_rows(guidance: Guidance) -> int:
    """Return the number of rows of the prompts of the unconditional branch and of the conditions."""
    own = guidance.negative_prompt_ids, *(each.input_ids for each in guidance.conditions)
    return max((len(ids) for ids in own if ids is not None), default=1)
