"""Numbers that the page `docs/explore` must reproduce, by the package's exact functions and by scipy.

python tests/support/explore_golden.py      write tests/explore/golden/*.json again
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.integrate import quad, solve_ivp

from analysis.metrics import scale_factors
from analysis.toys import GaussianMixture, GaussianPair, Table
from analysis.toys.gaussian import Gaussian, diffused, kl

FOLDER = Path(__file__).parents[1] / "explore" / "golden"
SCALES = (-1.0, 0.0, 0.5, 1.0, 1.5, 3.0, 10.0, 40.0)
TABLES = {
    "two bits": [[[40, 30], [20, 10]], [[10, 20], [30, 40]]],
    "skewed": [[[30, 4], [12, 20], [7, 1]], [[6, 30], [10, 4], [2, 15]]],
    "three labels": [[[5, 1, 9], [2, 2, 3]], [[1, 8, 1], [4, 1, 6]], [[3, 3, 2], [9, 1, 1]]],
    "three tokens": [[[[30, 4], [12, 20]], [[2, 16], [8, 8]]], [[[6, 30], [10, 4]], [[14, 3], [30, 3]]]],
    "zeros": [[[10, 30, 0], [40, 0, 20]], [[40, 0, 5], [0, 0, 30]]],
    "one x": [[[1, 0]], [[0, 1]]],
}


def tables():
    """Every law of tables over scales and temperatures; an improper tilt has no laws."""
    out = []
    for name, weights in TABLES.items():
        table = Table(torch.tensor(weights, dtype=torch.float64) / np.sum(weights))
        for scale in SCALES:
            for temperature in (0.25, 1.0, 2.0) if scale in (0.5, 3.0) else (1.0,):
                case = {"name": name, "weights": weights, "shape": list(table.shape), "label": 1}
                out.append(case | {"scale": scale, "temperature": temperature, "expected": laws(table, scale, temperature)})
    return out


def laws(table, scale, temperature):
    given = {"temperature": temperature}
    try:
        joint, log_z = table.joint_guided(1, scale, **given)
    except ValueError as error:
        if "improper" not in str(error):
            raise
        return None
    sequential, log_zt = table.sequential_guided(1, scale, **given)
    factors = scale_factors.scale_factors(table, 1, scale, **given)
    numbers = scale_factors.summary(table, 1, scale, **given)
    bound = float(table.log_prior()[1])
    plain = float(table.joint_guided(1, scale)[1]) if scale >= 0 else math.nan
    return {
        "uncond": listed(table.log_probs().exp()),
        "cond": listed(table.log_probs(1).exp()),
        "posterior": listed(table.log_class_probability()[1].exp()),
        "joint": listed(joint),
        "sequential": listed(sequential),
        "log_z": float(log_z),
        "log_zt": [listed(part) for part in log_zt],
        "log_path": listed(torch.where(sequential > 0, factors.log_path, -math.inf)),
        "log_acceptance": finite(plain + (max(scale - 1, 0) if scale >= 1 else scale) * bound),  # log Z = log A − …·log π
        **{name: value for name, value in numbers.items() if name != "log_z"},
        "entropy_uncond": float(-torch.special.xlogy(table.log_probs().exp(), table.log_probs().exp()).sum()),
    }


def gaussians():
    """The tilt by the package, and diffused laws by integrals over τ, which agree with the package's moment equations."""
    out = []
    for mean, a, b in ((1.0, 1.0, 2.0), (1.5, 2.0, 0.7), (-0.8, 0.3, 4.0)):
        pair = GaussianPair.scalar(mean, a, b)
        for scale in (0.0, 0.5, 1.0, 2.0, 5.0, 12.0):
            for noise in (0.0, 0.1, 0.5, 1.0, 1.7, 3.0):
                moved, spread = integrals(mean, a, b, scale, noise)
                case = {"mean": mean, "a": a, "b": b, "scale": scale, "noise": noise}
                out.append(case | {"tilt": tilt(pair, scale), "diffused": {"mean": moved, "variance": spread}})
    return out


def tilt(pair, scale):
    try:
        law = pair.joint_guided(0, scale).law
    except ValueError:
        return None
    return {"mean": float(law.mean), "variance": float(law.covariance)} | {"kl": float(kl(pair.cond, law))}


def integrals(mean, a, b, scale, noise):
    """The closed forms of the moments, as integrals over the noise variance τ = e^s."""
    q = 1 + noise**2

    def integral(log_f):
        pieces = [quad(lambda s: math.exp(log_f(math.exp(s)) + s), low, low + 5, epsabs=0, epsrel=1e-13)[0] for low in LOGS]
        return math.fsum(pieces)

    def powers(of_a, of_b):
        return lambda tau: -of_a * math.log1p(tau / a) - of_b * math.log1p(tau / b)

    moved = q * scale * mean / (2 * a) * integral(powers(1 + q * scale / 2, q * (1 - scale) / 2))
    if not noise:
        return moved, a**scale * b ** (1 - scale)
    near = noise**2 * integral(powers(q * scale, q * (1 - scale)))
    last = LOGS[-1] + 5  # beyond it the integrand is a power of τ
    return moved, near + a ** (q * scale) * b ** (q * (1 - scale)) * math.exp(-(noise**2) * last)


