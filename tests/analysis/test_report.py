"""The report and what a terminal shows: quick runs, what users write, the order of figures, and the command to repeat."""

import dataclasses
import re
import shlex
from html import escape

import pytest
from PIL import Image

from analysis import report
from analysis.cli import display
from analysis.experiments import reproduce
from analysis.experiments.base import Experiment, Settings
from analysis.figures import style
from analysis.files import run_folder
from analysis.frames import BANNER, Chapter, Grid, Plot, Verdict, headline, tidy
from analysis.learning.datasets import Source
from analysis.study import run as study_run
from analysis.study.plan import Plan, command

VERDICT = "It is <i>so</i> & not otherwise"
NUMBER = "1.5\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.1"


def panel(frame, ax):
    ax.plot(frame["scale"], frame["value"])
    return ax


def made(name="one"):
    plots = tuple(Plot(f"{name}_{part}", (panel,), f"{part} <b>caption</b>") for part in ("first", "second", "third"))
    return Experiment(
        name=name,
        title="T",
        claim="“c”",
        run=lambda settings, track: tidy([{"quantity": "q", "scale": 0.0, "value": 1.0}]),
        verdict=lambda frame: Verdict("what decides", "1.5 ± 0.1", VERDICT),
        source="a table, T = 5",
        plots=plots,
        tables=(
            Grid(
                lambda frame: (("γ", "<b>value</b>", "text"), [[f"{frame['value'][0]:g}", "<1> & 2", 50 * "x"]]),
                "How to <read> it.",
            ),
        ),
    )


def published(folder, monkeypatch, settings):
    """Return the HTML of a run of one experiment."""
    monkeypatch.setattr(reproduce, "EXPERIMENTS", (made(),))
    run_folder.claim(folder, reproduce.config(settings))
    done = list(reproduce.chapters(folder, settings, lambda title: lambda items: items))
    return reproduce.publish(folder, done).read_text(encoding="utf-8"), done


def test_a_quick_report_has_a_banner_and_no_verdict(tmp_path, monkeypatch, capsys):
    page, done = published(tmp_path / "quick", monkeypatch, Settings(quick=True))
    assert BANNER in page
    assert page.count(NUMBER) == 2  # in the table and in its chapter
    assert page.index(BANNER) < page.index("<table")
    assert "otherwise" not in page
    display.chapters("Title", done)
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(BANNER)
    assert "1.5 ± 0.1" in shown
    told = headline(done)
    one = {"measure": "what decides", "number": "1.5 ± 0.1", "verdict": None, "source": "a table, T = 5"}
    assert told == {"quick": BANNER, "headline": {"one": one}}


def test_a_chapter_has_its_tables_escaped_and_a_quick_terminal_none(tmp_path, monkeypatch, capsys):
    for quick in (False, True):
        page, done = published(tmp_path / str(quick), monkeypatch, Settings(quick=quick))
        assert '<th scope="col">&lt;b&gt;value&lt;/b&gt;</th>' in page
        assert "<td>&lt;1&gt; &amp; 2</td>" in page
        assert f'<td class="text">{50 * "x"}</td>' in page
        assert "<figcaption>How to &lt;read&gt; it.</figcaption>" in page
        display.chapters("Title", done)
        shown = capsys.readouterr().out
        assert all((text in shown) != quick for text in ("<1> & 2", "How to <read> it."))


def test_a_full_report_has_a_verdict_and_no_banner(tmp_path, monkeypatch, capsys):
    page, done = published(tmp_path / "full", monkeypatch, Settings())
    assert "Quick run" not in page
    assert "otherwise" in page
    display.chapters("Title", done)
    assert "Quick run" not in capsys.readouterr().out
    assert headline(done)["headline"]["one"]["verdict"] == VERDICT


def test_verdicts_and_captions_are_escaped(tmp_path, monkeypatch):
    page, _ = published(tmp_path / "out", monkeypatch, Settings())
    assert "It is &lt;i&gt;so&lt;/i&gt; &amp; not otherwise" in page
    assert page.count("first &lt;b&gt;caption&lt;/b&gt;") == 2  # as a caption, and for those who see no pictures
    assert not re.findall("<i>so|<b>caption", page)


def test_a_report_ends_with_the_record_of_its_run(tmp_path, monkeypatch):
    page, _ = published(tmp_path / "out", monkeypatch, Settings(seed=3))
    record = escape((tmp_path / "out" / "run.json").read_text(encoding="utf-8").strip())
    assert f"<pre>{record}</pre></footer>" in page


def test_figures_keep_their_order(tmp_path, monkeypatch):
    page, _ = published(tmp_path / "out", monkeypatch, Settings())
    assert re.findall(r'"></div><figcaption>(\w+) ', page) == ["first", "second", "third"]


def test_the_command_of_a_quick_study_is_quick():
    source = Source("digits", "image")
    plan = Plan(source, True, quick=True, effort=0.1, seeds=2)
    assert plan.config()["quick"] is True
    told = shlex.split(command(plan))
    assert "--quick" in told
    assert not {"--effort", "--seeds"} & set(told)


AWKWARD = ("my names.csv", "it's $HOME.csv", "a (sha256 of b).csv", "a;b&c.csv", "naïve “x”.csv")


