r"""How good samples are: distances between samples and data that no model has seen.

    precision, recall   share of samples within the reach of data, and of data within the reach of samples, by k-th neighbours
    density, coverage   the same without the outliers' reach: neighbours a sample counts in, data with a sample in their reach
    spread              mean distance of two samples of one label
    energy distance     2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖ of samples x and data y, 0 for equal laws

Sources: Kynkäänniemi et al., "Improved precision and recall metric" (2019); Naeem et al., "Reliable fidelity and diversity
metrics" (2020); Székely & Rizzo, "Energy statistics" (2013).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from arguide.smc.diagnostics import SPREAD

NEIGHBOURS = 5
# A joint law counts as sampled up to both: log Ẑ of two halves agrees, and more than half of the bias is corrected.
LIMITS = {"log_z_apart": SPREAD, "left": 0.5}


def spread(x: Tensor, labels: Tensor) -> float:
    """Return the mean distance of two different rows of one label, a mean over labels."""
    groups = [x[labels == label] for label in torch.unique(labels)]
    return float(torch.stack([torch.pdist(group).mean() for group in groups if len(group) > 1]).mean())


def energy(x: Tensor, y: Tensor, within: Tensor | None = None) -> float:
    """Return 2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖ without bias, for x [n, d] and y [m, d], whose distances may be known."""
    own = (torch.cdist(x, x), torch.cdist(y, y) if within is None else within)
    return float(2 * torch.cdist(x, y).mean() - sum(each.sum() / (len(each) * (len(each) - 1)) for each in own))


def neighbours(x: Tensor, y: Tensor, within: Tensor | None = None, k: int = NEIGHBOURS) -> dict[str, float]:
    """Return precision, recall, density and coverage of samples x [n, d] against data y [m, d], by k-th neighbours."""
    apart, own = torch.cdist(x, y), (torch.cdist(x, x), torch.cdist(y, y) if within is None else within)
    reach_x, reach_y = (each.topk(min(k, len(each) - 1) + 1, dim=1, largest=False).values[:, -1] for each in own)
    inside = apart <= reach_y
    return {
        "precision": float(inside.any(1).double().mean()),
        "recall": float((apart <= reach_x[:, None]).any(0).double().mean()),
        "density": float(inside.double().sum(1).mean() / k),
        "coverage": float(inside.any(0).double().mean()),
    }


def difference(first: Sequence[float], second: Sequence[float], comparisons: int = 1) -> tuple[float, float]:
    """Return the mean of paired differences first − second over seeds, and half its 95 % interval by Student's t.

    So many comparisons hold 95 % together (Bonferroni).
    """
    from scipy.special import stdtrit

    gaps = torch.tensor(first, dtype=torch.float64) - torch.tensor(second, dtype=torch.float64)
    if len(gaps) < 2:
        return float(gaps.mean()), float("nan")
    return float(gaps.mean()), float(stdtrit(len(gaps) - 1, 1 - 0.025 / comparisons) * gaps.std()) / len(gaps) ** 0.5
