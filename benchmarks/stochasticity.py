r"""The noise level λ of Feynman–Kac correction, at equal work: python -m benchmarks.stochasticity.

More noise makes the weights of a step lighter, and the error of a step larger. Every law is drawn with N particles and
several noise levels, in independent runs on one grid, so that every λ asks for as many scores. An error is the root of the
mean square over the runs. Of x it is that of the mean and of the standard deviation of every coordinate, in standard
deviations of the law, or the total variation of a table's cells; of log Ẑ it is in nats.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

import diffusion
from analysis import GaussianMixture, Table
from analysis.experiments.correction import MIXTURE, PLANE, toy_of
from analysis.experiments.samplers import LABEL, guided, points_grid
from analysis.toys import GaussianPair, GaussianSequence
from arguide import JointSample

NOISES = (0.5, 1.0, 1.5, 2.0, 3.0, None)  # None: the default, `diffusion.particles.level`
NAMES = tuple("default" if noise is None else f"λ = {noise:g}" for noise in NOISES)
SCALES = (1.5, 3.0, 5.0, 7.5)
Error = Callable[[JointSample], float]


class Law(NamedTuple):
    """A guided law: its name, scores, dimension and grid, the error of a run's x in its own unit, and log Z."""

    name: str
    model: diffusion.LogLinear
    dim: int
    sigmas: Tensor
    error: Error
    log_z: float


def laws(scale: float, steps: int) -> Iterator[Law]:
    """Yield Gaussians, mixtures, and tables as points, all guided at one scale."""
    pairs = {
        "N(1, 1), N(0, 2)": GaussianPair.scalar(1.0, 1.0, 2.0),
        "N(1, 0.3), N(0, 1)": GaussianPair.scalar(1.0, 0.3, 1.0),
        "four correlated Gaussians": GaussianSequence(4),
    }
    smooth, far = diffusion.edm(steps, 0.01, 80.0), points_grid(steps)
    for name, pair in pairs.items():
        tilt = pair.joint_guided(LABEL, scale)
        covariance = tilt.law.covariance.diagonal().sqrt()
        yield Law(name, guided(pair, scale), len(covariance), smooth, _moments(tilt.law.mean, covariance), float(tilt[1]))
    for name, step in ((MIXTURE, 1001), (PLANE, 201)):
        mixture = toy_of(name)
        assert isinstance(mixture, GaussianMixture)
        axes = mixture.axes(step, 7.0)
        exact = mixture.joint_guided(LABEL, scale, axes=axes)
        points, mass = torch.cartesian_prod(*axes).reshape(exact.probabilities.numel(), -1), exact.probabilities.flatten()
        mean = mass @ points
        error = _moments(mean, (mass @ (points - mean).square()).sqrt())
        yield Law(name, guided(mixture, scale), mixture.dim, smooth, error, float(exact.log_normalizer))
    for shape in ((2, 2, 3), (3, 2, 2, 2)):
        table = Table(_joint(shape))
        points_toy, law = table.mixture(), table.joint_guided(LABEL, scale)
        error = _cells(points_toy, law.probabilities.flatten())
        yield Law(f"points {shape[1:]}", guided(points_toy, scale), len(shape) - 1, far, error, float(law.log_normalizer))


def measured(law: Law, noise: float | None, particles: int, runs: int) -> tuple[float, float]:
    """Return the errors of x and of log Ẑ over independent runs at one noise level."""
    generator = torch.Generator().manual_seed(0)
    drawn = diffusion.sample_joints(law.model, runs, (particles, law.dim), law.sigmas, noise=noise, generator=generator)
    errors = torch.tensor([[law.error(run), float(run.log_evidence) - law.log_z] for run in drawn])
    x, log_z = errors.square().mean(0).sqrt().tolist()
    return x, log_z


def main() -> None:
    """Print both errors, a row a law and a scale and a column a noise level, and what every level loses to the best."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stochasticity")
    parser.add_argument("--particles", type=int, default=1000, help="N of a run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=8, help="independent runs (default: %(default)s)")
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 200], help="steps of the grids (default: %(default)s)")
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES, help="γ (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| law | steps | γ |" + "".join(f" {name} |" for name in NAMES))
    print("|---|---:|---:|" + "---:|" * len(NOISES))
    cases = [(steps, scale, law) for steps in given.steps for scale in given.scales for law in laws(scale, steps)]
    all_errors = []
    for steps, scale, law in tqdm(cases, desc="stochasticity", unit="law", dynamic_ncols=True, disable=None):
        errors = [measured(law, noise, given.particles, given.runs) for noise in NOISES]
        all_errors.append(errors)
        print(f"| {law.name} | {steps} | {scale:g} |" + "".join(f" {x:.3f}, {z:.2g} |" for x, z in errors), flush=True)
    print("\n" + summary(torch.tensor(all_errors), [steps for steps, *_ in cases]))


def summary(errors: Tensor, steps: list[int]) -> str:
    """Return a table of how many times as large as the least error each is: the geometric mean over laws, and the largest."""
    lines = ["| steps | error | of |" + "".join(f" {name} |" for name in NAMES), "|---:|---|---|" + "---:|" * len(NOISES)]
    ratios = errors / errors.amin(1, keepdim=True)
    for step in sorted(set(steps)):
        rows = ratios[torch.tensor(steps) == step]
        for k, name in enumerate(("x", "log Ẑ")):
            for kind, value in (("mean", rows[..., k].log().mean(0).exp()), ("largest", rows[..., k].amax(0))):
                lines.append(f"| {step} | {name} | {kind} |" + "".join(f" {each:.2f} |" for each in value.tolist()))
    return "\n".join(lines)


def _joint(shape: tuple[int, ...]) -> Tensor:
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64).mul(1.2).exp()
    return weights / weights.sum()


def _moments(mean: Tensor, deviation: Tensor) -> Error:
    def error(run: JointSample) -> float:
        weights = run.log_weights.exp()
        found = weights @ run.x
        spread = (weights @ (run.x - found).square()).sqrt()
        off = torch.cat([found - mean, spread - deviation]) / torch.cat([deviation, deviation])
        return float(off.square().mean().sqrt())

    return error


def _cells(points: GaussianMixture, expected: Tensor) -> Error:
    def error(run: JointSample) -> float:
        found = torch.zeros_like(expected).index_add(0, points.nearest(run.x), run.log_weights.exp())
        return float((found - expected).abs().sum() / 2)

    return error


if __name__ == "__main__":
    main()
