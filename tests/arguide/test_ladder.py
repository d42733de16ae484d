"""The ladder of laws: exact invariance of its moves by replay, log Z and laws on tables, with controls that must fail."""

import itertools
import math

import pytest
import torch

import arguide
from analysis import MarkovChain, Table
from analysis.toys.ngrams import NgramModels
from arguide import Ending, LogLinear
from arguide.ladder import estimates, replicas
from arguide.ladder.texts import Levels, Texts

END = 0
U = torch.tensor([0.0, 0.4, 1.0]).double()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def law_of(joint, label, weights, cap=None):
    """Return the target of a table with the weights of (label, all), and its length."""
    table = Table(joint)
    model = LogLinear((table.autoregressive(label), table.autoregressive())[: len(weights)], weights)
    return (Ending(model, (END,), table.length, cap) if cap else model), table.length


def weights_of(joint, label, weights, cap=None):
    """Return the unnormalised weights {text: Π_k p_k(x)^w} of the whole texts, by plain loops."""
    laws = [joint[label] / joint[label].sum(), joint.sum(0)]
    length, found = joint.ndim - 1, {}
    for x in itertools.product(*map(range, joint.shape[1:])):
        size = x.index(END) + 1 if cap and END in x else length
        if any(token != END for token in x[size:]) or (cap == "force" and END not in x):
            continue
        found[x] = math.prod(float(law[x[:size]].sum()) ** w for law, w in zip(laws, weights, strict=False))
    return found


def powers(joint, label, weights, cap, u):
    """Return the normalised law of a level."""
    start, target = (weights_of(joint, label, w, cap) for w in ((1.0, 0.0)[: len(weights)], weights))
    rows = {x: start[x] ** (1 - u) * target[x] ** u for x in target}
    return {x: row / sum(rows.values()) for x, row in rows.items()}


CASES = {
    "table": ((2, 2, 2), 1, (3.0, -2.0), None),
    "power": ((2, 3, 2), 1, (2.5,), None),
    "truncate": ((2, 2, 2), 1, (3.0, -2.0), "truncate"),
    "force": ((2, 2, 2, 2), 1, (3.0, -2.0), "force"),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, make_joint):
    shape, label, weights, cap = CASES[request.param]
    return make_joint(3, shape), label, weights, cap


# ------------------------------------------------------------------------------------------------- invariance, by replay


def after_step(case, branches, seam, turn, u=U, n=1):
    """Return the law of the texts at levels 1, 2, … before and after one step, by every branch of its draws."""
    joint, label, weights, cap = case
    model, length = law_of(joint, label, weights, cap)
    levels = Levels(model, length, 0, u)
    cuts = torch.linspace(1, 2, length).double().log_softmax(0)
    laws = [powers(*case, float(each)) for each in u[1:]]
    before, after = {}, {}
    for texts in itertools.product(*laws):
        mass = math.prod(law[x] for law, x in zip(laws, texts, strict=True))
        before[texts] = mass
        read = levels.read(torch.tensor(texts))

        def step(choose, read=read):
            draw = seam(choose)
            state = replicas.init(levels, read, 1)
            fresh = levels.texts(1, torch.zeros(1, dtype=torch.long), draw)
            state, _ = replicas.step(levels, state, fresh, cuts, draw, turn)
            return tuple(map(tuple, state.ordered(state.texts.tokens)[:, 0].tolist()))

        for probability, moved in branches(step):
            after[moved] = after.get(moved, 0.0) + mass * probability
    return before, after


def error(before, after):
    assert sum(after.values()) == pytest.approx(1)
    return max(abs(after.get(x, 0.0) - mass) for x, mass in before.items())


def test_a_step_leaves_the_law_of_the_target_as_it_is(case, branches, seam):
    assert error(*after_step(case, branches, seam, 0, U[[0, 2]])) < 1e-9


@pytest.mark.parametrize("turn", [0, 1])
def test_a_step_leaves_the_product_of_the_levels_as_it_is(make_joint, branches, seam, turn):
    small = make_joint(3, (2, 2, 2)), 1, (3.0, -2.0), "force"
    assert error(*after_step(small, branches, seam, turn)) < 1e-9


