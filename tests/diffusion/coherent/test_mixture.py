"""A mixture with the exact classifier of noised data is the toy's own unconditional score, for every sampler."""

import math

import pytest
import torch

import diffusion
from diffusion import LogLinear, Mixture, conditioned

X = torch.tensor([[0.3], [-1.2], [2.5], [0.9]], dtype=torch.float64)
SIGMA = torch.tensor(0.7, dtype=torch.float64)
GRID = diffusion.edm(12, 0.05, 20.0)


def mixture_of(toy, classified=True):
    models = [conditioned(toy.score, k) for k in range(len(toy.weights))]
    return Mixture(models, toy.weights.sum(1).log(), toy.log_class_probability if classified else None)


def labelled(toy):
    """Return the toy's score as that of a network: one label per row."""

    def score(x, sigma, label):
        return torch.cat([toy.score(row[None], sigma, int(k)) for row, k in zip(x, label, strict=True)])

    return score


@pytest.mark.parametrize("toy", ["skewed", "plane"])
def test_with_the_exact_classifier_it_is_the_unconditional_score(request, toy):
    toy = request.getfixturevalue(toy)
    x = torch.randn(9, toy.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(mixture_of(toy)(x, SIGMA), toy.score(x, SIGMA), rtol=1e-10, atol=1e-10)
    even = Mixture(mixture_of(toy).models, [math.log(0.5)] * 2, lambda x, sigma: torch.full((len(x), 2), math.log(0.5)))
    assert (even(x, SIGMA) - toy.score(x, SIGMA)).abs().max() > 0.1


SAMPLERS = {
    "ODE": lambda model, seed: diffusion.sample(model, (5, 1), GRID, generator=seed),
    "SDE": lambda model, seed: diffusion.sample(model, (5, 1), GRID, step=diffusion.sde(), generator=seed),
    "ancestral": lambda model, seed: diffusion.sample(model, (5, 1), GRID, step=diffusion.ancestral, generator=seed),
    "particles": lambda model, seed: diffusion.sample_joint(model, (5, 1), GRID, generator=seed),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_as_with_the_unconditional_score(skewed, guided, sampler):
    found, expected = (
        SAMPLERS[sampler](model, torch.Generator().manual_seed(4))
        for model in (mixture_of(skewed).guidance(1, 2.5), guided(skewed, 2.5, 1))
    )
    torch.testing.assert_close(found.x, expected.x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.log_normalizer, expected.log_normalizer, rtol=1e-7, atol=1e-7)


def test_one_network_is_read_once_and_gives_the_same_scores(plane):
    calls = []

    def score(x, sigma, label):
        calls.append(len(x))
        return labelled(plane)(x, sigma, label)

    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, several = Mixture.of(score, [1, 0], [math.log(0.4), math.log(0.6)]), mixture_of(plane)
    torch.testing.assert_close(one.scores(x, SIGMA), several.scores(x, SIGMA)[:, [1, 0]])
    assert calls == [10]
    for k in (0, 1):
        torch.testing.assert_close(one.component(k)(x, SIGMA), plane.score(x, SIGMA, 1 - k))
        torch.testing.assert_close(several.component(k)(x, SIGMA), plane.score(x, SIGMA, k))


@pytest.mark.parametrize("batched", [False, True])
def test_a_component_may_differ_by_row(plane, batched):
    x, label = torch.linspace(-2, 2, 10).double().reshape(5, 2), torch.tensor([1, 0, 0, 1, 1])
    mixture = Mixture.of(labelled(plane), [0, 1], [math.log(0.5)] * 2) if batched else mixture_of(plane)
    expected = torch.cat([plane.score(row[None], SIGMA, int(k)) for row, k in zip(x, label, strict=True)])
    torch.testing.assert_close(mixture.component(label)(x, SIGMA), expected)
    torch.testing.assert_close(mixture.component(label).among(mixture.scores(x, SIGMA)), expected)


def test_scale_0_and_1_are_the_mixture_and_the_component(skewed):
    mixture = mixture_of(skewed)
    torch.testing.assert_close(mixture.guidance(1, 1.0)(X, SIGMA), skewed.score(X, SIGMA, 1), rtol=0, atol=0)
    torch.testing.assert_close(mixture.guidance(1, 0.0)(X, SIGMA), mixture(X, SIGMA), rtol=0, atol=0)


def refused(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_sampler_without_a_path_posterior_needs_a_classifier(skewed):
    model = mixture_of(skewed, classified=False).guidance(1, 2.0)
    message = "classifier must be log p.* of noised data for this sampler, got None; .*diffusion.coherent.sample"
    for sampler in SAMPLERS.values():
        refused(lambda sampler=sampler: sampler(model, None), message)


def test_bad_parts_are_refused(skewed):
    score, half = conditioned(skewed.score, 0), [math.log(0.5)] * 2
    refused(lambda: Mixture([score, score], [0.5, 0.5]), r"exp\(log_prior\) must be of sum 1, got 3\.29")
    refused(lambda: Mixture([score], half), "log_prior must be one per model, 1, got 2")
    refused(lambda: Mixture([], []), "models must be at least one")
    refused(lambda: Mixture([score, 3], half), "models must be a function, got 3")
    refused(lambda: Mixture([score, score], half, 3), "classifier must be a function, got 3")
    refused(lambda: Mixture.of(3, [0, 1], half), "score must be a function, got 3")
    refused(lambda: Mixture.of(score, [0, 1, 2], half), "log_prior must be one per model, 3, got 2")
    for label in (2, -1, 1.0, torch.tensor([0, 2])):
        refused(lambda label=label: mixture_of(skewed).guidance(label, 2.0), "label must be")
    refused(
        lambda: Mixture([score, score], [0.0, -math.inf]).guidance(1, 2.0), "label must be a component with a positive prior"
    )
    refused(lambda: mixture_of(skewed).guidance(1, math.nan), "scale")


def test_a_mixture_is_a_model_of_a_combination(skewed):
    mixture, other = mixture_of(skewed), conditioned(skewed.score, 0)
    found = LogLinear((mixture, other), (0.3, 0.7))(X, SIGMA)
    torch.testing.assert_close(found, 0.3 * mixture(X, SIGMA) + 0.7 * other(X, SIGMA))
