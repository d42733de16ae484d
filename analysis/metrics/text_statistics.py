r"""Statistics of texts that continue a prompt: adherence, keywords, perplexity and diversity, with their errors.

    adherence        mean of log p(x|y) − log p(x), the log-likelihood ratio of a text, in nats
    keyword rate     share of texts with at least one of the prompt's keywords
    perplexity       exp(−mean log p) of a token, under the conditional and under the unconditional model
    distinct words   number of distinct words in a given number of texts, a measure of diversity

`measures` compares the joint law with the sequential one in groups of texts: particles are averaged by weight within a run and
by Ẑ over the runs, and the spread of the runs is the error. Texts of the sequential law have equal weights. `measure` follows
the texts of `generate` over the scale γ.
"""

import math
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

import arguide
from analysis.frames import Track
from arguide.stopping import ending_tokens, lengths

GROUPS, STEPS = 4, 6
MODELS = ("conditional", "unconditional")


class Case(NamedTuple):
    """A model with its tokenizer, a prompt [1, L], the unconditional prompt [1, M], and the keywords of the prompt."""

    model: Any
    tokenizer: Any
    prompt: Tensor
    negative: Tensor
    words: Sequence[str]

    def law(self, scale: float, length: int) -> Any:
        """Return the guided law of texts of at most `length` tokens."""
        return arguide.continuation(
            self.model, self.prompt, guidance_scale=scale, negative_prompt_ids=self.negative, max_new_tokens=length
        )

    def texts(self, tokens: Tensor) -> list[str]:
        """Return texts, [n, T] ↦ n."""
        return list(self.tokenizer.batch_decode(tokens, skip_special_tokens=True))

    def mentions(self, texts: Sequence[str]) -> Tensor:
        """Return 1 for every text with a keyword, in any case, and 0 for the others, [n]."""
        keywords = {word.lower() for word in self.words}
        return torch.tensor([not keywords.isdisjoint(words_of(text)) for text in texts]).double()

    def score(self, tokens: Tensor, ends: Any) -> tuple[Tensor, Tensor]:
        """Return log p of texts under both models, [2, n], and their numbers of tokens up to the first of `ends`, [n]."""
        sizes = lengths(tokens, ends)
        scores = arguide.score(
            self.model,
            self.prompt.expand(len(tokens), -1),
            tokens,
            text_mask=(torch.arange(tokens.shape[1]) < sizes[:, None]).long(),
            guidance_scale=0.5,  # a scale that needs both branches
            negative_prompt_ids=self.negative,
        )
        return scores.branches, sizes