LOGS = range(-40, 60, 5)


MIXTURES = {(1.0, 1.0, 0.5): (0.0, 2.0, 8.0), (2.0, 0.5, 0.2): (1.0, 12.0), (1.5, 1.2, 0.8): (0.5,)}


def mixtures():
    """The tilt of two modes on a grid, and points, slopes and moments of the ODE from the package's scores."""
    out = []
    for (mu, variance, prior), scales in MIXTURES.items():
        means, weights = torch.tensor([[mu], [-mu]]).double(), torch.tensor([prior, 1 - prior], dtype=torch.float64)
        toy = GaussianMixture(means, torch.full((2,), variance, dtype=torch.float64), weights)
        for scale in scales:
            model = {"mu": mu, "variance": variance, "prior": prior, "scale": scale}
            out.append(model | {"tilt": grid(toy, scale), "ode": ode(toy, model)})
    return out


def grid(toy, scale):
    reach = abs(scale) + 1
    axis = torch.linspace(-40 * reach, 40 * reach, 40001, dtype=torch.float64)
    law, log_z = toy.joint_guided(0, scale, axes=[axis])
    mean = float(law @ axis)
    return {"mean": mean, "variance": float(law @ (axis - mean) ** 2), "log_z": float(log_z)}


def ode(toy, model):
    """Carry z ~ N(0, 1), and log dx/dz, from a wide noise level to 0, over s = log σ, as y in x = c + y √(v + σ²)."""
    spacing, shown = 1 / 16, [-2.5, -1.0, 0.0, 0.7, 3.0]
    z = np.arange(-8.5, 8.501, spacing)
    points, far, scale, gap = np.concatenate([shown, z]), 1e7, model["scale"], 2 * model["mu"]
    centre = model["mu"] * (scale + (1 - scale) * (2 * model["prior"] - 1))

    def slope(s, state):
        sigma, y = math.exp(s), torch.from_numpy(state[: len(points), None])
        width = model["variance"] + sigma**2
        x = centre + math.sqrt(width) * y
        own, other = toy.log_class_probability(x, sigma).exp().T
        by_x = (1 - scale) * own * other * (gap / width) ** 2  # s′ = −1/w + Var(μ_k)/w²
        guided = scale * toy.score(x, sigma, 0) + (1 - scale) * toy.score(x, sigma) + y / math.sqrt(width)
        return -(sigma**2) * torch.cat([guided[:, 0] / math.sqrt(width), by_x]).numpy()

    start = np.concatenate([points, np.zeros(len(points))])
    solved = solve_ivp(slope, (math.log(far), math.log(1e-8)), start, method="DOP853", rtol=1e-12, atol=1e-13)
    y, log_slope = solved.y[:, -1].reshape(2, -1)
    x, log_slope = centre + math.sqrt(model["variance"]) * y, log_slope + math.log(model["variance"]) / 2
    weights, ends = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * spacing, x[5:]
    mean = float(weights @ ends)
    moments = {"mean": mean, "variance": float(weights @ (ends - mean) ** 2)}
    at = torch.from_numpy(ends[:, None])
    log_tilt = (1 - scale) * toy.log_density(at) + scale * toy.log_density(at, label=0) - grid(toy, scale)["log_z"]
    log_ode = -(z**2) / 2 - math.log(2 * math.pi) / 2 - log_slope[5:]
    moments["kl"] = float(weights @ (log_ode - log_tilt.numpy()))
    return moments | {"z": shown, "x": x[:5].tolist(), "log_slope": log_slope[:5].tolist()}


def listed(tensor):
    return [finite(value) for value in tensor.flatten().tolist()]


def finite(value):
    return value if math.isfinite(value) else None


GOLDEN = {"tables": tables, "gaussians": gaussians, "mixtures": mixtures}


def check_moments():
    """Compare the integrals with the moment equations of the package, which start at a finite noise level."""
    pair = GaussianPair.scalar(1.0, 1.0, 2.0)
    for scale, noise in ((2.0, 0.0), (2.0, 1.0), (5.0, 0.5), (0.5, 1.7)):
        law: Gaussian = diffused([pair.law(None), pair.law(0)], [1 - scale, scale], noise)
        yield integrals(1.0, 1.0, 2.0, scale, noise), (float(law.mean), float(law.covariance))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in GOLDEN.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(make(), separators=(",", ":")) + "\n", encoding="utf-8")
    sys.stdout.write("".join(f"{a} {b}\n" for a, b in check_moments()))
