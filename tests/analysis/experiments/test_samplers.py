"""The samplers of "one law, every family": the generator decides every draw, and draws are measured as by hand."""

import numpy as np
import pytest
import torch

import diffusion
from analysis.experiments import families, samplers
from analysis.experiments.coherence import acceptance
from analysis.experiments.samplers import LABEL, Case, Draws
from analysis.toys import GaussianSequence, guidance
from analysis.toys.example_tables import coupled_table
from diffusion import masked

TABLE = coupled_table(2)
SAMPLERS = {
    "sequential": lambda case: samplers.unweighted(case, TABLE),
    "weighted": lambda case: samplers.weighted(case, TABLE),
    "unmasked": lambda case: samplers.unmasked(case, TABLE, masked.normalized),
    "renoised": lambda case: samplers.renoised(case, TABLE, diffusion.geometric(6, 0.05, 8.0)),
    "diffused": lambda case: samplers.diffused(case, samplers.points_grid(6), diffusion.sde()),
    "corrected": lambda case: samplers.corrected(case, samplers.points_grid(6)),
    "annealed": lambda case: samplers.annealed(case, 2),
    "langevin": lambda case: samplers.langevin(case._replace(toy=GaussianSequence(2)), 3),
    "exact": lambda case: samplers.exact_points(case, TABLE.log_joint(guidance(LABEL, 3.0))[0]),
}


def draws(draw, seed):
    case = Case(TABLE.mixture(), 3.0, 2, 20, 2, torch.Generator().manual_seed(seed))
    return torch.stack([batch.x.double() for batch in draw(case)])


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_generator_decides_every_draw(name):
    one, again, other = (draws(SAMPLERS[name], seed) for seed in (1, 1, 2))
    assert one.shape == (2, 20, 2)
    torch.testing.assert_close(one, again, atol=0, rtol=0)
    assert not torch.equal(one, other)


def measured(seed):
    case = Case(TABLE.mixture(), 3.0, 2, 40, 2, torch.Generator().manual_seed(seed))
    return list(acceptance.measure(case, case, TABLE, samplers.points_grid(6, to_zero=True)))


def test_the_generator_decides_what_is_accepted():
    assert measured(1) == measured(1)
    assert measured(1) != measured(2)


def test_points_of_data_are_accepted_by_the_classifier_and_paths_by_their_posterior(monkeypatch):
    real, asked = acceptance.points, []

    def points(*given, classified=False):
        asked.append((classified, real(*given, classified=classified)))
        return asked[-1][1]

    monkeypatch.setattr(acceptance, "points", points)
    shares = {row["family"]: row["value"] for row in measured(3) if row["quantity"] == "acceptance"}
    found = {classified: float(accepted.log_acceptance.exp()) for classified, accepted in asked}
    assert shares[acceptance.PATHS] == found[False]
    assert shares[acceptance.DATA] == found[True]


def test_the_grid_of_points_ends_where_they_no_longer_overlap():
    grid = samplers.points_grid(9)
    assert (float(grid[0]), float(grid[-1])) == pytest.approx((20.0, 0.15))
    assert samplers.points_grid(9, to_zero=True).tolist() == [*grid.tolist(), 0.0]


def test_a_gaussian_is_fitted_to_weighted_draws():
    generator = torch.Generator().manual_seed(0)
    x, log_weights = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((50, 2), (50,)))
    found = families._fit(Draws(x, log_weights.log_softmax(0)))
    weights = log_weights.softmax(0).numpy()
    np.testing.assert_allclose(found.mean, np.average(x, axis=0, weights=weights))
    np.testing.assert_allclose(found.covariance, np.cov(x.T, aweights=weights, ddof=0))


def test_rows_of_paths_are_the_moments_and_the_shares_of_all_paths():
    path = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    rows = list(families._path_rows({}, path, torch.tensor(0.5)))
    value = {row["quantity"]: row["value"] for row in rows}
    assert value["path_mean"] == pytest.approx(path.numpy().mean())
    assert value["path_sd"] == pytest.approx(path.numpy().std())
    shares = [(row["x"], row["value"]) for row in rows if row["quantity"] == "path_share"]
    assert (shares[0][0], shares[-1][0]) == pytest.approx((-2.95, 2.95))
    assert sum(share for _, share in shares) == pytest.approx(1)
    near = ((path > 0) & (path < 1)).double().mean()
    assert sum(share for x, share in shares if 0 < x < 1) == pytest.approx(float(near))
