"""What a coherent pair changes: every number against plain loops over words, and pairs that are incoherent on purpose."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from readable import check_width

from analysis import Table
from analysis.experiments.base import Settings
from analysis.experiments.coherence import coherent
from analysis.toys.pairs import paired
from analysis.toys.words import words


@pytest.fixture(scope="module")
def small():
    return words(4, labels=2, letters=2, seed=1)


@pytest.fixture(scope="module")
def frame():
    return coherent.run(Settings(quick=True), lambda items: items)


def test_the_curve_of_ratios_is_the_mass_above_each(small):
    pair = paired(small.table, 0, small.pooled())
    rows = list(coherent._ratio(pair, {"pair": coherent.INCOHERENT}, small.table, small.pooled(), curve=True))
    curve = {row["r"]: row["value"] for row in rows if row["quantity"] == "share_above"}
    assert len(curve) > 60
    for level in (min(curve), *[r for r in curve if abs(r) < 0.06]):
        mass = sum(float(pair.log_cond[x].exp()) for x in product(range(3), repeat=4) if pair.log_ratio[x] > level)
        assert curve[level] == pytest.approx(mass, abs=1e-12)


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


def test_a_joint_law_is_said_to_run_into_loops_only_where_it_does(frame):
    swapped = frame.assign(pair=frame["pair"].replace({coherent.COHERENT: "other", coherent.INCOHERENT: coherent.COHERENT}))
    swapped["pair"] = swapped["pair"].replace({"other": coherent.INCOHERENT})
    assert "it runs into loops" in coherent._degenerate(frame)
    assert "it runs into loops" not in coherent._degenerate(swapped)


def test_tables_that_no_terminal_holds_are_left_out_there(frame):
    for grid in coherent.EXPERIMENT.tables:
        check_width(grid, frame)
