"""Toys and distances refuse bad arguments in one line that names the argument."""

import pytest
import torch
from bad_calls import COUNTS, INF, NAN, NUMBERS, POSITIVE, cases, refused

from analysis import GaussianMixture, GaussianPair, GaussianSequence, MarkovChain, Table, digits_table, toys
from analysis.metrics import distances
from analysis.toys import gaussian
from analysis.toys.discrete_diffusion import masked_law, uniform_law
from analysis.toys.gaussian import Gaussian
from analysis.toys.law import log_combine

JOINT = torch.tensor([[[0.2, 0.1, 0.05], [0.05, 0.05, 0.1]], [[0.1, 0.05, 0.1], [0.1, 0.05, 0.05]]], dtype=torch.float64)
TABLE = Table(JOINT, labels=("a", "b"))
INITIAL = torch.tensor([[0.6, 0.4], [0.3, 0.7]], dtype=torch.float64)
STEP = torch.tensor([[[0.9, 0.1], [0.4, 0.6]], [[0.5, 0.5], [0.2, 0.8]]], dtype=torch.float64)
CHAIN = MarkovChain(INITIAL, STEP, 3, labels=("a", "b"))
LAW = CHAIN.joint_guided("a", 2.0)
LONGER = MarkovChain(INITIAL, STEP, 4).joint_guided(0, 2.0)
MEANS, VARIANCES = torch.tensor([[0.0, 1.0], [2.0, -1.0]]).double(), torch.tensor([0.5, 1.5]).double()
SHARES = torch.tensor([[0.2, 0.3], [0.4, 0.1]]).double()
MIXTURE = GaussianMixture(MEANS, VARIANCES, SHARES)
FULL = torch.eye(2).double().repeat(2, 1, 1)
SKEW = torch.tensor([[1.0, 0.9], [0.0, 1.0]]).double()
PAIR, SEQUENCE = GaussianPair.scalar(1.0, 0.7, 1.6), GaussianSequence(3)
GAUSSIAN, OTHER = Gaussian(torch.zeros(2).double(), torch.eye(2).double()), SEQUENCE.law()
LOGS = torch.tensor([0.2, 0.3, 0.5]).log()
POINTS = [3.0, [[1.0, 2.0]], torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 1), torch.zeros(2, 2).long()]
LABELS = [2, -1, "c", 0.5, [0]]
CODES = [
    torch.tensor([[0, -1]]),
    torch.tensor([[0, 3]]),
    torch.tensor([[2, 0]]),
    torch.zeros(1, 3).long(),
    torch.zeros(1, 2),
    [[0, 0]],
]
WEIGHTS = [{}, 2.0, "a", {"a": NAN}, {"a": INF}, {0: "1"}]
UNLIKE = [torch.zeros(2), torch.zeros(1), torch.zeros(3, 1), torch.zeros(()), 0.5]
SIGMAS = [NAN, -1.0, INF, "1"]


def mixture(means=MEANS, covariances=VARIANCES, weights=SHARES):
    return GaussianMixture(means, covariances, weights)


def chain(initial=INITIAL, transition=STEP, length=3, **options):
    return MarkovChain(initial, transition, length, **options)


def guided(toy, name, label):
    return cases(
        (name, "scale", lambda v: toy.joint_guided(label, v), NUMBERS),
        (name, "scale", lambda v: toy.sequential_guided(label, v), NUMBERS),
        (name, "temperature", lambda v: toy.joint_guided(label, 2.0, temperature=v), POSITIVE),
        (name, "temperature", lambda v: toy.sequential_guided(label, 2.0, temperature=v), POSITIVE),
    )


