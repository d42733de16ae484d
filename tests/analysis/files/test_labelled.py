"""Every command reads labelled files alike: literal paths, present contents, cells as written."""

import json
import os
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from analysis import read_ngrams, read_table
from analysis.files import tables
from analysis.learning import datasets, training
from analysis.learning.datasets import Source

ROWS = [("NA", "a"), ("null", "01"), ("nan", "1"), ("None", "NA")] * 10


def written(path, rows, *, mark=False):
    """Write texts and labels in the format that the path's suffix names."""
    frame = pd.DataFrame(rows, columns=["text", "label"])
    encoding = "utf-8-sig" if mark else "utf-8"
    if path.suffix == ".csv":
        path.write_text(frame.to_csv(index=False), encoding=encoding)
    elif path.suffix == ".jsonl":
        path.write_text(frame.to_json(orient="records", lines=True), encoding=encoding)
    elif path.suffix == ".json":
        path.write_text(json.dumps(frame.to_dict("records")), encoding=encoding)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_text("".join(f"{label}\t{text}\n" for text, label in rows), encoding=encoding)
    return path


def ngrams(path, **options):
    return read_ngrams(path, order=2, **options)


def texts(path):
    found = datasets.read_texts(Source(str(path), "text"))
    return sorted([*found.rows, *found.held]), found.names


def names(n, *labels):
    return [(f"{labels[i % len(labels)]} name {i}", labels[i % len(labels)]) for i in range(n)]


# Paths and contents.


@pytest.mark.parametrize("name", ["x[1].csv", "x*.csv", "x?.jsonl", "{x,y}.json", "x[!1].parquet"])
def test_a_path_is_no_pattern(tmp_path, name):
    for other in ("x1", "x2", "x", "y"):
        written(tmp_path / f"{other}.{name.split('.')[1]}", names(40, "wrong", "file"))
    assert texts(written(tmp_path / name, names(40, "right", "too")))[1] == ("too", "right")


def picture(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), grey, dtype=np.uint8)).save(path)


@pytest.mark.parametrize("name", ["im[1]", "im*"])
def test_a_folder_is_no_pattern(tmp_path, name):
    for folder, labels in (("im1", ("x", "y")), (name, ("dark", "light[1]"))):
        for i in range(24):
            picture(tmp_path / folder / labels[i % 2] / f"{i}.png", 10 * i)
    assert datasets.read_images(Source(str(tmp_path / name), "image", size=4)).names == ("dark", "light[1]")


def test_a_folder_without_images_has_no_rows(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}: no rows$"):
        datasets.read_images(Source(str(tmp_path), "image"))


def rewritten(path, write):
    """Let something else be written to a path, with the size and time of what was there."""
    before = path.stat()
    write()
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_new_rows_are_read_despite_old_times(tmp_path, suffix):
    path = written(tmp_path / f"x{suffix}", names(40, "old", "own"))
    source = Source(str(path), "text")
    before, rows = datasets.identity(source), training.read("lm", source, 0).rows
    rewritten(path, lambda: written(path, names(40, "new", "now")))
    assert datasets.identity(source) != before
    assert training.read("lm", source, 0).rows == datasets.read_texts(source).rows != rows
    assert training.read("lm", source, 0).names == ("new", "now")


def test_new_images_are_read_despite_old_times(tmp_path):
    paths = [tmp_path / "ab"[i % 2] / f"{i}.bmp" for i in range(24)]
    for i, path in enumerate(paths):
        picture(path, 10 * i)
    source = Source(str(tmp_path), "image", size=4)
    before, rows = datasets.identity(source), training.read("denoiser", source, 0).rows
    for path in paths:
        rewritten(path, lambda path=path: picture(path, 7))
    assert datasets.identity(source) != before
    assert training.read("denoiser", source, 0).rows.unique().tolist() == pytest.approx([7 / 127.5 - 1])
    assert len(rows.unique()) > 10


