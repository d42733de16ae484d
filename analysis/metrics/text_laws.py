r"""Measure the difference of the joint and the sequential law of whole texts of n-gram models, and draw texts of each.

All figures but the total variation are exact. With m = (p + q)/2, TV = E_m[|p − q| / (p + q)] is a mean of numbers from 0 to 1
over exact draws, and has a standard error.
"""

import math
from typing import Any, NamedTuple

import pandas as pd
import torch

from analysis.toys import NgramModels, TextLaw
from analysis.toys.law import Label, guidance


class TextLaws(NamedTuple):
    """The laws of whole texts that a label, a scale and a temperature define.

    Attributes:
        conditional: p(x | y).
        joint: p(x)^{(1−γ)/τ} p(x | y)^{γ/τ} / Z.
        sequential: the law guided token by token.
    """

    conditional: TextLaw
    joint: TextLaw
    sequential: TextLaw


def text_laws(models: NgramModels, label: Label, scale: float, *, temperature: float = 1.0) -> TextLaws:
    """Return the conditional, joint and sequential law of whole texts.

    Args:
        models: the n-gram models.
        label: y.
        scale: γ.
        temperature: τ.

    Raises:
        ValueError: no such label, or weights too large for float64.
    """
    weights = guidance(models.index(label), scale, temperature)
    return TextLaws(models.log_law(label), models.log_joint(weights), models.log_sequential(weights)[0])


def summary(laws: TextLaws, *, draws: int = 4000, generator: torch.Generator | None = None) -> dict[str, float]:
    """Return log Z, KL both ways, TV with its standard error, entropies in nats, mean lengths in tokens, and the growth of Z.

    Z is over texts that end in time. `log_growth` is the log of the factor by which Z grows per token of
    the largest length; where it is positive, Z has no limit.

    Args:
        laws: of `text_laws`.
        draws: from each law, for the TV.
        generator: of the draws.
    """
    conditional, joint, sequential = laws
    tv, error = total_variation(joint, sequential, draws=draws, generator=generator)
    named = {"joint": joint, "sequential": sequential, "conditional": conditional}
    divergences = {
        "kl_sequential_joint": sequential.kl(joint).clamp(min=0.0),
        "kl_joint_sequential": joint.kl(sequential).clamp(min=0.0),
    }
    entropies = {f"entropy_{name}": law.entropy().clamp(min=0.0) for name, law in named.items()}
    lengths = {f"mean_length_{name}": law.mean_length() for name, law in named.items()}
    found: dict[str, Any] = {
        "log_z": joint.log_normalizer,
        **divergences,
        "tv": tv,
        "tv_std_error": error,
        **entropies,
        **lengths,
    }
    return {name: float(value) for name, value in found.items()} | {"log_growth": joint.log_growth}


def total_variation(
    p: TextLaw, q: TextLaw, *, draws: int = 4000, generator: torch.Generator | None = None
) -> tuple[float, float]:
    """Return TV = E_m[|p − q| / (p + q)], m = (p + q)/2, by exact draws, and its standard error.

    Args:
        p: a law.
        q: another law of the same texts.
        draws: from each law.
        generator: of the draws.
    """
    halves = []
    for law in (p, q):
        texts = law.sample(draws, generator)
        halves.append(torch.tanh((p.log_prob(texts) - q.log_prob(texts)).abs() / 2))
    error = math.hypot(*(float(half.std()) / math.sqrt(draws) / 2 for half in halves))
    return float(torch.stack(halves).mean()), error


def texts_frame(models: NgramModels, laws: TextLaws, n: int, generator: torch.Generator | None = None) -> pd.DataFrame:
    """Return n exact draws of each law: law, text, and log_conditional, log_joint and log_sequential, the log-probabilities.

    Args:
        models: those of the laws.
        laws: of `text_laws`.
        n: draws per law.
        generator: of the draws.
    """
    frames = []
    for name, law in laws._asdict().items():
        texts = law.sample(n, generator)
        logs = {f"log_{other}": each.log_prob(texts).numpy() for other, each in laws._asdict().items()}
        frames.append(pd.DataFrame({"law": name, "text": models.decode(texts)} | logs))
    return pd.concat(frames, ignore_index=True)
