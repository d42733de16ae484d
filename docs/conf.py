"""Configure the documentation site: Sphinx with the theme furo, pages in Markdown, API pages from the docstrings."""

import os
import sys
from pathlib import Path

import arguide

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
EXTENSIONS_HERE = ("generated", "docstrings")

project, author = "arguide", "The arguide authors"
copyright = author  # noqa: A001, the name that Sphinx reads
version = release = arguide.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
    "myst_nb",
    "sphinx_copybutton",
    *EXTENSIONS_HERE,
]
exclude_patterns = ["_build", "explore"]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"arguide {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = False

myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are shown with the outputs that they are committed with
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_use_ivar = True
default_role = "py:obj"  # a link where the name is known, code elsewhere

# Links to other projects need their inventories from the network, so only the published site has them.
intersphinx_mapping = {
    name: (url, None)
    for name, url in {
        "python": "https://docs.python.org/3",
        "numpy": "https://numpy.org/doc/stable",
        "pandas": "https://pandas.pydata.org/docs",
        "matplotlib": "https://matplotlib.org/stable",
        "torch": "https://docs.pytorch.org/docs/stable",
    }.items()
    if os.environ.get("ARGUIDE_DOCS_ONLINE")
}

nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", ".*"),  # single backticks in docstrings are code, and a link where the name is known
    ("py:.*", r"(torch|transformers|numpy|pandas|matplotlib|collections|pathlib|typing|lm_eval)\..*"),
    ("py:.*", r"(.*\.)?(F|T|Model|Rest|Axes|JointLaw|SequentialLaw)"),  # type variables, and a name for type checkers
    ("py:.*", r"arguide\.text\.(reading|combination)\..*"),  # internal
]
suppress_warnings = ["ref.python"]  # a field of several classes
