"""Notebooks have the cells of their text, outputs that say what the cells print, and pictures that are small."""

import ast
import base64
import io
import math
import re

import pytest
from notebook_outputs import FOLDER, METADATA, executed, names, source, stored
from PIL import Image

NAMES = names()
EXACT = {"01_joint_against_sequential", "02_temperature"}  # in the others models are trained, and rounding grows
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?")
SILENT = {"sns", "torch", "loading", "plt"}  # modules whose functions show nothing as the last line of a cell


def shows(code):
    """Whether a cell prints, draws, or ends with a value."""
    *_, last = ast.parse(code).body
    called = {
        getattr(each.func, "id", getattr(each.func, "attr", ""))
        for each in ast.walk(ast.parse(code))
        if isinstance(each, ast.Call)
    }
    module = ast.unparse(last).split(".")[0]
    return bool({"print", "show", "subplots"} & called) or (isinstance(last, ast.Expr) and module not in SILENT)


def text(output):
    """Return what an output prints, "" for a picture."""
    return output.get("text", "") if output.output_type == "stream" else output.data.get("text/plain", "")


def kinds(notebook):
    """Return what kinds of outputs every cell has."""
    return [[sorted(each.get("data", {each.get("name"): 0})) for each in cell.get("outputs", ())] for cell in notebook.cells]


def differences(found, expected, tolerance):
    """Return the words and numbers that differ between what two notebooks print; small numbers may differ by rounding."""
    pairs = [
        (text(a), text(b))
        for one, two in zip(found.cells, expected.cells, strict=True)
        for a, b in zip(one.get("outputs", ()), two.get("outputs", ()), strict=True)
    ]
    words = [(a, b) for a, b in pairs if re.sub(r"\s+", " ", NUMBER.sub("", a)) != re.sub(r"\s+", " ", NUMBER.sub("", b))]
    numbers = [(x, y) for a, b in pairs for x, y in zip(NUMBER.findall(a), NUMBER.findall(b), strict=False)]
    close = (math.isclose(float(x), float(y), rel_tol=tolerance, abs_tol=tolerance) for x, y in numbers)
    return words + [pair for pair, same in zip(numbers, close, strict=True) if not same]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_the_cells_of_its_text(name):
    kept, written = stored(name), source(name)
    assert [(cell.cell_type, cell.source) for cell in kept.cells] == [(cell.cell_type, cell.source) for cell in written.cells]


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_that_shows_something_has_its_output(name):
    for cell in stored(name).cells:
        outputs = cell.get("outputs", [])
        assert bool(outputs) == (cell.cell_type == "code" and shows(cell.source)), cell.source
        assert [each for each in outputs if each.output_type == "error" or each.get("name") == "stderr"] == []
        assert [word for each in outputs for word in ("/home/", "/tmp/", "/root/", "site-packages") if word in text(each)] == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_stored_that_changes_from_run_to_run(name):
    notebook = stored(name)
    assert notebook.metadata == METADATA
    assert [cell.metadata for cell in notebook.cells] == [{}] * len(notebook.cells)
    assert [cell.id for cell in notebook.cells] == [f"cell-{i}" for i in range(len(notebook.cells))]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_small_and_have_no_metadata(name):
    outputs = [each.get("data", {}) for cell in stored(name).cells for each in cell.get("outputs", ())]
    for picture in (base64.b64decode(data["image/png"]) for data in outputs if "image/png" in data):
        image = Image.open(io.BytesIO(picture))
        assert len(picture) <= 40_000
        assert (image.mode, image.text) == ("P", {})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_to_the_outputs_that_are_stored(name):
    found, expected = executed(name), stored(name)
    assert kinds(found) == kinds(expected)
    if name in EXACT:
        assert differences(found, expected, tolerance=2e-3) == []


def test_a_changed_number_and_a_changed_word_are_found():
    found, expected = stored("02_temperature"), stored("02_temperature")
    assert differences(found, expected, 2e-3) == []
    (output,) = next(cell for cell in found.cells if cell.get("outputs")).outputs
    output.text = output.text.replace("0.4457", "0.4557").replace("τ = 2.0", "T = 2.0")
    assert len(differences(found, expected, 2e-3)) == 2


@pytest.mark.slow
def test_text_is_guided_on_a_pretrained_model_too(data):
    """Its loading shows a progress bar."""
    found = kinds(executed("03_guiding_text", ARGUIDE_MODEL=str(data / "stories260K")))
    assert [[each for each in cell if each != ["stderr"]] for cell in found] == kinds(stored("03_guiding_text"))


def test_every_text_notebook_has_its_ipynb():
    assert {path.stem for path in FOLDER.glob("*.py")} == {path.stem for path in FOLDER.glob("*.ipynb")}
