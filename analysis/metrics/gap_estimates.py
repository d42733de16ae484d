r"""The two scale factors of real text, and the gap between the two laws, measured with their errors.

    joint:        log s_γ(x)  = Σ_t Σ_k w_k log p_k(x_t|x_<t) − log Z − log p(x)
    sequential:   log s′_γ(x) = Σ_t (Σ_k w_k log p_k(x_t|x_<t) − log Z_t(x_<t)) − log p(x)
    identity:     log s_γ − log s′_γ = Σ_t log Z_t(x_<t) − log Z
    gap:          KL(q‖p_γ) = log Z − E_q[Σ_t log Z_t(x_<t)],    q the sequential law, p_γ the joint one

with p the base law: the unconditional one, or, for temperature alone, the model's own. Sums run over the tokens of a text, its
end included. `metrics.scale_factors` knows Z; here independent runs of particles estimate it, for every prefix length at once.

Intervals hold 95 %: Student's t of R − 1 degrees of freedom for R runs, by Welch and Satterthwaite for a difference. They know
of what the runs have found, and of nothing else; `arguide.diagnose` says when that is not enough. A KL cannot be negative, its
estimate and interval can.

Sources: Dieleman, "Guidance: a cheat code for diffusion models" (2022), the section on autoregressive models; Welch, "The
generalization of Student's problem when several different population variances are involved" (1947).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

import arguide
from analysis.metrics.confidence import Estimate
from arguide.repeats import PROBES, probing
from arguide.sampling import retrace
from arguide.smc.driver import effective_sample_size
from arguide.stopping import ending_tokens, lengths

Track = Callable[[Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Plan:
    """How much to draw.

    Attributes:
        samples: texts from the sequential law, for E_q.
        particles: of every run, and the texts that are drawn or read at once.
        repeats: R, independent runs.

    Raises:
        ValueError: fewer than two of any, which tell no error.
    """

    samples: int = 256
    particles: int = 256
    repeats: int = 4

    def __post_init__(self) -> None:
        for name in ("samples", "particles", "repeats"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, to tell an error; not {getattr(self, name)}")


class Texts(NamedTuple):
    """n texts as the laws read them, in float64; 0 stands after a text's last token.

    tokens: [n, T], padded.
    sizes: number of tokens with the one that ends the text, [n].
    ended: whether one does, [n].
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
    """What was measured.

    diagnosis: of the runs: log Ẑ, its standard error, and whether they agree.
    tokens: those of every text, the end included.
    sequences: one row a text: tokens (their number), ended, log_s, log_s_low, log_s_high, log_s_prime, log_path = Σ_t log Z_t,
        log_z = that of as many tokens as the text may have, and log_base = log p(x).
    lengths: one row a prefix length t: length, log_z, log_z_std_error, log_path = E_q[Σ_{s≤t} log Z_s], log_path_std_error, kl,
        kl_low, kl_high, kl_per_token (over the mean number of tokens, for texts end), and ess and ess_share of the sequential
        samples as proposals for the joint law.
    """

    diagnosis: arguide.Diagnosis
    tokens: list[list[int]]
    sequences: pd.DataFrame
    lengths: pd.DataFrame


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
    """Measure the scale factors of texts, and the gap of the two laws by prefix length.

    Args:
        law: what is sampled from, an `arguide.continuation` or any other combination with log Z_t.
        base: the law p that the factors refer to, with the same ends.
        length: T, the most tokens of a text.
        given: texts in tokens, T at most; those from the sequential law by default. One that has not ended is a prefix: it
            is measured against Z of as many tokens.
        track: a progress bar for the list of jobs.

    Raises:
        ValueError: a text without tokens, too long, or of probability 0; and as `arguide.sample` and `arguide.sample_joint`.
    """
    _check(given, ending_tokens(law), length)
    read = [partial(_read, law, base, part, length) for part in _parts(given, plan.particles)]
    drawn = [partial(_drawn, law, base, len(part), length, generator) for part in _parts(range(plan.samples), plan.particles)]
    run = partial(arguide.sample_joint, law, plan.particles, length, generator=generator)
    # Every prefix has an evidence of its own, so a block is one token.
    wider = [partial(run, **(probing(length, number) | {"block": 1})) for number in range(PROBES)]
    runs = [run] * plan.repeats + wider
    done = [job() for job in track([*read, *drawn, *runs])]  # what may be refused comes first
    texts = _together(done[: len(read)] or done[: len(drawn)])
    sampled = _together(done[len(read) : -len(runs)])
    evidence = _evidence(done[-len(runs) : -PROBES], done[-PROBES:], length)
    tokens = [row[:size] for row, size in zip(texts.tokens.tolist(), texts.sizes.tolist(), strict=True)]
    return Measurement(evidence[-1], tokens, _sequences(texts, evidence, plan), _lengths(sampled, evidence, plan))


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _check(given: Sequence[Sequence[int]], ends: tuple[int, ...], length: int) -> None:
    for i, text in enumerate(given):
        if not 0 < len(text) <= length:
            raise ValueError(f"text {i + 1} has {len(text)} tokens; it needs one at least, and {length} are the most")
        if any(token in ends for token in text[:-1]):
            raise ValueError(f"text {i + 1} goes on after its end")


