r"""The two scale factors of the source, which depend on x, and the distances between their laws.

    joint:        p_γ(x|y) = s_γ(x, y) p(x),    s_γ  = p(y|x)^γ / E_{p(x)}[p(y|x)^γ]
    sequential:   q_γ(x|y) = s′_γ(x, y) p(x),   s′_γ = Π_t p(y|x_≤t)^γ / E_{p(x_t|x_<t)}[p(y|x_≤t)^γ]
    identity:     s_γ / s′_γ = Π_t Z_t(x_<t) / Z.

Source: Dieleman, "Guidance: a cheat code for diffusion models" (2022), the section on autoregressive models,
https://sander.ai/2022/05/26/guidance.html.
"""

import math
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from analysis.metrics import distances
from analysis.toys import checks
from analysis.toys.law import PRECISE, Label, guidance
from analysis.toys.table import Table


class ScaleFactors(NamedTuple):
    """log s_γ and log s′_γ for every x, [V_1, …, V_T]; NaN where p(x) = 0, because they are not defined there.

    log_path: Σ_t log Z_t(x_<t), [V_1, …, V_T]; log_normalizer: log Z, [].

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> found = analysis.scale_factors(table, 1, 3.0)
        >>> identity = found.log_joint - found.log_sequential - (found.log_path - found.log_normalizer)
        >>> bool(identity.abs().max() < 1e-12)
        True
    """

    log_joint: Tensor
    log_sequential: Tensor
    log_path: Tensor
    log_normalizer: Tensor


def scale_factors(toy: Table, label: Label, scale: float, *, temperature: float = 1.0) -> ScaleFactors:
    """Return log s_γ = log p_γ(x|y) − log p(x) and log s′_γ = log q_γ(x|y) − log p(x).

    Args:
        toy: the distribution.
        label: y.
        scale: γ.
        temperature: τ.

    Raises:
        ValueError: another object than a table, a wrong label, a scale that is not finite, or an improper tilt.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> analysis.scale_factors(table, 1, 3.0).log_joint.exp()
        tensor([[0.0446, 0.6962],
                [0.6962, 2.0297]], dtype=torch.float64)
    """
    checks.require(isinstance(toy, Table), "toy", "an analysis.Table, such as analysis.Table(joint)", toy)
    weights = guidance(toy.index(label), scale, temperature)
    log_u = toy.log_probs()
    log_joint, log_normalizer = toy.log_joint(weights)
    log_sequential, log_normalizers = toy.log_sequential(weights)
    log_path = path_normalizers(log_normalizers, toy.shape)
    base = torch.where(log_u == -math.inf, math.nan, log_u)
    return ScaleFactors(log_joint - base, log_sequential - base, log_path, log_normalizer)


def path_normalizers(log_normalizers: tuple[Tensor, ...], shape: tuple[int, ...]) -> Tensor:
    """Return Σ_t log Z_t(x_<t) for every x, [V_1, …, V_T]."""
    total = torch.zeros((), dtype=torch.float64)
    for size, log_z in zip(shape, log_normalizers, strict=True):
        total = (total + log_z)[..., None].expand(*log_z.shape, size)
    return total


def summary(toy: Table, label: Label, scale: float, *, temperature: float = 1.0) -> dict[str, float]:
    """Return log Z, KL both ways and TV between the joint and the sequential law, and entropies, in nats.

    Negative rounding errors of about 1e-16 are replaced by 0.

    Args:
        toy: the distribution.
        label: y.
        scale: γ.
        temperature: τ.

    Raises:
        ValueError: a wrong label, an improper tilt, or weights too large for float64.
    """
    weights = guidance(toy.index(label), scale, temperature)
    log_p, log_normalizer = toy.log_joint(weights)
    log_q, _ = toy.log_sequential(weights)
    _check_normalised(log_p, log_q)
    figures = {
        "log_z": log_normalizer,
        "kl_sequential_joint": distances.kl(log_q, log_p),
        "kl_joint_sequential": distances.kl(log_p, log_q),
        "tv": distances.tv(log_p, log_q),
        "entropy_joint": distances.entropy(log_p),
        "entropy_sequential": distances.entropy(log_q),
        "entropy_conditional": distances.entropy(toy.log_probs(label)),
    }
    return {name: float(value if name == "log_z" else value.clamp(min=0.0) + 0.0) for name, value in figures.items()}


def _check_normalised(*laws: Tensor) -> None:
    """Require laws whose probabilities sum to 1 in spite of rounding.

    Raises:
        ValueError: a law of another sum.
    """
    for log_p in laws:
        total = float(log_p.exp().sum())
        if not abs(total - 1) <= PRECISE:
            raise ValueError(f"a law must sum to 1 in double precision, got {total:.6g}; try a smaller scale")


def laws_frame(toy: Table, label: Label, scale: float, *, temperature: float = 1.0) -> pd.DataFrame:
    """Return one row per x: x_1 … x_T, p_uncond, p_cond, p_joint, p_sequential, log_s, log_s_prime (null where p(x) = 0).

    Args:
        toy: the distribution.
        label: y.
        scale: γ.
        temperature: τ.

    Raises:
        ValueError: a wrong label, a scale that is not finite, or an improper tilt.
    """
    weights = guidance(toy.index(label), scale, temperature)
    factors = scale_factors(toy, label, scale, temperature=temperature)
    codes = torch.cartesian_prod(*map(torch.arange, toy.shape)).reshape(-1, toy.length)
    values: dict[str, Any] = {f"x_{t + 1}": [toy.values[t][c] for c in codes[:, t].tolist()] for t in range(toy.length)}
    columns = {
        "p_uncond": toy.log_probs().exp(),
        "p_cond": toy.log_probs(label).exp(),
        "p_joint": toy.log_joint(weights)[0].exp(),
        "p_sequential": toy.log_sequential(weights)[0].exp(),
        "log_s": factors.log_joint,
        "log_s_prime": factors.log_sequential,
    }
    return pd.DataFrame(values | {name: column.flatten().numpy() for name, column in columns.items()})
