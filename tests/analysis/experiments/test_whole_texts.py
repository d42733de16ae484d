"""The chapter on whole texts: figures of exact laws, and sentences that follow the numbers."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from analysis.experiments import whole_texts
from analysis.experiments.base import Settings
from analysis.experiments.whole_texts import MIXTURE, POOLED
from analysis.figures import whole_texts as figures
from analysis.frames import pick, tidy
from analysis.metrics.text_laws import text_laws


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "words.tsv"
    labelled = {"vowels": ["aeo", "oea", "eaoa"], "others": ["tkt", "ktt", "te"]}
    path.write_text("\n".join(f"{label}\t{word}" for label, several in labelled.items() for word in several * 20))
    return Settings(quick=True, text=path)


@pytest.fixture(scope="module")
def frame(words):
    return whole_texts.run(words, lambda items: items)


def test_figures_are_means_over_the_labels(words, frame):
    models = whole_texts.models_of(words, 4)
    gaps = []
    for label in ("others", "vowels"):
        laws = text_laws(models, label, 3.0)
        gaps.append(float(laws.sequential.kl(laws.joint)))
    row = pick(frame, family=POOLED, quantity="kl_sequential_joint", order=4, scale=3.0).iloc[0]
    assert row["value"] == pytest.approx(sum(gaps) / 2)
    assert (row["std_error"], row["labels"], row["law"]) == (0.0, 2, "texts of words.tsv")
    assert min(gaps) < row["value"] < max(gaps)


def test_estimates_of_the_mixture_have_errors(frame):
    rows = pick(frame, family=MIXTURE, quantity="kl_sequential_joint")
    assert sorted(zip(rows["order"], rows["scale"], strict=True)) == [(2, 3.0), (4, 1.0), (4, 3.0), (4, 10.0)]
    assert (rows[rows["scale"] > 1]["std_error"] > 0).all()
    at_one = rows[rows["scale"] == 1]
    assert (at_one["value"].abs() < 4 * at_one["std_error"]).all()


def test_stories_are_labelled_by_their_pet():
    models = whole_texts.models_of(Settings(quick=True), 2)
    assert models.labels[:2] == ("bird", "cat")
    story = models.decode(models.log_law("cat").sample(1))[0]
    assert story.split()[1] == "had"
    assert story.endswith(" .")
    following = models.log_probs("cat").exp()[:, models.alphabet.index("cat")]
    assert following.max() > 0.5


def with_(*cases):
    names = ("family", "quantity", "scale", "value", "std_error")
    rows = [{"law": "texts", "order": 5, "length": 9, "labels": 3} | dict(zip(names, case, strict=True)) for case in cases]
    return tidy([row | {"freedom": 1e6} for row in rows])


BASE = [(POOLED, "kl_sequential_joint", 3.0, 2.0, 0.0), (POOLED, "log_growth", 3.0, -0.1, 0.0)]


@pytest.mark.parametrize(
    ("errors", "says"),
    [
        ((0.01, 0.1), "0.500 ± 0.020 nats at γ = 3 and 4.000 ± 0.196 nats at γ = 10. The two laws differ at γ = 3 and 10."),
        ((0.5, 0.1), "The two laws differ at γ = 10."),
        ((0.5, 3.0), "Whether the two laws differ is not decided."),
    ],
)
def test_the_verdict_says_what_is_left_with_the_mixture(errors, says):
    gaps = [
        (MIXTURE, "kl_sequential_joint", scale, value, error)
        for scale, value, error in zip((3.0, 10.0), (0.5, 4.0), errors, strict=True)
    ]
    found = whole_texts.verdict(with_(*BASE, *gaps))
    assert says in found.verdict
    assert found.number.startswith("2.00 nats (pooled), 0.500")


def test_the_verdict_names_the_scale_from_which_z_has_no_limit():
    grows = [(POOLED, "log_growth", scale, rate, 0.0) for scale, rate in ((2.0, -0.1), (5.0, 0.2), (10.0, 0.9))]
    sizes = [(POOLED, f"mean_length_{law}", 10.0, size, 0.0) for law, size in (("joint", 8.7), ("conditional", 4.2))]
    found = whole_texts.verdict(with_(*BASE, *grows, *sizes)).verdict
    assert "From γ = 5 on, Z" in found
    assert "its texts have 9 of at most 9 tokens, conditional ones 4" in found
    without = whole_texts.verdict(with_(*BASE))
    assert "has a limit in the length at every scale" in without.verdict
    assert "keeps too few draws" in without.verdict


def test_the_table_has_a_row_per_order(frame):
    columns, rows = whole_texts.by_order(frame)
    assert [row[0] for row in rows] == ["2", "4"]
    assert all(len(row) == len(columns) for row in rows)
    assert whole_texts.EXPERIMENT.tables[0].wide == (sum(map(len, columns)) + 3 * len(columns) > 100)
    joint = pick(frame, family=POOLED, quantity="mean_length_joint", order=2, scale=3.0)["value"].iloc[0]
    assert rows[0][columns.index("joint, pooled")] == f"{joint:.2f}"
    assert "±" in rows[0][2]


def test_titles_state_what_the_panels_draw(frame):
    _, axes = plt.subplots(1, 3)
    drawn = [panel(frame, ax) for panel, ax in zip((figures.gap, figures.orders, figures.lengths), axes, strict=True)]
    largest = pick(frame, family=POOLED, quantity="kl_sequential_joint", order=4, scale=10.0)["value"].iloc[0]
    assert f"{largest:.3g} nats (pooled)" in drawn[0].get_label()
    assert len(drawn[0].lines) == len(drawn[1].lines) == 2
    assert drawn[1].get_xticks().tolist() == [2, 4]
    assert len(drawn[2].lines) == 4
    length = pick(frame, family=POOLED, quantity="mean_length_joint", order=4, scale=10.0)["value"].iloc[0]
    assert f"has {length:.0f} tokens" in drawn[2].get_label()
    plt.close("all")


def test_a_mixture_that_acceptance_cannot_draw_is_left_out(words, monkeypatch):
    import arguide

    def refused(*_, **__):
        raise arguide.LowAcceptanceError("too small")

    monkeypatch.setattr(whole_texts.MixtureLaws, "sample_scales", refused)
    found = whole_texts.run(words, lambda items: items)
    assert set(found["family"]) == {POOLED}
    assert "keeps too few draws" in whole_texts.verdict(found).verdict
    assert isinstance(found, pd.DataFrame)
