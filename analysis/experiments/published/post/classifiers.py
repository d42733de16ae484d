"""The post on classifier guidance: classifiers of clean data, and gradients of classifiers that were learned."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

import diffusion
from analysis.experiments import classifier
from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim
from analysis.metrics.confidence import mean_of
from analysis.toys import GaussianMixture
from analysis.toys.example_tables import two_classes
from analysis.toys.gaussian import Gaussian

SCALE = 2.0
DRAWS, STEPS = 4000, 100
RUNS, ROWS, MORE, DIMENSIONS, TRAINED = 6, 400, 4000, 20, 150
USELESS = "share of the squared gradient of log p(y|x) in directions without information on y"


def claims(seed: int) -> Iterator[Claim]:
    """Yield what guidance by a classifier of clean data draws, and where gradients of learned classifiers point."""
    grid, shape, mixture = diffusion.edm(STEPS, sigma_min=0.01, sigma_max=10.0), (DRAWS, 1), two_classes()
    fields = classifier.fields(mixture, SCALE)
    ratio = _log_ratios(
        {name: diffusion.sample(field, shape, grid, generator=stream(seed, 32)).x for name, field in fields.items()}
    )
    yield Claim(
        "a classifier for guidance “needs to be able to cope with high noise levels”",
        "|log ratio| of the variance of guided draws to that of classifier-free ones, two classes, γ = 2",
        "> 0.2",
        ratio[classifier.BLIND],
        ratio[classifier.AWARE],
        "the exact classifier of noised data",
        std_error=2 / shape[0] ** 0.5,
        note="The classifier of clean data is the exact p(y|x_0), read at x_t. All samplers start from the same noise.",
    )
    x, level = torch.full((1, 1), 0.5, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    at = {name: float(field(x, level)) for name, field in classifier.fields(mixture, 1.0).items()}
    yield Claim(
        "“All we need to turn an unconditional diffusion model into a conditional one, is a classifier!”",
        "conditional score of two Gaussian classes at x = ½, σ = 1",
        float(mixture.score(x, level, classifier.LABEL)),
        at[classifier.AWARE],
        at[classifier.BLIND],
        "a classifier of clean data",
        note="The unconditional score plus the gradient of log p(y|x_t), by automatic differentiation.",
    )
    far, near = (_pull(mixture, sigma) for sigma in (10.0, 0.1))
    yield Claim(
        "“useful signal all the way through the sampling process”",
        "mean size of the clean classifier’s gradient ÷ that of the right one, at σ = 10",
        "> 2",
        far,
        near,
        "σ = 0.1",
        note="By quadrature over the noised data.",
    )
    yield from _directions(seed)


def _log_ratios(draws: Mapping[str, Tensor]) -> dict[str, float]:
    """Return |log of the variance ÷ that of classifier-free draws| by name."""
    free = draws[classifier.FREE].var()
    return {name: abs(float((x.var() / free).log())) for name, x in draws.items()}


def _pull(mixture: GaussianMixture, sigma: float) -> float:
    """Return E|∇log p(y|x_0 = x_σ)| ÷ E|∇log p(y|x_σ)| at a noise level."""
    x = torch.linspace(-8, 8, 2001, dtype=torch.float64)[:, None] * (1 + sigma**2) ** 0.5
    mass, level = mixture.log_density(x, sigma).softmax(0), torch.tensor(sigma, dtype=torch.float64)
    fields, base = classifier.fields(mixture, 1.0), mixture.score(x, level)
    blind, aware = (mass @ (fields[name](x, level) - base)[:, 0].abs() for name in (classifier.BLIND, classifier.AWARE))
    return float(blind / aware)


class Shares(NamedTuple):
    """Shares of squared gradients outside x_1, of six classifiers.

    trained: a network.
    linear: one without hidden units.
    shared: Bayes' rule on Gaussians fitted to every label with one covariance, also a linear classifier.
    full: the same with a covariance per label.
    more: the same fitted to `MORE` rows.
    exact: Bayes' rule on the laws of the data.
    """

    trained: float
    linear: float
    shared: float
    full: float
    more: float
    exact: float


def _directions(seed: int) -> Iterator[Claim]:
    """Yield how much of a classifier's gradient points where nothing is to be learned about the label."""
    found = [_shares(stream(seed, 36, run), 1000 * seed + run) for run in range(RUNS)]
    trained, full, more = (mean_of([getattr(each, name) for each in found]) for name in ("trained", "full", "more"))
    linear, shared, control = (
        mean_of([getattr(each, name) / each.trained for each in found]) for name in ("linear", "shared", "full")
    )
    note = (
        f"N(±1, 1) in x_1 by label, N(0, 1) in {DIMENSIONS - 1} more directions; {RUNS} data sets of {ROWS} rows. "
        "The network has 64 units."
    )
    yield Claim(
        "its gradient “can yield arbitrary (and even adversarial) directions in input space”",
        f"{USELESS}, of a trained network",
        "> 0.1",
        trained.value,
        max(each.exact for each in found),
        "the exact classifier",
        std_error=trained.std_error,
        note=note,
        freedom=trained.freedom,
    )
    yield Claim(
        "a classifier made of a generative model: “the resulting gradient much more robust”",
        f"{USELESS}, Gaussians of one covariance ÷ trained network",
        "< 0.5",
        shared.value,
        control.value,
        "Gaussians of a covariance per label",
        std_error=shared.std_error,
        note=f"{note} The share of the control’s Gaussians falls with data, from {full.value:.2f} to {more.value:.2f} at "
        f"{MORE:,} rows. A trained linear classifier has {linear.value:.2f} of the network’s share, so a gradient can be "
        "robust without a generative model.",
        freedom=shared.freedom,
    )


def _rows(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return n rows [n, d], and their labels in turn."""
    labels = torch.arange(n) % 2
    shift = torch.eye(DIMENSIONS)[0] * (2.0 * labels[:, None] - 1)
    return shift + torch.randn((n, DIMENSIONS), generator=generator), labels


def _fitted(x: Tensor, labels: Tensor) -> list[Gaussian]:
    """Return a Gaussian per label."""
    parts = [x[labels == label].double() for label in (0, 1)]
    return [Gaussian(part.mean(0), torch.cov(part.T)) for part in parts]


def _shares(generator: torch.Generator, seed: int) -> Shares:
    """Return the shares of one data set."""
    (x, labels), (points, _), more = (_rows(n, generator) for n in (ROWS, ROWS, MORE))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(DIMENSIONS, 64), nn.Tanh(), nn.Linear(64, 2))
        linear = nn.Linear(DIMENSIONS, 2)
    for model in (network, linear):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(TRAINED):
            loss = nn.functional.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    full, one = _fitted(x, labels), torch.eye(DIMENSIONS, dtype=torch.float64)
    shared = [law._replace(covariance=(full[0].covariance + full[1].covariance) / 2) for law in full]
    exact = [Gaussian(side * one[0], one) for side in (-1.0, 1.0)]

    def share(logits_of: Callable[[Tensor], Tensor]) -> float:
        at = points.clone().requires_grad_()
        log_class = logits_of(at).log_softmax(1)[:, 1].sum()
        (gradient,) = torch.autograd.grad(log_class, at)
        squares = gradient.square().sum(0)
        return float(squares[1:].sum() / squares.sum())

    def of(laws: list[Gaussian]) -> float:
        return share(lambda at: torch.stack([law.log_density(at.double()) for law in laws], 1))

    return Shares(share(network), share(linear), of(shared), of(full), of(_fitted(*more)), of(exact))
