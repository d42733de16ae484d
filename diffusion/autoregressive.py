r"""Autoregressive models of continuous data, and their joint law: a density with a score is all that Langevin dynamics asks.

Each conditional is a mixture of Gaussians whose parameters a causal model tells for all t in one pass. Then

    log p(x | y) = Σ_t log p(x_t | x_<t, y),    ∇_x log p(x | y) by autograd,

and Σ_k w_k log p_k(x) is the log-density of the joint law Π_k p_k^{w_k} / Z: MALA at no noise draws from it, though no
sequential sampler does. `sample_joint` is the other way: for mixtures Z_t(x_<t) = ∫ Π_k p_k(x_t|x_<t)^{w_k} dx_t has no closed
form, so each x_t is one of M candidates from p_1(x_t | x_<t), drawn in proportion to ω = Π_k p_k^{w_k} / p_1. Their mean ω is
an unbiased estimate of Z_t; weighted by the product of these means sequences are proper for the joint law at any M, and without
the weights they follow sequential guidance as M → ∞.

Sources: Dieleman, "Guidance: a cheat code for diffusion models" (2022), on scores of autoregressive models; Bishop, "Mixture
density networks" (1994); Naesseth, Lindsten & Schön, "Nested sequential Monte Carlo" (2015), for estimated weights.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from arguide import checks
from arguide.smc.driver import Move, drive, populate
from arguide.smc.resampling import Resample, systematic
from diffusion.discrete.base import categorical
from diffusion.langevin import Target, with_autograd
from diffusion.particles import JointSample, driven


class Mixture(NamedTuple):
    """Mixtures of K Gaussians: log-weights, means and log standard deviations, [..., K] each."""

    log_weights: Tensor
    means: Tensor
    log_stds: Tensor

    def log_density(self, x: Tensor) -> Tensor:
        """Return log Σ_k π_k N(x; μ_k, s_k²), for x [...] that broadcasts with the mixtures."""
        whitened = (x[..., None] - self.means) * (-self.log_stds).exp()
        parts = self.log_weights - self.log_stds - whitened.square() / 2 - math.log(2 * math.pi) / 2
        return parts.logsumexp(-1)

    def sample(self, m: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw m values of each of n mixtures, [n, K] ↦ [n, m].

        Raises:
            ValueError: no value, or weights with NaN.
        """
        checks.integer("m", m)
        if not self.log_weights.amax(-1).isfinite().all():
            raise ValueError("the log-weights of a mixture must have no NaN, and one above -inf per row, got a row without")
        component = torch.multinomial(self.log_weights.exp(), m, replacement=True, generator=generator)
        noise = torch.randn(component.shape, generator=generator, dtype=self.means.dtype, device=self.means.device)
        return self.means.gather(-1, component) + self.log_stds.gather(-1, component).exp() * noise


class Conditionals(Protocol):
    """p(x_t | x_<t, label) for t = 1 … T at once, [n, T] ↦ mixtures [n, T, K]; label None is unconditional."""

    def __call__(self, x: Tensor, label: Any = None) -> Mixture:
        """Return the mixtures; those of x_t depend on x_<t alone."""
        ...


Bound = Callable[[Tensor], Mixture]


def log_density(model: Bound, x: Tensor) -> Tensor:
    """Return log p(x) = Σ_t log p(x_t | x_<t), [n, T] ↦ [n], of a model whose label is bound (`functools.partial`)."""
    return model(x).log_density(x).sum(-1)


def target(models: Sequence[Bound], weights: Sequence[float]) -> Target:
    """Return x ↦ (Σ_k w_k log p_k(x), its gradient): the joint law, for `diffusion.langevin`."""
    _check(models, weights)

    def log_tilt(x: Tensor) -> Tensor:
        return torch.stack([w * log_density(model, x) for model, w in zip(models, weights, strict=True)]).sum(0)

    return with_autograd(log_tilt)


def guided(model: Conditionals, label: Any, scale: float) -> Target:
    """Return the target p(x)^{1−γ} p(x|label)^γ, the joint law of guidance."""
    checks.function("model", model), checks.number("scale", scale)
    return target((partial(model, label=label), model), (scale, 1 - scale))