def test_image_paths_are_relative_to_the_data(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for i in range(24):
        picture(tmp_path / f"elsewhere/{i}.png", 10 * i)
    cells = [{"bytes": None, "path": f"{i}.png"} for i in range(24)]
    pd.DataFrame({"image": cells, "label": ["a", "b"] * 12}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"row 1, 0\.png: not an image file"):
        datasets.read_images(Source(str(tmp_path / "x.parquet"), "image"))


# Cells.

SUFFIXES = [".csv", ".jsonl", ".json", ".parquet", ".tsv"]


@pytest.mark.parametrize("mark", [False, True], ids=["plain", "with a byte-order mark"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_readers_agree_on_texts_and_labels(tmp_path, suffix, mark):
    path = written(tmp_path / f"x{suffix}", ROWS, mark=mark)
    models = ngrams(path, least=1)
    assert models.labels == ("01", "1", "NA", "a")
    assert (models.length, models.size) == (5, len(set("nanullnone")) + 1)
    if suffix != ".tsv":
        assert texts(path) == (sorted(text for text, _ in ROWS), ("1", "a", "01", "NA"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_blank_texts_and_outer_spaces_are_removed(tmp_path, suffix):
    rows = [(text, label) for label in "ab" for text in ["  ", " bb", "bbb ", "c"] * 6]
    path = written(tmp_path / f"x{suffix}", rows)
    assert ngrams(path, least=1).length == 4
    assert ngrams(path, least=1).size == 3
    if suffix != ".tsv":
        assert len(texts(path)[0]) == 36
    with pytest.raises(ValueError, match="blank"):
        ngrams(written(tmp_path / f"y{suffix}", [(" ", "a"), (" ", "b")]))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("column", ["text", "label"])
def test_every_reader_names_a_missing_cell(tmp_path, suffix, column):
    rows = [dict(zip(("text", "label"), row, strict=True)) for row in ROWS]
    rows[6][column] = None
    path = written(tmp_path / f"x{suffix}", [(row["text"], row["label"]) for row in rows])
    for read in (ngrams, texts):
        with pytest.raises(ValueError, match=f"row 7 has no {column} in the column '{column}'"):
            read(path)


@pytest.mark.parametrize("cell", [["a", "b"], {"a": 1}], ids=["list", "record"])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_lists_and_records_are_neither_texts_nor_labels(tmp_path, suffix, cell):
    for column, says in (("text", "row 1 has no text"), ("label", "row 1 of the column 'label' must be a text or a number")):
        frame = pd.DataFrame({"text": ["one"] * 20, "label": ["a"] * 20})
        frame[column] = pd.Series([cell] * 20, dtype=object)
        path = tmp_path / f"{column}{suffix}"
        frame.to_parquet(path) if suffix == ".parquet" else frame.to_json(path, orient="records", lines=True)
        for read in (ngrams, texts):
            with pytest.raises(ValueError, match=says):
                read(path)


def test_labels_of_a_data_set_keep_their_names(tmp_path):
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": ["x y", "z"] * 20, "label": [0, 1] * 20})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "x.parquet")
    assert texts(tmp_path / "x.parquet")[1] == ("cat", "dog")
    assert ngrams(tmp_path / "x.parquet").labels == ("cat", "dog")


# Tables.


def table_of(tmp_path, content, **options):
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    return read_table(tmp_path / "t.csv", label_column="y", **options)


def test_labels_and_values_differ_as_written(tmp_path):
    table = table_of(tmp_path, "y,x\n01,1\n1,01\n1,1.0\nNA,null\n")
    assert table.labels == ("01", "1", "NA")
    assert table.values == (("01", "1", "1.0", "null"),)


def test_numbers_keep_their_order_and_their_written_labels(tmp_path):
    table = table_of(tmp_path, "\ufeffy,x,z\n3,10,1.50\n010,9,.5\n7,2,1e1\n")
    assert table.labels == ("3", "7", "010")
    assert table.values == ((2, 9, 10), (0.5, 1.5, 10.0))


@pytest.mark.parametrize("cells", [["1" * 30, "2"], ["1e999", "2"], ["nan", "1"], ["1_0", "2"], ["٣", "2"], ["1" * 9999]])
def test_an_unrepresentable_number_stays_a_text(cells):
    assert tables.numbers(cells) == cells


@pytest.mark.parametrize("content", ["y,x\n1,2,3\n", "y,x\n1,2\n1,2,3\n", "y,x\n1,2,3\n4,5,6\n"])
def test_rows_longer_than_the_header_are_refused(tmp_path, content):
    with pytest.raises(ValueError, match="not a readable"):
        table_of(tmp_path, content)


def test_deep_json_and_equal_column_names_are_refused(tmp_path):
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    parquet.write_table(pa.table([[1], [2]], names=["x", "x"]), tmp_path / "two.parquet")
    for name in ("deep.jsonl", "two.parquet"):
        with pytest.raises(ValueError, match=f"{name}: not a readable"):
            tables.read(tmp_path / name)


def test_json_is_read_by_rows_or_by_columns(tmp_path):
    by_columns = {"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}
    (tmp_path / "x.json").write_text(json.dumps(by_columns))
    (tmp_path / "y.json").write_text(pd.DataFrame(by_columns).to_json())
    assert texts(tmp_path / "x.json") == texts(tmp_path / "y.json") == texts(written(tmp_path / "z.json", ROWS))
