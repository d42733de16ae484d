"""Transport, measured orders, and the closed forms of guided diffusion on Gaussians and on a symmetric mixture."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from scipy.linalg import solve_banded
from scipy.optimize import brentq
from scipy.stats import norm

from analysis.toys.gaussian import GaussianPair, GaussianSequence, diffused
from analysis.toys.mixture import GaussianMixture
from arguide.smc.draws import normal
from diffusion import LogLinear, cfg_plus_plus, conditioned, edm, euler, geometric, heun, sample, sde, trajectory
from diffusion.models import with_potential
from diffusion.noise import interval
from diffusion.sampling import init

WIDE = 1e4
PAIRS = [(0.7, 1.6, -0.8, 3.0), (1.5, 0.9, 1.3, 0.4), (0.5, 2.0, 0.6, 1.8)]  # a, b, m, γ


def never(like):
    raise AssertionError("an ODE draws nothing")


def transport(score, x, sigmas, step):
    *_, last = trajectory(score, x, sigmas, step, never)
    return last.x


def fine(steps, low=1e-3, high=WIDE):
    return geometric(steps, low, high)


def dense(steps):
    """A grid for the SDE, which forgets the first law."""
    return edm(steps, 1e-2, 100.0)


# ---------------------------------------------------------------------------------------------------------------- transport


def quantiles(levels, sigma):
    """Quantiles of the `skewed` mixture's marginal at a noise level, by root finding on its distribution function."""
    means, variances, weights = np.array([-1.3, 0.4, 2.1]), np.array([0.3, 0.8, 1.1]), np.array([0.35, 0.45, 0.2])
    spread = np.sqrt(variances + sigma**2)
    reach = 12 * spread.max() + 3
    roots = [brentq(lambda x, u=u: weights @ norm.cdf((x - means) / spread) - u, -reach, reach, xtol=1e-13) for u in levels]
    return torch.tensor(roots, dtype=torch.float64)[:, None]


LEVELS = np.array([0.001, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.97, 0.999])


def test_the_ode_carries_quantiles_of_noised_data_to_quantiles_of_data(skewed):
    end = transport(conditioned(skewed.score), quantiles(LEVELS, 200.0), fine(500, 1e-3, 200.0), heun)
    torch.testing.assert_close(end, quantiles(LEVELS, 0.0), rtol=0, atol=1e-3)
    swapped = transport(conditioned(skewed.score, 1), quantiles(LEVELS, 200.0), fine(500, 1e-3, 200.0), heun)
    assert (swapped - quantiles(LEVELS, 0.0)).abs().max() > 0.05


def test_the_ode_from_wide_noise_carries_normal_quantiles_to_quantiles_of_data(skewed):
    first = torch.tensor(norm.ppf(LEVELS) * WIDE)[:, None]
    end = transport(conditioned(skewed.score), first, fine(800), heun)
    torch.testing.assert_close(end, quantiles(LEVELS, 0.0), rtol=0, atol=3e-3)


@pytest.mark.parametrize(("step", "expected"), [(euler, 1), (heun, 2)])
def test_a_solver_has_its_order(skewed, order, step, expected):
    first, last = quantiles(LEVELS, 3.0), quantiles(LEVELS, 0.4)

    def error(steps):
        sigmas = torch.linspace(3.0, 0.4, steps + 1, dtype=torch.float64)
        return float((transport(conditioned(skewed.score), first, sigmas, step) - last).abs().max())

    assert order([error(n) for n in (20, 40, 80, 160)]) == pytest.approx(expected, abs=0.25)


def test_euler_to_noise_zero_returns_the_denoised_sample(skewed):
    x, sigma = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None], torch.tensor(0.8, dtype=torch.float64)
    denoised = x + sigma**2 * skewed.score(x, sigma)
    for step in (euler, heun):
        end = step(with_potential(conditioned(skewed.score)), x, sigma, torch.zeros(()).double(), never).x
        torch.testing.assert_close(end, denoised)


