r"""Networks that learn denoisers and classifiers of noised data, with a label or without one.

    D(x, σ) = c_skip x + c_out F(c_in x, σ),    c_skip = σ_d²/(σ² + σ_d²), c_out = σ σ_d/√(σ² + σ_d²), c_in = 1/√(σ² + σ_d²),

so that F's input and target have unit variance at every noise level (Karras et al., "Elucidating the design space of
diffusion-based generative models", 2022, table 1). Both are saved as safetensors with a `config.json`, and read back with
`from_pretrained`.
"""

import math
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional


class Trunk(nn.Module):
    """Residual layers on [n, width], each told the noise level and the label by a scale and a shift."""

    def __init__(self, size: int, out: int, labels: int, width: int, depth: int) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", torch.linspace(0, math.log(64.0), 16).exp() / 4)
        self.label = nn.Embedding(labels + 1, width)
        self.level = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Linear(size, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(depth))
        self.told = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)) for _ in range(depth)
        )
        self.last = nn.Linear(width, out)

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """Return [n, out] of x [n, size], noise levels [n] and labels [n]."""
        angles = sigma.log()[:, None] * self.frequencies
        told = functional.silu(self.level(torch.cat([angles.sin(), angles.cos()], 1)) + self.label(label))
        h = self.first(x)
        for norm, tell, layer in zip(self.norms, self.told, self.layers, strict=True):
            scale, shift = tell(told).chunk(2, 1)
            h = h + layer(norm(h) * (1 + scale) + shift)
        return self.last(functional.silu(h))


class Denoiser(nn.Module, PyTorchModelHubMixin, library_name="arguide", tags=["diffusion", "classifier-free-guidance"]):
    """D(x, σ, label) ≈ E[x_0 | x_σ, label] by a network of residual layers; label None is unconditional.

    Args:
        shape: of a sample; the network sees it flat.
        labels: K; label K is the null label.
        sigma_data: σ_d, the standard deviation of the data.
        width, depth: of the network.
    """

    def __init__(self, shape: list[int], labels: int, sigma_data: float = 0.5, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.shape, self.labels, self.sigma_data = tuple(shape), labels, sigma_data
        size = math.prod(shape)
        self.trunk = Trunk(size, size, labels, width, depth)

    def forward(self, x: Tensor, sigma: Tensor, label: Any = None) -> Tensor:
        """Return the denoised x [n, …]; sigma [] or [n], label an index, one a sample [n], or None."""
        sigma, label = _rows(x, sigma), _labels(x, label, self.labels)
        column = sigma.reshape(-1, *(1,) * (x.ndim - 1))
        total = (column**2 + self.sigma_data**2).sqrt()
        out = self.trunk((x / total).flatten(1), sigma, label).reshape(x.shape)
        return (self.sigma_data / total) ** 2 * x + column * self.sigma_data / total * out


class Classifier(nn.Module, PyTorchModelHubMixin, library_name="arguide", tags=["diffusion", "classifier-guidance"]):
    """log p(label | x, σ) of noised data, [n, K]; trained without noise it is the classifier of clean data.

    Args:
        shape, labels, sigma_data, width, depth: as those of `Denoiser`.
        noised: whether it is told the noise level; otherwise it takes what it is given for clean.
    """

    def __init__(
        self,
        shape: list[int],
        labels: int,
        sigma_data: float = 0.5,
        width: int = 256,
        depth: int = 2,
        noised: bool = True,
    ) -> None:
        super().__init__()
        self.shape, self.labels, self.sigma_data, self.noised = tuple(shape), labels, sigma_data, noised
        self.trunk = Trunk(math.prod(shape), labels, 0, width, depth)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return log-probabilities, [n, K]; sigma [] or [n]."""
        sigma = _rows(x, sigma if self.noised else torch.full_like(sigma, 1e-3))
        total = (sigma**2 + self.sigma_data**2).sqrt()[:, None]
        none = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return self.trunk(x.flatten(1) / total, sigma, none).log_softmax(-1)


def _rows(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.as_tensor(sigma, dtype=x.dtype, device=x.device).clamp(min=1e-3).expand(len(x))


def _labels(x: Tensor, label: Any, null: int) -> Tensor:
    given = torch.as_tensor(null if label is None else label, dtype=torch.long, device=x.device)
    return given.expand(len(x))
