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
        cap: what the length cap means, "truncate" or "force", see `arguide.stopping`.

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
        if self.cap not in arguide.stopping.CAPS:
            raise ValueError(f"--cap must be one of {', '.join(arguide.stopping.CAPS)}, not {self.cap!r}")

    def law(
        self,
        loaded: Loaded,
        prompt: list[int],
        negative: list[int] | None,
        scale: float,
        *,
        max_new_tokens: int,
        stops: list[int] | None,
        plausibility: float = 0.0,
    ) -> arguide.Autoregressive:
        """Return the law of what follows a prompt, all in tokens."""
        device = loaded.model.device
        law: arguide.Autoregressive = arguide.continuation(
            loaded.model,
            torch.tensor([prompt], device=device),
            guidance_scale=scale,
            temperature=1 / self.power,
            negative_prompt_ids=None if negative is None else torch.tensor([negative], device=device),
            negative_model=loaded.negative,
            plausibility=plausibility,
            max_new_tokens=max_new_tokens,
            eos_token_id=stops,
            cap=self.cap,
        )
        return law

    def draw(
        self, law: arguide.Autoregressive, samples: int, length: int, generator: torch.Generator
    ) -> tuple[Tensor, arguide.Diagnosis]:
        """Return texts of the joint law, [samples, T], and what their runs say of one another."""
        twist = arguide.particles.ahead
        runs, diagnosis = arguide.repeat_joint(
            law, self.particles, length, repeats=self.repeats, twist=twist, generator=generator
        )
        return arguide.pooled(runs).draw(samples, generator), diagnosis
