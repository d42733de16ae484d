"""Xia et al. (2024), ReCFG: the mean of guided samples is shifted, and a rule for two coefficients removes the shift."""

from collections.abc import Iterator

from analysis.experiments.published.claims import Claim, arxiv
from analysis.toys import GaussianPair
from analysis.toys.gaussian import diffused

WHERE = "theorem 2: c ~ N(0, 1), x ~ N(c, 1)"
SCALES = (2.0, 3.0, 4.0)
PHI: dict[float, str | float] = {2.0: "> 1", 3.0: 2.0, 4.0: "> 2"}
RULE = "the rule γ₀ = (1 − γ₁) E[ε(x, c)]/E[ε(x)]"
NOTE = "The moment equations of the guided ODE against N(0, 2), integrated over log σ² from 2·10⁷ down."


def claims(_seed: int) -> Iterator[Claim]:
    """Yield mean and variance of the guided ODE, and the mean under the two coefficients of the rule."""
    pair = GaussianPair.scalar(1.0, 1.0, 2.0)
    laws = (pair.uncond, pair.cond)
    for scale in SCALES:
        ode, sde = (diffused(laws, (1 - scale, scale), noise) for noise in (0.0, 1.0))
        variance, other = float(ode.covariance), float(sde.covariance)
        at = f"at γ = {scale:g}"
        yield Claim(WHERE, f"variance {at}, T → ∞", 2 ** (1 - scale), variance, other, "the SDE", note=NOTE)
        yield Claim(WHERE, f"φ, the mean for c = 1, {at}", PHI[scale], float(ode.mean), 1.0, "no guidance", note=NOTE)
    # E[ε(x_t, c)] = 0 under q_t(x_t | c), so the rule gives the unconditional score the coefficient 0: score × γ.
    rule = diffused((pair.cond,), (SCALES[0],), 0.0)
    note = (
        "Exact scores have E[ε(x, c)] = 0, so γ₀ = (1 − γ₁)·0: the rule leaves γ₁ times the conditional score, whose mean is "
        "right and whose variance falls to 0 as σ_max grows; at most the true one, as they ask for."
    )
    shifted = float(diffused(laws, (1 - SCALES[0], SCALES[0]), 0.0).mean)
    at = f"at γ₁ = {SCALES[0]:g} for N(1, 1)"
    yield Claim(RULE, f"mean {at}", 1.0, float(rule.mean), shifted, "γ₀ = 1 − γ₁", note=note)


SOURCE = arxiv(
    "2410.18737", "Xia et al., Rectified diffusion guidance for conditional generation (2024)", claims, "a reader’s notes"
)