@torch.no_grad()
def sample(model: Bound, n: int, length: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw n sequences of the model itself, [n, T]; `length` passes."""
    return sample_joint((model,), (1.0,), n, length, candidates=1, generator=generator).x


@torch.no_grad()
def sample_joint(
    models: Sequence[Bound],
    weights: Sequence[float],
    n: int,
    length: int,
    *,
    candidates: int = 64,
    like: Tensor | None = None,
    generator: torch.Generator | None = None,
    resample: Resample = systematic,
    threshold: float = 0.5,
) -> JointSample:
    """Draw n weighted sequences, value by value, that follow Π_k p_k^{w_k} / Z.

    Args:
        models: K models with their labels bound; candidates are drawn from the first, whose tails must cover the others'.
        candidates: M. Whatever it is the weights are proper; many come near sequential guidance before they are weighted.
        like: a tensor whose dtype and device the sequences have; float64 on the CPU by default.
        resample, threshold: see `arguide.smc.driver.drive`; `threshold=0` only weighs.

    Raises:
        ValueError: weights that are not one finite number per model, no row, value or candidate; models that give NaN.
    """
    _check(models, weights)
    for name, size in (("n", n), ("length", length), ("candidates", candidates)):
        checks.integer(name, size)
    choose = categorical(generator)
    zeros = torch.zeros((n, length), dtype=torch.float64) if like is None else like.new_zeros((n, length))

    def move(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        laws = [Mixture(*(rows[:, t] for rows in model(x))) for model in models]
        values = laws[0].sample(candidates, generator)
        logs = [Mixture(*(rows[:, None] for rows in law)).log_density(values) for law in laws]
        ratios = torch.stack([w * log for w, log in zip(weights, logs, strict=True)]).sum(0) - logs[0]
        if ratios.amax(1).isnan().any():
            raise ValueError(f"models must give densities without NaN, got NaN at position {t}")
        chosen = choose(ratios.log_softmax(-1))
        x = x.index_copy(1, torch.tensor([t], device=x.device), values.gather(1, chosen[:, None]))
        return x, ratios.logsumexp(-1) - math.log(candidates)

    moves: list[Move] = [partial(move, t=t) for t in range(length)]
    first = populate(zeros, zeros.new_zeros(n))
    return driven(drive(first, moves, _rows, resample=resample, threshold=threshold, generator=generator))


class MixtureNetwork(nn.Module):
    """A recurrent mixture density network: `Conditionals` of sequences under `labels` labels and none.

    Args:
        labels: how many labels there are; their indices, and None, are what the model is called with.
        components: K.
    """

    def __init__(self, labels: int, *, components: int = 4, hidden: int = 32) -> None:
        super().__init__()
        for name, size in (("labels", labels), ("components", components), ("hidden", hidden)):
            checks.integer(name, size)
        self.none, self.components = labels, components
        self.embed = nn.Embedding(labels + 1, hidden)
        self.recur = nn.GRU(1 + hidden, hidden, batch_first=True)
        self.head = nn.Linear(2 * hidden, 3 * components)

    def forward(self, x: Tensor, label: Tensor | int | None = None) -> Mixture:
        """Return the mixtures of all conditionals, [n, T, K]; a label for all rows or one a row, [n]."""
        checks.tensor("x", x, 2)
        index = torch.as_tensor(self.none if label is None else label)
        if index.is_floating_point() or (index.device.type == "cpu" and not ((index >= 0) & (index <= self.none)).all()):
            raise checks.refusal("label", f"None or integers from 0 to {self.none - 1}", label)
        index = index.to(x.device).expand(len(x))
        about = self.embed(index)[:, None].expand(-1, x.shape[1], -1)
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
        states, _ = self.recur(torch.cat([before[..., None], about], -1))
        logits, means, log_stds = self.head(torch.cat([states, about], -1)).split(self.components, -1)
        return Mixture(logits.log_softmax(-1), means, log_stds.clamp(-5, 5))


def loss(network: MixtureNetwork, x: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return the mean of −log p(x | label) over sequences [n, T], []; `arguide.training.fit` minimises it, labels dropped.

    Args:
        labels: indices [n]; `network.none` is no label.
    """
    del generator
    return -log_density(partial(network, label=labels), x).mean()


def _check(models: Sequence[Bound], weights: Sequence[float]) -> None:
    checks.matched("weights", weights, models, "model")
    for model, weight in zip(models, weights, strict=True):
        checks.function("models", model), checks.number("weights", weight)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    return x[index]
