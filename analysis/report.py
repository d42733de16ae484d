"""Write the report of a run: its figures, its numbers, and one self-contained HTML page."""

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import pandas as pd

from analysis import explore
from analysis.figures import style
from analysis.files import run_folder
from analysis.frames import BANNER, Chapter, Grid, Plot

STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 0 auto; padding: 1.5rem; }
h1 { line-height: 1.2; margin-bottom: 0.2rem; } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1.2rem; }
blockquote { margin: 0.8rem 0; padding: 0.1rem 1rem; border-left: 4px solid #0072B2; color: #333; background: #f5f8fa; }
.banner { padding: 0.6rem 1rem; border: 2px solid #D55E00; background: #fdf1ea; font-weight: bold; }
.number { font-size: 1.15rem; margin: 0.8rem 0; } .number b { color: #0072B2; }
figure { margin: 1.2rem 0; } figure img { height: auto; } figcaption { font-size: 0.9rem; color: #444; }
.wide { overflow-x: auto; } .wide th, .wide td { white-space: nowrap; }
.wide td.text { white-space: normal; min-width: 16rem; } .wide + figcaption { padding-top: 0.4rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.93rem; }
th, td { text-align: left; padding: 0.35rem 0.6rem; border-bottom: 1px solid #ddd; vertical-align: top; }
footer { margin-top: 3rem; border-top: 1px solid #ccc; font-size: 0.85rem; color: #555; }
code, pre { font-size: 0.85rem; } pre { overflow-x: auto; background: #f6f6f6; padding: 0.7rem; }
"""

WRAPPED = 48  # characters; longer cells of a table are wrapped
OPENING = (
    "Joint against sequential guidance",
    """
<p>The argument of Sander Dieleman, “Guidance: a cheat code for diffusion models” (2022), in numbers.</p>
<p>Classifier-free guidance combines a conditional and an unconditional model with a scale γ: γ = 0 is the unconditional law,
γ = 1 the conditional one, γ &gt; 1 sharpens (Ho &amp; Salimans use ω = γ − 1). Guiding every next-token law of an
autoregressive model, <i>sequential</i> guidance, is not guiding the law of the whole sequence, <i>joint</i> guidance:
p(x)<sup>1−γ</sup> p(x|y)<sup>γ</sup> / Z. All of the difference is in the local normalizers,
s<sub>γ</sub> / s′<sub>γ</sub> = Π<sub>t</sub> Z<sub>t</sub> / Z, in both wings: tokens, and noise levels. So it can be
measured, and corrected. Every number below is computed on exact laws, or estimated from samples with a stated error.</p>
""",
)


def publish(
    folder: Path, chapters: Sequence[Chapter], frame: pd.DataFrame, made_by: str, *, opening: tuple[str, str] = OPENING
) -> Path:
    """Write the figures, `results.parquet`, `explore.html` and `report.html` of a run; return the path of the report.

    Args:
        folder: of the run; it holds `run.json`.
        chapters: in their order.
        frame: all numbers of the run.
        made_by: the command that repeats the run.
        opening: title and introduction of the report, the latter in HTML.

    Raises:
        ValueError: the folder cannot be written, or the disk is full.
    """
    for chapter in chapters:
        for plot in chapter.experiment.plots:
            style.save_plot(folder / "figures" / f"{plot.name}.png", plot, chapter.frame)
    run_folder.write_frame(folder / "results.parquet", frame)
    explore.write(folder)
    page = folder / "report.html"
    run_folder.write_text(page, _render(folder, chapters, made_by, *opening))
    return page


def _render(folder: Path, chapters: Sequence[Chapter], made_by: str, title: str, introduction: str) -> str:
    """Return the HTML of the report, with the figures of `folder/figures` embedded."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    sections = "".join(_section(folder, number, chapter) for number, chapter in enumerate(chapters, 1))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>arguide: {escape(title)}</title><style>{STYLE}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>\n"
        f'<p><a href="{explore.NAME}">Play with these laws</a>: a page with bars and sliders.</p>\n'
        f"{_banner(chapters)}{introduction}{_headline(chapters)}{sections}"
        f"<footer><p>Made by <code>{escape(made_by)}</code></p>"
        f"<pre>{escape(json.dumps(run, indent=2, ensure_ascii=False))}</pre></footer>\n</body></html>\n"
    )


def command(config: Mapping[str, object]) -> str:
    """Return the command that repeats a run of `arguide reproduce` with this config."""
    options = {
        "--quick": bool(config["quick"]),
        "--seed": config["seed"],
        "--text": config["text"] and str(config["text"]).rsplit(" (sha256", 1)[0],
        "--model": config.get("model") and str(config["model"]).rsplit("@", 1)[0],
        "--device": None if config["device"] == "cpu" else config["device"],
    }
    return shell("arguide reproduce", options)


def shell(program: str, options: Mapping[str, object]) -> str:
    """Return a command line whose arguments are quoted for a shell.

    Args:
        program: the command, as it stands.
        options: name ↦ value; True gives a flag, and None, False, 0 and "" leave the option out.
    """
    parts = [part for name, value in options.items() if value for part in ((name,) if value is True else (name, f"{value}"))]
    return " ".join([program, shlex.join(parts)] if parts else [program])


def _banner(chapters: Sequence[Chapter]) -> str:
    return f'<p class="banner">{escape(BANNER)}</p>\n' if any(chapter.quick for chapter in chapters) else ""


def _headline(chapters: Sequence[Chapter]) -> str:
    rows = "".join(
        f'<tr><td><a href="#{chapter.experiment.name}">{escape(chapter.experiment.title)}</a></td>'
        f"<td>{escape(chapter.verdict.measure)}</td><td><b>{escape(chapter.verdict.number)}</b></td></tr>"
        for chapter in chapters
    )
    return (
        f"<table><thead><tr><th>Chapter</th><th>What decides it</th><th>Number</th></tr></thead><tbody>{rows}</tbody></table>\n"
    )


def _section(folder: Path, number: int, chapter: Chapter) -> str:
    experiment, verdict = chapter.experiment, chapter.verdict
    conclusion = f"<p>{escape(verdict.verdict)}</p>\n" if verdict.verdict else ""
    tables = "".join(_table(grid, chapter.frame) for grid in experiment.tables)
    figures = "".join(_figure(folder / "figures" / f"{plot.name}.png", plot) for plot in experiment.plots)
    return (
        f'<section id="{experiment.name}"><h2>{number}. {escape(experiment.title)}</h2>\n'
        f"<blockquote><p>The source: {escape(experiment.claim)}</p></blockquote>\n"
        f'<p class="number">{escape(verdict.measure)}: <b>{escape(verdict.number)}</b></p>\n'
        f"{conclusion}{tables}{figures}</section>\n"
    )


def _table(grid: Grid, frame: pd.DataFrame) -> str:
    columns, rows = grid.cells(frame)
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<figure><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"<figcaption>{escape(grid.caption)}</figcaption></figure>\n"
    )


def _cell(text: str) -> str:
    return f'<td class="text">{escape(text)}</td>' if len(text) > WRAPPED else f"<td>{escape(text)}</td>"


def _figure(path: Path, plot: Plot) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    text, width = escape(plot.caption), min(100, 34 * len(plot.panels))
    image = f'<img alt="{text}" style="width: {width}%" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>\n"
