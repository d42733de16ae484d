"""Execute notebooks, and write them with their outputs: `make notebooks`, or with `ARGS=NAME` one of them.

`NAME.py` is edited; `NAME.ipynb` has the same cells and what they print. Nothing is stored that changes from run to run: no
times, no random names of cells, no version of Python. Pictures have few colours and no metadata.
"""

import base64
import io
import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parents[2] / "notebooks"
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
COLOURS = 64
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # with agg a cell would show no picture
    "PYTHONWARNINGS": "ignore:IProgress not found",  # of tqdm, where ipywidgets is not installed
}


def names():
    """Return the names of all notebooks."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def source(name):
    """Return the notebook of a text, without outputs."""
    return jupytext.read(FOLDER / f"{name}.py")


def stored(name):
    """Return the notebook that people open, with its outputs."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def executed(name, **environment):
    """Return the notebook of a text with the outputs of its cells, run on one thread and in its folder."""
    notebook = source(name)
    client = NotebookClient(notebook, timeout=900, kernel_name="python3", record_timing=False, coalesce_streams=True)
    client.execute(cwd=str(FOLDER), env=os.environ | ENVIRONMENT | environment)
    return settled(notebook)


def settled(notebook):
    """Return a notebook in which only what a cell prints depends on the run."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for i, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{i}", {}
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output.data["image/png"], output.metadata = smaller(output.data["image/png"]), {}
    return notebook


def smaller(picture):
    """Return a PNG in base64 with few colours and without metadata."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    file = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    for each in sys.argv[1:] or names():
        nbformat.write(executed(each), FOLDER / f"{each}.ipynb")
        print(f"notebooks/{each}.ipynb")