def test_the_sde_without_noise_is_the_ode_bit_for_bit(skewed):
    x, sigmas = torch.linspace(-9, 9, 7, dtype=torch.float64)[:, None], fine(12, 0.1, 9.0)
    field = conditioned(skewed.score)
    *_, last = trajectory(field, x, sigmas, sde(0.0), normal(torch.Generator().manual_seed(0)))
    torch.testing.assert_close(last.x, transport(field, x, sigmas, heun), rtol=1e-12, atol=1e-12)


def test_a_trajectory_yields_every_level_and_sample_returns_the_last(skewed):
    field, sigmas = conditioned(skewed.score), fine(9, 0.1, 9.0)
    generator = torch.Generator().manual_seed(3)
    draw = normal(generator)
    states = list(trajectory(field, init(torch.empty(4, 1).double(), sigmas[0], draw).x, sigmas, sde(), draw))
    assert len(states) == 9
    again = sample(field, (4, 1), sigmas, step=sde(), generator=torch.Generator().manual_seed(3)).x
    assert again.equal(states[-1].x)
    other = sample(field, (4, 1), sigmas, step=sde(), generator=torch.Generator().manual_seed(4)).x
    assert not again.equal(other)


def test_a_grid_may_end_above_zero_only_where_that_is_asked_for(skewed):
    field, grid = conditioned(skewed.score), torch.tensor([5.0, 2.0, 0.5], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"sigmas must be a grid that ends in 0, got 0\.5"):
        sample(field, (4, 1), grid)
    first = torch.linspace(-1, 1, 4).double()[:, None]
    noised = sample(field, (4, 1), grid, draw=lambda like: first, ends_at_zero=False).x
    assert noised.equal(transport(field, 5.0 * first, grid, heun))


