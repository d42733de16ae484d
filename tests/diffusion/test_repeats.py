"""Repeats of the joint law of diffusion: heavy tails and coarse grids are reported, and the default λ has fewer of both."""

from itertools import pairwise

import pytest
import torch

from analysis.toys.gaussian import GaussianPair
from analysis.toys.table import Table
from arguide import JointSample
from arguide.smc.diagnostics import dispersion
from diffusion import edm, repeat_joint, sample_joints
from diffusion.noise import refined
from diffusion.particles import level

NARROW = GaussianPair.scalar(1.0, 0.3, 1.0)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_the_default_noise_stays_within_its_bounds():
    for sigma, after in pairwise(edm(40, 0.01, 80.0)):
        noise = level(sigma, after)
        assert 0 <= noise <= 2
        assert noise**2 * (sigma**2 - after**2) <= 0.2 * after**2 + 1e-12
    assert level(torch.tensor(1.0), torch.tensor(0.0)) == 0
    assert level(torch.tensor(1.001), torch.tensor(1.0)) == 2


def test_the_default_noise_has_a_smaller_error_than_one_at_equal_work(guided):
    """RMS over eight runs of the mean, in standard deviations, at γ = 7.5: about .12 and .27, so .2 lies between."""
    law = NARROW.joint_guided(0, 7.5).law

    def error(noise):
        runs = sample_joints(guided(NARROW, 7.5), 8, (1000, 1), edm(200, 0.01, 80.0), noise=noise, generator=seeded(0))
        means = torch.stack([run.log_weights.exp() @ run.x for run in runs])
        return float((means - law.mean).square().mean().sqrt() / law.covariance.sqrt())

    assert error(None) < 0.2 < error(1.0)


def test_heavy_tails_show_in_the_means_and_not_in_the_effective_sample_size(guided):
    model, grid = guided(NARROW, 3.0), edm(100, 0.02, 80.0)
    _, heavy = repeat_joint(model, (1000, 1), grid, repeats=8, probes=0, noise=0.3, generator=seeded(0))
    assert heavy.ess_share > 0.3
    assert heavy.spread < 0.5
    assert heavy.dispersion > 3
    assert not heavy.consistent
    assert "effective sample sizes imply" in heavy.verdict
    mild, diagnosis = repeat_joint(guided(NARROW, 1.2), (1000, 1), grid, noise=2.0, generator=seeded(0))
    assert len(mild) == 4
    assert diagnosis.consistent
    assert diagnosis.verdict.startswith("no disagreement found")
    assert diagnosis.log_evidence == pytest.approx(float(NARROW.joint_guided(0, 1.2).log_normalizer), abs=0.1)


def test_a_grid_too_coarse_for_its_noise_disagrees_with_a_finer_one(guided):
    """Log Ẑ of a table's points at λ = 3 is wrong by nats; the finer grid with the default λ is not."""
    table = Table(torch.tensor([[[0.17, 0.03, 0.1], [0.04, 0.09, 0.02]], [[0.02, 0.2, 0.08], [0.15, 0.05, 0.05]]]))
    model, grid = guided(table.mixture(), 3.0), edm(60, 0.08, 30.0, rho=7.0)
    _, coarse = repeat_joint(model, (500, 2), grid, noise=3.0, generator=seeded(0))
    assert not coarse.consistent
    assert "log Ẑ differs" in coarse.verdict
    assert "use a finer grid of noise levels" in coarse.verdict


def test_a_finer_grid_keeps_every_level():
    grid = edm(5, 0.1, 10.0)
    finer = refined(grid)
    assert torch.isin(grid, finer).all()
    assert len(finer) == 2 * len(grid) - 2
    assert (finer.diff() < 0).all()
    assert len(refined(grid[:-1])) == 2 * 5 - 1


def test_means_scatter_as_effective_sample_sizes_imply():
    """Independent equal weights: the ratio is about 1; means pulled apart by ten standard errors give about ten."""
    n = 400
    even = torch.full((n,), 1 / n, dtype=torch.float64).log()

    def run(shift):
        x = torch.randn(n, 5, generator=seeded(int(100 * shift) + 7), dtype=torch.float64) + shift / n**0.5
        return JointSample(x, even, torch.tensor(0.0), torch.full((3,), float(n)), n, *[torch.empty(0)] * 4)

    honest, apart = [run(s / 100) for s in range(8)], [run(10 * (-1) ** s + s / 100) for s in range(8)]
    assert 0.6 < dispersion(honest, [each.x for each in honest]) < 1.6
    assert dispersion(apart, [each.x for each in apart]) > 5


def test_runs_that_never_resample_keep_every_particle(guided):
    """And those that resample after every step do not."""
    options = {"noise": 2.0, "generator": seeded(0), "repeats": 2, "probes": 0}
    runs, diagnosis = repeat_joint(guided(NARROW, 3.0), (60, 1), edm(20, 0.05, 20.0), threshold=0.0, **options)
    assert [run.ancestors for run in runs] == [60, 60]
    assert diagnosis.ancestors == 60
    assert repeat_joint(guided(NARROW, 3.0), (60, 1), edm(20, 0.05, 20.0), threshold=1.0, **options)[1].ancestors < 60
