"""Autoregressive models of continuous values: mixtures of Gaussians, and samplers of their guided laws."""

from arguide.continuous.mixtures import Conditionals, Mixture, MixtureNetwork, log_density, loss
from arguide.continuous.sampling import LogLinear, repeat_joint, sample, sample_joint, sample_joints

__all__ = ["Conditionals", "LogLinear", "Mixture", "MixtureNetwork", "log_density", "loss"]
__all__ += ["repeat_joint", "sample", "sample_joint", "sample_joints"]
