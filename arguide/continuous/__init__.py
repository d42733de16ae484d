"""Autoregressive models of continuous values: mixtures of Gaussians, and samplers of their guided laws.

Example:
    >>> networks = arguide.continuous.MixtureNetwork(2)
    >>> cond, uncond = (functools.partial(networks, label=label) for label in (1, None))
    >>> law = arguide.continuous.LogLinear.guidance(cond, uncond, 2.0)
    >>> arguide.continuous.sample(law, 16, 3, like=torch.zeros(1)).x.shape
    torch.Size([16, 3])
"""

from arguide.continuous.mixtures import Conditionals, Mixture, MixtureNetwork, log_density, loss
from arguide.continuous.sampling import LogLinear, repeat_joint, sample, sample_joint, sample_joints

__all__ = ["Conditionals", "LogLinear", "Mixture", "MixtureNetwork", "log_density", "loss"]
__all__ += ["repeat_joint", "sample", "sample_joint", "sample_joints"]