def sabotaged(monkeypatch, name):
    """Make one error in the moves."""
    log_exchange, redrawn, accepted = replicas.log_exchange, Levels.redrawn, replicas.accepted
    if name == "exponent":
        monkeypatch.setattr(replicas, "log_exchange", lambda *args: log_exchange(*args) * 0.7)
    elif name == "sign":
        monkeypatch.setattr(replicas, "log_exchange", lambda *args: -log_exchange(*args))
    elif name == "forced ends":
        plain = lambda levels, ratios, log_weights: log_exchange(levels, ratios, 0 * log_weights)  # noqa: E731
        monkeypatch.setattr(replicas, "log_exchange", plain)
    elif name == "normalizers":
        monkeypatch.setattr(replicas, "accepted", lambda ratio, draw: accepted(0 * ratio, draw))
    elif name == "level":
        wrong = lambda self, state, before, level, draw: redrawn(self, state, before, 0 * level + 1, draw)  # noqa: E731
        monkeypatch.setattr(Levels, "redrawn", wrong)


@pytest.mark.parametrize("name", ["exponent", "sign", "forced ends", "normalizers"])
def test_a_wrong_step_changes_the_law_of_the_target(make_joint, branches, seam, monkeypatch, name):
    sabotaged(monkeypatch, name)
    shape, *rest = CASES["force"]
    assert error(*after_step((make_joint(3, shape), *rest), branches, seam, 0, U[[0, 2]])) > 1e-3


@pytest.mark.parametrize(("name", "turn"), [("exponent", 1), ("sign", 1), ("normalizers", 1), ("level", 0)])
def test_a_wrong_step_changes_the_product_of_the_levels(make_joint, branches, seam, monkeypatch, name, turn):
    sabotaged(monkeypatch, name)
    small = make_joint(3, (2, 2, 2)), 1, (3.0, -2.0), "force"
    assert error(*after_step(small, branches, seam, turn)) > 1e-3


def test_a_cut_within_each_text_would_need_the_ratio_of_lengths(make_joint, branches, seam, monkeypatch):
    """Rows cut where a share of their own length lies, accepted without L/L′, do not keep the law."""
    redraw = replicas.redraw

    def within(levels, state, cut, draw):
        size = int(arguide.stopping.lengths(state.texts.tokens, (END,))[0])
        return redraw(levels, state, min(cut, size - 1), draw)

    monkeypatch.setattr(replicas, "redraw", within)
    shape, *rest = CASES["force"]
    assert error(*after_step((make_joint(3, shape), *rest), branches, seam, 0, U[[0, 2]])) > 1e-4


# ------------------------------------------------------------------------------------------------------- exact densities


def test_texts_have_their_densities_at_every_level(case):
    joint, label, weights, cap = case
    model, length = law_of(joint, label, weights, cap)
    start, target = (weights_of(joint, label, w, cap) for w in ((1.0, 0.0)[: len(weights)], weights))
    texts = Levels(model, length, 0, U).read(torch.tensor(list(target)))
    assert texts.log_start.sum(1).exp().tolist() == pytest.approx([start[x] for x in target])
    assert texts.ratio.exp().tolist() == pytest.approx([target[x] / start[x] for x in target])
    normalizers = arguide.sampling.retrace(model, texts.tokens).log_normalizer
    torch.testing.assert_close(texts.log_normalizers[..., -1].sum(1), normalizers.sum(1))


def test_a_resumed_state_is_that_of_the_prefix(make_joint):
    model, length = law_of(make_joint(3, (2, 2, 2, 2)), 1, (3.0, -2.0), "force")
    tokens = torch.tensor([[1, 0, 0], [1, 1, 0]])
    for t in range(length):
        state = arguide.models.resumed(model, None, tokens[:, :t], 0)
        expected = model.start(2)
        for token in tokens[:, :t].unbind(1):
            expected = model.append(expected, token)
        torch.testing.assert_close(state.log_probs, expected.log_probs)
        torch.testing.assert_close(state.log_normalizer, expected.log_normalizer)
        assert state.finished.equal(expected.finished)
        assert state.position == expected.position


# ------------------------------------------------------------------------------------------------------------- estimates


def ideal(seed, n=40, sweeps=50, u=U):
    """Return exact draws of p_u ∝ N(x; 0, 1)^(1−u) (7 N(x; 2, 1))^u, at level 0 of N(−0.1, 1); log Z of the target is log 7."""
    x = torch.randn(sweeps, len(u), n, generator=seeded(seed)).double() + 2 * u[:, None]
    x[:, 0] -= 0.1
    return u, math.log(7) + 2 * x - 2, 0.1 * x + 0.005


