r"""Scoring: how likely given texts are under the guided laws.

    sequential  log q(x) = Σ_t (log p̃(x_t|x_<t) − log Z_t(x_<t)),       normalised over all texts
    joint       log p(x) = Σ_t log p̃(x_t|x_<t) − log Z,                 with log Z unknown: reported without it

Over a finite set of candidates both can be normalised, and there they rank differently: the joint law is what multiple-choice
evaluations of guidance score (Sanchez et al., "Stay on topic with classifier-free guidance", 2023), the sequential one is
what generation follows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arguide.text.combination import Combination, Condition
from arguide.text.generation import guided
from arguide.text.prompts import Prompt, check_tokens, first_tokens
from arguide.text.weights import Scale


class Scores(NamedTuple):
    """n texts of up to T tokens, scored.

    sequential: log q(x), [n].
    joint: log p(x) + log Z = Σ_t Σ_k w_k log p_k(x_t|x_<t), [n].
    log_normalizers: log Z_t at every token, 0 after the end, [n, T].
    branches: Σ_t log p_k(x_t|x_<t) of every branch that has a weight, [K, n].
    greedy: whether every token is the guided law's likeliest, [n].
    """

    sequential: Tensor
    joint: Tensor
    log_normalizers: Tensor
    branches: Tensor
    greedy: Tensor


def score(
    model: PreTrainedModel,
    input_ids: Tensor,
    text_ids: Tensor,
    *,
    guidance_scale: Scale,
    attention_mask: Tensor | None = None,
    text_mask: Tensor | None = None,
    negative_prompt_ids: Tensor | None = None,
    negative_prompt_attention_mask: Tensor | None = None,
    negative_model: PreTrainedModel | None = None,
    conditions: Sequence[Condition] = (),
    branch_temperature: float | tuple[float, float] = 1.0,
    floor: float | None = None,
) -> Scores:
    """Score texts after prompts, all of them at once; a branch whose prompts are of another length is read by itself.

    Args:
        model: a causal or encoder-decoder language model, or a guided view of one.
        input_ids: prompts, [n, L]; an encoder reads them if there is one.
        text_ids: what follows them, [n, T], padded on the right.
        attention_mask: of the prompts, [n, L].
        text_mask: of the texts, [n, T].
        guidance_scale: γ, and so on as in `GuidedLM.generate`. A schedule counts positions from the first token of a text.

    Returns:
        The scores in float32; an end-of-text token counts if it stands in the text.

    Raises:
        ValueError: arguments that do not fit, a text without tokens, padding before a token, or an improper tilt.
    """
    plain = guided(model).unguided
    mask = torch.ones_like(text_ids) if text_mask is None else text_mask.to(text_ids.device, torch.long)
    _check_texts(text_ids, mask, len(input_ids))
    for name, ids in (("input_ids", input_ids), ("text_ids", text_ids)):
        check_tokens(name, ids, plain)
    combination = Combination.of(
        plain,
        guidance_scale,
        rows=len(input_ids),
        negative_prompt_ids=negative_prompt_ids,
        negative_prompt_attention_mask=negative_prompt_attention_mask,
        negative_model=negative_model,
        conditions=conditions,
        branch_temperature=branch_temperature,
        floor=floor,
    )
    encodes = plain.config.is_encoder_decoder
    rows = torch.arange(len(text_ids), device=text_ids.device)
    prompts = combination.prompts(Prompt.of(input_ids, attention_mask, right=encodes), rows)
    if not encodes:
        combination.check_rows(prompts, mask.sum(1).to(input_ids.device))
    first = first_tokens(plain, len(text_ids)).to(text_ids)
    with torch.inference_mode():
        scores = _score(combination, prompts, first, text_ids, mask)
    return Scores(*(tensor.clone() for tensor in scores))


def among(scores: Tensor, sets: Tensor) -> Tensor:
    """Normalise log-scores [n] over finite sets of candidates: return log softmax within the rows of equal `sets`, [n]."""
    _, index = torch.unique(sets, return_inverse=True)
    out = torch.empty_like(scores)
    for which in range(int(index.max()) + 1):
        rows = index == which
        out[rows] = scores[rows].log_softmax(0)
    return out


def _score(combination: Combination, prompts: Sequence[Prompt], first: Tensor, text: Tensor, text_mask: Tensor) -> Scores:
    read = torch.cat([first, text[:, :-1]], 1)
    followed = torch.cat([torch.ones_like(first), text_mask[:, 1:]], 1)  # what nothing follows takes no position
    logits = combination.branches.read(prompts, read, None, mask=followed, keep=text.shape[1])
    mask = text_mask.bool()
    logits = [branch.masked_fill(~mask[..., None], 0.0) for branch in logits]
    guided_logits, laws = combination.guide(logits, 0, torch.arange(len(text), device=text.device))
    log_normalizers = guided_logits.logsumexp(-1)
    chosen = _of_tokens(guided_logits, text)
    return Scores(
        _sum(chosen - log_normalizers, mask),
        _sum(chosen, mask),
        log_normalizers.masked_fill(~mask, 0.0),
        torch.stack([_sum(_of_tokens(law, text), mask) for law in laws]),
        ((guided_logits.argmax(-1) == text) | ~mask).all(1),
    )


def _of_tokens(law: Tensor, text: Tensor) -> Tensor:
    return law.gather(-1, text[..., None]).squeeze(-1)


def _sum(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(~mask, 0.0).sum(1)


def _check_texts(text: Tensor, mask: Tensor, n: int) -> None:
    if text.ndim != 2 or len(text) != n or mask.shape != text.shape:
        raise ValueError(f"texts and their mask must have shape [{n}, T], not {tuple(text.shape)} and {tuple(mask.shape)}")
    if not text.shape[1] or not mask[:, 0].all():
        raise ValueError("every text needs at least one token, and its padding must stand on the right")
    if (mask[:, 1:] > mask[:, :-1]).any():
        raise ValueError("the padding of texts must stand on the right")
