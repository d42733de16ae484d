r"""Guided laws of whole texts where p(x) is the mixture of the labels' n-gram models, by exact draws.

The posterior of the labels depends on the whole text before, so these laws have no finite state. The joint law is drawn by
acceptance, the sequential one token by token, and both densities of a text are known up to log Z and the share of texts that
end in time. So every figure is a mean over independent exact draws, and has a standard error.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import arguide
from analysis.metrics.confidence import Estimate, combined, mean, mean_of
from analysis.toys import NgramModels, TextLaw, checks
from arguide.sampling import retrace
from arguide.stopping import lengths, padded

DRAWS = 4000  # of each law, for a summary


@dataclass(frozen=True)
class MixtureLaws:
    """The laws of whole texts guided by p(x|y) and the mixture Σ_k π_k p(x|k), at any γ ≥ 0.

    Attributes:
        models: the n-gram models; π are the shares of their labels.
        label: y, kept as its index.

    Raises:
        ValueError: no such label, or None.
    """

    models: NgramModels
    label: Any

    def __post_init__(self) -> None:
        checks.require(self.label is not None, "label", "one of the labels", None)
        object.__setattr__(self, "label", self.models.index(self.label))

    @cached_property
    def mixture(self) -> arguide.Mixture:
        """p(x)."""
        models = tuple(self.models.autoregressive(k) for k in range(len(self.models.labels)))
        return arguide.Mixture(models, self.models.prior.log())

    @cached_property
    def conditional(self) -> TextLaw:
        """p(x | y) of texts that end in time."""
        return self.models.log_law(self.label)

    def sequential(self, scale: float) -> arguide.Ending:
        """Return the law guided token by token, cut after T tokens."""
        return self.ending(self.mixture.guidance(self.label, scale), "truncate")

    def sample(self, scale: float, n: int, generator: torch.Generator | None = None) -> "MixtureDraws":
        """Draw n texts of each law at one γ; arguments and errors as in `sample_scales`."""
        return self.sample_scales([scale], n, generator)[0]

    def sample_scales(self, scales: Sequence[float], n: int, generator: torch.Generator | None = None) -> "list[MixtureDraws]":
        """Draw n texts of each law at every γ; of the sequential one those of n that end in time. Joint laws share proposals.

        Args:
            scales: γ.
            n: draws of each law.
            generator: of the draws.

        Raises:
            ValueError: γ below 0, too few accepted proposals (`arguide.LowAcceptanceError`), or fewer than two sequential
                texts that end in time.
        """
        target, length = self.ending(self.mixture, "force"), self.models.length
        given = list(map(float, scales))
        joints = arguide.sample_accepted(target, self.label, given, n, length, generator=generator)
        drawn = [arguide.sample(self.sequential(scale), n, length, generator=generator) for scale in given]
        found = [MixtureDraws(self, *each) for each in zip(given, joints, drawn, strict=True)]
        for each in found:
            if (ended := int(each.ended.sum())) < 2:
                raise ValueError(
                    f"of {n} sequential texts two must end within {length} tokens, got {ended}; try a larger length"
                )
        return found

    def ending(self, model: Any, cap: str) -> arguide.Ending:
        """Return a law of texts as that of whole texts of at most T tokens; `cap` as in `arguide.Ending`."""
        return arguide.Ending(model, (self.models.size - 1,), self.models.length, cap=cap)


@dataclass(frozen=True)
class MixtureDraws:
    """Draws of the joint and of the sequential law at one γ, and what they say of both.

    Attributes:
        laws: the laws.
        scale: γ.
        joint: draws of the joint law, [n, T], with log Z.
        drawn: draws of the sequential law, some of which do not end in time.
    """

    laws: MixtureLaws
    scale: float
    joint: arguide.Accepted
    drawn: arguide.Sample

    @cached_property
    def ended(self) -> Tensor:
        """Which sequential texts end in time, [n]."""
        return (self.drawn.tokens == self._end[0]).any(1)

    @property
    def share_ended(self) -> Estimate:
        """The share of sequential texts that end in time."""
        return mean_of(self.ended.double())

    @property
    def sequential(self) -> Tensor:
        """Draws of the sequential law that end in time, [m, T]."""
        return padded(self.drawn.tokens, self.laws.models.length, self._end)[self.ended]

    @property
    def log_z(self) -> Estimate:
        """Log Z of texts that end in time."""
        return Estimate(float(self.joint.log_evidence), float(self.joint.std_error), math.inf)

    def kl_sequential_joint(self) -> Estimate:
        """Return KL(sequential ‖ joint) in nats."""
        rows = (self.drawn.log_proposal - self.drawn.log_target).sum(1)[self.ended]
        return combined((1, 1, -1), (mean_of(rows), self.log_z, self._log_share))

    def kl_joint_conditional(self) -> Estimate:
        """Return KL(joint ‖ p(x|y)) in nats."""
        log_ratio = self.joint.log_posterior - self.laws.models.prior[self.laws.label].log()
        ends = _exact(self.laws.conditional.log_normalizer)
        return combined((1, 1, -1), (mean_of((self.scale - 1) * log_ratio), ends, self.log_z))

    def mean_lengths(self) -> dict[str, Estimate]:
        """Return the mean number of tokens of the texts of each law."""
        return {
            "joint": mean_of(lengths(self.joint.x, self._end)),
            "sequential": mean_of(lengths(self.sequential, self._end)),
            "conditional": _exact(self.laws.conditional.mean_length()),
        }

    def log_probs(self, texts: Tensor) -> dict[str, Tensor]:
        """Return log_conditional, log_joint and log_sequential of texts that end in time, [n, T] ↦ [n] each."""
        own = self.laws.conditional.log_prob(texts)
        sequential = retrace(self.laws.sequential(self.scale), texts).log_proposal.sum(1) - self._log_share.value
        log_p = retrace(self.laws.ending(self.laws.mixture, "truncate"), texts).log_proposal.sum(1)
        target = (1 - self.scale) * log_p + self.scale * (own + self.laws.conditional.log_normalizer)
        return {"log_conditional": own, "log_joint": target - self.log_z.value, "log_sequential": sequential}

    def summary(self) -> dict[str, Estimate]:
        """Return log Z, the share of proposals that is kept, divergences, TV, entropies in nats and mean lengths in tokens."""
        kept = math.exp(float(self.joint.log_acceptance))
        of_joint, of_sequential = self.log_probs(self.joint.x), self.log_probs(self.sequential)
        gaps = [logs["log_joint"] - logs["log_sequential"] for logs in (of_joint, of_sequential)]
        return {
            "log_z": self.log_z,
            "kept": Estimate(kept, kept * self.log_z.std_error, math.inf),
            "kl_sequential_joint": self.kl_sequential_joint(),
            "kl_joint_sequential": combined((1, 1, 1), (mean_of(gaps[0]), _error_of(self.log_z), _error_of(self._log_share))),
            "kl_joint_conditional": self.kl_joint_conditional(),
            "tv": mean([mean_of(torch.tanh(gap.abs() / 2)) for gap in gaps]),
            "entropy_joint": combined((1, 1), (mean_of(-of_joint["log_joint"]), _error_of(self.log_z))),
            "entropy_sequential": combined((1, 1), (mean_of(-of_sequential["log_sequential"]), _error_of(self._log_share))),
            "entropy_conditional": _exact(self.laws.conditional.entropy()),
            **{f"mean_length_{law}": found for law, found in self.mean_lengths().items()},
        }

    def frame(self, n: int, generator: torch.Generator | None = None) -> pd.DataFrame:
        """Return n draws of each law: law, text, log_conditional, log_joint and log_sequential.

        Args:
            n: draws per law.
            generator: of the draws of the conditional law.

        Raises:
            ValueError: more draws than sequential texts that end in time.
        """
        frames, most = [], int(self.ended.sum())
        if n > most:
            raise ValueError(
                f"draws must be at most {most}, the sequential texts that end in time, got {n}; try a larger length"
            )
        rows = {"conditional": self.laws.conditional.sample(n, generator), "joint": self.joint.x, "sequential": self.sequential}
        for name, texts in rows.items():
            logs = {key: value.numpy() for key, value in self.log_probs(texts[:n]).items()}
            frames.append(pd.DataFrame({"law": name, "text": self.laws.models.decode(texts[:n])} | logs))
        return pd.concat(frames, ignore_index=True)

    @property
    def _end(self) -> tuple[int, ...]:
        return (self.laws.models.size - 1,)

    @property
    def _log_share(self) -> Estimate:
        found = self.share_ended
        return Estimate(math.log(found.value), found.std_error / found.value, found.freedom)


def _exact(value: Tensor) -> Estimate:
    return Estimate(float(value), 0.0, math.inf)


def _error_of(found: Estimate) -> Estimate:
    """Return 0 with the error of an estimate."""
    return found._replace(value=0.0)
