"""Write the report of a run: its figures, its numbers, and one self-contained HTML page."""

import base64
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import pandas as pd

from analysis import explore, glossary
from analysis.figures.pictures import save_panels
from analysis.files import run_folder
from analysis.frames import BANNER, Chapter, Grid, Plot
from analysis.typeset import html

SOURCE = "https://sander.ai/2022/05/26/guidance.html"
POST = f'<a href="{SOURCE}">Guidance: a cheat code for diffusion models</a>'
STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 0 auto; padding: 1.5rem;
  overflow-wrap: break-word; }
h1 { line-height: 1.2; margin-bottom: 0.2rem; } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1.2rem; }
h2, h3 { line-height: 1.25; } a { color: #0b5394; } sub, sup { line-height: 0; font-size: max(0.8em, 12px); }
blockquote { margin: 0.8rem 0; padding: 0.1rem 1rem; border-left: 4px solid #888; color: #333; background: #f5f6f7; }
.banner, .conclusion { padding: 0.7rem 1.1rem; border: 2px solid #b45309; background: #fdf3e7; margin: 1rem 0; }
.conclusion { border-color: #0b5394; background: #f2f7fc; } .conclusion h2 { margin: 0.1rem 0; border: 0; padding: 0; }
.conclusion p { margin: 0.5rem 0; }
.number { font-size: 1.15rem; margin: 0.8rem 0 0.2rem; } .number b { color: #0b5394; }
.source { color: #444; font-size: 0.9rem; margin: 0 0 0.8rem; }
figure { margin: 1.4rem 0; } figcaption { font-size: 0.9rem; color: #444; max-width: 52rem; }
.panels { display: flex; flex-wrap: wrap; gap: 0.4rem 0.5rem; align-items: flex-start; }
.panels img { height: auto; max-width: 100%; } .four { max-width: 44rem; }
.wide { overflow-x: auto; } .wide + figcaption { padding-top: 0.4rem; }
.wide td { white-space: nowrap; } .wide td.text { white-space: pre-line; min-width: 13rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: 0.93rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.35rem 0.6rem; border-bottom: 1px solid #ddd; vertical-align: top; }
.headline td { overflow-wrap: anywhere; }
footer { margin-top: 3rem; border-top: 1px solid #ccc; font-size: 0.85rem; color: #555; }
code, pre { font-size: 0.85rem; overflow-wrap: anywhere; } pre { overflow-x: auto; background: #f6f6f6; padding: 0.7rem; }
@media (max-width: 40rem) {
  body { padding: 1rem; } .headline thead { display: none; } .headline td { display: block; border: 0; padding: 0.1rem 0; }
  .headline tr { display: block; border-bottom: 1px solid #ddd; padding: 0.5rem 0; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; } a { color: inherit; } .wide { overflow: visible; }
  table { font-size: 8pt; } .wide td, .wide td.text { white-space: normal; }
  .wide td.text { min-width: 0; } .wide th, .wide td { padding: 0.2rem; }
  h2, h3, .number { break-after: avoid; }
  figure, blockquote, tr, .panels img, .conclusion { break-inside: avoid; }
}
"""

WRAPPED = 48  # characters; longer cells of a table are wrapped
OPENING = (
    "Joint against sequential guidance",
    f"""
<p>The argument of Sander Dieleman’s post {POST} (2022), in numbers. Classifier-free guidance combines a conditional and an
unconditional model with a scale γ: γ = 0 is the unconditional law, γ = 1 the conditional one, γ &gt; 1 sharpens. A model that
writes one token at a time can only be guided token by token. That is <i>sequential</i> guidance. Guiding the law of the whole
sequence, p(x)<sup>1−γ</sup> p(x|y)<sup>γ</sup> / Z, is <i>joint</i> guidance. All of the difference is in the normalizers,
s<sub>γ</sub> / s′<sub>γ</sub> = Π<sub>t</sub> Z<sub>t</sub> / Z, of tokens as of noise levels. So it can be measured, and
corrected. Every number below is computed on exact laws, or estimated from samples with a 95 % interval.
Words are explained in the <a href="#glossary">glossary</a>.</p>
""",
)


def publish(
    folder: Path,
    chapters: Sequence[Chapter],
    frame: pd.DataFrame,
    made_by: str,
    *,
    opening: tuple[str, str] = OPENING,
    conclusion: Sequence[str] = (),
) -> Path:
    """Write the figures, `results.parquet`, `explore.html` and `report.html` of a run; return the path of the report.

    Args:
        folder: of the run; it holds `run.json`.
        chapters: in their order.
        frame: all numbers of the run.
        made_by: the command that repeats the run.
        opening: title and introduction of the report, the latter in HTML.
        conclusion: what was found, a few sentences; a quick run does not show it.

    Raises:
        ValueError: the folder cannot be written, or the disk is full.
    """
    sections = [_section(folder, number, chapter) for number, chapter in enumerate(chapters, 1)]
    run_folder.write_frame(folder / "results.parquet", frame)
    explore.write(folder)
    page, (title, introduction) = folder / "report.html", opening
    box = _banner(made_by) if any(chapter.quick for chapter in chapters) else _conclusion(conclusion)
    body = f"{box}{introduction}{_headline(chapters)}{''.join(sections)}"
    run_folder.write_text(page, _page(title, f"{body}{_glossary(body)}{_footer(folder, made_by)}"))
    return page


def _page(title: str, body: str) -> str:
    """Return the HTML of a page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>arguide: {escape(title)}</title><style>{STYLE}</style></head><body>\n<h1>{html(title)}</h1>\n"
        f'<p><a href="{explore.NAME}">Play with these laws</a>: a page with bars and sliders.</p>\n'
        f"{body}\n</body></html>\n"
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


def _banner(made_by: str) -> str:
    full = made_by.replace(" --quick", "")
    return (
        f'<div class="banner"><p><b>{escape(BANNER)}</b></p>'
        f"<p>The full run writes its conclusion here: <code>{escape(full)}</code></p></div>\n"
    )


def _conclusion(sentences: Sequence[str]) -> str:
    """Return the box with what was found."""
    if not sentences:
        return ""
    found = "".join(f"<p>{html(sentence)}</p>" for sentence in sentences)
    return f'<section class="conclusion" aria-label="Conclusion"><h2>What was found</h2>{found}</section>\n'


def _headline(chapters: Sequence[Chapter]) -> str:
    rows = "".join(
        f'<tr><td><a href="#{each.experiment.name}">{html(each.experiment.title)}</a></td><td>{html(each.verdict.measure)}</td>'
        f"<td><b>{html(each.verdict.number)}</b></td><td>{html(each.source)}</td></tr>"
        for each in chapters
    )
    names = ("Chapter", "What decides it", "Number", "Measured on")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return f'<table class="headline"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>\n'


def _section(folder: Path, number: int, chapter: Chapter) -> str:
    """Return a chapter, and write its figures."""
    experiment, verdict = chapter.experiment, chapter.verdict
    conclusion = "".join(f"<p>{html(line)}</p>\n" for line in verdict.verdict.splitlines())
    tables = "".join(_table(grid, chapter.frame) for grid in experiment.tables)
    figures = "".join(_figure(folder, plot, chapter.frame) for plot in experiment.plots)
    source = f'<p class="source">Measured on: {html(chapter.source)}</p>\n' if chapter.source else ""
    return (
        f'<section id="{experiment.name}"><h2>{number}. {html(experiment.title)}</h2>\n'
        f"<blockquote><p>{html(experiment.by)}: {html(experiment.claim)}</p></blockquote>\n"
        f'<p class="number">{html(verdict.measure)}: <b>{html(verdict.number)}</b></p>\n'
        f"{source}{conclusion}{tables}{figures}</section>\n"
    )


def _table(grid: Grid, frame: pd.DataFrame) -> str:
    columns, rows = grid.filled(frame)
    if not rows:
        return ""
    written = escape if grid.verbatim else html
    head = "".join(f'<th scope="col">{written(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(_cell(text, written(text)) for text in row)}</tr>" for row in rows)
    return (
        f'<figure><div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"<figcaption>{html(grid.caption)}</figcaption></figure>\n"
    )


def _cell(text: str, written: str) -> str:
    return f'<td class="text">{written}</td>' if len(text) > WRAPPED or "\n" in text else f"<td>{written}</td>"


def _figure(folder: Path, plot: Plot, frame: pd.DataFrame) -> str:
    """Return the panels of a plot, which lie side by side where there is room, and write its picture."""
    pictures = save_panels(folder / "figures" / f"{plot.name}.png", plot, frame)
    images = "".join(
        f'<img alt="{escape(each.title or plot.caption)}" width="{each.width}" '
        f'src="data:image/png;base64,{base64.b64encode(each.png).decode()}">'
        for each in pictures
    )
    kind = "panels four" if len(pictures) == 4 else "panels"
    return f'<figure><div class="{kind}">{images}</div><figcaption>{html(plot.caption)}</figcaption></figure>\n'


def _glossary(body: str) -> str:
    """Return the words that a page uses, with their meanings."""
    rows = "".join(
        f"<tr><td>{html(word)}</td><td>{html(symbol)}</td><td>{html(meaning)}</td></tr>"
        for word, symbol, meaning, _ in glossary.used(re.sub("<[^>]*>", "", body))
    )
    head = "<thead><tr><th>Word</th><th>Symbol</th><th>Meaning</th></tr></thead>"
    table = f'<table class="headline">{head}<tbody>{rows}</tbody></table>'
    return f'<section id="glossary"><h2>Glossary</h2>{table}</section>\n'


def _footer(folder: Path, made_by: str) -> str:
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record = escape(json.dumps(run, indent=2, ensure_ascii=False))
    return f"<footer><p>Made by <code>{escape(made_by)}</code></p><pre>{record}</pre></footer>"
