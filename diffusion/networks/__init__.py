"""Networks for diffusion: denoisers and classifiers of noised data, and the backbones that they are made of."""

from diffusion.networks.denoisers import MLP as MLP
from diffusion.networks.denoisers import UNET as UNET
from diffusion.networks.denoisers import Classifier as Classifier
from diffusion.networks.denoisers import Denoiser as Denoiser
