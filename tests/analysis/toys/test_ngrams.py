"""n-gram models: laws of whole texts against plain loops over every text, and a large automaton against other algorithms."""

import itertools
import math

import numpy as np
import pytest
import torch

import arguide
from analysis import NgramModels
from analysis.toys.ngrams import TextLaw
from analysis.toys.ngrams.arcs import Arcs

T, ALPHABET = 5, ("a", "b")
TEXTS = [(*x, 2) for n in range(T) for x in itertools.product((0, 1), repeat=n)]
CODES = torch.tensor([[*x, *[2] * (T - len(x))] for x in TEXTS])
WEIGHTS = [{None: 1.0}, {None: -1.5, 1: 2.5}, {None: -9.0, 0: 10.0}, {0: 3.0}, {None: 0.3, 0: 0.9, 1: -0.2}]


def corpus(seed, n=12):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 2, rng.integers(0, T)).tolist() for _ in range(n)], [0, 1, *rng.integers(0, 2, n - 2).tolist()]


def models_of(seed=0, order=3, **options):
    return NgramModels(*corpus(seed), order, alphabet=ALPHABET, **{"length": T, **options})


def backed_off(v, context, texts):
    """p(v | context) by Witten and Bell's formula, counted in the texts."""
    counts = [0, 0, 0]
    for text in texts:
        row = ["begin", *text, 2]
        for i in range(1, len(row)):
            if i >= len(context) and tuple(row[i - len(context) : i]) == tuple(context):
                counts[row[i]] += 1
    lower = backed_off(v, context[1:], texts) if context else 1 / 3
    kinds = sum(count > 0 for count in counts)
    return (counts[v] + kinds * lower) / (sum(counts) + kinds) if kinds else lower


def log_probs_of(seed, order, label):
    """log p of every text, token by token, [texts][tokens]."""
    texts, labels = corpus(seed)
    chosen = [text for text, y in zip(texts, labels, strict=True) if label is None or y == label]

    def row(x):
        path = ["begin", *x]
        return [math.log(backed_off(v, path[max(0, i + 2 - order) : i + 1], chosen)) for i, v in enumerate(x)]

    return [row(x) for x in TEXTS]


def enumerated(seed, order, weights):
    """The joint law of all texts and log Z, by loops."""
    logs = [sum(w * sum(log_probs_of(seed, order, y)[i]) for y, w in weights.items()) for i in range(len(TEXTS))]
    log_z = np.logaddexp.reduce(logs)
    return np.exp(np.array(logs) - log_z), log_z


def sequential(seed, order, weights):
    """The sequential law of all texts, and how many of them end in time, by loops: every factor is normalised."""
    texts, labels = corpus(seed)
    chosen = {y: [t for t, label in zip(texts, labels, strict=True) if y is None or label == y] for y in weights}
    law = []
    for x in TEXTS:
        path, total = ["begin", *x], 0.0
        for i, v in enumerate(x):
            context = path[max(0, i + 2 - order) : i + 1]
            row = [sum(w * math.log(backed_off(u, context, chosen[y])) for y, w in weights.items()) for u in range(3)]
            total += row[v] - np.logaddexp.reduce(row)
        law.append(math.exp(total))
    return np.array(law) / sum(law), sum(law)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("label", [None, 0, 1])
