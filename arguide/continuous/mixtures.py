r"""Mixtures of Gaussians as the conditionals of continuous sequences, and a network that learns them.

    log p(x | y) = Σ_t log p(x_t | x_<t, y),    p(x_t | x_<t, y) = Σ_k π_k N(x_t; μ_k, s_k²).

Source: Bishop, "Mixture density networks" (1994), https://publications.aston.ac.uk/id/eprint/373.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from arguide import checks


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
            ValueError: m below 1, or weights with NaN.
        """
        checks.integer("m", m)
        if not self.log_weights.amax(-1).isfinite().all():
            raise ValueError("log_weights must have no NaN, and one above -inf per row, got a row that does not")
        component = torch.multinomial(self.log_weights.exp(), m, replacement=True, generator=generator)
        noise = torch.randn(component.shape, generator=generator, dtype=self.means.dtype, device=self.means.device)
        return self.means.gather(-1, component) + self.log_stds.gather(-1, component).exp() * noise


class Conditionals(Protocol):
    """p(x_t | x_<t, label) for t = 1 … T at once, [n, T] ↦ mixtures [n, T, K]; label None is unconditional."""

    def __call__(self, x: Tensor, label: Any = None) -> Mixture:
        """Return the mixtures; those of x_t depend on x_<t alone."""
        ...


Bound = Callable[[Tensor], Mixture]  # Conditionals with their label bound


def log_density(model: Bound, x: Tensor) -> Tensor:
    """Return log p(x) = Σ_t log p(x_t | x_<t), [n, T] ↦ [n], of a model whose label is bound (`functools.partial`)."""
    return model(x).log_density(x).sum(-1)


class MixtureNetwork(nn.Module):
    """A recurrent mixture density network: `Conditionals` with `labels` labels, or None for no label.

    Args:
        labels: number of labels.
        components: K.
        hidden: width of the recurrent state.

    Raises:
        ValueError: a number below 1.
    """

    def __init__(self, labels: int, *, components: int = 4, hidden: int = 32) -> None:
        super().__init__()
        checks.integer("labels", labels), checks.integer("components", components), checks.integer("hidden", hidden)
        self.none, self.components = labels, components
        self.embed = nn.Embedding(labels + 1, hidden)
        self.recur = nn.GRU(1 + hidden, hidden, batch_first=True)
        self.head = nn.Linear(2 * hidden, 3 * components)

    def forward(self, x: Tensor, label: Tensor | int | None = None) -> Mixture:
        """Return the mixtures of all conditionals, [n, T, K], with one label for all rows or one per row, [n].

        Raises:
            ValueError: a label that is not one of the indices.
        """
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
    """Return the mean of −log p(x | label) over sequences, []; `arguide.training.fit` minimises it.

    Args:
        network: the model.
        x: sequences, [n, T].
        labels: indices [n]; `network.none` is the null label.
        generator: not used; the loss has no randomness.
    """
    del generator
    return -log_density(partial(network, label=labels), x).mean()
