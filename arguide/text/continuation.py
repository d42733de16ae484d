r"""Continuations: the law of the text after a prompt under guidance, as an autoregressive model of `arguide.models`.

    log p̃(x_t | x_<t) = (1/τ) (γ log p_c + (1 − γ − Σ_i γ_i) log p_u + Σ_i γ_i log p_i)

All particles and all branches are rows of one batch; a prompt is read once for all of them. What is checked exactly on tables
runs here as it is: `sampling`, `particles` and `metropolis` see nothing of language models. τ divides the weights, so the
joint law is that of guidance to the power 1/τ; γ = 1 alone is p(x)^{1/τ}, which is called power sampling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from arguide.guidance import normalize
from arguide.stopping import Ending
from arguide.text.caches import Reading
from arguide.text.combination import Combination, Condition
from arguide.text.generation import guided
from arguide.text.prompts import Prompt, check_tokens, first_tokens
from arguide.text.seam import cache_name, keeps_cache
from arguide.text.weights import Scale


class Read(NamedTuple):
    """n prefixes of one prompt's continuation.

    A state is used up by `append` and `select`, which change what was read in place.

    laws: every branch's law of the next token, K tensors [n, V].
    log_probs, log_normalizer: the guided law, [n, V], and log Z_t, [n].
    """

    reading: Reading
    laws: tuple[Tensor, ...]
    log_probs: Tensor
    log_normalizer: Tensor
    position: int


@dataclass(frozen=True)
class Continuation:
    """The guided law of what follows one prompt; an `arguide.Autoregressive`.

    Attributes:
        model: the conditional branch's model.
        combination: what is combined, and how.
        prompt: [1, L]; or [n, L], one a prefix, where all n prefixes are not of one prompt.
    """

    model: PreTrainedModel
    combination: Combination
    prompt: Prompt

    def start(self, n: int) -> Read:
        """Return the state of n empty prefixes; one prompt is read once for each branch."""
        reading = self.combination.branches.reading(GenerationConfig(), n)
        rows = torch.zeros(n, dtype=torch.long, device=self.model.device)
        own = rows if len(self.prompt.mask) == 1 else torch.arange(n, device=self.model.device)
        prompts = self.combination.prompts(self.prompt.select(own), rows)
        first = first_tokens(self.model, n)
        with torch.inference_mode():
            laws = self.combination.branches.read(prompts, first, reading)
            return self._state(reading, laws, 0)

    def append(self, state: Read, token: Tensor) -> Read:
        """Return the state after one more token a row, [n]."""
        with torch.inference_mode():
            laws = self.combination.branches.extend(token[:, None], state.reading)
            return self._state(state.reading, laws, state.position + 1)

    def select(self, state: Read, index: Tensor) -> Read:
        """Return the state whose row i is row index[i] of this one."""
        if index.equal(torch.arange(len(state.log_probs), device=index.device)):
            return state
        with torch.inference_mode():
            state.reading.reorder_cache(index)
            laws = tuple(law[index] for law in state.laws)
            return Read(state.reading, laws, state.log_probs[index], state.log_normalizer[index], state.position)

    def _state(self, reading: Reading, logits: Sequence[Tensor], position: int) -> Read:
        rows = torch.zeros(len(logits[0]), dtype=torch.long, device=logits[0].device)
        guided_logits, laws = self.combination.guide(logits, position, rows)
        return Read(reading, tuple(law[:, 0] for law in laws), *normalize(guided_logits[:, 0]), position)


def continuation(
    model: PreTrainedModel,
    input_ids: Tensor,
    *,
    guidance_scale: Scale | None = None,
    temperature: float = 1.0,
    attention_mask: Tensor | None = None,
    negative_prompt_ids: Tensor | None = None,
    negative_prompt_attention_mask: Tensor | None = None,
    negative_model: PreTrainedModel | None = None,
    conditions: Sequence[Condition] = (),
    branch_temperature: float | tuple[float, float] = 1.0,
    plausibility: float = 0.0,
    smoothing: float = 0.0,
    floor: float | None = None,
    max_new_tokens: int | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    cap: str = "truncate",
) -> Any:
    """Return the law of what follows a prompt, for `sample`, `sample_joint` and `metropolis`.

    Args:
        model: a causal or encoder-decoder language model, or a guided view of one.
        input_ids: the prompt, [1, L].
        guidance_scale: γ, and so on as in `GuidedLM.generate`.
        temperature: τ; every weight is divided by it.
        plausibility: α; texts with a token of p_c(v) < α max p_c are left out of the law, and with them the words that only
            weigh because the unconditional model likes them even less.
        smoothing: ε; every branch is read as (1 − ε) p + ε/V, so that ratios of two probabilities that were hardly learned,
            which guidance raises to powers, stay near 1.
        max_new_tokens: the cap T; without one nothing ends a text.
        eos_token_id: what ends a text; the model's own tokens by default, none if it is an empty sequence.
        cap: "truncate" or "force", see `arguide.stopping`.

    Returns:
        A `Continuation`, within an `arguide.stopping.Ending` if texts end.

    Raises:
        ValueError: arguments that do not fit, several prompts, no room in a context, or a model that keeps no cache.
    """
    plain = guided(model).unguided
    if input_ids.ndim != 2 or len(input_ids) != 1:
        raise ValueError(f"the joint law is that of one prompt, [1, L], not of shape {tuple(input_ids.shape)}")
    check_tokens("input_ids", input_ids, plain)
    combination = Combination.of(
        plain,
        guidance_scale,
        rows=1,
        negative_prompt_ids=negative_prompt_ids,
        negative_prompt_attention_mask=negative_prompt_attention_mask,
        negative_model=negative_model,
        conditions=conditions,
        branch_temperature=branch_temperature,
        temperature=temperature,
        plausibility=plausibility,
        smoothing=smoothing,
        floor=floor,
    )
    for each in combination.branches.models:
        if not (keeps_cache(each) and cache_name(each)):
            raise ValueError(f"{type(each).__name__} keeps its state in a way of its own, which cannot be guided")
    prompt = Prompt.of(input_ids, attention_mask, right=plain.config.is_encoder_decoder)
    law = Continuation(plain, combination, prompt)
    if max_new_tokens is None:
        return law
    if not plain.config.is_encoder_decoder:
        combination.check_room(prompt.width, max_new_tokens)
    ends = plain.generation_config.eos_token_id if eos_token_id is None else eos_token_id
    ends = (ends,) if isinstance(ends, int) else tuple(ends or ())
    return Ending(law, ends, max_new_tokens, cap) if ends else law
