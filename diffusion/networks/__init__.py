"""Networks for diffusion: denoisers and classifiers of noised data, and the backbones that they are made of.

Example:
    >>> network = diffusion.networks.Denoiser([2], labels=3, width=16)
    >>> network(torch.zeros(4, 2), torch.tensor(1.0), None).shape
    torch.Size([4, 2])
"""

from diffusion.networks.denoisers import MLP, UNET, Classifier, Denoiser

__all__ = ["MLP", "UNET", "Classifier", "Denoiser"]
