"""What a coherent pair changes: every number against plain loops over words, and pairs that are incoherent on purpose."""

import math
from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import Table
from analysis.experiments.base import Settings
from analysis.experiments.coherence import coherent
from analysis.toys.pairs import paired, unlikely
from analysis.toys.words import words


@pytest.fixture(scope="module")
def small():
    return words(4, labels=2, letters=2, seed=1)


@pytest.fixture(scope="module")
def frame():
    return coherent.run(Settings(quick=True), lambda items: items)


def test_words_are_counted_as_by_loops(small):
    letters, repeats = small.letters(), small.repeats()
    for x in product(range(3), repeat=4):
        steps = [step for step in pairwise(x) if min(step) > 0]
        assert letters[x] == sum(token > 0 for token in x)
        assert repeats[x] == len(steps) - len(set(steps))
    assert small.table.log_probs()[0, 1, 1, 1] == -math.inf  # no letter follows the end, and no word is empty


def test_the_fit_of_order_one_has_the_mixtures_counts(small):
    """The fit has nearly the mixture's transitions, and is no mixture; noise of size 0 leaves the mixture as it is."""
    fit, mixture = small.pooled().exp(), small.table.log_probs().exp()
    assert fit.sum() == pytest.approx(1, abs=1e-12)
    for pair in product(range(3), repeat=2):
        ahead = [sum(law[x] for x in product(range(3), repeat=4) if pair in pairwise(x)) for law in (fit, mixture)]
        assert float(ahead[0]) == pytest.approx(float(ahead[1]), abs=0.1)
    assert abs(fit - mixture).max() > 1e-3
    same = small.blurred(0.0, torch.Generator())
    torch.testing.assert_close(same, small.table.log_probs())
    noisy = small.blurred(0.5, torch.Generator()).exp()
    assert float(noisy.sum()) == pytest.approx(1, abs=1e-12)
    assert abs(noisy - mixture).max() > 0.01


def test_a_ratio_passes_the_bound_only_where_the_pair_is_incoherent(small):
    for label in (0, 1):
        mixture, fit = (paired(small.table, label, law) for law in (small.table.log_probs(), small.pooled()))
        assert mixture.bound == pytest.approx(math.log(2))
        assert mixture.log_ratio.max() <= mixture.bound + 1e-12
        assert fit.log_ratio.max() > fit.bound + 0.05


def test_the_unlikeliest_have_one_percent(small):
    log_cond = small.table.log_probs(0)
    mask, mass = unlikely(log_cond), log_cond.exp()
    assert float(mass[mask].sum()) <= 0.01
    assert float(mass[mask].sum() + mass[~mask].min()) > 0.01
    assert mass[mask].max() <= mass[~mask].min()
    assert mask[log_cond == -math.inf].all()


def guided(joint, scale):
    """Return the rows of both laws of the pair (row 0, row 1) of a table, by quantity and family."""
    table = Table(joint)
    pair = paired(table, 0, table.log_probs(1))
    return pd.DataFrame(coherent._guided(pair, {"pair": coherent.INCOHERENT, "law": "loops"}, scale))


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_both_guided_laws_are_those_of_loops(make_joint, brute, scale):
    joint = make_joint(4, (2, 3, 2))
    rows = guided(joint, scale).set_index(["family", "quantity"])["value"]
    found, cond = brute(joint, {0: scale, 1: 1 - scale}), joint[0] / joint[0].sum()
    assert rows["exact", "log_z"] == pytest.approx(math.log(found.z), abs=1e-10)
    gap = (found.sequential * np.log(found.sequential / found.joint)).sum()
    assert rows["exact", "kl_sequential_joint"] == pytest.approx(gap, abs=1e-10)
    for family, law in (("joint", found.joint), ("sequential", found.sequential)):
        assert rows[family, "kl_conditional"] == pytest.approx((law * np.log(law / cond)).sum(), abs=1e-10)
        assert rows[family, "tv_conditional"] == pytest.approx(abs(law - cond).sum() / 2, abs=1e-10)
        assert rows[family, "entropy"] == pytest.approx(-(law * np.log(law)).sum(), abs=1e-10)
        assert rows[family, "accuracy"] == pytest.approx((law * joint[0] / joint.sum(0)).sum(), abs=1e-10)


