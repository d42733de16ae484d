r"""The reverse kernels of one step from σ to σ' < σ, those of DDPM, with the score s as the only unknown.

    k(x' | x) = N(x'; D + (σ'²/σ²)(x − D), v I),    D = x + σ² s,    v = σ'² (σ² − σ'²)/σ²,

which is the law of x_σ' given x_σ and x_0 = D. Its mean is x + (σ² − σ'²) s. A step to σ' = 0 has no variance: it returns D.

Source: Ho et al., "Denoising diffusion probabilistic models", arXiv:2006.11239, eq. 7, here for x_σ = x_0 + σ·ε.
"""

import math
from typing import NamedTuple

from torch import Tensor

from arguide.smc.draws import Draw, wide
from diffusion.models import Guided
from diffusion.sampling import Stepped


class Kernel(NamedTuple):
    """The kernels from x [n, …] at σ [] to σ' [], one for each score."""

    x: Tensor
    sigma: Tensor
    sigma_next: Tensor

    @property
    def variance(self) -> Tensor:
        """The variance v, []."""
        return self.sigma_next**2 * (self.sigma**2 - self.sigma_next**2) / self.sigma**2

    @property
    def precision(self) -> Tensor:
        """The squared slope of a mean in the score, divided by v, (σ² − σ'²) σ²/σ'², []."""
        return (self.sigma**2 - self.sigma_next**2) * self.sigma**2 / self.sigma_next**2

    def mean(self, score: Tensor) -> Tensor:
        """Return x + (σ² − σ'²) s, [n, …]."""
        return self.x + (self.sigma**2 - self.sigma_next**2) * score

    def sample(self, score: Tensor, draw: Draw) -> Tensor:
        """Return x' ~ k(x' | x), [n, …]; the mean, without a draw, where σ' = 0."""
        mean = self.mean(score)
        return mean + self.variance.sqrt() * draw(mean) if self.sigma_next > 0 else mean

    def log_density(self, x: Tensor, score: Tensor) -> Tensor:
        """Return log k(x' | x), [n], of x' [n, …] above σ' = 0, in double precision where the device has it."""
        squares = (x - self.mean(score)).flatten(1).square().sum(1, dtype=wide(x))
        variance = self.variance.to(squares)
        return -(squares / variance + x[0].numel() * (2 * math.pi * variance).log()) / 2


def ancestral(score: Guided, x: Tensor, sigma: Tensor, sigma_next: Tensor, draw: Draw) -> Stepped:
    """Take one step by the reverse kernel: a `step` of `diffusion.sample` for plain guidance with these kernels.

    Args:
        score: (x, σ) ↦ (score, r), see `models.with_potential`.
        x: samples at σ, [n, …].
        sigma: σ, [].
        sigma_next: σ' < σ, [].
        draw: standard normals.

    Example:
        >>> normal = lambda x, sigma: -x / (1 + sigma**2)
        >>> diffusion.sample(normal, (4, 2), diffusion.edm(50), step=diffusion.ancestral).x.shape
        torch.Size([4, 2])
    """
    s, r = score(x, sigma)
    return Stepped(Kernel(x, sigma, sigma_next).sample(s, draw), r, r)
