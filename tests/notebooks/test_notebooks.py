from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"


NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
LONG = {"04_joint_text", "05_learned_models", "06_coherent_pairs"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in NAMES])
def test_a_notebook_runs_and_matches_its_text(name, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    text = jupytext.read(FOLDER / f"{name}.py")
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [(cell.cell_type, cell.source) for cell in text.cells]
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()


@pytest.mark.slow
def test_text_is_guided_on_a_pretrained_model_too(data, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ARGUIDE_MODEL", str(data / "stories260K"))
    NotebookClient(nbformat.read(FOLDER / "03_guiding_text.ipynb", as_version=4), timeout=300, kernel_name="python3").execute()


def test_every_text_notebook_has_its_ipynb():
    assert {path.stem for path in FOLDER.glob("*.py")} == {path.stem for path in FOLDER.glob("*.ipynb")}
