r"""log Z from the texts of a ladder, by two estimators that use them differently, and the standard error of the first.

The multistate Bennett acceptance ratio (MBAR) takes the texts of all L levels, N of each, as draws from the mixture of the
levels' laws. Relative to level 0 their densities are exp(b_j(x)), with b_0 = 0 and b_j = u_j r + w, where w is the log-weight
of a text of level 0. The log Z_j are the numbers at which every level has its share of the mixture, log Z_0 = 0:

    Σ_x π_j(x) = N,    π_j(x) = exp(b_j(x) − log Z_j) / Σ_i exp(b_i(x) − log Z_i)

These are the maximum of a concave likelihood. For two levels this is Bennett's acceptance ratio. Thermodynamic integration is
∫ E_u[r] du, by the trapezoidal rule with the correction of its ends, h² (Var_i r − Var_{i+1} r)/12 for an interval h, since
d E_u[r]/du = Var_u r.

Ladders are independent. So the standard error is that of the mean over ladders of the first-order change of log Z, whatever the
correlation between the sweeps and the levels of a ladder.

Sources: Shirts & Chodera, "Statistically optimal analysis of samples from multiple equilibrium states" (2008), arXiv:0801.1426,
equation 11; Gelman & Meng, "Simulating normalizing constants" (1998), doi:10.1214/ss/1028905934.
"""

import math

import torch
from torch import Tensor

ITERATIONS, PRECISION = 500, 1e-10


def log_evidence(u: Tensor, ratios: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log Z of the target by MBAR, [], its standard error, [], and its first-order change per ladder, [n].

    Args:
        u: levels, [L].
        ratios: r of the texts of every level, [sweeps, L, n].
        log_weights: w of them, [sweeps, L, n].
    """
    values = u[1:].to(ratios) * ratios[..., None] + log_weights[..., None]
    densities = torch.cat([torch.zeros_like(values[..., :1]), values], -1)  # [sweeps, L, n, L]
    log_z = _balanced(densities.flatten(0, 2))
    shares = (densities - log_z).softmax(-1)
    per_ladder = shares.mean((0, 1))[:, 1:]
    rows = shares.flatten(0, 2)[:, 1:]
    slope = rows.mean(0).diag() - rows.T @ rows / len(rows)
    change = torch.linalg.pinv(slope, hermitian=True)[-1] @ (per_ladder - 1 / len(u)).T
    return log_z[-1], change.std() / math.sqrt(len(change)), change


def _balanced(densities: Tensor) -> Tensor:
    """Return the log Z of all levels, [L], at which their shares are alike; densities are [m, L]."""
    log_z = densities.new_zeros(densities.shape[1])
    optimiser = torch.optim.LBFGS(
        [log_z], max_iter=ITERATIONS, tolerance_grad=PRECISION, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        logits = densities - log_z
        log_z.grad = 1 / len(log_z) - logits.softmax(1).mean(0)
        return logits.logsumexp(1).mean() + log_z.mean()

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return log_z - log_z[0]


def integrated(u: Tensor, ratios: Tensor, log_weights: Tensor) -> Tensor:
    """Return log Z by integration of E_u[r], [].

    Args:
        u: levels, [L].
        ratios: r of the texts of every level, [sweeps, L, n].
        log_weights: w of them, of which only those of level 0 enter, [sweeps, L, n].
    """
    weights = torch.zeros_like(ratios)
    weights[:, 0] = log_weights[:, 0]
    shares = weights.transpose(0, 1).flatten(1).softmax(1)
    rows = ratios.transpose(0, 1).flatten(1)
    means = (shares * rows).sum(1)
    variances = (shares * (rows - means[:, None]).square()).sum(1)
    gaps = u.diff().to(means)
    area = gaps * (means[1:] + means[:-1]) / 2 - gaps.square() * variances.diff() / 12
    return log_weights[:, 0].exp().mean().log() + area.sum()


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
