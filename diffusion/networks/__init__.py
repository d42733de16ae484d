"""Networks for diffusion: denoisers and classifiers of noised data, and the backbones that they are made of."""

from diffusion.networks.denoisers import MLP, UNET, Classifier, Denoiser

__all__ = ["MLP", "UNET", "Classifier", "Denoiser"]