DISCRETE = cases(
    ("Table", "", Table, [JOINT * NAN, JOINT - 0.1, JOINT * 2, torch.zeros(0, 2), torch.ones(1), 1.0]),
    ("Table", "joint", Table, ["0.5", [["a", "b"]], None, [[0.5], [0.2, 0.3]]]),
    ("Table", "labels", lambda v: Table(JOINT, labels=v), [("a", "a"), ("a",), ("a", "b", "c"), "ab", 3]),
    ("Table", "values", lambda v: Table(JOINT, values=v), [((0, 1),), ((0, 1), (0, 1)), ((0, 1), (0, 1, 2), (0,))]),
    ("Table.from_log", "log_joint", Table.from_log, [JOINT * NAN, JOINT - INF, JOINT + INF, torch.zeros(2)]),
    ("Table.index", "label", lambda v: TABLE.joint_guided(v, 2.0), LABELS),
    ("Table.log_probs", "label", TABLE.log_probs, LABELS),
    ("Table.autoregressive", "label", TABLE.autoregressive, LABELS),
    ("Table.log_joint", "weights", TABLE.log_joint, WEIGHTS),
    ("Table.log_sequential", "weights", TABLE.log_sequential, WEIGHTS),
    ("Table.mixture", "spacing", TABLE.mixture, POSITIVE),
    ("Table.denoise_masked", "x", lambda v: TABLE.denoise_masked(v, torch.tensor(0.5)), [torch.tensor([[0, -2]]), *CODES[1:]]),
    ("Table.denoise_uniform", "x", lambda v: TABLE.denoise_uniform(v, torch.tensor(0.5)), CODES),
    ("Table.denoise_uniform", "time", lambda v: TABLE.denoise_uniform(torch.tensor([[0, 1]]), v), SIGMAS),
    ("MarkovChain", "initial", lambda v: chain(initial=v), ["ab", None, torch.ones(2), torch.ones(0, 2)]),
    ("MarkovChain", "transition", lambda v: chain(transition=v), ["ab", None, STEP[0], STEP[:, :, :1]]),
    ("MarkovChain", "chain", lambda v: chain(initial=v), [INITIAL * NAN, INITIAL - 0.5, INITIAL * 2]),
    ("MarkovChain", "length", lambda v: chain(length=v), COUNTS),
    ("MarkovChain", "prior", lambda v: chain(prior=v), [[1.0], [0.2, 0.3, 0.5], "ab", 0.5]),
    ("MarkovChain", "chain", lambda v: chain(prior=v), [[0.2, 0.2], [NAN, 1.0], [1.5, -0.5]]),
    ("MarkovChain", "labels", lambda v: chain(labels=v), [("a", "a"), ("a",), "ab", 3]),
    ("MarkovChain", "unconditional", lambda v: chain(unconditional=v), [(INITIAL[0],), (STEP[0], STEP[0]), 3, (INITIAL, STEP)]),
    ("MarkovChain.index", "label", lambda v: CHAIN.joint_guided(v, 2.0), LABELS),
    ("MarkovChain.log_joint", "weights", CHAIN.log_joint, WEIGHTS),
    ("MarkovChain.log_sequential", "weights", CHAIN.log_sequential, WEIGHTS),
    (
        "MarkovLaw.log_prob",
        "x",
        LAW.log_prob,
        [
            torch.tensor([[0, 1, -1]]),
            torch.tensor([[2, 0, 0]]),
            torch.zeros(1, 2).long(),
            torch.zeros(3).long(),
            torch.zeros(1, 3),
        ],
    ),
    ("MarkovLaw.log_transition", "t", LAW.log_transition, [3, *COUNTS]),
    ("MarkovLaw.sample", "n", LAW.sample, COUNTS),
    ("MarkovLaw.expectation", "first", lambda v: LAW.expectation(v, LAW.step), [torch.zeros(1), torch.zeros(3), 0.0]),
    ("MarkovLaw.expectation", "step", lambda v: LAW.expectation(LAW.first, v), [torch.zeros(2), torch.zeros(1, 2), 0.0]),
    ("MarkovLaw.kl", "messages", LAW.kl, [LONGER]),
    ("guidance", "scale", lambda v: toys.guidance(0, v), NUMBERS),
    ("guidance", "temperature", lambda v: toys.guidance(0, 2.0, v), POSITIVE),
    ("temperature", "temperature", toys.temperature, POSITIVE),
    ("log_combine", "weights", lambda v: log_combine([LOGS] * len(v), v), [(), (NAN,), (1.0, INF)]),
    ("masked_law", "weights", lambda v: masked_law(TABLE, v, normalized=True), WEIGHTS),
    ("uniform_law", "weights", lambda v: uniform_law(TABLE, v), WEIGHTS),
    ("uniform_law", "time", lambda v: uniform_law(TABLE, {0: 1.0}, time=v), POSITIVE),
    ("uniform_law", "accuracy", lambda v: uniform_law(TABLE, {0: 1.0}, accuracy=v), POSITIVE),
    ("digits_table", "pixels", digits_table, [65, *COUNTS]),
    ("digits_table", "smoothing", lambda v: digits_table(1, v), SIGMAS),
)

