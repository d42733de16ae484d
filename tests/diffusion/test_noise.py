import pytest
import torch
from scipy.integrate import quad

from diffusion import edm, geometric, variance_preserving

GRIDS = {
    "geometric": lambda n: geometric(n, 0.02, 30.0),
    "edm": lambda n: edm(n, 0.02, 30.0, rho=5.0),
    "variance_preserving": variance_preserving,
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("steps", [2, 3, 50])
def test_a_grid_falls_strictly_over_its_steps_and_closes_with_zero(grid, steps):
    levels = grid(steps)
    assert levels.shape == (steps + 1,)
    assert levels.dtype == torch.float64
    assert (levels.diff() < 0).all()
    assert levels[-1] == 0
    assert levels[-2] > 0


@pytest.mark.parametrize("name", ["geometric", "edm"])
def test_a_grid_runs_from_sigma_max_to_sigma_min(name):
    levels = GRIDS[name](17)
    torch.testing.assert_close(levels[[0, -2]], torch.tensor([30.0, 0.02], dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("name", "straighten"), [("geometric", torch.log), ("edm", lambda s: s ** (1 / 5))], ids=["geometric", "edm"]
)
def test_levels_are_equally_spaced_on_the_grids_own_axis(name, straighten):
    spacing = straighten(GRIDS[name](40)[:-1]).diff()
    torch.testing.assert_close(spacing, spacing.mean().expand_as(spacing), rtol=1e-9, atol=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("schedule", "grid"), [("karras", lambda: edm(30, 0.01, 60.0, 7.0)), ("exponential", lambda: geometric(30, 0.01, 60.0))]
)
def test_grids_are_those_of_diffusers(schedule, grid):
    from diffusers import EDMEulerScheduler

    scheduler = EDMEulerScheduler(sigma_min=0.01, sigma_max=60.0, rho=7.0, sigma_schedule=schedule)
    scheduler.set_timesteps(30)
    torch.testing.assert_close(grid(), scheduler.sigmas.double(), rtol=1e-5, atol=1e-7)


def test_the_vp_grid_is_sigma_of_alpha_bar_integrated_over_its_rates():
    beta_min, beta_max, start, end = 0.2, 15.0, 0.01, 0.9
    levels = variance_preserving(6, beta_min, beta_max, start, end)
    for time, sigma in zip(torch.linspace(end, start, 6).tolist(), levels[:-1].tolist(), strict=True):
        exponent, _ = quad(lambda t: beta_min + (beta_max - beta_min) * t, 0, time)
        alpha_bar = 1 / (1 + sigma**2)
        assert alpha_bar == pytest.approx(torch.tensor(-exponent).exp().item(), rel=1e-5)


@pytest.mark.parametrize("make", [geometric, edm, lambda n, low, high: variance_preserving(n, time_min=low, time_max=high)])
@pytest.mark.parametrize("bad", [(1, 0.1, 1.0), (0, 0.1, 1.0), (5, 0.0, 1.0), (5, -0.1, 1.0), (5, 2.0, 1.0), (5, 1.0, 1.0)])
def test_a_grid_without_two_rising_levels_is_refused(make, bad):
    with pytest.raises(ValueError, match=r"steps must|(min|max) must be (positive|finite)"):
        make(*bad)
