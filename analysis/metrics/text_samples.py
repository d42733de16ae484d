r"""Sequential against joint guidance of a language model in practice: what a reader of the texts would notice.

    adherence     mean of log p(x|y) − log p(x), the log-likelihood ratio of a text, in nats; and the share of texts that
                  mention one of the prompt's words
    perplexity    exp(−mean log p) of a token, under the conditional and under the unconditional model
    diversity     number of distinct words in as many texts as are asked for

Particles are averaged by weight within a run and by Ẑ over the runs; the spread of the runs is the error. Texts of the
sequential law have equal weights, and their groups take the place of the runs.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import arguide
from analysis.metrics.text_statistics import words_of
from arguide.stopping import lengths

GROUPS, STEPS = 4, 6


class Case(NamedTuple):
    """A model with its tokenizer, a prompt, what the unconditional branch reads, and words that tell the prompt."""

    model: Any
    tokenizer: Any
    prompt: Tensor
    negative: Tensor
    words: tuple[str, ...]

    def law(self, scale: float, length: int) -> Any:
        """Return the guided law of texts of at most `length` tokens."""
        return arguide.continuation(
            self.model, self.prompt, guidance_scale=scale, negative_prompt_ids=self.negative, max_new_tokens=length
        )


class Group(NamedTuple):
    """One run: its texts [N, T], their weights [N], and log Ẑ (0 where all runs count alike)."""

    tokens: Tensor
    weights: Tensor
    log_evidence: float


def sequential(case: Case, scale: float, n: int, length: int, generator: torch.Generator) -> list[Group]:
    """Return texts of the sequential law in groups of n."""
    law = case.law(scale, length)
    drawn = [arguide.sample(law, n, length, generator=generator).tokens for _ in range(GROUPS)]
    return [Group(tokens, torch.full((n,), 1 / n, dtype=torch.float64), 0.0) for tokens in drawn]


def joint(case: Case, scale: float, n: int, length: int, generator: torch.Generator) -> tuple[list[Group], arguide.Diagnosis]:
    """Return runs of n particles of the joint law, and their diagnosis."""
    law, twist = case.law(scale, length), arguide.particles.ahead
    runs, diagnosis = arguide.repeat_joint(law, n, length, repeats=GROUPS, steps=STEPS, twist=twist, generator=generator)
    return [Group(run.tokens, run.log_weights.double().exp(), float(run.log_evidence)) for run in runs], diagnosis


def measures(case: Case, groups: Sequence[Group], texts: int, generator: torch.Generator) -> Iterator[tuple[str, float, float]]:
    """Yield (quantity, value, standard error) of groups of texts; `texts` of each are read for their distinct words."""
    told = [_told(case, group) for group in groups]
    over_runs = partial(arguide.over_runs, log_evidences=[group.log_evidence for group in groups])
    for quantity in ("adherence", "keyword rate"):
        yield quantity, *over_runs([_mean(group, rows[quantity]) for group, rows in zip(groups, told, strict=True)])
    for law in ("conditional", "unconditional"):
        pairs = zip(groups, told, strict=True)
        losses = [-_mean(group, rows[law]) / _mean(group, rows["tokens"]) for group, rows in pairs]
        mean, error = over_runs(losses)
        yield f"perplexity, {law}", math.exp(mean), math.exp(mean) * error
    counts = [float(len(_words(_drawn(case, group, texts, generator)))) for group in groups]
    yield "distinct words", *over_runs(counts)


def _told(case: Case, group: Group) -> dict[str, Tensor]:
    """Return what is averaged, a value a text."""
    ends = case.law(1.0, group.tokens.shape[1])
    size = lengths(group.tokens, arguide.stopping.ending_tokens(ends))
    mask = (torch.arange(group.tokens.shape[1]) < size[:, None]).long()
    n = len(group.tokens)
    scores = arguide.score(
        case.model,
        case.prompt.expand(n, -1),
        group.tokens,
        text_mask=mask,
        guidance_scale=0.5,  # keeps both branches; only their own log-probs are used
        negative_prompt_ids=case.negative,
    )
    cond, uncond = scores.branches.double()
    texts = case.tokenizer.batch_decode(group.tokens, skip_special_tokens=True)
    wanted = {word.lower() for word in case.words}
    mention = torch.tensor([not wanted.isdisjoint(_words([text])) for text in texts])
    return {
        "adherence": cond - uncond,
        "keyword rate": mention.double(),
        "conditional": cond,
        "unconditional": uncond,
        "tokens": size.double(),
    }


def _drawn(case: Case, group: Group, texts: int, generator: torch.Generator) -> list[str]:
    rows = torch.multinomial(group.weights, texts, replacement=True, generator=generator)
    return list(case.tokenizer.batch_decode(group.tokens[rows], skip_special_tokens=True))


def _words(texts: Sequence[str]) -> set[str]:
    return set(words_of(" ".join(texts)))


def _mean(group: Group, values: Tensor) -> float:
    return float((group.weights * values).sum())
