r"""Scoring: log-probabilities of given texts under the guided laws.

    sequential  log q(x) = Σ_t (log p̃(x_t|x_<t) − log Z_t(x_<t)),    normalised over all texts
    joint       log p(x) = Σ_t log p̃(x_t|x_<t) − log Z,              with log Z unknown: given without it

Over a finite set of candidates a softmax normalises both, and they rank differently: multiple-choice evaluations of guidance
score the joint law (Sanchez et al., "Stay on topic with classifier-free guidance", arXiv:2306.17806), generation follows the
sequential one.
"""

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arguide import checks
from arguide.text.combination import Combination
from arguide.text.generation import guided, takes_settings, with_settings
from arguide.text.prompts import Prompt, check_tokens, first_tokens
from arguide.text.reading import Reading
from arguide.text.settings import Guidance, Settings


class Scores(NamedTuple):
    """Scores of n texts of up to T tokens.

    Attributes:
        sequential: log q(x), [n].
        joint: log p(x) + log Z = Σ_t Σ_k w_k log p_k(x_t|x_<t), [n].
        log_normalizers: log Z_t of every token, 0 after the end, [n, T].
        branches: Σ_t log p_k(x_t|x_<t) of every branch with a weight, [K, n]; with a mixture, of all its branches.
        greedy: whether every token is the most likely one under the guided law, [n].

    Example:
        >>> config = transformers.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=None)
        >>> model = transformers.GPT2LMHeadModel(config)
        >>> found = arguide.score(model, torch.tensor([[1, 2]]), torch.tensor([[3, 4]]), guidance_scale=2.0)
        >>> bool((found.joint - found.log_normalizers.sum(1) - found.sequential).abs() < 1e-4)
        True
    """

    sequential: Tensor
    joint: Tensor
    log_normalizers: Tensor
    branches: Tensor
    greedy: Tensor


@takes_settings
def score(
    model: PreTrainedModel,
    input_ids: Tensor,
    text_ids: Tensor,
    *,
    guidance: Guidance | None = None,
    attention_mask: Tensor | None = None,
    text_mask: Tensor | None = None,
    **settings: Unpack[Settings],
) -> Scores:
    """Score texts after prompts, all of them at once.

    Args:
        model: a causal or encoder-decoder language model, or a guided view of one.
        input_ids: prompts, [n, L]; those of the encoder if there is one.
        text_ids: texts after them, [n, T], padded on the right.
        guidance: settings of the guided law; a schedule counts positions from the first token of a text.
        attention_mask: of the prompts, [n, L].
        text_mask: of the texts, [n, T].
        settings: fields of `Guidance`, which replace those of `guidance`.

    Returns:
        The scores in float32; an end-of-text token is scored if it is in the text. Both laws are −∞ for a text with a token
        that the plausibility cut-off removes.

    Raises:
        ValueError: arguments that do not fit, a text without tokens, padding before a token, or an improper tilt.

    Example:
        >>> config = transformers.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=None)
        >>> model = transformers.GPT2LMHeadModel(config)
        >>> prompt, negative = torch.tensor([[1, 2, 3]]), torch.tensor([[4]])
        >>> found = arguide.score(model, prompt, torch.tensor([[5, 6]]), guidance_scale=2.0, negative_prompt_ids=negative)
        >>> found.sequential.shape, found.branches.shape
        (torch.Size([1]), torch.Size([2, 1]))
    """
    plain, guidance = guided(model).unguided, with_settings(guidance, dict(settings))
    for name, ids in (("input_ids", input_ids), ("text_ids", text_ids)):
        check_tokens(name, ids, plain)
    mask = torch.ones_like(text_ids) if text_mask is None else text_mask.to(text_ids.device, torch.long)
    _check_texts(text_ids, mask, len(input_ids))
    combination = Combination.of(plain, guidance, rows=len(input_ids))
    encodes = plain.config.is_encoder_decoder
    rows = torch.arange(len(text_ids), device=text_ids.device)
    prompts = combination.prompts(Prompt.of(input_ids, attention_mask, right=encodes), rows)
    if not encodes:
        combination.check_rows(prompts, mask.sum(1).to(input_ids.device))
    first = first_tokens(plain, len(text_ids)).to(text_ids)
    with torch.inference_mode():
        scores = _score(combination, prompts, first, text_ids, mask)
    return Scores(*(tensor.clone() for tensor in scores))


def _score(combination: Combination, prompts: Sequence[Prompt], first: Tensor, text: Tensor, text_mask: Tensor) -> Scores:
    """Score texts [n, T] by their mask, after K prompts of n rows and the decoder's first tokens, [n, 0 or 1]."""
    read = torch.cat([first, text[:, :-1]], 1)
    followed = torch.cat([torch.ones_like(first), text_mask[:, 1:]], 1)  # the last token of a text takes no position
    logits = Reading.uncached(combination.models).read(prompts, read, mask=followed, keep=text.shape[1])
    mask = text_mask.bool()
    logits = [branch.masked_fill(~mask[..., None], 0.0) for branch in logits]
    rows = torch.arange(len(text), device=text.device)
    guided_logits, laws, _ = combination.guide(logits, 0, rows, combination.posterior(), text[:, :-1])
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
    """Return the values of the text's tokens, [n, T], from those of the vocabulary, [n, T, V]."""
    return law.gather(-1, text[..., None]).squeeze(-1)


def _sum(values: Tensor, mask: Tensor) -> Tensor:
    """Return the sums of [n, T] over the tokens of the mask, [n]."""
    return values.masked_fill(~mask, 0.0).sum(1)


def _check_texts(text: Tensor, mask: Tensor, n: int) -> None:
    """Raise ValueError unless texts [n, T] have tokens, and padding on the right only."""
    for name, each in (("text_ids", text), ("text_mask", mask)):
        if each.ndim != 2 or len(each) != n or each.shape != text.shape:
            raise checks.refusal(name, f"of shape [{n}, T] with one T", each, "try a prompt per text, input_ids.expand(n, -1)")
    if not text.shape[1] or not mask[:, 0].all():
        raise ValueError("every text must have at least one token, got none; padding must stand on the right")
    if (mask[:, 1:] > mask[:, :-1]).any():
        raise ValueError("text_mask must have its padding on the right, got padding before a token")
