r"""Temperature of a diffusion model: four ways, one of them right in general.

Scaling the score by β does *not* draw from p^β: on N(0, a) the ODE's variance is σ_max² (a/(a+σ_max²))^β, which tends
to 0, and the SDE's is λ²a/((1+λ²)β − 1), against a/β. Scaling the noise (`sampling.sde(noise_scale=β^{−1/2})`) is right for
Gaussians, at λ > 0; `gaussian_correction` for Gaussians of known variance, at any λ; weights (`particles.sample_joint` of
`LogLinear.temperature`) for any law. Use λ ≥ 2 there, and a fine grid for large β: at small λ the particles drift to a law much
narrower than p^β, which the weights cannot correct.

Source: Dieleman, "Guidance: a cheat code for diffusion models" (2022), https://sander.ai/2022/05/26/guidance.html, the section
on temperature.
"""

from torch import Tensor

from arguide import checks
from diffusion.models import Field


def scaled(score: Field, beta: float) -> Field:
    """Return β·s(x, σ), the naive temperature 1/β.

    Raises:
        ValueError: a score that is no function, or β that is not positive and finite.

    Example:
        >>> score = diffusion.scaled(lambda x, sigma: -x / (1 + sigma**2), 2.0)
        >>> score(torch.ones(1, 1), torch.tensor(0.0))
        tensor([[-2.]])
    """
    checks.function("score", score), checks.positive("beta", beta)
    return lambda x, sigma: beta * score(x, sigma)


def gaussian_correction(score: Field, beta: float, variance: float) -> Field:
    """Return β(a+τ)/(a+βτ)·s(x, σ), exact for N(m, a·I): the score of N(m, a/β·I) noised by τ = σ².

    Args:
        score: the score of N(m, a·I) noised by τ.
        beta: β.
        variance: a.

    Raises:
        ValueError: a score that is no function, or β or a variance that is not positive and finite.

    Example:
        >>> score = diffusion.gaussian_correction(lambda x, sigma: -x / (1 + sigma**2), 2.0, 1.0)
        >>> score(torch.ones(1, 1), torch.tensor(1.0))
        tensor([[-0.6667]])
    """
    checks.function("score", score)
    checks.positive("beta", beta), checks.positive("variance", variance)

    def corrected(x: Tensor, sigma: Tensor) -> Tensor:
        tau = sigma**2
        return beta * (variance + tau) / (variance + beta * tau) * score(x, sigma)

    return corrected
