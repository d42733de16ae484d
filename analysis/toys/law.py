r"""Weights on the conditional and unconditional laws of one toy, and the log-linear combination of these laws.

    log-linear law with weights w:    Π_k p(x | y_k)^{w_k} / Z,    where the label None stands for p(x).

Zeros: a law of weight 0 is ignored. Probability 0 in a law of positive weight, or in every law, gives probability 0. Any
other probability 0, in a law of negative weight, makes an improper tilt: infinite mass, and an error where it can be reached.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from analysis.toys import checks

PRECISE = 1e-6  # the largest error of a log-probability
NEGLIGIBLE = 40.0  # nats below the likeliest value: less than the rounding of 1

Label = int | str | None
Weights = Mapping[Label, float]


class Joint(NamedTuple):
    """The joint law Π_k p(x|y_k)^{w_k} / Z: probabilities [V_1, …, V_T], and log Z, []."""

    probabilities: Tensor
    log_normalizer: Tensor


class Sequential(NamedTuple):
    """The sequential law Π_t (Π_k p(x_t|x_<t,y_k)^{w_k}) / Z_t(x_<t): probabilities [V_1, …, V_T], and log Z_t for t = 1 … T.

    log_normalizers[t] has shape [V_1, …, V_t], one value per prefix; it is −∞ after a prefix that cannot be reached.
    """

    probabilities: Tensor
    log_normalizers: tuple[Tensor, ...]


JointLaw = TypeVar("JointLaw")
SequentialLaw = TypeVar("SequentialLaw")


class Guided(ABC, Generic[JointLaw, SequentialLaw]):
    """Conditional laws of K labels and an unconditional one, whose log-linear combinations are laws of two types.

    Attributes:
        labels: K names.
    """

    labels: tuple[str, ...]

    def index(self, label: Label) -> int | None:
        """Return the index of a label that is given by its index or its name; None stays None.

        Raises:
            ValueError: no such label.
        """
        return checks.label(label, self.labels)

    @abstractmethod
    def log_joint(self, weights: Weights) -> JointLaw:
        """Return the joint law Π_k p(x|y_k)^{w_k} / Z."""
        ...

    @abstractmethod
    def log_sequential(self, weights: Weights) -> SequentialLaw:
        """Return the sequential law and its log normalizers."""
        ...

    def log_law(self, label: Label = None) -> JointLaw:
        """Return p(x | label), p(x) for None."""
        return self.log_joint({label: 1.0})

    def joint_guided(self, label: Label, scale: float, *, temperature: float = 1.0) -> JointLaw:
        """Return p(x)^{(1−γ)/τ} p(x|y)^{γ/τ} / Z, with log Z in `.log_normalizer`.

        Args:
            label: y, by its index or its name.
            scale: γ.
            temperature: τ.

        Raises:
            ValueError: no such label, or as `log_joint`.
        """
        return self.log_joint(guidance(self.index(label), scale, temperature))

    def sequential_guided(self, label: Label, scale: float, *, temperature: float = 1.0) -> SequentialLaw:
        """Return the law guided token by token, and its log normalizers, as `log_sequential`.

        Args:
            label: y, by its index or its name.
            scale: γ.
            temperature: τ.

        Raises:
            ValueError: no such label, or as `log_sequential`.
        """
        return self.log_sequential(guidance(self.index(label), scale, temperature))


def guidance(label: Label, scale: float, temperature: float = 1.0) -> Weights:
    """Return the weights of p(x)^{(1−γ)/τ} p(x|y)^{γ/τ}.

    Args:
        label: y; None gives p(x)^{1/τ}.
        scale: γ.
        temperature: τ.

    Raises:
        ValueError: the scale is not finite, or the temperature is not positive and finite.
    """
    checks.number("scale", scale), checks.positive("temperature", temperature)
    return {None: (1 - scale) / temperature, label: scale / temperature} if label is not None else {None: 1 / temperature}


def temperature(tau: float, label: Label = None) -> Weights:
    """Return the weights of p(x|y)^{1/τ}, of p(x)^{1/τ} without a label."""
    return guidance(label, 1.0, tau)


def log_combine(logs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return Σ_k w_k log p_k, elementwise, with the module's policy for zeros; +∞ stands for an improper tilt.

    Raises:
        ValueError: no law, or a weight that is not finite.
    """
    if not logs or not all(map(math.isfinite, weights)):
        raise checks.refusal("weights", "finite, and at least one", list(weights))
    plain = torch.stack([weight * log for log, weight in zip(logs, weights, strict=True)]).sum(0)
    if plain.isfinite().all():
        return plain
    zero = torch.stack([log == -math.inf for log in logs])
    sign = torch.tensor(weights).sign().view(-1, *[1] * logs[0].ndim)
    if not sign.any():
        return torch.where(zero.all(0), -math.inf, 0.0)
    live = [(log, weight) for log, weight in zip(logs, weights, strict=True) if weight != 0]
    total = sum((weight * log.nan_to_num(neginf=0.0) for log, weight in live), start=torch.zeros_like(logs[0]))
    vetoed = (zero & (sign > 0)).any(0) | (zero | (sign == 0)).all(0)
    improper = (zero & (sign < 0)).any(0) & ~vetoed
    return total.masked_fill(vetoed, -math.inf).masked_fill(improper, math.inf)


def check_proper(logits: Tensor) -> Tensor:
    """Return combined log-probabilities unchanged.

    Raises:
        ValueError: an improper tilt.
    """
    if (logits == math.inf).any():
        raise ValueError("improper tilt: a law of negative weight is 0 where the others are not, so the mass is infinite")
    return logits


def check_precise(logits: Tensor, logs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return combined log-probabilities, still to be normalised over the last axis, unchanged.

    A term w log p has an error of about 1e-16 |w log p|. Where that is large, only a law with one clear winner is exact.

    Args:
        logits: Σ_k w_k log p_k, [..., V].
        logs: the log p_k, of the same shape.
        weights: the w_k.

    Raises:
        ValueError: float64 does not hold the law, because its terms are too large.
    """
    terms = [abs(weight) * log.abs() for log, weight in zip(logs, weights, strict=True) if weight != 0]
    errors = torch.finfo(torch.float64).eps * sum(terms, start=torch.zeros_like(logits))
    worst = errors.masked_fill(logits.abs() == math.inf, 0.0).amax(-1)
    leaders = logits.topk(min(2, logits.shape[-1]), -1).values
    clear = leaders[..., :1] - leaders[..., 1:] > NEGLIGIBLE + 2 * worst[..., None]  # no column where there is one value
    sure = (worst <= PRECISE) | clear.all(-1) | (leaders[..., 0] == -math.inf)
    if not sure.all():
        raise ValueError(
            f"weights up to {max(map(abs, weights)):.3g} must leave float64 six digits of a probability, got an error of "
            f"{float(worst.amax()):.2g} in its logarithm; try a smaller scale, or a temperature nearer to 1"
        )
    return logits


def log_divide(log: Tensor, by: Tensor) -> Tensor:
    """Return log − by, and −∞ (not NaN) where both are −∞."""
    return torch.where(by == -math.inf, -math.inf, log - by)
