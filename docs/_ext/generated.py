"""Generate what the pages include, before Sphinx reads them: API pages, pictures, and copies of the notebooks."""

import shutil
from pathlib import Path

import api_pages
import pictures
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("builder-inited", generate)
    app.connect("build-finished", copy_explore)
    return {"parallel_read_safe": True}


def generate(app: Sphinx) -> None:
    """Write the generated sources beside the pages."""
    docs = Path(app.srcdir)
    api_pages.write(docs / "api")
    pictures.write(docs / "pictures")
    shutil.rmtree(docs / "notebooks", ignore_errors=True)
    (docs / "notebooks").mkdir()
    for notebook in (docs.parent / "notebooks").glob("*.ipynb"):
        shutil.copy2(notebook, docs / "notebooks")


def copy_explore(app: Sphinx, error: Exception | None) -> None:
    """Copy the page to play with, which needs no build, to /explore/ of the site."""
    source = Path(app.srcdir) / "explore"
    if error is None and source.is_dir():
        shutil.copytree(source, Path(app.outdir) / "explore", dirs_exist_ok=True)