def _drawn(
    law: arguide.Autoregressive, base: arguide.Autoregressive, n: int, length: int, generator: torch.Generator | None
) -> Texts:
    """Draw n texts from the sequential law."""
    drawn = arguide.sample(law, n, length, generator=generator)
    ends = ending_tokens(law)
    tokens = _widened(drawn.tokens, length, ends[0] if ends else 0)
    return _texts(drawn, base, tokens, lengths(tokens, ends), ends)


def _read(law: arguide.Autoregressive, base: arguide.Autoregressive, given: Sequence[Sequence[int]], length: int) -> Texts:
    """Read texts as if the sequential law had drawn them."""
    ends = ending_tokens(law)
    pad = ends[0] if ends else 0
    tokens = torch.tensor([[*text, *[pad] * (length - len(text))] for text in given])
    return _texts(retrace(law, tokens), base, tokens, torch.tensor([len(text) for text in given]), ends)


def _texts(read: Any, base: arguide.Autoregressive, tokens: Tensor, sizes: Tensor, ends: tuple[int, ...]) -> Texts:
    after = torch.arange(tokens.shape[1]) >= sizes[:, None]
    last = tokens.gather(1, sizes[:, None] - 1)[:, 0]
    rows = (read.log_target, read.log_normalizer, retrace(base, tokens).log_proposal)
    summed = (_widened(row, tokens.shape[1]).double().masked_fill(after, 0.0) for row in rows)
    return Texts(tokens, sizes, torch.isin(last, torch.tensor(ends, dtype=last.dtype)), *summed)


def _widened(rows: Tensor, length: int, value: int = 0) -> Tensor:
    return functional.pad(rows.cpu(), (0, length - rows.shape[1]), value=value)


def _together(parts: Sequence[Texts]) -> Texts:
    """Return texts that were read in parts as one; refuse those that a law excludes, of which −∞ − (−∞) would come."""
    texts = Texts(*(torch.cat(column) for column in zip(*parts, strict=True)))
    for name, rows in (("guided", texts.log_target), ("base", texts.log_base)):
        excluded = ~rows.isfinite().all(1)
        if excluded.any():
            raise ValueError(f"text {int(excluded.int().argmax()) + 1} has probability 0 under the {name} law")
    return texts


def _evidence(
    runs: Sequence[arguide.JointSample], probes: Sequence[arguide.JointSample], length: int
) -> list[arguide.Diagnosis]:
    """Return the runs' diagnosis with log Ẑ of the first t tokens, for t = 1, …, T; nothing changes once all have ended."""

    def until(run: arguide.JointSample, t: int) -> arguide.JointSample:
        return run._replace(log_evidence=run.evidences[min(t, len(run.evidences)) - 1])

    return [
        arguide.diagnose([until(run, t) for run in runs], probes=[until(probe, t) for probe in probes])
        for t in range(1, length + 1)
    ]


def _estimate(diagnosis: arguide.Diagnosis, plan: Plan) -> Estimate:
    return Estimate(diagnosis.log_evidence, diagnosis.std_error, plan.repeats - 1)


def _sequences(texts: Texts, evidence: Sequence[arguide.Diagnosis], plan: Plan) -> pd.DataFrame:
    z = [_estimate(each, plan) for each in evidence]
    own = [z[-1] if ended else z[size - 1] for size, ended in zip(texts.sizes.tolist(), texts.ended.tolist(), strict=True)]
    log_z, half = (torch.tensor(column, dtype=torch.float64) for column in zip(*((e.value, e.half) for e in own), strict=True))
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


def _lengths(sampled: Texts, evidence: Sequence[arguide.Diagnosis], plan: Plan) -> pd.DataFrame:
    n, rows = len(sampled.sizes), []
    for t, log_path in enumerate(sampled.log_normalizer.cumsum(1).unbind(1), 1):
        z = _estimate(evidence[t - 1], plan)
        path = Estimate(float(log_path.mean()), float(log_path.std()) / math.sqrt(n), n - 1)
        kl, ess = z.minus(path), float(effective_sample_size(log_path))
        per_token = kl.value / float(sampled.sizes.clamp(max=t).double().mean())
        rows.append((t, *z[:2], *path[:2], kl.value, *kl.interval, per_token, ess, ess / n))
    names = ["length", "log_z", "log_z_std_error", "log_path", "log_path_std_error"]
    return pd.DataFrame(rows, columns=[*names, "kl", "kl_low", "kl_high", "kl_per_token", "ess", "ess_share"])
