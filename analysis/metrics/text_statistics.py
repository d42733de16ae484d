"""A prompt's influence on text against the scale γ: how often its words come back, how varied and how likely the texts are.

Fidelity is the rate of texts that hold one of the given words, diversity the number of distinct words in all texts, and
perplexity exp(−mean log p) of a token, under the conditional and under the unconditional model.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import arguide

Track = Callable[[Sequence[float]], Iterable[float]]


def measure(
    model: Any,
    tokenizer: Any,
    prompt: str,
    words: Sequence[str],
    *,
    scales: Sequence[float],
    negative: Tensor | None = None,
    samples: int = 128,
    tokens: int = 60,
    seed: int = 0,
    track: Track = iter,
) -> tuple[pd.DataFrame, dict[float, list[str]]]:
    """Sample texts after a prompt at every scale, and measure them.

    Args:
        model: a causal language model, or a guided view of one.
        words: any of them counts as a mention of the prompt, in any case.
        negative: the tokens that the unconditional branch reads, [1, L]; the beginning-of-text token by default.

    Returns:
        A tidy frame with scale, quantity ("keyword rate", "distinct words", "perplexity, conditional", "perplexity,
        unconditional"), value and std_error; and the texts by scale.

    Raises:
        ValueError: no negative prompt and no beginning-of-text token.
    """
    view = arguide.guided(model)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    rest = _beginning(tokenizer) if negative is None else negative
    rows, texts = [], {}
    for scale in track(scales):
        new = _sample(view, ids, rest, scale, samples, tokens, seed)
        texts[scale] = tokenizer.batch_decode(new, skip_special_tokens=True)
        found = _rate(texts[scale], words)
        rows.append((scale, "keyword rate", *found))
        rows.append((scale, "distinct words", float(len(set(words_of(" ".join(texts[scale]))))), 0.0))
        for name, value, error in _perplexities(view, ids, rest, new, tokenizer):
            rows.append((scale, name, value, error))
    return pd.DataFrame(rows, columns=["scale", "quantity", "value", "std_error"]), texts


def _sample(view: Any, ids: Tensor, rest: Tensor, scale: float, samples: int, tokens: int, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        out = view.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            guidance_scale=scale,
            negative_prompt_ids=rest,
            do_sample=True,
            top_k=0,
            num_return_sequences=samples,
            max_new_tokens=tokens,
        )
    return out[:, ids.shape[1] :]


def _beginning(tokenizer: Any) -> Tensor:
    if tokenizer.bos_token_id is None:
        raise ValueError("the tokenizer has no beginning-of-text token; give a negative prompt")
    return torch.tensor([[tokenizer.bos_token_id]])


def _rate(texts: Sequence[str], words: Sequence[str]) -> tuple[float, float]:
    wanted = {word.lower() for word in words}
    rate = sum(not wanted.isdisjoint(words_of(text)) for text in texts) / len(texts)
    return rate, (rate * (1 - rate) / len(texts)) ** 0.5


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return re.findall(r"[^\W\d_]+", text.lower())


def _perplexities(view: Any, ids: Tensor, rest: Tensor, new: Tensor, tokenizer: Any) -> list[tuple[str, float, float]]:
    """Return the perplexity of a token under either model, with its standard error over texts by the delta method."""
    ended = torch.isin(new, torch.as_tensor(view.generation_config.eos_token_id or tokenizer.eos_token_id))
    mask = (ended.cumsum(1) - ended.long() == 0).long()  # up to the end-of-text token, and with it
    scores = arguide.score(
        view,
        ids.expand(len(new), -1),
        new,
        text_mask=mask,
        guidance_scale=0.5,  # keeps both branches; only their own log-probs are used
        negative_prompt_ids=rest,
    )
    out = []
    for name, log_probs in zip(("conditional", "unconditional"), scores.branches, strict=True):
        loss = -log_probs.sum() / mask.sum()
        spread = (-log_probs - loss * mask.sum(1)).std() / mask.sum() * len(new) ** 0.5
        out.append((f"perplexity, {name}", float(loss.exp()), float(loss.exp() * spread)))
    return out
