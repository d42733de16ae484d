"""Coherent pairs of scores: the unconditional one is the mixture of the conditional ones, by a posterior that steps update."""

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