def test_a_clamped_ratio_is_that_of_loops_and_bounded(make_joint):
    joint = make_joint(4, (2, 2, 3, 2))
    table = Table(joint)
    pair = paired(table, 0, table.log_probs(1))._replace(bound=0.4)
    log_q, ratio = coherent.clamped_laws(pair, 3.0)
    assert float(log_q.exp().sum()) == pytest.approx(1, abs=1e-12)
    laws, z = [joint[k] / joint[k].sum() for k in (0, 1)], 0.0
    for x in np.ndindex(*table.shape):
        running = 0.0
        for t in range(3):
            ahead = [law[x[: t + 1]].sum() / law[x[:t]].sum() for law in laws]
            running += min(math.log(ahead[0] / ahead[1]), 0.4 - running)
        assert float(ratio[x]) == pytest.approx(running, abs=1e-12)
        z += laws[0][x] * math.exp(2 * running)
    rows = pd.DataFrame(coherent._clamped(pair, {"pair": coherent.CLAMPED}, 3.0)).set_index("quantity")["value"]
    assert rows["log_z"] == pytest.approx(math.log(z), abs=1e-10)
    assert float(pair.log_ratio.max()) > 0.5


def test_what_a_coherent_joint_law_changes_is_bounded_by_what_it_keeps(frame):
    """The same bounds fail for the incoherent pair, which is what they are beside."""
    cells = frame[frame["scale"] > 1].set_index(["law", "pair", "family", "quantity", "scale"])["value"].sort_index()
    for law, scale in product((coherent.WORDS, coherent.LINE), (2.0, 5.0, 10.0)):
        for name in ("kl", "tv"):
            most = cells[law, coherent.COHERENT, "exact", f"most_{name}", scale]
            assert 0 < cells[law, coherent.COHERENT, "joint", f"{name}_conditional", scale] <= most
    most = cells[coherent.WORDS, coherent.COHERENT, "exact", "most_kl", 10.0]
    assert cells[coherent.WORDS, coherent.INCOHERENT, "joint", "kl_conditional", 10.0] > most


def test_errors_of_the_unconditional_law_grow_what_guidance_does(frame):
    rows = frame[(frame["law"] == coherent.WORDS) & frame["pair"].str.startswith("noise")]
    error = rows[rows["quantity"] == "fit_error"].set_index("pair")["value"]
    gap = rows[rows["quantity"] == "kl_sequential_joint"].set_index("pair")["value"]
    assert error.is_monotonic_increasing
    assert gap[error.index].is_monotonic_increasing
    exact = frame[(frame["pair"] == coherent.COHERENT) & (frame["quantity"] == "fit_error")]["value"]
    assert exact.abs().max() < 1e-12


def test_the_verdict_and_the_table_hold_the_frames_numbers(frame):
    at = frame[(frame["law"] == coherent.WORDS) & (frame["scale"] == coherent.AT)]
    gap = at[at["quantity"] == "kl_sequential_joint"]
    told, cells = coherent.verdict(frame), coherent.at_scales(frame)
    for pair, value in gap.set_index("pair")["value"][list(coherent.PAIRS)].items():
        assert f"{value:.3f} nats ({pair} pair)" in told.number
    row = next(row for row in cells[1] if row[0] == f"{coherent.AT:g}")
    shown = [f"{value:.2f}" for value in gap.set_index("pair")["value"][list(coherent.PAIRS)]]
    assert row[cells[0].index("KL(seq. ‖ joint)")] == " / ".join(shown)