def test_both_estimators_find_a_known_normalizer():
    """200 estimates: the mean within 6 standard errors, and standard errors right within a fifth."""
    found = [(*estimates.log_evidence(*ideal(i))[:2], estimates.integrated(*ideal(i))) for i in range(200)]
    balanced, errors, integrated = torch.tensor(found).double().T
    for values in (balanced, integrated):
        assert abs(float(values.mean()) - math.log(7)) < 6 * float(values.std()) / math.sqrt(200)
        assert float(values.std()) < 0.05
    assert float(errors.mean()) == pytest.approx(float(balanced.std()), rel=0.2)


@pytest.mark.parametrize("name", ["weights", "levels"])
def test_wrong_densities_miss_the_normalizer(name):
    u, ratios, log_weights = ideal(0, 400)
    value, error, _ = estimates.log_evidence(u**2 if name == "levels" else u, ratios, (name == "levels") * log_weights)
    assert abs(float(value) - math.log(7)) > 6 * float(error)


def test_two_levels_give_bennetts_ratio():
    """E_0[σ(W − Δ)] = E_1[σ(Δ − W)], W = r + w."""
    u, ratios, log_weights = ideal(0, u=U[[0, 2]])
    work = ratios + log_weights - estimates.log_evidence(u, ratios, log_weights)[0]
    assert float(work[:, 0].sigmoid().mean()) == pytest.approx(float((-work[:, 1]).sigmoid().mean()), rel=1e-8)


def test_levels_far_apart_give_a_finite_estimate():
    u, ratios, log_weights = ideal(0)
    ratios = 300 * ratios
    ratios[::2, 0] = -math.inf  # excluded by the target
    assert all(value.isfinite().all() for value in estimates.log_evidence(u, ratios, log_weights))


def test_integration_between_two_levels_is_exact_where_log_z_is_of_degree_four():
    """log Z_u = 0.3 u + u²/2 + 0.1 u³ + 0.05 u⁴: the means and variances are its first and second derivatives."""
    means, variances = torch.tensor([[0.3, 1.8], [1.0, 2.2]], dtype=torch.float64)
    ratios = means[:, None] + variances.sqrt()[:, None] * torch.tensor([-1.0, 1.0])
    found = estimates.integrated(torch.tensor([0.0, 1.0]), ratios[None], torch.zeros(1, 2, 2).double())
    assert float(found) == pytest.approx(0.95, abs=1e-12)


def test_levels_move_to_where_exchanges_are_rejected_alike():
    u = torch.tensor([0.0, 0.5, 1.0]).double()
    assert estimates.equalised(u, torch.tensor([0.3, 0.3]).double()).tolist() == pytest.approx([0, 0.5, 1], abs=1e-12)
    assert estimates.equalised(u, torch.tensor([0.6, 0.2]).double()).tolist() == pytest.approx([0, 1 / 3, 1], abs=2e-3)


# ------------------------------------------------------------------------------------------------------------ whole runs


RUNS = {
    "scale 5": ((2, 3, 3, 3), (5.0, -4.0), None),
    "power 4": ((2, 3, 3, 3), (4.0,), None),
    "one token": ((2, 6), (3.0, -2.0), None),
    "scale 0.5": ((2, 3, 3), (0.5, 0.5), None),
    "negative scale": ((2, 3, 3), (-1.0, 2.0), None),
    "cut": ((2, 2, 2, 2, 2), (3.0, -2.0), "truncate"),
    "whole": ((2, 2, 2, 2, 2), (3.0, -2.0), "force"),
}


def run(name, make_joint, seed=0, **options):
    shape, weights, cap = RUNS[name]
    joint = make_joint(4, shape)
    model, length = law_of(joint, 1, weights, cap)
    settings = {"levels": 4, "sweeps": 40, "burn_in": 24, "generator": seeded(seed)} | options
    return arguide.sample_ladder(model, 60, length, **settings), weights_of(joint, 1, weights, cap)


def off(ladder, weights):
    """Return the error of log Ẑ, in standard errors with a floor for runs whose weights hardly vary."""
    return abs(float(ladder.log_evidence) - math.log(sum(weights.values()))) / max(float(ladder.std_error), 1e-3)