CONTINUOUS = cases(
    (
        "GaussianMixture",
        "means",
        lambda v: mixture(means=v),
        ["ab", torch.zeros(2), torch.zeros(0, 2), MEANS * NAN, MEANS + INF],
    ),
    ("GaussianMixture", "mixture", lambda v: mixture(weights=v), [SHARES * 2, SHARES * NAN, SHARES - 0.3, SHARES[:, :1]]),
    ("GaussianMixture", "weights", lambda v: mixture(weights=v), [torch.tensor(1.0), "ab", SHARES[None]]),
    (
        "GaussianMixture",
        "mixture",
        lambda v: mixture(covariances=v),
        [-VARIANCES, VARIANCES * NAN, VARIANCES * INF, FULL * NAN],
    ),
    ("GaussianMixture", "covariances", lambda v: mixture(covariances=v), [VARIANCES[:1], FULL[:1], FULL[0], FULL[:, :1], "ab"]),
    ("GaussianMixture", "symmetric", lambda v: mixture(covariances=v), [SKEW.repeat(2, 1, 1), torch.stack([SKEW, FULL[0]])]),
    *(
        group
        for name in ("score", "log_density")
        for group in (
            (f"GaussianMixture.{name}", "x", lambda v, name=name: getattr(MIXTURE, name)(v, 0.5), POINTS),
            (f"GaussianMixture.{name}", "sigma", lambda v, name=name: getattr(MIXTURE, name)(MEANS, v), [NAN]),
            (f"GaussianMixture.{name}", "label", lambda v, name=name: getattr(MIXTURE, name)(MEANS, 0.5, v), LABELS),
        )
    ),
    ("GaussianMixture.sample", "n", MIXTURE.sample, COUNTS),
    ("GaussianMixture.sample", "sigma", lambda v: MIXTURE.sample(3, v), SIGMAS),
    ("GaussianMixture.sample", "label", lambda v: MIXTURE.sample(3, label=v), LABELS),
    ("GaussianMixture.nearest", "x", MIXTURE.nearest, POINTS),
    ("GaussianMixture.axes", "points", MIXTURE.axes, [-1, 1, 2.5, "3"]),
    ("GaussianMixture.axes", "width", lambda v: MIXTURE.axes(9, v), POSITIVE),
    ("GaussianMixture.on_grid", "axes", MIXTURE.on_grid, [MIXTURE.axes(5)[:1], ()]),
    ("GaussianMixture.joint_guided", "scale", lambda v: MIXTURE.joint_guided(0, v, axes=MIXTURE.axes(5)), NUMBERS),
    ("GaussianMixture.joint_guided", "label", lambda v: MIXTURE.joint_guided(v, 2.0, axes=MIXTURE.axes(5)), LABELS),
    ("GaussianPair.scalar", "mean", lambda v: GaussianPair.scalar(v, 1.0, 2.0), NUMBERS),
    ("GaussianPair.scalar", "variance", lambda v: GaussianPair.scalar(0.0, v, 2.0), POSITIVE),
    ("GaussianPair.scalar", "variance", lambda v: GaussianPair.scalar(0.0, 1.0, v), POSITIVE),
    (
        "GaussianPair",
        "cond",
        lambda v: GaussianPair(v, GAUSSIAN),
        [
            None,
            OTHER,
            GAUSSIAN._replace(covariance=SKEW),
            GAUSSIAN._replace(covariance=-SKEW @ SKEW.T),
            GAUSSIAN._replace(covariance=torch.tensor([[1.0, 2.0], [2.0, 1.0]]).double()),
            GAUSSIAN._replace(mean=MEANS),
        ],
    ),
    ("GaussianSequence", "length", GaussianSequence, COUNTS),
    ("GaussianSequence", "correlation", lambda v: GaussianSequence(3, v), [NAN, 1.0, -1.0, INF, "0"]),
    ("GaussianSequence.law", "label", SEQUENCE.law, [NAN, INF, "a"]),
    ("GaussianPair.score", "x", lambda v: GaussianPair(GAUSSIAN, GAUSSIAN).score(v, 0.5), POINTS),
    ("GaussianPair.score", "sigma", lambda v: PAIR.score(torch.zeros(2, 1), v), SIGMAS),
    ("GaussianPair.log_density", "x", lambda v: GaussianPair(GAUSSIAN, GAUSSIAN).log_density(v), POINTS),
    ("diffused", "noise", lambda v: gaussian.diffused([GAUSSIAN], (1.0,), v), SIGMAS),
    *(
        (run.__name__, "weights", lambda v, run=run: run([GAUSSIAN, GAUSSIAN], v), [(1.0,), (), (NAN, 1.0), ("1", 0.0)])
        for run in (gaussian.tilt, gaussian.sequential_tilt)
    ),
    ("diffused", "weights", lambda v: gaussian.diffused([GAUSSIAN], v, 1.0), [(1.0, 2.0), (), (NAN,)]),
    ("w2", "mean", lambda v: gaussian.w2(GAUSSIAN, v), [OTHER]),
    ("kl", "mean", lambda v: gaussian.kl(GAUSSIAN, v), [OTHER]),
)

