"""The law checkers: exact toys pass, and every broken model fails with the message that says what is wrong."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import arguide
import diffusion
from analysis import Table
from analysis.toys.mixture import GaussianMixture


def table():
    rng = np.random.default_rng(3)
    joint = rng.gamma(0.8, size=(2, 3, 3, 3, 3)) + 0.02
    return Table(joint / joint.sum())


MODELS = {
    "conditional": lambda: table().autoregressive(1),
    "guided": lambda: arguide.LogLinear.guidance(table().autoregressive(0), table().autoregressive(), 2.5),
    "ending": lambda: arguide.Ending(table().autoregressive(1), (2,), 4),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("length", [2, 3, 4])
def test_an_exact_law_passes(name, length):
    arguide.check_law(MODELS[name](), length)


class State(NamedTuple):
    inner: Any
    log_probs: torch.Tensor


class Broken:
    """A model with one function replaced."""

    def __init__(self, law=lambda state: state.log_probs, chosen=lambda index: index):
        self.law, self.chosen = law, chosen

    def start(self, n):
        return self._state(table().autoregressive(1).start(n))

    def append(self, state, token):
        return self._state(table().autoregressive(1).append(state.inner, token))

    def select(self, state, index):
        return self._state(table().autoregressive(1).select(state.inner, self.chosen(index)))

    def _state(self, inner):
        return State(inner, self.law(inner))


class Mutable:
    """A model whose `append` changes the state that it is given."""

    class Cache:
        def __init__(self, inner):
            self.inner = inner

        @property
        def log_probs(self):
            return self.inner.log_probs

    def __init__(self, *, appends=True, selects=True):
        self.model, self.appends, self.selects = table().autoregressive(1), appends, selects

    def start(self, n):
        return self.Cache(self.model.start(n))

    def _moved(self, state, inner, change):
        if not change:
            return self.Cache(inner)
        state.inner = inner
        return state

    def append(self, state, token):
        return self._moved(state, self.model.append(state.inner, token), self.appends)

    def select(self, state, index):
        return self._moved(state, self.model.select(state.inner, index), self.selects)


def of_the_batch(inner):
    """Return laws that depend on the other rows."""
    return (inner.log_probs + 0.3 * inner.log_probs.mean(0)).log_softmax(-1)


BROKEN = {
    "sound": (Broken(), None),
    "logits": (Broken(law=lambda state: state.log_probs + 0.4), r"Σ_v exp\(log_probs\) must be 1"),
    "NaN": (Broken(law=lambda state: state.log_probs * math.nan), r"must be 1 in every row"),
    "no law": (Broken(law=lambda state: None), "floating-point tensor"),
    "one row": (Broken(law=lambda state: state.log_probs[:1]), r"floating-point tensor \[3, V\]"),
    "probabilities": (Broken(law=lambda state: state.log_probs.exp()), "must be 1"),
    "not chosen": (Broken(chosen=lambda index: index * 0), "`select` must return rows"),
    "reversed": (Broken(chosen=lambda index: 2 - index), "`select` must return rows"),
    "across rows": (Broken(law=of_the_batch), "a batch must give the laws of its rows|`select` must return rows"),
    "append": (Mutable(selects=False), "`append` must not change"),
    "select": (Mutable(appends=False), "`select` must not change|floating-point tensor"),
    "no model": (3, "autoregressive model"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_law_is_named(name):
    model, message = BROKEN[name]
    if message is None:
        arguide.check_law(model)
        return
    with pytest.raises(ValueError, match=message):
        arguide.check_law(model)


def test_a_model_may_change_its_states_if_that_is_said():
    arguide.check_law(Mutable(), keeps_states=False)
    with pytest.raises(ValueError, match="`append` must not change"):
        arguide.check_law(Mutable())


# ------------------------------------------------------------------------------------------------------------------ scores

MEANS = torch.tensor([[1.0, 0.5], [-1.2, 0.3]]).double()
TOY = GaussianMixture(MEANS, torch.tensor([0.6, 0.9]).double(), torch.tensor([[0.3, 0.2], [0.1, 0.4]]).double())
X, SIGMA = torch.tensor([[0.3, -2.0], [1.5, 0.4], [-3.0, 2.2]]).double(), torch.tensor(0.7).double()


def spoil(x, sigma, label=None):
    x += 1
    return TOY.score(x - 1, sigma, label)


def restless(x, sigma, label=None):
    return TOY.score(x, sigma, label) + torch.randn(x.shape)


def labelled(x, sigma, label=None):
    return TOY.score(x, sigma, label) if label is not None else None


SCORES = {
    "shape": (lambda x, sigma, label=None: TOY.score(x, sigma, label)[:, :1], r"shape of x, \(3, 2\)"),
    "no tensor": (lambda x, sigma, label=None: 3.0, "a tensor of the shape"),
    "dtype": (lambda x, sigma, label=None: TOY.score(x, sigma, label).float(), "must be torch.float64"),
    "NaN": (lambda x, sigma, label=None: TOY.score(x, sigma, label) * math.nan, "must be finite"),
    "changes x": (spoil, "must not change x"),
    "random": (restless, "evaluated again"),
    "across rows": (lambda x, sigma, label=None: TOY.score(x, sigma, label) - x.mean(0), "of a batch must be that of its rows"),
    "no unconditional": (labelled, "with label None"),
    "no function": (3, "score must be a function"),
}


@pytest.mark.parametrize("label", [None, 0, 1])
def test_an_exact_score_passes(label):
    diffusion.check_score(TOY.score, X, SIGMA, labels=(label,))


@pytest.mark.parametrize("name", SCORES)
def test_a_broken_score_is_named(name):
    score, message = SCORES[name]
    with pytest.raises(ValueError, match=message):
        diffusion.check_score(score, X, SIGMA, labels=(0, None))