def test_a_law_is_the_product_of_backed_off_factors(order, label):
    law = models_of(3, order).log_joint({label: 1.0})
    expected = [sum(row) for row in log_probs_of(3, order, label)]
    np.testing.assert_allclose((law.log_prob(CODES) + law.log_normalizer).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_guided_laws_agree_with_loops_over_all_texts(order, weights):
    models = models_of(1, order)
    joint, (other, _) = models.log_joint(weights), models.log_sequential(weights)
    (p, log_z), (q, ends) = enumerated(1, order, weights), sequential(1, order, weights)
    assert float(joint.log_normalizer) == pytest.approx(log_z, abs=1e-10)
    assert float(other.log_normalizer) == pytest.approx(math.log(ends), abs=1e-10)
    for law, expected in ((joint, p), (other, q)):
        np.testing.assert_allclose(law.log_prob(CODES).exp().numpy(), expected, atol=1e-11)
    assert float(joint.kl(other)) == pytest.approx((p * np.log(p / q)).sum(), abs=1e-9)
    assert float(other.kl(joint)) == pytest.approx((q * np.log(q / p)).sum(), abs=1e-9)


@pytest.mark.parametrize("order", [1, 3])
def test_what_is_derived_from_messages_agrees_with_loops(order):
    weights = {None: -1.0, 1: 2.0}
    law, (p, _) = models_of(1, order).log_joint(weights), enumerated(1, order, weights)
    assert float(law.entropy()) == pytest.approx(-(p * np.log(p)).sum(), abs=1e-10)
    long = [sum(mass for mass, x in zip(p, TEXTS, strict=True) if len(x) == t + 1) for t in range(T)]
    np.testing.assert_allclose(law.lengths(), long, atol=1e-12)
    marginals = [[p[(CODES[:, t] == v).numpy()].sum() for v in range(3)] for t in range(T)]
    np.testing.assert_allclose(law.marginals(), marginals, atol=1e-12)
    text, log_p = law.most_likely()
    assert float(log_p) == pytest.approx(np.log(p.max()), abs=1e-12)
    assert text.tolist() == CODES[p.argmax()].tolist() == {1: [2, 2, 2, 2, 2], 3: [1, 1, 2, 2, 2]}[order]


def test_log_normalizers_explain_the_difference_of_the_two_laws():
    models = models_of(0, 3)
    joint, (other, log_z) = models.joint_guided(1, 2.5), models.sequential_guided(1, 2.5)
    path = log_z[:, None].expand_as(joint.log_weights)
    gap = other.expectation(path) - joint.log_normalizer + other.log_normalizer
    assert float(-gap) == pytest.approx(float(other.kl(joint)), abs=1e-10)


def test_a_temperature_divides_the_weights():
    models = models_of()
    law = models.joint_guided(1, 2.0, temperature=0.5)
    assert float(law.log_normalizer) == pytest.approx(float(models.log_joint({None: -2.0, 1: 4.0}).log_normalizer), abs=1e-12)


def test_draws_follow_the_law():
    """χ² over all texts; 1 in 1,000 seeds fails. The draws of the other law fail."""
    models = models_of(1, 3)
    joint, (other, _) = models.joint_guided(1, 3.0), models.sequential_guided(1, 3.0)
    texts, code = joint.sample(4000, torch.Generator().manual_seed(0)), 3 ** torch.arange(T)
    counts = (CODES @ code == (texts @ code)[:, None]).sum(0)
    assert counts.sum() == 4000

    def statistic(law):
        mean = 4000 * law.log_prob(CODES).exp()
        return float(((counts - mean).square() / mean).sum())

    assert statistic(joint) < 60 < 300 < statistic(other)  # 59.7 is the 0.999 quantile for 30 degrees of freedom


# ------------------------------------------------------------------------------------------------------------- other algorithms


@pytest.fixture(scope="module")
def words():
    rng = np.random.default_rng(7)
    texts = [rng.choice(6, rng.integers(3, 12), p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05]).tolist() for _ in range(300)]
    return NgramModels(texts, rng.integers(0, 3, 300), 4, alphabet=tuple("abcdef"))


def test_steps_in_log_space_agree_with_those_in_exponentials(words, monkeypatch):
    weights = {None: -1.0, 2: 2.0}
    fast = words.log_joint(weights)
    results = [fast.log_normalizer, fast.entropy(), *fast.lengths()]
    monkeypatch.setattr("analysis.toys.ngrams.arcs.LEAST", math.inf)
    slow = words.log_joint(weights)
    torch.testing.assert_close(results, [slow.log_normalizer, slow.entropy(), *slow.lengths()], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fast.arc_counts, slow.arc_counts, rtol=1e-10, atol=1e-14)


def test_large_ranges_of_messages_are_exact():
    """Weights that differ by e^±400 per token, against sums of exact integers."""
    log_weights = np.array([[400.0, -400.0, -300.0], [-400.0, 400.0, 300.0]])
    arcs, message = Arcs(np.array([[0, 1, 0], [0, 1, 0]], np.int32), log_weights), np.full(2, -math.inf)
    for _ in range(3):
        message = arcs.before(arcs.step(message))
    paths = [  # of state 0: end, or one token and end, or two tokens and end
        [-300.0],
        [400.0 - 300.0, -400.0 + 300.0],
        [400.0 + 400.0 - 300.0, 400.0 - 400.0 + 300.0, -400.0 - 400.0 - 300.0, -400.0 + 400.0 + 300.0],
    ]
    assert message[0] == pytest.approx(np.logaddexp.reduce([log for path in paths for log in path]), abs=1e-9)


