r"""Estimates of the two scale factors of real text, and of the gap between the two laws, with their errors.

    joint:        log s_γ(x)  = Σ_t Σ_k w_k log p_k(x_t|x_<t) − log Z − log p(x)
    sequential:   log s′_γ(x) = Σ_t (Σ_k w_k log p_k(x_t|x_<t) − log Z_t(x_<t)) − log p(x)
    identity:     log s_γ − log s′_γ = Σ_t log Z_t(x_<t) − log Z
    gap:          KL(q‖p_γ) = log Z − E_q[Σ_t log Z_t(x_<t)],    q the sequential law, p_γ the joint law

with the base law p: the unconditional law or, for temperature alone, the law of the model. Sums run over the tokens of a text,
its end included. `metrics.scale_factors` knows Z; here independent runs of particles estimate it, for every prefix length at
once.

Intervals have a level of 95 %: Student's t with R − 1 degrees of freedom for R runs, by Welch and Satterthwaite for a
difference. They cover the spread of the runs only; `arguide.diagnose` says whether the runs can be trusted. A KL cannot be
negative, but its estimate and its interval can.

Sources: Dieleman, "Guidance: a cheat code for diffusion models" (2022), the section on autoregressive models,
https://sander.ai/2022/05/26/guidance.html; Welch, "The generalization of 'Student's' problem when several different population
variances are involved" (1947), https://doi.org/10.1093/biomet/34.1-2.28.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

import arguide
from analysis.frames import Track
from analysis.metrics.confidence import Estimate, mean_of
from arguide.repeats import PROBES, probing
from arguide.sampling import retrace
from arguide.smc.samples import effective_sample_size
from arguide.stopping import ending_tokens, lengths


@dataclass(frozen=True)
class Plan:
    """Numbers of draws.

    Attributes:
        samples: texts from the sequential law, for E_q.
        particles: particles of every run, and texts per batch.
        repeats: R, the number of independent runs.

    Raises:
        ValueError: fewer than two of any, which give no standard error.
    """

    samples: int = 256
    particles: int = 256
    repeats: int = 4

    def __post_init__(self) -> None:
        for name in ("samples", "particles", "repeats"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, so that there is a standard error, got {getattr(self, name)}")


class Texts(NamedTuple):
    """Log-probabilities of n texts, in float64, with 0 after the last token of a text.

    tokens: [n, T], padded.
    sizes: number of tokens, the ending token included, [n].
    ended: whether the text has an ending token, [n].
    log_target: Σ_k w_k log p_k(x_t|x_<t), [n, T].
    log_normalizer: log Z_t(x_<t), [n, T].
    log_base: log p(x_t|x_<t), [n, T].
    """

    tokens: Tensor
    sizes: Tensor
    ended: Tensor
    log_target: Tensor
    log_normalizer: Tensor
    log_base: Tensor


class Measurement(NamedTuple):
    """Scale factors per text, and the gap per prefix length.

    diagnosis: log Ẑ of the runs, its standard error, and whether the runs agree.
    tokens: tokens of every text, the end included.
    sequences: one row per text: tokens (their number), ended, log_s, log_s_low, log_s_high, log_s_prime, log_path =
        Σ_t log Z_t, log_z (of T tokens for a text that has ended, of its own length for a prefix), and log_base = log p(x).
    lengths: one row per prefix length t: length, log_z, log_z_std_error, log_path = E_q[Σ_{s≤t} log Z_s], log_path_std_error,
        kl, kl_low, kl_high, kl_per_token (kl over the mean number of tokens), and ess and ess_share of the sequential samples
        as proposals for the joint law.
    texts: log-probabilities of the texts, token by token.
    drawn: the same of the samples of the sequential law, which are the texts unless others are given.
    runs: the particles of the runs.
    log_z: log Z of t = 1, …, T tokens.
    """

    diagnosis: arguide.Diagnosis
    tokens: list[list[int]]
    sequences: pd.DataFrame
    lengths: pd.DataFrame
    texts: Texts
    drawn: Texts
    runs: list[arguide.JointSample]
    log_z: list[Estimate]


def measure(
    law: arguide.Autoregressive,
    base: arguide.Autoregressive,
    length: int,
    plan: Plan,
    *,
    given: Sequence[Sequence[int]] = (),
    generator: torch.Generator | None = None,
    track: Track = iter,
) -> Measurement:
    """Measure the scale factors of texts, and the gap of the two laws per prefix length.

    Args:
        law: the guided law, an `arguide.continuation` or any other combination with log Z_t.
        base: the law p of the factors, with the same ends.
        length: T, the largest number of tokens of a text.
        plan: numbers of draws.
        given: texts in tokens, T at most; those from the sequential law by default. A text that has not ended is a prefix, and
            is compared with Z of its own length.
        generator: source of randomness.
        track: a progress bar for the list of jobs.

    Raises:
        ValueError: a text without tokens, too long, or of probability 0; and as `arguide.sample` and `arguide.sample_joint`.
    """
    _check(given, ending_tokens(law), length)
    run = partial(arguide.sample_joint, law, plan.particles, length, generator=generator)
    # Given texts come first, because they may be refused. Every prefix has its own evidence, so a block has one token.
    jobs: list[tuple[str, Callable[[], Any]]] = [
        *(("given", partial(read, law, base, part, length)) for part in _batches(given, plan.particles)),
        *(
            ("drawn", partial(_drawn, law, base, len(part), length, generator))
            for part in _batches(range(plan.samples), plan.particles)
        ),
        *[("runs", run)] * plan.repeats,
        *(("probes", partial(run, **probing(length, number)._replace(block=1)._asdict())) for number in range(PROBES)),
    ]
    done: dict[str, list[Any]] = defaultdict(list)
    for kind, job in track(jobs):
        done[kind].append(job())
    sampled = _together(done["drawn"])
    texts = _together(done["given"]) if given else sampled
    evidence = _evidence(done["runs"], done["probes"], length)
    log_z = [Estimate(each.log_evidence, each.std_error, plan.repeats - 1) for each in evidence]
    tokens = [row[:size] for row, size in zip(texts.tokens.tolist(), texts.sizes.tolist(), strict=True)]
    frames = _sequences(texts, log_z), _lengths(sampled, log_z)
    return Measurement(evidence[-1], tokens, *frames, texts, sampled, done["runs"], log_z)


def _batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _check(given: Sequence[Sequence[int]], ends: tuple[int, ...], length: int) -> None:
    for i, text in enumerate(given):
        if not 0 < len(text) <= length:
            raise ValueError(f"text {i + 1} must have from 1 to {length} tokens, got {len(text)}")
        if any(token in ends for token in text[:-1]):
            raise ValueError(f"text {i + 1} must end with its ending token, got tokens after it")


def _drawn(
    law: arguide.Autoregressive, base: arguide.Autoregressive, n: int, length: int, generator: torch.Generator | None
) -> Texts:
    """Draw n texts from the sequential law."""
    drawn = arguide.sample(law, n, length, generator=generator)
    ends = ending_tokens(law)
    tokens = _widened(drawn.tokens, length, ends[0] if ends else 0)
    return _texts(drawn, base, tokens, lengths(tokens, ends), ends)


def read(law: arguide.Autoregressive, base: arguide.Autoregressive, given: Sequence[Sequence[int]], length: int) -> Texts:
    """Return given texts with their log-probabilities.

    Args:
        law: as in `measure`.
        base: as in `measure`.
        given: texts in tokens.
        length: T, the largest number of tokens of a text.
    """
    ends = ending_tokens(law)
    pad = ends[0] if ends else 0
    tokens = torch.tensor([[*text, *[pad] * (length - len(text))] for text in given])
    return _texts(retrace(law, tokens), base, tokens, torch.tensor([len(text) for text in given]), ends)


def _texts(read: Any, base: arguide.Autoregressive, tokens: Tensor, sizes: Tensor, ends: tuple[int, ...]) -> Texts:
    after = torch.arange(tokens.shape[1]) >= sizes[:, None]
    last = tokens.gather(1, sizes[:, None] - 1)[:, 0]
    rows = (read.log_target, read.log_normalizer, retrace(base, tokens).log_proposal)
    summed = (_widened(row, tokens.shape[1]).double().masked_fill(after, 0.0) for row in rows)
    return Texts(tokens, sizes, torch.isin(last, torch.tensor(ends)), *summed)


def _widened(rows: Tensor, length: int, value: int = 0) -> Tensor:
    return functional.pad(rows.cpu(), (0, length - rows.shape[1]), value=value)


def _together(parts: Sequence[Texts]) -> Texts:
    """Return batches of texts as one batch, and require that no text has probability 0, which would lead to −∞ − (−∞)."""
    texts = Texts(*(torch.cat(column) for column in zip(*parts, strict=True)))
    for name, rows in (("guided", texts.log_target), ("base", texts.log_base)):
        excluded = ~rows.isfinite().all(1)
        if excluded.any():
            number = int(excluded.int().argmax()) + 1
            raise ValueError(f"text {number} must have a positive probability under the {name} law, got probability 0")
    return texts


def _evidence(
    runs: Sequence[arguide.JointSample], probes: Sequence[arguide.JointSample], length: int
) -> list[arguide.Diagnosis]:
    """Return the diagnosis of the runs for prefixes of t = 1, …, T tokens; it stays the same once all texts have ended."""

    def until(run: arguide.JointSample, t: int) -> arguide.JointSample:
        return run._replace(log_evidence=run.evidences[min(t, len(run.evidences)) - 1])

    return [
        arguide.diagnose([until(run, t) for run in runs], probes=[until(probe, t) for probe in probes])
        for t in range(1, length + 1)
    ]


def own_log_z(texts: Texts, z: Sequence[Estimate]) -> list[Estimate]:
    """Return the log Z with which every text is compared: of T tokens if it has ended, of its own length if it is a prefix."""
    return [z[-1] if ended else z[size - 1] for size, ended in zip(texts.sizes.tolist(), texts.ended.tolist(), strict=True)]


def _sequences(texts: Texts, z: Sequence[Estimate]) -> pd.DataFrame:
    log_z, half = torch.tensor([(each.value, each.half) for each in own_log_z(texts, z)], dtype=torch.float64).T
    log_target, log_path, log_base = (rows.sum(1) for rows in texts[3:])
    log_s = log_target - log_z - log_base
    columns = {
        "tokens": texts.sizes,
        "ended": texts.ended,
        "log_s": log_s,
        "log_s_low": log_s - half,
        "log_s_high": log_s + half,
        "log_s_prime": log_target - log_path - log_base,
        "log_path": log_path,
        "log_z": log_z,
        "log_base": log_base,
    }
    return pd.DataFrame({name: column.numpy() for name, column in columns.items()})


def _lengths(sampled: Texts, log_z: Sequence[Estimate]) -> pd.DataFrame:
    rows = []
    for t, (z, log_path) in enumerate(zip(log_z, sampled.log_normalizer.cumsum(1).unbind(1), strict=True), 1):
        path, ess = mean_of(log_path), float(effective_sample_size(log_path))
        kl, size = z.minus(path), float(sampled.sizes.clamp(max=t).double().mean())
        rows.append((t, *z[:2], *path[:2], kl.value, *kl.interval, kl.value / size, ess, ess / len(log_path)))
    names = ["length", "log_z", "log_z_std_error", "log_path", "log_path_std_error"]
    return pd.DataFrame(rows, columns=[*names, "kl", "kl_low", "kl_high", "kl_per_token", "ess", "ess_share"])
