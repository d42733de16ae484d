r"""log Z from the texts of a ladder, by two estimators that use them differently, and the standard error of the first.

Bennett's acceptance ratio, for each pair of neighbouring levels, is the Δ = log Z_{i+1} − log Z_i with

    E_i[σ(W − Δ)] = E_{i+1}[σ(Δ − W)],    σ(z) = 1/(1 + e^{−z}),    W = log p̃_{i+1}(x) − log p̃_i(x),

the one with the smallest variance for independent texts. Thermodynamic integration is ∫ E_u[r] du, by the trapezoidal rule with
the correction of its ends, h² (Var_i r − Var_{i+1} r)/12 for an interval h, since d E_u[r]/du = Var_u r.

Ladders are independent. So the standard error is that of the mean over ladders of the first-order change of Σ Δ, whatever the
correlation between the sweeps of a ladder.

Sources: Bennett, "Efficient estimation of free energy differences from Monte Carlo data" (1976),
doi:10.1016/0021-9991(76)90078-4; Gelman & Meng, "Simulating normalizing constants" (1998), doi:10.1214/ss/1028905934.
"""

import math

import torch
from torch import Tensor

BISECTIONS = 60


def bennett(works: Tensor) -> tuple[Tensor, Tensor]:
    """Return Δ of every pair of levels, [L − 1], and the first-order change of ΣΔ per ladder, [n].

    Args:
        works: W of the texts of both levels of every pair, [sweeps, 2, L − 1, n].
    """
    below, above = works.unbind(1)
    finite = torch.where(works.isfinite(), works, 0.0)
    low, high = finite.amin((0, 1, 3)) - 100, finite.amax((0, 1, 3)) + 100
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        larger = _surplus(below, above, middle).mean(1) > 0
        low, high = torch.where(larger, middle, low), torch.where(larger, high, middle)
    change = (low + high) / 2
    surplus, slope = _surplus(below, above, change), _slope(below, above, change)
    return change, (surplus / slope[:, None]).sum(0)


def log_evidence(works: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ΣΔ, [], its standard error, [], and its first-order change per ladder, [n]; arguments as in `bennett`."""
    changes, influence = bennett(works)
    return changes.sum(), influence.std() / math.sqrt(len(influence)), influence


def integrated(u: Tensor, ratios: Tensor, log_weights: Tensor) -> Tensor:
    """Return log Z by integration of E_u[r], [].

    Args:
        u: levels, [L].
        ratios: r of the texts of every level, [sweeps, L, n].
        log_weights: log-weights of the texts of level 0, [sweeps, n].
    """
    weights = torch.zeros_like(ratios)
    weights[:, 0] = log_weights
    shares = weights.transpose(0, 1).flatten(1).softmax(1)
    rows = ratios.transpose(0, 1).flatten(1)
    means = (shares * rows).sum(1)
    variances = (shares * (rows - means[:, None]).square()).sum(1)
    gaps = u.diff().to(means)
    area = gaps * (means[1:] + means[:-1]) / 2 - gaps.square() * variances.diff() / 12
    return log_weights.exp().mean().log() + area.sum()


def equalised(u: Tensor, rejected: Tensor) -> Tensor:
    """Return levels between which the same share of exchanges is rejected, by linear interpolation, [L].

    Args:
        u: levels, [L].
        rejected: share of rejected exchanges of every pair, [L − 1].
    """
    total = torch.cat([torch.zeros_like(rejected[:1]), (rejected + 1e-3).cumsum(0)])
    wanted = torch.linspace(0, float(total[-1]), len(u), dtype=total.dtype, device=total.device)
    right = torch.searchsorted(total, wanted[1:-1]).clamp(1, len(u) - 1)
    share = (wanted[1:-1] - total[right - 1]) / (total[right] - total[right - 1])
    return torch.cat([u[:1], u[right - 1] + share * (u[right] - u[right - 1]), u[-1:]])


def _surplus(below: Tensor, above: Tensor, change: Tensor) -> Tensor:
    """Return the mean of σ(W − Δ) over the lower level minus that of σ(Δ − W) over the upper one, per ladder, [L − 1, n]."""
    change = change[:, None]
    return ((below - change).sigmoid() - (change - above).sigmoid()).mean(0)


def _slope(below: Tensor, above: Tensor, change: Tensor) -> Tensor:
    """Return the negative derivative of the mean of `_surplus` by Δ, [L − 1]."""
    steep = [values.sigmoid() * (-values).sigmoid() for values in (below - change[:, None], above - change[:, None])]
    return (steep[0] + steep[1]).mean((0, 2))