@pytest.mark.parametrize("name", RUNS)
def test_log_z_is_that_of_the_enumerated_law(make_joint, name):
    """60 ladders: 6 standard errors, of Student's law with 59 degrees, a false failure in 1e-7."""
    ladder, weights = run(name, make_joint)
    assert off(ladder, weights) < 6
    assert float(ladder.integrated) == pytest.approx(float(ladder.log_evidence), abs=0.1)
    assert ladder.consistent, ladder.verdict


@pytest.mark.parametrize(("name", "wrong"), [("scale 5", "sign"), ("power 4", "normalizers")])
def test_log_z_of_wrong_moves_is_noticed(make_joint, monkeypatch, name, wrong):
    sabotaged(monkeypatch, wrong)
    ladder, weights = run(name, make_joint)
    assert off(ladder, weights) > 6


def test_texts_of_the_target_follow_the_enumerated_law(make_joint):
    """1,500 ladders of one sweep each after the burn-in: every cell within 6 standard errors; level 0 is far off."""
    joint = make_joint(4, (2, 2, 2, 2))
    model, length = law_of(joint, 1, (3.0, -2.0), "force")
    ladder = arguide.sample_ladder(model, 1500, length, levels=3, sweeps=2, burn_in=40, generator=seeded())
    weights = weights_of(joint, 1, (3.0, -2.0), "force")

    def worst(tokens):
        share = {x: (tokens == torch.tensor(x)).all(1).double().mean().item() for x in weights}
        law = {x: weight / sum(weights.values()) for x, weight in weights.items()}
        return max(abs(share[x] - p) / math.sqrt(p * (1 - p) / len(tokens)) for x, p in law.items())

    assert worst(ladder.tokens) < 6
    conditional = Ending(model.model.models[0], (END,), length, "force")
    assert worst(arguide.sample(conditional, 1500, length, generator=seeded()).tokens) > 6
    scores = arguide.sampling.retrace(model, ladder.tokens)
    torch.testing.assert_close(ladder.log_target.sum(1), scores.log_target.sum(1))
    torch.testing.assert_close(ladder.log_normalizer.sum(1), scores.log_normalizer.sum(1))


def test_chains_that_end_have_their_exact_normalizer():
    """Z sums the paths of T tokens whose last one is 0, which ends a text and stays."""
    length, weights = 10, (3.0, -2.0)
    initial = torch.tensor([[0.1, 0.5, 0.4], [0.1, 0.3, 0.6]]).double()
    steps = torch.tensor(
        [[[1, 0, 0], [0.2, 0.5, 0.3], [0.1, 0.6, 0.3]], [[1, 0, 0], [0.1, 0.3, 0.6], [0.3, 0.3, 0.4]]]
    ).double()
    toy = MarkovChain(initial, steps, length, unconditional=(initial.mean(0), steps.mean(0)))
    law = Ending(LogLinear((toy.autoregressive(1), toy.autoregressive()), weights), (END,), length, "force")
    first, step = (p[1] ** weights[0] * p.mean(0) ** weights[1] for p in (initial, steps))
    step[0, 1:] = 0.0  # 0^3 · 0^−2
    mass = first
    for _ in range(length - 1):
        mass = mass @ step
    ladder = arguide.sample_ladder(law, 40, length, levels=3, sweeps=40, burn_in=16, generator=seeded())
    assert abs(float(ladder.log_evidence) - math.log(mass[END])) < 6 * float(ladder.std_error) < 0.3
    assert ladder.consistent, ladder.verdict


def test_n_grams_have_their_exact_normalizer():
    texts, labels = [[0, 1, 0, 1, 1], [1, 1, 0], [0, 0], [1, 0, 1, 0], [1], [0, 0, 1]], [0, 1, 0, 0, 1, 1]
    models = NgramModels(texts, labels, 3, alphabet="ab", length=8)
    law = LogLinear.guidance(models.autoregressive(0), models.autoregressive(), 3.0)
    ladder = arguide.sample_ladder(Ending(law, (2,), 8, "force"), 40, 8, levels=3, sweeps=40, burn_in=16, generator=seeded())
    exact = float(models.joint_guided(0, 3.0).log_normalizer)
    assert abs(float(ladder.log_evidence) - exact) < 6 * float(ladder.std_error) < 0.3


def test_the_levels_adapt_and_equalise_the_exchanges(make_joint):
    adapted, _ = run("scale 5", make_joint, sweeps=80)
    plain, _ = run("scale 5", make_joint, burn_in=0, sweeps=80)
    assert plain.levels.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert float(adapted.exchanged.max() - adapted.exchanged.min()) < 0.5 * float(plain.exchanged.max() - plain.exchanged.min())
    assert (adapted.levels.diff() > 0).all()


