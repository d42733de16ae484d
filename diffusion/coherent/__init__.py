"""Coherent pairs of scores: the unconditional one is the mixture of the conditional ones, by a posterior that steps update.

Example:
    >>> points = analysis.GaussianMixture([[-1.0], [1.0]], [0.5, 0.5], [0.5, 0.5])
    >>> scores = [diffusion.conditioned(points.score, label) for label in (0, 1)]
    >>> mixture = diffusion.Mixture(scores, torch.tensor([0.5, 0.5]).log())
    >>> diffusion.coherent.sample(mixture.guidance(1, 3.0), (4, 1), diffusion.edm(50)).log_posterior.shape
    torch.Size([4, 2])
"""

from diffusion.coherent.acceptance import AcceptedData, AcceptedPaths, sample_accepted
from diffusion.coherent.kernels import Kernel, ancestral
from diffusion.coherent.mixture import Component, Mixture
from diffusion.coherent.sampling import PathSample, State, init, sample, step, trajectory

__all__ = [
    "AcceptedData",
    "AcceptedPaths",
    "Component",
    "Kernel",
    "Mixture",
    "PathSample",
    "State",
    "ancestral",
    "init",
    "sample",
    "sample_accepted",
    "step",
    "trajectory",
]