@pytest.mark.parametrize("step", [euler, heun, sde()])
def test_a_score_that_fails_is_named_with_its_step(skewed, step):
    def failing(x, sigma):
        return torch.where(sigma < 1.5, math.nan, skewed.score(x, sigma))

    grid = torch.tensor([5.0, 2.0, 1.0, 0.2, 0.0], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"x must stay finite, got nan in the step from sigma [125];"):
        sample(failing, (4, 1), grid, step=step, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_the_first_law_is_the_power_of_wide_noise(weight):
    draw = normal(torch.Generator().manual_seed(5))
    x = init(torch.empty(20_000, 1).double(), torch.tensor(40.0).double(), draw, weight).x
    squares = x.square().sum() / (40.0**2 / weight)  # χ² of 20,000 degrees of freedom, variance 40,000
    assert abs(float(squares) - 20_000) < 5 * 200


# ------------------------------------------------------------------------------------------------ Gaussians in closed form


def decay(tau, a, b, q, gamma):
    return (a / (a + tau)) ** (q * gamma) * (b / (b + tau)) ** (q * (1 - gamma))


def closed_form(a, b, m, gamma, noise, sigma_max):
    """Mean and variance of theory B1 at finite σ_max: by variation of constants over τ from σ_max² to 0."""
    q, top = 1 + noise**2, math.log(sigma_max**2)
    integrate = partial(quad, a=-40, b=top, epsabs=1e-13, epsrel=1e-11, limit=500)
    mean = integrate(lambda u: q / 2 * gamma * m / (a + math.exp(u)) * decay(math.exp(u), a, b, q / 2, gamma) * math.exp(u))[0]
    spread = integrate(lambda u: decay(math.exp(u), a, b, q, gamma) * math.exp(u))[0]
    return mean, sigma_max**2 * decay(sigma_max**2, a, b, q, gamma) + noise**2 * spread


def scalar(a, b, m):
    return GaussianPair.scalar(m, a, b)


@pytest.mark.parametrize(("a", "b", "m", "gamma"), PAIRS)
def test_the_guided_ode_has_the_mean_and_variance_of_b1(guided, sampled_law, a, b, m, gamma):
    law = sampled_law(guided(scalar(a, b, m), gamma), fine(800))
    assert float(law.covariance) == pytest.approx(a**gamma * b ** (1 - gamma), rel=1e-3)
    phi = quad(lambda t: (a + t) ** (-1 - gamma / 2) * (b + t) ** (-(1 - gamma) / 2), 0, math.inf, epsabs=1e-12, limit=300)[0]
    assert float(law.mean) == pytest.approx(m * gamma / 2 * a ** (gamma / 2) * b ** ((1 - gamma) / 2) * phi, abs=2e-3)


@pytest.mark.parametrize(("a", "b", "m", "gamma"), [PAIRS[0], (0.8, 1.7, 1.1, 1.4)])
def test_the_guided_reverse_sde_has_the_mean_and_variance_of_b1(guided, sampled_law, a, b, m, gamma):
    law = sampled_law(guided(scalar(a, b, m), gamma), dense(250), step=sde())
    assert float(law.mean) == pytest.approx(m * b * (1 - (a / b) ** gamma) / (b - a), abs=8e-3)
    variance = (a * b - a ** (2 * gamma) * b ** (2 - 2 * gamma)) / ((b - a) * (2 * gamma - 1))
    assert float(law.covariance) == pytest.approx(variance, abs=8e-3)


def test_the_printed_pair_of_b1(guided, sampled_law):
    model = guided(scalar(1.0, 2.0, 1.0), 2.0)
    ode, reverse = sampled_law(model, fine(700)), sampled_law(model, dense(250), step=sde())
    assert [*ode.mean, *ode.covariance[0]] == pytest.approx([1.6232, 0.5], abs=1e-3)
    assert [*reverse.mean, *reverse.covariance[0]] == pytest.approx([1.5, 0.58333], abs=8e-3)


@pytest.mark.parametrize("noise", [0.4, 1.0, 2.0])
@pytest.mark.parametrize(("a", "b", "m", "gamma"), PAIRS)
def test_every_noise_level_has_the_moments_of_b1(guided, sampled_law, a, b, m, gamma, noise):
    law = sampled_law(guided(scalar(a, b, m), gamma), dense(250), step=sde(noise))
    found = float(law.mean), float(law.covariance)
    tolerance = 0.016  # the bias of this grid
    assert found == pytest.approx(closed_form(a, b, m, gamma, noise, 100.0), abs=tolerance)
    wrongs = [(a, b, m, 1 - gamma, noise), (b, a, m, gamma, noise)]
    if gamma == 3.0:  # where noise levels lie furthest apart
        wrongs += [(a, b, m, gamma, noise / 3), (a, b, m, gamma, noise**2 + 1)]
    for wrong in wrongs:
        assert found != pytest.approx(closed_form(*wrong, 100.0), abs=1.5 * tolerance)


@pytest.mark.parametrize(("noise", "solver", "least"), [(0.6, heun, 1.75), (1.0, heun, 1.75), (1.0, euler, 0.75)])
def test_the_moments_of_the_guided_sde_are_of_the_solvers_order(guided, sampled_law, order, noise, solver, least):
    a, b, m, gamma = PAIRS[0]
    mean, variance = closed_form(a, b, m, gamma, noise, 20.0)

    def error(steps):
        law = sampled_law(guided(scalar(a, b, m), gamma), edm(steps, 1e-4, 20.0), step=sde(noise, solver=solver))
        return abs(float(law.covariance) - variance), abs(float(law.mean) - mean)

    for errors in zip(*(error(n) for n in (80, 160, 320)), strict=True):
        assert order(errors) > least


@pytest.mark.parametrize("noise", [0.0, 0.7, 1.0])
def test_on_a_sequence_of_several_dimensions_the_law_is_that_of_the_moment_equations(guided, sampled_law, noise):
    toy, gamma, step = GaussianSequence(3, 0.6), 2.5, sde(noise) if noise else heun
    laws, weights = [toy.law(1.4), toy.law()], [gamma, 1 - gamma]
    law = sampled_law(guided(toy, gamma, 1.4), dense(150) if noise else fine(400), step=step, dim=3)
    exact, other = (diffused(laws, weights, level) for level in (noise, noise + 1))
    torch.testing.assert_close(law.mean, exact.mean, rtol=0, atol=0.04)
    torch.testing.assert_close(law.covariance, exact.covariance, rtol=0, atol=0.02)
    assert (law.mean - other.mean).abs().max() > 0.06 or (law.covariance - other.covariance).abs().max() > 0.03


def test_more_noise_tends_to_the_joint_tilt(guided, sampled_law):
    a, b, m, gamma = PAIRS[0]
    precision = gamma / a + (1 - gamma) / b
    gaps = []
    for noise, steps in ((0.0, 80), (1.0, 100), (2.0, 150), (4.0, 280)):
        law = sampled_law(guided(scalar(a, b, m), gamma), edm(steps, 1e-2, 50.0), step=sde(noise))
        gaps.append((abs(float(law.mean) - gamma * m / a / precision), abs(float(law.covariance) - 1 / precision)))
    for wider, closer in pairwise(gaps):
        assert closer[0] < wider[0]
        assert closer[1] < wider[1]
    assert max(gaps[-1]) < 0.1 * max(gaps[0])


@pytest.mark.parametrize(("a", "b", "gamma", "low", "high"), [(0.7, 1.6, 3.0, 0.3, 4.0), (1.5, 0.9, 2.0, 0.05, 0.8)])
def test_guidance_in_an_interval_of_variance_scales_the_odes_variance_by_a_ratio(sampled_law, a, b, gamma, low, high):
    toy, s = scalar(a, b, 0.5), 1e-7
    ends = [WIDE, high**0.5 * (1 + s), high**0.5 * (1 - s), low**0.5 * (1 + s), low**0.5 * (1 - s), 1e-3]
    pieces = [fine(300, ends[i + 1], ends[i])[:-1] for i in (0, 2, 4)]  # nodes on either side of both jumps
    sigmas = torch.cat([*pieces, torch.zeros(1, dtype=torch.float64)])

    scale = interval(gamma, low**0.5, high**0.5)
    law = sampled_law(LogLinear.guidance(conditioned(toy.score, 0), conditioned(toy.score), scale), sigmas)
    rho = (a + low) * (b + high) / ((a + high) * (b + low))
    assert float(law.covariance) == pytest.approx(a * rho ** (gamma - 1), rel=2e-3)
    assert float(law.covariance) != pytest.approx(a**gamma * b ** (1 - gamma), rel=5e-2)


@pytest.mark.parametrize("strength", [0.0, 0.2, 0.6, 1.0])
def test_a_step_of_cfg_plus_plus_is_a_step_with_scale_lambda_over_one_minus_the_ratio_of_levels(plane, guided, strength):
    x = torch.tensor([[0.3, -2.0], [1.5, 0.4], [-3.0, 2.2]], dtype=torch.float64)
    for sigma, sigma_next in torch.tensor([[1.7, 1.1], [2.5, 0.9], [3.0, 0.0]], dtype=torch.float64):
        cond, solver = with_potential(conditioned(plane.score, 0)), cfg_plus_plus(conditioned(plane.score), strength)
        step = solver(cond, x, sigma, sigma_next, never).x
        eulers = lambda gamma: euler(with_potential(guided(plane, gamma)), x, sigma, sigma_next, never).x  # noqa: B023, E731
        denoised = {label: x + sigma**2 * plane.score(x, sigma, label) for label in (0, None)}
        unconditional_noise = (x - denoised[None]) / sigma
        expected = strength * denoised[0] + (1 - strength) * denoised[None] + sigma_next * unconditional_noise
        torch.testing.assert_close(step, expected, rtol=1e-10, atol=1e-10)
        gamma = strength / (1 - sigma_next / sigma)
        torch.testing.assert_close(step, eulers(gamma), rtol=1e-10, atol=1e-10)
        if strength and sigma_next:
            assert (eulers(strength) - step).abs().max() > 0.02


def test_cfg_plus_plus_of_strength_zero_is_the_unconditional_ode(plane):
    x, sigmas = torch.tensor([[3.0, -20.0], [15.0, 4.0]], dtype=torch.float64), fine(12, 0.1, 20.0)
    cond, uncond = conditioned(plane.score, 0), conditioned(plane.score)
    torch.testing.assert_close(
        transport(cond, x, sigmas, cfg_plus_plus(uncond, 0.0)), transport(uncond, x, sigmas, euler), rtol=1e-12, atol=1e-12
    )
    each = transport(cond, x, sigmas, cfg_plus_plus(uncond, torch.tensor([0.2, 0.7])))
    for i, strength in enumerate((0.2, 0.7)):
        alone = transport(cond, x[i : i + 1], sigmas, cfg_plus_plus(uncond, strength))
        torch.testing.assert_close(each[i : i + 1], alone, rtol=1e-6, atol=1e-6)


def test_a_run_of_cfg_plus_plus_on_gaussians_is_the_product_of_its_steps(sampled_law):
    """x' = (1 − (1 − σ'/σ)·Σ_k w_k·τ/(v_k + τ))·x at γ = λ/(1 − σ'/σ); more steps are more guidance, without a limit."""
    a, b, strength, variances = 0.7, 1.6, 0.6, []
    toy = scalar(a, b, -0.8)
    for steps in (10, 40):
        sigmas, slope = geometric(steps, 0.05, 50.0), 50.0
        for sigma, sigma_next in pairwise(sigmas.tolist()):
            ratio, tau = sigma_next / sigma, sigma**2
            gamma = strength / (1 - ratio)
            slope *= 1 - (1 - ratio) * tau * (gamma / (a + tau) + (1 - gamma) / (b + tau))
        law = sampled_law(conditioned(toy.score, 0), sigmas, step=cfg_plus_plus(conditioned(toy.score), strength))
        assert float(law.covariance) == pytest.approx(slope**2, rel=1e-9)
        variances.append(slope**2)
    assert variances[1] < 0.5 * variances[0]


def test_autoguidance_of_a_blunter_model_sharpens_and_does_not_move(sampled_law):
    """good N(m, a) and bad N(m, b): the ODE ends in N(m, a^γ b^{1−γ}); the joint tilt, too, keeps the mean."""
    mean, a, b, gamma = 1.3, 0.7, 1.5, 2.2
    good, bad = (GaussianPair.scalar(mean, variance, variance) for variance in (a, b))
    law = sampled_law(LogLinear.guidance(conditioned(good.score, 0), conditioned(bad.score, 0), gamma), fine(400))
    assert float(law.mean) == pytest.approx(mean, abs=2e-3)
    assert float(law.covariance) == pytest.approx(a**gamma * b ** (1 - gamma), rel=5e-3)
    assert float(law.covariance) < 0.7 * a


# ----------------------------------------------------------------------------------------------- a mixture, by other means


def ode_moments(mu, gamma, points=1500):
    """Mean and variance of the guided ODE on ½N(μ,1) + ½N(−μ,1), class +μ, by an adaptive solver on quantiles, in log τ."""
    first = norm.ppf((np.arange(points) + 0.5) / points) * WIDE

    def slope(r, x):  # τ + 1 = e^r, falling with −r
        return (x - mu * (gamma + (1 - gamma) * np.tanh(mu * x * np.exp(-r)))) / 2

    end = solve_ivp(slope, (math.log(WIDE**2 + 1), 0), first, rtol=1e-8, atol=1e-8).y[:, -1]
    return end.mean(), end.var()


def sde_moments(mu, gamma, noise=1.0, cells=500, steps=600):
    """The same for the SDE, by Crank–Nicolson on the Fokker–Planck equation of u = x/√(1+τ) in time log(1+τ)."""
    grid = np.linspace(-9, 9, cells + 1)
    h, times = grid[1] - grid[0], np.linspace(math.log(WIDE**2 + 1), 0, steps + 1)
    density, middle = norm.pdf(grid), (grid[1:] + grid[:-1]) / 2
    for start, end in pairwise(times):
        root = math.exp(-(start + end) / 4)
        pull = mu * root * (gamma + (1 - gamma) * np.tanh(mu * middle * root))
        drift = (-(noise**2) * middle + (1 + noise**2) * pull) / 2
        right, left = drift / 2 + noise**2 / (2 * h), drift / 2 - noise**2 / (2 * h)  # flux = right·p_i + left·p_{i+1}
        bands = np.zeros((3, cells + 1))
        bands[0, 1:], bands[2, :-1] = left, -right
        bands[1, :-1] += right
        bands[1, 1:] -= left
        bands *= (start - end) / h / 2
        implicit = bands + np.array([[0.0], [1.0], [0.0]])
        applied = bands[1] * density
        applied[:-1] += bands[0, 1:] * density[1:]
        applied[1:] += bands[2, :-1] * density[:-1]
        density = solve_banded((1, 1), implicit, density - applied)
    mass = density.sum()
    mean = grid @ density / mass
    return mean, (grid - mean) ** 2 @ density / mass


def symmetric(mu):
    return GaussianMixture(torch.tensor([[mu], [-mu]]), torch.ones(2), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(("mu", "gamma"), [(1.0, 2.0), (0.6, 3.0), (1.5, 1.6)])
def test_the_guided_ode_on_a_mixture_agrees_with_an_adaptive_solver(guided, mu, gamma):
    points = 1500
    normals = torch.special.ndtri((torch.arange(points, dtype=torch.float64) + 0.5) / points)[:, None]
    x = sample(guided(symmetric(mu), gamma), (points, 1), fine(400), draw=lambda like: normals).x
    expected = ode_moments(mu, gamma, points)
    assert (float(x.mean()), float(x.var())) == pytest.approx(expected, abs=2e-3)
    assert (float(x.mean()), float(x.var())) != pytest.approx(sde_moments(mu, gamma, steps=400, cells=400), abs=2e-2)


def test_the_printed_mixture_of_b2():
    assert ode_moments(1.0, 2.0) == pytest.approx((1.612, 0.580), abs=2e-3)
    assert sde_moments(1.0, 2.0) == pytest.approx((1.483, 0.678), abs=7e-3)


@pytest.mark.parametrize(("mu", "gamma", "noise"), [(1.0, 2.0, 1.0), (0.6, 3.0, 1.0), (1.0, 2.0, 0.5)])
def test_the_guided_sde_on_a_mixture_agrees_with_the_fokker_planck_equation(guided, mu, gamma, noise):
    n, generator = 20_000, torch.Generator().manual_seed(6)
    x = sample(guided(symmetric(mu), gamma), (n, 1), edm(100, 0.02, 100.0), step=sde(noise), generator=generator).x[:, 0]
    centred, bias = (x - x.mean()).square(), 0.02  # of the grid
    errors = 5 * float(x.std()) / n**0.5 + bias, 5 * float(centred.std()) / n**0.5 + bias

    def agrees(moments):
        return abs(float(x.mean()) - moments[0]) < errors[0] and abs(float(centred.mean()) - moments[1]) < errors[1]

    assert agrees(sde_moments(mu, gamma, noise))
    assert not agrees(sde_moments(mu, gamma, noise + 0.7))
    assert noise < 1 or not agrees(ode_moments(mu, gamma))


# ------------------------------------------------------------------------------------------------------ diffusers as oracle


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "step"), [("EulerDiscreteScheduler", euler), ("HeunDiscreteScheduler", heun)])
def test_a_trajectory_is_that_of_diffusers(plane, guided, name, step):
    import diffusers

    sigmas, model = fine(12, 0.05, 10.0).float().double(), guided(plane, 2.5)
    x = 10 * torch.randn(5, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    scheduler = getattr(diffusers, name)(prediction_type="epsilon")
    scheduler.set_timesteps(12)
    twice = step is heun
    grid = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]]) if twice else sigmas
    scheduler.sigmas, scheduler.timesteps = grid, torch.arange(len(grid) - 1, 0, -1, dtype=torch.float64) - 1
    ours, theirs = [state.x for state in trajectory(model, x, sigmas, step, never)], x
    states = []
    for timestep, sigma in zip(scheduler.timesteps, grid, strict=False):
        theirs = scheduler.step(-sigma * model(theirs, sigma), timestep, theirs).prev_sample.double()
        states.append(theirs)
    states = [*states[1:-1:2], states[-1]] if twice else states
    torch.testing.assert_close(torch.stack(states), torch.stack(ours), rtol=1e-5, atol=1e-5)
