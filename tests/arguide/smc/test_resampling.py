import math

import numpy as np
import pytest
import torch

from arguide import multinomial, residual, stratified, systematic
from arguide.smc import resampling

SCHEMES = [multinomial, residual, stratified, systematic]
# With N = 5 every place where any scheme's choice changes is a multiple of 1/24 in the uniform.
TWELFTHS = torch.tensor([1, 2, 0, 4, 5], dtype=torch.float64)
LOG_WEIGHTS = TWELFTHS.log() - 3.7  # unnormalised


def rounded(log_weights, _generator=None):
    """A biased scheme: ⌈N·w_i⌉ copies of the heaviest first."""
    n, weights = len(log_weights), log_weights.softmax(0)
    order = weights.argsort(descending=True)
    return order.repeat_interleave((n * weights[order]).ceil().long())[:n]


def expected_copies(scheme, monkeypatch, log_weights=LOG_WEIGHTS):
    """Return E[copies] exactly: by linearity all uniforms may be one, and the copies are constant between multiples of 1/24."""
    midpoints, total = (torch.arange(240, dtype=torch.float64) + 0.5) / 240, torch.zeros(len(log_weights))
    for u in midpoints:
        monkeypatch.setattr(resampling, "_uniform", lambda like, n, generator, u=u: u.expand(n))
        total += torch.bincount(scheme(log_weights, None), minlength=len(log_weights))
    return total / len(midpoints)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_copies_particle_i_exactly_n_w_i_times_in_expectation(scheme, monkeypatch):
    expected = 5 * TWELFTHS.float() / 12
    torch.testing.assert_close(expected_copies(scheme, monkeypatch), expected, rtol=0, atol=1e-6)


def test_a_biased_scheme_fails_the_same_check(monkeypatch):
    assert (expected_copies(rounded, monkeypatch) - 5 * TWELFTHS.float() / 12).abs().max() > 0.1


def test_multinomial_draws_its_ancestors_independently(monkeypatch):
    log_weights, pairs = torch.tensor([1.0, 3.0]).log(), torch.zeros(2, 2)
    for u1 in (np.arange(8) + 0.5) / 8:
        for u2 in (np.arange(8) + 0.5) / 8:
            monkeypatch.setattr(resampling, "_uniform", lambda *_, u=(u1, u2): torch.tensor(u))
            pairs[tuple(multinomial(log_weights))] += 1 / 64
    torch.testing.assert_close(pairs, torch.tensor([[1.0, 3.0], [3.0, 9.0]]) / 16)


@pytest.mark.parametrize(("scheme", "uniforms"), [(multinomial, 5), (stratified, 5), (systematic, 1), (residual, 2)])
def test_schemes_differ_in_how_many_uniforms_they_spend(scheme, uniforms, monkeypatch):
    asked = []
    monkeypatch.setattr(resampling, "_uniform", lambda like, n, generator: asked.append(n) or torch.full((n,), 0.4).double())
    scheme(LOG_WEIGHTS, None)
    assert asked == [uniforms]


@pytest.mark.parametrize("scheme", [residual, stratified, systematic])
def test_copies_stay_near_n_w_i(scheme):
    generator = torch.Generator().manual_seed(3)
    for _ in range(200):
        log_weights = 2 * torch.randn(9, generator=generator)
        copies = torch.bincount(scheme(log_weights, generator), minlength=9)
        share = 9 * log_weights.double().softmax(0)
        if scheme is residual:
            assert (copies > share - 1 - 1e-5).all()
        else:
            assert ((copies - share).abs() < (1 if scheme is systematic else 2) + 1e-5).all()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_particles_without_weight_are_never_chosen(scheme, dtype, monkeypatch):
    log_weights = torch.tensor([-math.inf, -800.3, -math.inf, -800.1, -math.inf], dtype=dtype)
    for u in (0.0, 0.5, 1 - 2**-53):
        monkeypatch.setattr(resampling, "_uniform", lambda like, n, generator, u=u: torch.full((n,), u).double())
        ancestors = scheme(log_weights, None)
        assert ancestors.shape == (5,)
        assert set(ancestors.tolist()) <= {1, 3}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_heavy_particle_is_everyones_ancestor(scheme):
    assert scheme(torch.tensor([-math.inf, 3.0, -math.inf, -math.inf]), None).tolist() == [1] * 4


@pytest.mark.parametrize("scheme", [residual, stratified, systematic])
def test_equal_weights_keep_everyone(scheme):
    copies = torch.bincount(scheme(torch.zeros(64, dtype=torch.float64), torch.Generator().manual_seed(0)), minlength=64)
    assert (copies - 1).abs().sum() <= 2  # rounding may move one particle across a boundary


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_generator_decides(scheme):
    log_weights = torch.randn(50, generator=torch.Generator().manual_seed(1))
    runs = [scheme(log_weights, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("scheme", [stratified, systematic])
def test_many_equal_weights_in_single_precision_keep_everyone(scheme):
    """A weight is 10^-6 here, and what single precision rounds of a sum near 1 is up to 6·10^-8."""
    n = 1_000_003
    ancestors = scheme(torch.zeros(n), torch.Generator().manual_seed(0))
    copies = torch.bincount(ancestors, minlength=n)
    assert len(copies) == n
    assert (copies == 1).float().mean() > 0.999


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("log_weights", [[math.nan, 0.0, 0.0], [0.0, math.inf, 0.0], [-math.inf] * 3])
def test_weights_without_a_law_are_refused(scheme, log_weights):
    with pytest.raises(ValueError, match="log_weights"):
        scheme(torch.tensor(log_weights), None)
