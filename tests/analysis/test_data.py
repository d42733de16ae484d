"""Data to learn from: what is read, what is held out, and what is refused in one line."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from analysis import data
from analysis.data import Source


@pytest.fixture
def names(tmp_path):
    frame = pd.DataFrame({"text": [f"name {i}" for i in range(120)], "label": ["b"] * 60 + ["a"] * 40 + ["rare"] * 20})
    frame.to_parquet(tmp_path / "names.parquet")
    return str(tmp_path / "names.parquet")


def test_texts_are_split_label_by_label_and_nothing_is_lost(names):
    found = data.read_texts(Source(names, "text"))
    assert found.names == ("a", "b", "rare")
    assert found.held_labels.bincount().tolist() == [6, 9, 3]
    assert found.labels.bincount().tolist() == [34, 51, 17]
    assert len({*found.rows, *found.held}) == 120
    label = {f"name {i}": 1 if i < 60 else 0 if i < 100 else 2 for i in range(120)}
    assert [label[text] for text in found.rows] == found.labels.tolist()
    assert [label[text] for text in found.held] == found.held_labels.tolist()
    assert data.read_texts(Source(names, "text")).held == found.held
    assert data.read_texts(Source(names, "text"), seed=1).held != found.held
    assert data.read_texts(Source(names, "text", most=2)).names == ("a", "b")


def test_blank_texts_are_left_out_with_their_labels(tmp_path):
    """Ten rows are enough for a label, and nine are not."""
    rows = [(" " if i % 3 == 0 else f" {'abc'[i % 2]}{i}", "ab"[i % 2]) for i in range(30)] + [("c", "c")] * 9
    path = tmp_path / "blank.parquet"
    pd.DataFrame(rows, columns=["text", "label"]).to_parquet(path)
    found = data.read_texts(Source(str(path), "text"))
    assert found.names == ("a", "b")
    assert len(found.rows) + len(found.held) == 20
    for texts, labels in ((found.rows, found.labels), (found.held, found.held_labels)):
        assert [text[0] for text in texts] == [found.names[label] for label in labels]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_every_format_says_the_same(names, tmp_path, suffix):
    frame, path = pd.read_parquet(names), tmp_path / f"names{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        path.write_text(json.dumps(frame.to_dict("records")))
    assert data.read_texts(Source(str(path), "text")).rows == data.read_texts(Source(names, "text")).rows


def test_digits_are_images_between_minus_one_and_one():
    found = data.read_images(Source("digits", "image"))
    assert found.rows.shape == (1528, 1, 8, 8)
    assert (float(found.rows.min()), float(found.rows.max())) == (-1.0, 1.0)
    assert len(found.names) == 10


def test_a_folder_of_images_has_a_label_a_folder(tmp_path):
    for label, grey in (("dark", 10), ("light", 250)):
        (tmp_path / label).mkdir()
        for i in range(12):
            Image.fromarray(np.full((6, 9), grey + i // 4, dtype=np.uint8)).save(tmp_path / label / f"{i}.png")
    found = data.read_images(Source(str(tmp_path), "image", size=4))
    assert found.names == ("dark", "light")
    assert found.rows.shape == (20, 1, 4, 4)
    assert torch.equal(found.rows.flatten(1).mean(1) > 0, found.labels == 1)


def test_what_to_learn_from_is_found(names, tmp_path):
    assert data.kind_of("digits") == ("image", True)
    assert data.kind_of(names) == ("text", False)
    assert data.kind_of(names, image_column="text") == ("text", True)
    pd.DataFrame({"a": ["x"], "b": ["y"]}).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(ValueError, match=r"--text-column or --image-column what to learn from; it has a, b"):
        data.kind_of(str(tmp_path / "other.csv"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_labels_may_be_numbers_and_texts_anything_but_missing(tmp_path, suffix):
    def written(name, frame):
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".csv":
            frame.to_csv(path, index=False)
        elif suffix == ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        else:
            frame.to_parquet(path)
        return Source(str(path), "text")

    texts = ["NA", "null", 'a "quoted", text', "שלום 🙂", "two\nlines", "x" * 5000] * 8
    frame = pd.DataFrame({"text": texts, "label": pd.array([0, 1] * 24, dtype="Int64")})
    found = data.read_texts(written("whole", frame))
    assert found.names == ("0", "1")
    assert sorted({*found.rows, *found.held}) == sorted({*texts})
    few = pd.concat([frame, pd.DataFrame({"text": ["rare"], "label": [7]})])
    assert data.read_texts(written("few", few)).names == ("0", "1")
    for column in ("text", "label"):
        broken = frame.copy()
        broken.loc[6, column] = None
        with pytest.raises(ValueError, match=rf"row 7 has no {column} in the column '{column}'"):
            data.read_texts(written(f"no {column}", broken))
    empty = written("empty", frame[:0])
    for read in (lambda: data.read_texts(empty), lambda: data.kind_of(empty.data)):
        with pytest.raises(ValueError, match="no rows"):
            read()


def test_what_does_not_fit_is_refused(names, tmp_path):
    cases = {
        "one label": ({"text": ["x"] * 30, "label": ["a"] * 30}, "two labels of 10 rows at least"),
        "few rows": ({"text": ["x"] * 12, "label": ["a"] * 6 + ["b"] * 6}, "two labels of 10 rows at least"),
        "empty": ({"text": pd.Series([], dtype=str), "label": pd.Series([], dtype=str)}, "no rows"),
        "numbers": ({"text": [1.5] * 30, "label": ["a", "b"] * 15}, "row 1 has no text in the column 'text'"),
    }
    for name, (columns, says) in cases.items():
        path = tmp_path / f"{name}.parquet"
        pd.DataFrame(columns).to_parquet(path)
        with pytest.raises(ValueError, match=says):
            data.read_texts(Source(str(path), "text"))
    with pytest.raises(ValueError, match="no --label-column 'kind'; it has text, label"):
        data.read_texts(Source(names, "text", "kind"))
    with pytest.raises(ValueError, match="no column 'body'"):
        data.read_texts(Source(names, "body"))
    with pytest.raises(ValueError, match="holds no images"):
        data.read_images(Source(names, "text"))
    with pytest.raises(ValueError, match="digits are images"):
        data.read_texts(Source("digits", "text"))
    with pytest.raises(ValueError, match="no file"):
        data.read_texts(Source(str(tmp_path / "none.csv"), "text"))
    with pytest.raises(ValueError, match="cannot read the data some/where"):
        data.read_texts(Source("some/where", "text"))
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="cannot read the data"):
        data.read_texts(Source(str(tmp_path / "broken.parquet"), "text"))
