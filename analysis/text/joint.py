r"""Draw completions from the joint law under guidance, and diagnose them.

Several independent runs of particles are compared with one another, and with chains that start at their texts: where the
particles follow the law the chains leave it as it is. The texts are drawn from all runs together, a run by its Ẑ and a
particle by its weight.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

import arguide
from analysis import limits
from analysis.text.loading import Loaded


@dataclass(frozen=True)
class Joint:
    """How to draw from the joint law.

    Attributes:
        particles: N, of a run.
        repeats: independent runs, two at least.
        power: β; the law is that of guidance to this power, p(x)^β at γ = 1.
        cap: what the length cap means, "truncate" or "force", see `arguide.endings`.

    Raises:
        ValueError: a number out of range, or another word for the cap.
    """

    particles: int = 64
    repeats: int = 4
    power: float = 1.0
    cap: str = "truncate"

    def __post_init__(self) -> None:
        if self.particles < 2 or self.repeats < 2:
            raise ValueError("the joint law needs two --particles and two --repeats at least, to compare them")
        limits.check_range("--power", self.power)
        if self.cap not in arguide.endings.CAPS:
            raise ValueError(f"--cap must be one of {', '.join(arguide.endings.CAPS)}, not {self.cap!r}")

    def law(
        self,
        loaded: Loaded,
        prompt: list[int],
        guidance: arguide.Guidance,
        *,
        max_new_tokens: int,
        stops: list[int] | None,
    ) -> arguide.Autoregressive:
        """Return the guided law of the text after a prompt, to the power β.

        Args:
            loaded: the model.
            prompt: its tokens.
            guidance: the settings of the guided law.
            max_new_tokens: the cap.
            stops: the tokens that end a text.
        """
        return arguide.continuation(
            loaded.model,
            torch.tensor([prompt], device=loaded.model.device),
            guidance=guidance,
            temperature=1 / self.power,
            max_new_tokens=max_new_tokens,
            eos_token_id=stops,
            cap=self.cap,
        )

    def draw(
        self, law: arguide.Autoregressive, samples: int, length: int, generator: torch.Generator
    ) -> tuple[Tensor, arguide.Diagnosis]:
        """Return texts of the joint law, [samples, T], and what their runs say of one another."""
        twist = arguide.particles.ahead
        runs, diagnosis = arguide.repeat_joint(
            law, self.particles, length, repeats=self.repeats, twist=twist, generator=generator
        )
        return arguide.pooled(runs).draw(samples, generator), diagnosis
