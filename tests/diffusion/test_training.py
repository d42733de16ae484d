"""Denoisers and classifiers that learn laws whose denoisers and classifiers are known."""

import pytest
import torch

import diffusion
from arguide.training import Recipe, fit
from diffusion.networks import Classifier, Denoiser
from diffusion.training import classifying_loss, denoising_loss, levels, noised

SPREADS, MEANS = (0.3, 0.9), (-1.0, 0.8)


def two_labels(n=6000):
    """Label 0 is N(−1, 0.3²), label 1 N(0.8, 0.9²)."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    x = torch.randn(n, 1, generator=generator) * torch.tensor(SPREADS)[labels, None] + torch.tensor(MEANS)[labels, None]
    return x, labels


def build(kind, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind([1], 2, 1.1, width=32, depth=2, **options)


def learned(model, loss, steps=400, **options):
    x, labels = two_labels()
    recipe = Recipe(steps, batch=256, rate=5e-3, average=0.99, **options)
    fit(model, x, labels, 2, lambda *given: loss(model, *given), recipe, generator=torch.Generator().manual_seed(1))
    return model


def posterior_mean(x, sigma, label):
    mean, spread = MEANS[label], SPREADS[label]
    return mean + spread**2 / (spread**2 + sigma**2) * (x - mean)


def log_density(x, sigma, label):
    variance = SPREADS[label] ** 2 + sigma**2
    return -((x[:, 0] - MEANS[label]) ** 2) / (2 * variance) - variance.log() / 2


@pytest.fixture(scope="module")
def denoiser():
    return learned(build(Denoiser), denoising_loss)


@pytest.mark.parametrize("sigma", [0.2, 0.7, 2.0])
def test_a_denoiser_learns_the_posterior_mean_with_a_label_and_without(denoiser, sigma):
    """Without one it is the mixture's; the two labels' own are far from it, so that a swap would show."""
    sigma = torch.tensor(sigma)
    x = torch.linspace(-1.5, 1.5, 25)[:, None]
    share = (log_density(x, sigma, 0) - log_density(x, sigma, 1)).sigmoid()[:, None]
    both = [posterior_mean(x, sigma, label) for label in (0, 1)]
    mixture = share * both[0] + (1 - share) * both[1]
    with torch.no_grad():
        for label, exact in ((0, both[0]), (1, both[1]), (None, mixture)):
            near = (denoiser(x, sigma, label) - exact).abs().mean()
            far = min((denoiser(x, sigma, label) - other).abs().mean() for other in (*both, mixture) if other is not exact)
            assert near < 0.12
            assert near < far


def test_a_guided_denoiser_draws_between_its_labels(denoiser):
    """γ = 1 draws label 0 as it is; its mean and spread are the data's."""
    score = diffusion.from_denoiser(denoiser)
    field = diffusion.LogLinear.guidance(diffusion.conditioned(score, 0), diffusion.conditioned(score), 1.0)
    with torch.no_grad():
        grid = diffusion.edm(30, 0.02, 20.0).float()
        x = diffusion.sample(field, (2000, 1), grid, generator=torch.Generator().manual_seed(0)).x
    assert float(x.mean()) == pytest.approx(-1.0, abs=0.1)
    assert float(x.std()) == pytest.approx(0.3, abs=0.1)


@pytest.mark.slow
def test_a_classifier_of_noised_data_is_bayes_and_one_of_clean_data_is_not():
    noisy = learned(build(Classifier), classifying_loss, dropout=0.0)
    clean = learned(build(Classifier, noised=False), classifying_loss, dropout=0.0)
    x, sigma = torch.linspace(-3, 3, 25)[:, None], torch.tensor(1.5)
    exact = torch.stack([log_density(x, sigma, label) for label in (0, 1)], 1).softmax(1)
    with torch.no_grad():
        assert (noisy(x, sigma).exp() - exact).abs().mean() < 0.08
        assert (clean(x, sigma).exp() - exact).abs().mean() > 0.15
        x, none = torch.linspace(-1.5, 2, 25)[:, None], torch.tensor(0.0)  # where it has seen data
        exact = torch.stack([log_density(x, none, label) for label in (0, 1)], 1).softmax(1)
        assert (clean(x, none).exp() - exact).abs().mean() < 0.08


def test_preconditioning_has_its_limits():
    """Without noise D is x; with much of it D is c_out F, of the data's size whatever the input's."""
    model = build(Denoiser)
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(x, torch.tensor(1e-3)), x, atol=5e-3, rtol=0)
        assert model(1e4 * x, torch.tensor(1e4)).abs().max() < 20