DISTANCES = cases(
    ("kl", "log_q", lambda v: distances.kl(LOGS, v), UNLIKE),
    ("tv", "log_q", lambda v: distances.tv(LOGS, v), UNLIKE),
    ("expectation", "value", lambda v: distances.expectation(LOGS, v), UNLIKE),
    (
        "empirical",
        "cells",
        lambda v: distances.empirical(v, 3),
        [torch.tensor([0, 3]), torch.tensor([0, -1]), torch.tensor([0.5])],
    ),
    ("empirical", "size", lambda v: distances.empirical(torch.tensor([0, 1]), v), COUNTS),
    ("empirical", "log_weights", lambda v: distances.empirical(torch.tensor([0, 1]), 3, v), [torch.zeros(3), torch.zeros(1)]),
    ("wasserstein", "cdf", lambda v: distances.wasserstein(LOGS, LOGS, v), UNLIKE),
    ("wasserstein", "weights", lambda v: distances.wasserstein(LOGS, LOGS, LOGS, v), UNLIKE),
    ("jackknifed", "x", lambda v: distances.jackknifed(v, LOGS, LOGS, 2), [torch.zeros(5), torch.zeros(2, 4), torch.zeros(2)]),
    ("jackknifed", "groups", lambda v: distances.jackknifed(torch.zeros(8), LOGS, LOGS, v), [1, *COUNTS]),
)


@pytest.mark.parametrize(
    ("call", "argument"),
    [*DISCRETE, *CONTINUOUS, *DISTANCES, *guided(TABLE, "Table", "a"), *guided(CHAIN, "Chain", "a"), *guided(PAIR, "Pair", 0)],
)
def test_a_refusal_is_one_line_with_the_argument(call, argument):
    refused(call, argument)


@pytest.mark.parametrize("scale", [-0.2, 0.0, 1.0, 2])
def test_every_finite_scale_is_legal(scale):
    for law in (TABLE.joint_guided("a", scale), TABLE.sequential_guided(0, scale)):
        assert float(law.probabilities.sum()) == pytest.approx(1)
    assert float(CHAIN.joint_guided("a", scale).log_initial().exp().sum()) == pytest.approx(1)


def test_a_label_of_probability_0_is_refused():
    empty = mixture(weights=torch.tensor([[0.0, 0.0], [0.5, 0.5]]))
    refused(lambda: empty.sample(3, label=0), "label 0")
    refused(lambda: empty.score(MEANS, 0.5, 0), "label 0")


def test_nan_has_no_distance():
    law, bad = torch.tensor([0.5, 0.5]).double().log(), torch.tensor([0.0, float("nan")]).double()
    axis = torch.linspace(0, 1, 5)
    refused(lambda: distances.kl(law, bad), "log_q")
    refused(lambda: distances.tv(bad, law), "log_p")
    refused(lambda: distances.entropy(bad), "log_p")
    refused(lambda: distances.wasserstein(bad.float(), axis, axis), "x")
    refused(lambda: CHAIN.joint_guided("a", 2.0).log_prob(torch.ones(1, CHAIN.length, dtype=torch.bool)), "x")