class Group(NamedTuple):
    """One run: its texts [N, T], their weights [N], and log Ẑ (0 where all runs have equal weights)."""

    tokens: Tensor
    weights: Tensor
    log_evidence: float

    def mean(self, values: Tensor) -> float:
        """Return the weighted mean of values, [N]."""
        return float((self.weights * values).sum())

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n texts, drawn by weight, [n, T]."""
        return self.tokens[torch.multinomial(self.weights, n, replacement=True, generator=generator)]


def sequential(case: Case, scale: float, n: int, length: int, generator: torch.Generator) -> list[Group]:
    """Draw texts of the sequential law in groups.

    Args:
        case: model and prompt.
        scale: γ.
        n: texts per group.
        length: the largest number of tokens.
        generator: source of randomness.
    """
    law = case.law(scale, length)
    drawn = [arguide.sample(law, n, length, generator=generator).tokens for _ in range(GROUPS)]
    return [Group(tokens, torch.full((n,), 1 / n, dtype=torch.float64), 0.0) for tokens in drawn]


def joint(case: Case, scale: float, n: int, length: int, generator: torch.Generator) -> tuple[list[Group], arguide.Diagnosis]:
    """Return runs of n particles of the joint law, and their diagnosis; arguments as in `sequential`."""
    law, twist = case.law(scale, length), arguide.particles.ahead
    runs, diagnosis = arguide.repeat_joint(law, n, length, repeats=GROUPS, steps=STEPS, twist=twist, generator=generator)
    return [Group(run.tokens, run.log_weights.double().exp(), float(run.log_evidence)) for run in runs], diagnosis


def measures(case: Case, groups: Sequence[Group], texts: int, generator: torch.Generator) -> Iterator[tuple[str, float, float]]:
    """Yield (quantity, value, standard error).

    Args:
        case: model and prompt.
        groups: runs of one law.
        texts: how many texts of every group are drawn for the distinct words.
        generator: source of randomness.
    """
    over_runs = partial(arguide.over_runs, log_evidences=[group.log_evidence for group in groups])
    read = [_read(case, group) for group in groups]
    for quantity in ("adherence", "keyword rate"):
        yield quantity, *over_runs([means[quantity] for means in read])
    for name in MODELS:
        mean, error = over_runs([-means[name] / means["tokens"] for means in read])
        yield f"perplexity, {name}", math.exp(mean), math.exp(mean) * error
    rows = [group.draw(texts, generator) for group in groups]
    yield "distinct words", *over_runs([float(distinct_words(case.texts(tokens))) for tokens in rows])


def _read(case: Case, group: Group) -> dict[str, float]:
    """Return the weighted means over a group of all quantities per text."""
    (cond, uncond), sizes = case.score(group.tokens, ending_tokens(case.law(1.0, group.tokens.shape[1])))
    per_text = {
        "adherence": cond.double() - uncond.double(),
        "keyword rate": case.mentions(case.texts(group.tokens)),
        "conditional": cond.double(),
        "unconditional": uncond.double(),
        "tokens": sizes.double(),
    }
    return {name: group.mean(values) for name, values in per_text.items()}


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
    """Generate texts after a prompt at every scale, and measure them.

    Args:
        model: a causal language model, or a guided view of one.
        tokenizer: the tokenizer of the model.
        prompt: the prompt.
        words: keywords of the prompt, in any case.
        scales: the γ.
        negative: the prompt of the unconditional branch, [1, L]; the beginning-of-text token by default.
        samples: texts per scale.
        tokens: the largest number of tokens of a text.
        seed: seed of the texts of every scale.
        track: progress bar over the scales.

    Returns:
        A tidy frame with scale, quantity ("keyword rate", "distinct words", "perplexity, conditional", "perplexity,
        unconditional"), value and std_error; and the texts by scale.

    Raises:
        ValueError: neither a negative prompt nor a beginning-of-text token.
    """
    if negative is None and tokenizer.bos_token_id is None:
        raise ValueError("tokenizer must have a beginning-of-text token, got none; try a negative prompt")
    rest = torch.tensor([[tokenizer.bos_token_id]]) if negative is None else negative
    view = arguide.guided(model)
    case = Case(view, tokenizer, tokenizer(prompt, return_tensors="pt")["input_ids"], rest, words)
    ends = torch.as_tensor(view.generation_config.eos_token_id or tokenizer.eos_token_id).flatten().tolist()
    rows, texts = [], {}
    for scale in track(scales):
        new = _generate(case, scale, samples, tokens, seed)
        texts[scale] = case.texts(new)
        rate = float(case.mentions(texts[scale]).mean())
        rows.append((scale, "keyword rate", rate, (rate * (1 - rate) / samples) ** 0.5))
        rows.append((scale, "distinct words", float(distinct_words(texts[scale])), 0.0))
        log_probs, sizes = case.score(new, ends)
        rows += [(scale, f"perplexity, {name}", *perplexity(each, sizes)) for name, each in zip(MODELS, log_probs, strict=True)]
    return pd.DataFrame(rows, columns=["scale", "quantity", "value", "std_error"]), texts


def _generate(case: Case, scale: float, samples: int, tokens: int, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        out = case.model.generate(
            case.prompt,
            attention_mask=torch.ones_like(case.prompt),
            guidance_scale=scale,
            negative_prompt_ids=case.negative,
            do_sample=True,
            top_k=0,
            num_return_sequences=samples,
            max_new_tokens=tokens,
        )
    return out[:, case.prompt.shape[1] :]


def perplexity(log_probs: Tensor, sizes: Tensor) -> tuple[float, float]:
    """Return the perplexity of a token, exp(−Σ log p / Σ n) of texts, and its standard error by the delta method.

    Args:
        log_probs: log p of every text, [n].
        sizes: its number of tokens, [n].
    """
    loss = -log_probs.sum() / sizes.sum()
    spread = (-log_probs - loss * sizes).std() / sizes.sum() * len(sizes) ** 0.5
    return float(loss.exp()), float(loss.exp() * spread)


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return re.findall(r"[^\W\d_]+", text.lower())


def distinct_words(texts: Sequence[str]) -> int:
    """Return the number of distinct words in all texts."""
    return len({word for text in texts for word in words_of(text)})
