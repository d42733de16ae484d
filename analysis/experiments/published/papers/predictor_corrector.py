"""Bradley and Nakkiran (2024): neither DDIM nor DDPM under guidance samples the tilt, by two Gaussians with closed forms."""

from collections.abc import Iterator

import diffusion
from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim, arxiv
from analysis.toys import GaussianPair
from analysis.toys.gaussian import diffused

PAIR = GaussianPair.scalar(0.0, 1.0, 2.0)
WHERE = "counterexample 1: N(0, 1) guided against N(0, 2)"
SCALES = (2.0, 3.0, 7.0)
LARGE = 1000.0
DRAWN = 3.0
DRAWS, STEPS = 40_000, 100
MOMENTS = "The moment equations of the guided process, integrated over log σ² from 2·10⁷ down."


def claims(seed: int) -> Iterator[Claim]:
    """Yield the variances of guided Gaussians: of the tilt, of DDIM and of DDPM, by integration and by draws."""
    for scale in SCALES:
        at, (tilt, ode, sde) = f"variance at γ = {scale:g}", (_tilt(scale), _diffused(scale, 0.0), _diffused(scale, 1.0))
        yield Claim(WHERE, f"tilt, {at}", 2 / (scale + 1), tilt, ode, "DDIM", note="The precision γ/1 + (1 − γ)/2.")
        yield Claim(WHERE, f"DDIM, {at}", 2 ** (1 - scale), ode, tilt, "the tilt", note=MOMENTS)
        ddpm = (2 - 2 ** (2 - 2 * scale)) / (2 * scale - 1)
        yield Claim(WHERE, f"DDPM, {at}", ddpm, sde, ode, "DDIM", note=MOMENTS)
    yield from _drawn(seed)
    ratio = _tilt(LARGE) / _diffused(LARGE, 1.0)
    claim = f"the tilt’s variance ÷ DDPM’s, at γ = {LARGE:g}"
    note = (
        "By their formulas 2/(γ + 1) ÷ (2 − 2^(2−2γ))/(2γ − 1) tends to 2. The notes that were at hand have it the other way "
        "round, DDPM’s variance about twice the tilt’s; by the formulas it is half."
    )
    yield Claim("section 3.1: about twice for large γ", claim, "2", ratio, 1 / ratio, "the inverse ratio", note=note)


def _tilt(scale: float) -> float:
    return float(PAIR.joint_guided(0, scale).law.covariance)


def _diffused(scale: float, noise: float) -> float:
    return float(diffused((PAIR.uncond, PAIR.cond), (1 - scale, scale), noise).covariance)


def _drawn(seed: int) -> Iterator[Claim]:
    """Yield the variances of draws, whose error is that of a Gaussian's sample variance."""
    guided = diffusion.LogLinear.guidance(diffusion.conditioned(PAIR.score, 0), diffusion.conditioned(PAIR.score), DRAWN)
    grid = diffusion.geometric(STEPS, 1e-3, 1e3).double()
    formulas = {"DDIM": 2 ** (1 - DRAWN), "DDPM": (2 - 2 ** (2 - 2 * DRAWN)) / (2 * DRAWN - 1)}
    steps = {"DDIM": diffusion.heun, "DDPM": diffusion.sde(1.0)}
    for number, (name, formula) in enumerate(formulas.items()):
        x = diffusion.sample(guided, (DRAWS, 1), grid, step=steps[name], generator=stream(seed, number)).x
        found, other = float(x.var()), next(value for key, value in formulas.items() if key != name)
        yield Claim(
            WHERE,
            f"{name}, variance of draws at γ = {DRAWN:g}",
            formula,
            found,
            found + other - formula,
            "the other sampler",
            std_error=formula * (2 / DRAWS) ** 0.5,
            note=f"{DRAWS:,} draws of `diffusion.sample` in {STEPS} steps.",
        )


SOURCE = arxiv(
    "2408.09000", "Bradley and Nakkiran, Classifier-free guidance is a predictor-corrector (2024)", claims, "a reader’s notes"
)