def test_texts_are_kept_along_the_sweeps(make_joint):
    one, several = (run("scale 5", make_joint, sweeps=9, burn_in=4, texts=m)[0] for m in (1, 3))
    assert several.tokens.shape == (3 * len(one.tokens), one.tokens.shape[1])
    assert several.ratios.shape == one.ratios.shape
    first, second, third = several.tokens.chunk(3)
    assert (first != second).any(1).double().mean() > 0.3 < (second != third).any(1).double().mean()
    assert several.log_evidences.mean() == pytest.approx(float(several.log_evidence))
    assert several.log_evidences.std() / several.ratios.shape[-1] ** 0.5 == pytest.approx(float(several.std_error))
    with pytest.raises(ValueError, match="texts must be at most 9, the number of sweeps, got 10"):
        run("scale 5", make_joint, sweeps=9, burn_in=0, texts=10)


def test_a_seed_fixes_the_run(make_joint):
    one, again, other = (run("scale 5", make_joint, seed, sweeps=4, burn_in=4)[0] for seed in (1, 1, 2))
    assert one.log_evidence == again.log_evidence != other.log_evidence
    assert one.tokens.equal(again.tokens)


def test_a_run_starts_from_given_texts(make_joint):
    first = torch.tensor([[0, 0, 0], [2, 1, 2]])
    ladder, weights = run("scale 5", make_joint, first=first)
    assert off(ladder, weights) < 6
    frozen, _ = run("scale 5", make_joint, first=first, sweeps=2, burn_in=0, draw=lambda law: law.argmax(1))
    assert frozen.ratios.shape == (2, 4, 60)


def test_texts_that_the_target_excludes_are_no_starts():
    joint = torch.tensor([[[0.5, 0.1], [0.1, 0.1]], [[0.1, 0.0], [0.05, 0.05]]]).double()
    table = Table(joint / joint.sum())
    law = LogLinear((table.autoregressive(0), table.autoregressive(1)), (1.0, 1.0))
    ladder = arguide.sample_ladder(law, 40, 2, levels=3, sweeps=40, burn_in=16, start=0, generator=seeded())
    exact = float((table.log_probs(0) + table.log_probs(1)).flatten().logsumexp(0))
    assert abs(float(ladder.log_evidence) - exact) < 6 * float(ladder.std_error) < 0.3
    assert not bool(((ladder.tokens == torch.tensor([0, 1])).all(1)).any())
    with pytest.raises(ValueError, match="start must be a branch that can produce all texts of the target"):
        arguide.sample_ladder(LogLinear((table.autoregressive(0), table.autoregressive(1)), (1.0, 0.0)), 4, 2, start=1)


def test_fields_of_texts_are_replaced_together():
    old, new = (Texts(*(torch.full(shape, value) for shape in ((3, 2), (3, 2), (3, 2), (3, 2, 4)))) for value in (0.0, 1.0))
    found = old.replaced(torch.tensor([False, True, False]), new)
    assert all(each.flatten(1)[:, 0].tolist() == [0, 1, 0] for each in found)


def test_where_the_target_is_level_zero_every_move_is_accepted(make_joint):
    law, length = law_of(make_joint(), 1, (1.0, 0.0))
    ladder = arguide.sample_ladder(law, 6, length, levels=3, sweeps=8, burn_in=0, generator=seeded())
    assert ladder.accepted.tolist() == ladder.exchanged.tolist() == [1.0, 1.0]


def test_a_scale_per_row_is_refused_for_what_it_is(make_joint):
    table = Table(make_joint())
    law = LogLinear.guidance(table.autoregressive(1), table.autoregressive(), torch.ones(2))
    with pytest.raises(ValueError, match="scale must be one number where rows are reordered"):
        arguide.sample_ladder(law, 2, table.length, levels=2, sweeps=2)


def test_texts_that_have_all_ended_are_read_no_further(make_joint):
    model, length = law_of(make_joint(3, (2, 2, 2, 2)), 1, (3.0, -2.0), "force")
    drawn = []

    def draw(law):
        drawn.append(law)
        return torch.full((len(law),), END)

    texts = Levels(model, length, 0, U).texts(4, torch.zeros(4, dtype=torch.long), draw)
    assert texts.tokens.tolist() == [[END] * length] * 4
    assert len(drawn) == 1
