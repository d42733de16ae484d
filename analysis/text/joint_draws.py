"""Draw texts from the joint law: by weighted particles, by a ladder, or exactly by acceptance where the pair is coherent."""

import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

import arguide
from analysis import limits
from analysis.text.tokens import check_cap

DIAGNOSIS = ("log_evidence", "std_error", "consistent", "acceptance", "most_kl", "verdict")  # in the record of a completion


@dataclass(frozen=True)
class Particles:
    """The settings of draws from the joint law by weighted particles.

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
        self,
        law: arguide.Autoregressive,
        scale: float,  # noqa: ARG002 (all samplers have one signature)
        samples: int,
        length: int,
        generator: torch.Generator,
    ) -> tuple[Tensor, arguide.Diagnosis]:
        """Return texts of the joint law, [samples, T], and the diagnosis of their runs.

        Args:
            law: the guided law.
            scale: γ, unused.
            samples: the number of texts.
            length: T.
            generator: the random generator.
        """
        runs, diagnosis = arguide.repeat_joint(
            law, self.particles, length, repeats=self.repeats, twist=arguide.particles.ahead, generator=generator
        )
        return arguide.pooled(runs).draw(samples, generator), diagnosis


@dataclass(frozen=True)
class Ladders:
    """The settings of draws from the joint law by replica exchange, see `arguide.ladder`.

    Attributes:
        particles: the number of ladders, at least two; each gives one text.
        sweeps: of the run; half as many come before it.
        power: β, as in `Particles`.
        cap: the meaning of the length cap.

    Raises:
        ValueError: a number out of range, or another cap.
    """

    particles: int = 8
    sweeps: int = 200
    power: float = 1.0
    cap: str = "truncate"

    def __post_init__(self) -> None:
        if self.particles < 2 or self.sweeps < 2:
            raise ValueError("--sampler ladder needs at least two --particles, its ladders, and two --sweeps, to compare them")
        limits.check_range("--power", self.power)
        check_cap(self.cap)

    def draw(
        self,
        law: arguide.Autoregressive,
        scale: float,  # noqa: ARG002 (all samplers have one signature)
        samples: int,
        length: int,
        generator: torch.Generator,
    ) -> tuple[Tensor, arguide.Ladder]:
        """Return texts of the joint law, [samples, T], and the ladders that they are from.

        Args:
            law: the guided law.
            scale: γ, unused.
            samples: the number of texts; as many ladders at least are run.
            length: T.
            generator: the random generator.
        """
        n = max(self.particles, samples)
        found = arguide.sample_ladder(law, n, length, sweeps=self.sweeps, burn_in=self.sweeps // 2, generator=generator)
        return found.tokens[:samples], found


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
class Acceptance:
    """The settings of exact draws from the joint law of a coherent pair, by acceptance.

    Attributes:
        particles: proposals per batch.
        power: β, which must be 1.
        cap: the meaning of the length cap.

    Raises:
        ValueError: fewer than two proposals, another power, or another cap.
    """

    particles: int = 64
    power: float = 1.0
    cap: str = "truncate"

    def __post_init__(self) -> None:
        if self.particles < 2:
            raise ValueError("the joint law needs at least two --particles, for a standard error")
        if self.power != 1:
            raise ValueError("--sampler accept draws the joint law itself; leave --power out, or try --sampler particles")
        check_cap(self.cap)

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
        limits: Any = {"tolerance": math.inf, "rows": self.particles}
        found = arguide.sample_accepted(law, 0, scale, samples, length, generator=generator, **limits)
        numbers = found.log_evidence, found.std_error, found.log_acceptance.exp(), found.most_kl
        return found.tokens, Kept(scale, *map(float, numbers))


LADDER = 3.0  # the power from which on particles rarely converge, and ladders do
SAMPLERS: dict[str, type[Particles] | type[Ladders] | type[Acceptance]] = {
    "particles": Particles,
    "ladder": Ladders,
    "accept": Acceptance,
}


def sampler(name: str | None, *, coherent: bool, **settings: Any) -> Particles | Ladders | Acceptance:
    """Return the settings of draws by a sampler.

    The default is acceptance for a coherent pair, the ladder for powers from 3 on, and particles for all else.

    Args:
        name: of `SAMPLERS`, None for the default.
        coherent: whether the pair has a prior.
        settings: of the sampler; None for a default, and those of other samplers are left out.

    Raises:
        ValueError: another name, acceptance of a pair without a prior, and as the sampler.
    """
    chosen = name or ("accept" if coherent else "ladder" if (settings.get("power") or 1) >= LADDER else "particles")
    if chosen not in SAMPLERS:
        raise ValueError(f"--sampler must be one of {', '.join(SAMPLERS)}, got {chosen!r}")
    if chosen == "accept" and not coherent:
        raise ValueError("--sampler accept needs a coherent pair; give a --prior, or try --sampler particles")
    kind = SAMPLERS[chosen]
    known = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in settings.items() if key in known and value is not None})
