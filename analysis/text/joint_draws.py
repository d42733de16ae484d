"""Draw texts from the joint law: by weighted particles, or exactly by acceptance where the pair is coherent."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

import arguide
from analysis import limits
from analysis.text.tokens import check_cap

DIAGNOSIS = ("log_evidence", "std_error", "consistent", "acceptance", "most_kl", "verdict")  # in the record of a completion


@dataclass(frozen=True)
class Joint:
    """The settings of draws from the joint law.

    Several independent runs of particles are compared with one another, and with chains that start at their texts: if the
    particles follow the law, the chains do not change it. Texts are drawn from all runs together.

    Attributes:
        particles: N, the particles per run.
        repeats: the number of independent runs, at least two.
        power: β; the law is the joint law to this power, p(x)^β at γ = 1.
        cap: the meaning of the length cap, "truncate" or "force", see `arguide.stopping`.

    Raises:
        ValueError: a number out of range, or another cap.
    """

    particles: int = 64
    repeats: int = 4
    power: float = 1.0
    cap: str = "truncate"

    def __post_init__(self) -> None:
        if self.particles < 2 or self.repeats < 2:
            raise ValueError("the joint law needs at least two --particles and two --repeats, to compare them")
        limits.check_range("--power", self.power)
        check_cap(self.cap)

    def draw(
        self, law: arguide.Autoregressive, samples: int, length: int, generator: torch.Generator
    ) -> tuple[Tensor, arguide.Diagnosis]:
        """Return texts of the joint law, [samples, T], and the diagnosis of their runs.

        Args:
            law: the guided law.
            samples: the number of texts.
            length: T.
            generator: the random generator.
        """
        runs, diagnosis = arguide.repeat_joint(
            law, self.particles, length, repeats=self.repeats, twist=arguide.particles.ahead, generator=generator
        )
        return arguide.pooled(runs).draw(samples, generator), diagnosis


class Kept(NamedTuple):
    """The share A of the proposals that acceptance kept, and what it says about the joint law.

    Attributes:
        scale: γ.
        log_evidence: log Ẑ.
        std_error: standard error of log Ẑ and log A.
        acceptance: A.
        most_kl: −log A, the largest KL in nats of the joint law from the law of the proposals.
    """

    scale: float
    log_evidence: float
    std_error: float
    acceptance: float
    most_kl: float

    @property
    def verdict(self) -> str:
        """The share of proposals that was kept, and the bound that follows, in one line."""
        proposal = "conditional" if self.scale >= 1 else "unconditional"
        share = f"{self.acceptance:.3g} ± {self.acceptance * self.std_error:.1g} of the proposals kept"
        return f"{share}: the draws are exact, and KL(joint ‖ {proposal}) ≤ {self.most_kl:.3g} nats"


@dataclass(frozen=True)
class Exact:
    """The settings of exact draws from the joint law of a coherent pair, by acceptance.

    Attributes:
        rows: proposals per batch.

    Raises:
        ValueError: fewer than two proposals.
    """

    rows: int = 64

    def __post_init__(self) -> None:
        if self.rows < 2:
            raise ValueError("the joint law needs at least two --particles, for a standard error")

    def draw(
        self, law: arguide.Autoregressive, scale: float, samples: int, length: int, generator: torch.Generator
    ) -> tuple[Tensor, Kept]:
        """Return texts of the joint law, [samples, T], and the share of proposals that was kept.

        Args:
            law: a guided law with a `guidance_prior`.
            scale: γ.
            samples: the number of texts.
            length: T.
            generator: the random generator.
        """
        limits: Any = {"tolerance": math.inf, "rows": self.rows}
        found = arguide.sample_accepted(law, 0, scale, samples, length, generator=generator, **limits)
        numbers = found.log_evidence, found.std_error, found.log_acceptance.exp(), found.most_kl
        return found.tokens, Kept(scale, *map(float, numbers))
