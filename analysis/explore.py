"""Write the page to play with, `docs/explore`, as one file that needs no server.

Browsers load JavaScript modules from a server only. So the modules are joined, in the order of their imports, in one inline
script; the style sheet and the example are put in as well.
"""

import re
from pathlib import Path

from analysis.files import run_folder

NAME = "explore.html"
IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
STYLE, SCRIPT = '<link rel="stylesheet" href="style.css">', '<script type="module" src="main.js"></script>'


def folder() -> Path:
    """Return the folder of the page: in an installed package beside this module, else in the repository."""
    installed = Path(__file__).with_name("explore_page")
    return installed if installed.is_dir() else Path(__file__).parents[1] / "docs" / "explore"


def page() -> str:
    """Return the page as one HTML document."""
    place = folder()
    html, style, example = (read(place / name) for name in ("index.html", "style.css", "example.json"))
    inlined = example.replace("<", "\\u003c")
    script = (
        f'<script type="application/json" id="example">{inlined}</script>\n<script type="module">\n{script_of(place)}</script>'
    )
    return html.replace(STYLE, f"<style>\n{style}</style>").replace(SCRIPT, script)


def script_of(place: Path) -> str:
    """Return the modules of a folder as one script, each after those that it imports; main.js is the last."""
    done: dict[str, str] = {}

    def visit(name: str) -> None:
        if name not in done:
            source = read(place / name)
            for imported in IMPORT.findall(source):
                visit(imported)
            done[name] = re.sub(r"^export ", "", IMPORT.sub("", source), flags=re.MULTILINE)

    visit("main.js")
    return "\n".join(done.values())


def write(place: Path) -> Path:
    """Write the page into a folder, and return its path.

    Raises:
        ValueError: the folder cannot be written, or the disk is full.
    """
    path = place / NAME
    run_folder.write_text(path, page())
    return path


def read(path: Path) -> str:
    """Return a text file."""
    return path.read_text(encoding="utf-8")