def silent(shape, value=0.0):
    """A denoiser whose network says the same of everything."""
    model = Denoiser(shape, 2, 1.1, width=16, depth=1)
    torch.nn.init.zeros_(model.backbone.last.weight)
    torch.nn.init.constant_(model.backbone.last.bias, value)
    return model


@pytest.mark.parametrize("sigma", [0.1, 1.0, 8.0])
def test_the_network_reads_and_aims_at_unit_variance(sigma):
    """Of 20,000 data of variance σ_d² = 1.1², within six standard errors."""
    generator, sigma = torch.Generator().manual_seed(0), torch.tensor(sigma)
    x = 1.1 * torch.randn(20_000, 1, generator=generator)
    noisy, model, read = x + sigma * torch.randn(x.shape, generator=generator), silent([1]), []
    model.backbone.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    with torch.no_grad():
        skipped, shifted = model(noisy, sigma), silent([1], 1.0)(noisy, sigma)
    assert read[0].std() == pytest.approx(1.0, abs=0.03)
    assert ((x - skipped) / (shifted - skipped)).std() == pytest.approx(1.0, abs=0.03)


def test_nothing_learned_loses_one(monkeypatch):
    """So the weight evens the levels: the error of c_skip x is 1/λ at each, whatever the shape."""
    generator = torch.Generator().manual_seed(0)
    x = 1.1 * torch.randn(20_000, 1, 2, generator=generator)
    for level in (0.1, 1.0, 8.0):
        monkeypatch.setattr("diffusion.training.levels", lambda n, _, level=level: torch.full((n,), level))
        assert denoising_loss(silent([1, 2]), x, torch.zeros(20_000).long(), generator).item() == pytest.approx(1, abs=0.05)


def test_a_classifier_of_clean_data_ignores_the_noise_level():
    x = torch.randn(4, 1, generator=torch.Generator().manual_seed(0))
    for reads, same in ((False, True), (True, False)):
        with torch.no_grad():
            found = [build(Classifier, noised=reads)(x, torch.tensor(sigma)) for sigma in (0.1, 2.0)]
        assert torch.equal(*found) is same


def test_labels_and_noise_levels_may_differ_by_row():
    model = build(Denoiser)
    x, sigma, labels = torch.randn(4, 1), torch.tensor([0.1, 0.5, 2.0, 0.3]), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        rows = [model(x[i : i + 1], sigma[i], int(labels[i])) for i in range(4)]
        torch.testing.assert_close(model(x, sigma, labels), torch.cat(rows))
        torch.testing.assert_close(model(x, sigma), model(x, sigma, 2))
        assert not torch.allclose(model(x, sigma), model(x, sigma, 1))


@pytest.mark.parametrize("kind", [Denoiser, Classifier])
def test_networks_are_saved_as_safetensors_and_read_back(tmp_path, kind):
    model = build(kind)
    model.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    again = kind.from_pretrained(tmp_path)
    x = torch.randn(5, 1)
    with torch.no_grad():
        assert torch.equal(again(x, torch.tensor(0.4)), model(x, torch.tensor(0.4)))


def test_noise_has_the_level_that_is_asked_for():
    generator = torch.Generator().manual_seed(0)
    sigma = levels(40_000, generator, mean=-0.5, spread=0.4)
    assert float(sigma.log().mean()) == pytest.approx(-0.5, abs=0.02)
    assert float(sigma.log().std()) == pytest.approx(0.4, abs=0.02)
    x = noised(torch.zeros(40_000, 2), torch.tensor([0.3, 2.0]).repeat(20_000), generator)
    assert x[::2].std() == pytest.approx(0.3, rel=0.03)
    assert x[1::2].std() == pytest.approx(2.0, rel=0.03)


def test_a_seed_fixes_the_noise_that_is_learned_from():
    x = torch.zeros(5, 2)
    for draw in (lambda seed: levels(5, seed), lambda seed: noised(x, torch.ones(5), seed)):
        first, again, other = (draw(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_noise_keeps_the_type_of_the_data_and_its_precision(dtype):
    x, generator = torch.zeros(4, 2, dtype=dtype), torch.Generator().manual_seed(0)
    found = noised(x, torch.full((4,), 2.0, dtype=dtype), generator)
    assert found.dtype == dtype
    assert (found != found.float().to(dtype)).any() == (dtype == torch.float64)
