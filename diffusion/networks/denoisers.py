r"""Networks that learn denoisers and classifiers of noised data, with a label or without one.

    D(x, σ) = c_skip x + c_out F(c_in x, σ),    c_skip = σ_d²/(σ² + σ_d²), c_out = σ σ_d/√(σ² + σ_d²), c_in = 1/√(σ² + σ_d²),

so that F's input and target have unit variance at every noise level (Karras et al., "Elucidating the design space of
diffusion-based generative models", arXiv:2206.00364, table 1). Both networks are saved as safetensors with a `config.json`, and
loaded with `from_pretrained`.
"""

import contextlib
import math
import re
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from arguide import checks
from diffusion.guidance import columns
from diffusion.networks.backbones import Residual, UNet

MLP, UNET = "mlp", "unet"
# Parts of the names of parameters in files of earlier versions, and those of today.
RENAMED = {
    r"^trunk\.": "backbone.",
    r"\.tell\.": ".embed.",
    r"\.told\.(?=\d)": ".modulations.",
    r"\.told\.": ".modulation.",
    r"\.past\.": ".shortcut.",
}


class Saved(PyTorchModelHubMixin):
    """A network that is saved in a folder or on the hub; it is loaded without output, and only from all of its parameters."""

    @classmethod
    def _from_pretrained(cls, **options: Any) -> Any:
        with contextlib.redirect_stdout(None):
            return super()._from_pretrained(**{"strict": True} | options)


class Denoiser(nn.Module, Saved, library_name="arguide", tags=["diffusion", "classifier-free-guidance"]):
    """D(x, σ, label) ≈ E[x_0 | x_σ, label]; label None is unconditional.

    Args:
        shape: of a sample.
        labels: K; label K is the null label.
        sigma_data: σ_d, the standard deviation of the data.
        width: of the network, see `diffusion.networks.backbones`.
        depth: of the network.
        network: "mlp", residual layers on a flattened sample, or "unet", for images.

    Raises:
        ValueError: another network, or a shape that is no image for a U-Net.
    """

    def __init__(
        self,
        shape: list[int],
        labels: int,
        sigma_data: float = 0.5,
        width: int = 256,
        depth: int = 3,
        network: str = MLP,
    ) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_rename)  # type: ignore[no-untyped-call]
        if network not in (MLP, UNET):
            raise checks.refusal("network", f"{MLP} or {UNET}", network)
        self.shape, self.labels, self.sigma_data = tuple(shape), labels, sigma_data
        size = math.prod(shape)
        unet = network == UNET
        self.backbone = UNet(shape, labels, width, depth) if unet else Residual(size, size, labels, width, depth)

    def forward(self, x: Tensor, sigma: Tensor, label: Any = None) -> Tensor:
        """Return the denoised x, [n, …].

        Args:
            x: noised data, [n, …].
            sigma: σ, [] or [n].
            label: an index, one per sample [n], or None.
        """
        sigma, label = _levels(x, sigma), _labels(x, label, self.labels)
        column = columns(sigma, x)
        total = (column**2 + self.sigma_data**2).sqrt()
        out = self.backbone(x / total, sigma, label).reshape(x.shape)
        return (self.sigma_data / total) ** 2 * x + column * self.sigma_data / total * out


class Classifier(nn.Module, Saved, library_name="arguide", tags=["diffusion", "classifier-guidance"]):
    """log p(label | x, σ) of noised data, [n, K], by the "mlp" of `Denoiser`; or log p(label | x) of clean data.

    Args:
        shape: of a sample.
        labels: K.
        sigma_data: σ_d, the standard deviation of the data.
        width: of the network.
        depth: of the network.
        noised: whether the network reads the noise level; if not, it classifies clean data.
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
        self.register_load_state_dict_pre_hook(_rename)  # type: ignore[no-untyped-call]
        self.shape, self.labels, self.sigma_data, self.noised = tuple(shape), labels, sigma_data, noised
        self.backbone = Residual(math.prod(shape), labels, 0, width, depth)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return log-probabilities, [n, K]; sigma [] or [n]."""
        sigma = _levels(x, sigma if self.noised else torch.full_like(sigma, 1e-3))
        total = (sigma**2 + self.sigma_data**2).sqrt()[:, None]
        return self.backbone(x.flatten(1) / total, sigma, _labels(x, None, 0)).log_softmax(-1)


def _rename(_module: nn.Module, parameters: dict[str, Any], *_: Any) -> None:
    """Give the parameters of a file of an earlier version their names of today."""
    for name in list(parameters):
        new = name
        for old, today in RENAMED.items():
            new = re.sub(old, today, new)
        parameters[new] = parameters.pop(name)


def _levels(x: Tensor, sigma: Tensor) -> Tensor:
    """Return noise levels, [n], or [1] for one number, so that their embedding is computed once."""
    return torch.as_tensor(sigma, dtype=x.dtype, device=x.device).clamp(min=1e-3).reshape(-1)


def _labels(x: Tensor, label: Any, null: int) -> Tensor:
    """Return labels, [n], or [1] for one number."""
    return torch.as_tensor(null if label is None else label, dtype=torch.long, device=x.device).reshape(-1)