@pytest.mark.parametrize("large", [False, True])
def test_the_growth_is_the_largest_eigenvalue_of_all_steps(words, large):
    law = (words if large else models_of()).joint_guided(1, 4.0)
    dense = np.zeros((len(law.log_weights),) * 2)
    for (s, v), weight in np.ndenumerate(law.log_weights[:, :-1].exp().numpy()):
        dense[s, law.contexts.following[s, v]] += weight
    assert law.log_growth == pytest.approx(math.log(max(np.linalg.eigvals(dense).real)), abs=1e-5)


def test_the_growth_of_very_unlike_contexts_is_finite():
    log_weights = np.array([[900.0, 0.0], [-900.0, 0.0]])
    assert Arcs(np.array([[0, 0], [1, 1]], np.int32), log_weights).growth() == pytest.approx(900.0)


def test_log_z_grows_without_end_where_the_growth_exceeds_one(words):
    law = words.joint_guided(1, 6.0)
    assert law.log_growth > 0
    messages = TextLaw(law.contexts, law.log_weights, 300).messages[:, law.contexts.start]
    assert float(messages[300] - messages[250]) == pytest.approx(50 * law.log_growth, rel=1e-3)


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_every_sampler_runs_on_it_and_finds_log_z(words, scale):
    law = words.joint_guided(1, scale)
    pair = arguide.LogLinear.guidance(words.autoregressive(1), words.autoregressive(), scale)
    model = arguide.Ending(pair, (words.size - 1,), words.length, cap="force")
    drawn = arguide.sample_joint(model, 4000, words.length, generator=torch.Generator().manual_seed(0))
    assert abs(float(drawn.log_evidence - law.log_normalizer)) < 5 * float(drawn.std_error) + 0.01
    wrong = words.joint_guided(1, scale + 0.5)
    assert abs(float(drawn.log_evidence - wrong.log_normalizer)) > 8 * float(drawn.std_error)


def test_the_sequential_law_is_the_one_that_is_sampled(replay):
    models = models_of(1, 3)
    pair = arguide.LogLinear.guidance(models.autoregressive(1), models.autoregressive(), 2.5)
    model = arguide.Ending(pair, (2,), T)

    def sample(draw):
        tokens = arguide.sample(model, 1, T, draw=draw).tokens
        return torch.nn.functional.pad(tokens, (0, T - tokens.shape[1]), value=2)

    law = replay(sample, (3,) * T)
    other, _ = models.sequential_guided(1, 2.5)
    ended = law[tuple(CODES.T.numpy())]
    np.testing.assert_allclose(ended, (other.log_prob(CODES) + other.log_normalizer).exp(), atol=1e-12)


def test_a_model_keeps_what_samplers_assume(words):
    arguide.check_law(words.autoregressive(2), length=4)
    state = words.autoregressive().start(1)
    ended = words.autoregressive().append(state, torch.tensor([words.size - 1]))
    again = words.autoregressive().append(ended, torch.tensor([0]))
    assert ended.log_probs.exp().tolist() == again.log_probs.exp().tolist() == [[0.0] * (words.size - 1) + [1.0]]


# -------------------------------------------------------------------------------------------------------------------- arguments


def test_texts_are_encoded_and_decoded():
    models = models_of()
    assert models.decode(models.encode(["ab", "", "bbba"])) == ["ab", "", "bbba"]
    for text, says in (("abc", "of tokens of the alphabet"), ("aaaaa", "shorter than 5 tokens")):
        with pytest.raises(ValueError, match=says):
            models.encode([text])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"order": 0}, "order must be an integer of at least 1"),
        ({"texts": []}, "one text at least"),
        ({"texts": [[0, 5]], "labels": [0]}, "codes from 0 to 1"),
        ({"labels": [0]}, "one index per text"),
        ({"names": ("x",)}, "indices from 0 to 0"),
        ({"length": 10**12}, r"must fit into the memory of .*, got at least 1.6e\+05 GB"),  # 4 contexts, 5 doubles per token
        ({"length": 0}, "length must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(change, says):
    texts, labels = corpus(0)
    given = {"texts": texts, "labels": labels, "order": 2, "alphabet": ALPHABET} | change
    with pytest.raises(ValueError, match=says) as caught:
        NgramModels(given.pop("texts"), given.pop("labels"), given.pop("order"), **given)
    assert "\n" not in str(caught.value)


def test_a_law_without_a_text_that_ends_in_time_is_refused():
    law = models_of().log_law()
    endless = law.log_weights.clone()
    endless[:, -1] = -math.inf
    with pytest.raises(ValueError, match="a text of at most 5 tokens must have positive probability"):
        TextLaw(law.contexts, endless, 5)


def test_weights_beyond_float64_are_refused():
    with pytest.raises(ValueError, match="try a smaller scale"):
        models_of().joint_guided(1, 1e10)