@pytest.mark.parametrize("name", AWKWARD)
def test_a_command_can_be_pasted(tmp_path, name):
    (tmp_path / name).write_text("text,label\nab,x\n")
    config = reproduce.config(Settings(quick=True, seed=3, text=tmp_path / name))
    assert shlex.split(report.command(config)) == ["arguide", "reproduce", "--quick", "--seed", "3", "--text", name]


def test_a_model_folder_keeps_its_name(tmp_path):
    folder = tmp_path / "my model@home"
    folder.mkdir()
    config = reproduce.config(Settings(model=str(folder)))
    assert shlex.split(report.command(config)) == ["arguide", "reproduce", "--model", "my model@home"]


def test_a_command_of_defaults_has_no_options():
    assert report.command(reproduce.config(Settings())) == "arguide reproduce"


def test_the_command_of_a_study_is_quoted(tmp_path):
    path = tmp_path / "my names.csv"
    path.write_text("")
    assert "--data 'my names.csv'" in command(Plan(Source(str(path), "text"), False))


@pytest.mark.parametrize("options", [[], ["--quick"]])
def test_quick_reaches_the_plan_and_the_banner(run, tmp_path, monkeypatch, options):
    plans = []

    def publish(plan, out, *rest, **more):
        plans.append(plan)
        frame = tidy([{"quantity": "q", "value": 1.0}])
        return out / "report.html", [Chapter(made(), frame, False, plan.quick)]

    monkeypatch.setattr(study_run, "publish", publish)
    code, out, err = run("study", "--data", "digits", "--out", tmp_path, *options)
    assert code == 0, err
    assert plans[0].quick == bool(options)
    assert ("Quick run" in out) == bool(options)


def test_the_conclusion_opens_a_full_report_and_is_escaped(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "conclude", lambda done: ["It is <so> at -0.00 & T = 5."])
    page, _ = published(tmp_path / "full", monkeypatch, Settings())
    assert "It is &lt;so&gt; at 0.00 &amp; T" in page
    assert page.index('class="conclusion"') < page.index(report.SOURCE) < page.index("<table")
    page, _ = published(tmp_path / "quick", monkeypatch, Settings(quick=True))
    assert 'class="conclusion"' not in page
    assert "<code>arguide reproduce</code>" in page  # the command of the full run


def test_every_number_says_what_it_was_measured_on(tmp_path, monkeypatch):
    page, _ = published(tmp_path / "out", monkeypatch, Settings())
    assert len(re.findall("a table, T.=.5", page)) == 2  # in the table and in its chapter


def test_a_report_ends_with_the_words_that_it_uses(tmp_path, monkeypatch):
    page, _ = published(tmp_path / "out", monkeypatch, Settings())
    terms = page[page.index('<section id="glossary">') : page.index("<footer>")]
    assert "<td>joint law</td>" in terms
    assert "MALA" not in terms


def made_of(cells, **options):
    return Chapter(
        dataclasses.replace(made(), tables=(Grid(lambda frame: cells, "How.", **options),)), tidy([{"value": 1.0}]), False
    )


def test_a_column_that_says_nothing_is_left_out():
    cells = (("a", "b", "c"), [["1", "–", ""], ["–", "", "3"]])
    grid = made_of(cells).experiment.tables[0]
    assert grid.filled(None) == (["a", "c"], [["1", ""], ["–", "3"]])


def test_a_table_without_rows_is_left_out(tmp_path):
    assert report._table(made_of((("a", "b"), [])).experiment.tables[0], tidy([{"value": 1.0}])) == ""


def test_texts_of_users_are_escaped_and_otherwise_as_they_are():
    cells = (("x_t",), [["p_0 is -0.0 <b>"], ["one\ntwo"]])
    shown = report._table(made_of(cells, verbatim=True).experiment.tables[0], None)
    assert "<td>p_0 is -0.0 &lt;b&gt;</td>" in shown
    assert [
        f"<td>{size * 'x'}</td>" in report._table(made_of((("a",), [[size * "x"]])).experiment.tables[0], None)
        for size in (48, 49)
    ] == [True, False]
    assert '<td class="text">one\ntwo</td>' in shown
    assert "x<sub>t</sub>" in report._table(made_of(cells).experiment.tables[0], None)


def test_panels_are_pictures_of_their_own_with_titles_for_those_who_see_none(tmp_path, monkeypatch):
    def titled(frame, ax):
        panel(frame, ax)
        return style.label(ax, title=f"<{frame['value'][0]:g}> is found", x="x", y="y")

    plot = Plot("two", (titled, titled, titled), "caption")
    story = dataclasses.replace(made(), plots=(plot,), tables=())
    run_folder.claim(tmp_path / "out", {})
    frame = tidy([{"quantity": "q", "scale": float(i), "value": 2.0} for i in range(3)])
    page = report.publish(tmp_path / "out", [Chapter(story, frame, False)], frame, "made").read_text(encoding="utf-8")
    widths = [int(width) for width in re.findall(r'alt="&lt;2&gt; is found" width="(\d+)"', page)]
    assert len(widths) == 3
    assert max(widths) <= 358  # the width of a phone of 390 pixels without its margins
    with Image.open(tmp_path / "out/figures/two.png") as whole:
        assert whole.width == pytest.approx(2 * sum(widths), abs=6)
