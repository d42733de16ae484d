r"""Quality of samples: distances between samples x and held-out data y.

The reach of a point is the ball up to its k-th nearest neighbour among its own kind.

    precision, recall   share of samples within the reach of data, and of data within the reach of samples
    density             mean over samples of the number of data whose reach holds the sample, divided by k
    coverage            share of data whose reach holds a sample
    spread              mean distance of two samples of one label
    energy distance     2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖, 0 for equal laws

Sources: Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models" (2019), arXiv 1904.06991;
Naeem et al., "Reliable fidelity and diversity metrics for generative models" (2020), arXiv 2002.09797; Székely & Rizzo,
"Energy statistics: a class of statistics based on distances" (2013), https://doi.org/10.1016/j.jspi.2013.03.018.
"""

import torch
from torch import Tensor

from arguide.smc.diagnostics import SPREAD

NEIGHBOURS = 5
# The joint sampler has converged where both hold: log Ẑ of two halves agrees, and more than half of the bias is corrected.
LIMITS = {"log_z_apart": SPREAD, "left": 0.5}


def spread(x: Tensor, labels: Tensor) -> float:
    """Return the mean distance of two different rows of x [n, d] with one label, averaged over the labels [n]."""
    groups = [x[labels == label] for label in torch.unique(labels)]
    return float(torch.stack([torch.pdist(group).mean() for group in groups if len(group) > 1]).mean())


def energy(x: Tensor, y: Tensor, within: Tensor | None = None) -> float:
    """Return the unbiased estimate of 2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖.

    Args:
        x: samples, [n, d].
        y: data, [m, d].
        within: distances between the data, [m, m], if they are known.
    """
    own = (torch.cdist(x, x), torch.cdist(y, y) if within is None else within)
    return float(2 * torch.cdist(x, y).mean() - sum(each.sum() / (len(each) * (len(each) - 1)) for each in own))


def neighbours(x: Tensor, y: Tensor, within: Tensor | None = None, k: int = NEIGHBOURS) -> dict[str, float]:
    """Return precision, recall, density and coverage by k-th nearest neighbours.

    Args:
        x: samples, [n, d].
        y: data, [m, d].
        within: distances between the data, [m, m], if they are known.
        k: which neighbour bounds the reach.
    """
    across, own = torch.cdist(x, y), (torch.cdist(x, x), torch.cdist(y, y) if within is None else within)
    reach_x, reach_y = (each.topk(min(k, len(each) - 1) + 1, dim=1, largest=False).values[:, -1] for each in own)
    inside = across <= reach_y
    return {
        "precision": float(inside.any(1).double().mean()),
        "recall": float((across <= reach_x[:, None]).any(0).double().mean()),
        "density": float(inside.double().sum(1).mean() / k),
        "coverage": float(inside.any(0).double().mean()),
    }
