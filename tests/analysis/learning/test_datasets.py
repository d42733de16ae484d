"""Data to learn from: what is read, what is held out, and what is refused in one line."""

import json
import os
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from analysis.learning import datasets
from analysis.learning.datasets import Source


@pytest.fixture
def names(tmp_path):
    frame = pd.DataFrame({"text": [f"name {i}" for i in range(120)], "label": ["b"] * 60 + ["a"] * 40 + ["rare"] * 20})
    frame.to_parquet(tmp_path / "names.parquet")
    return str(tmp_path / "names.parquet")


def test_every_label_of_texts_is_split(names):
    found = datasets.read_texts(Source(names, "text"))
    assert found.names == ("a", "b", "rare")
    assert found.held_labels.bincount().tolist() == [6, 9, 3]
    assert found.labels.bincount().tolist() == [34, 51, 17]
    assert len({*found.rows, *found.held}) == 120
    label = {f"name {i}": 1 if i < 60 else 0 if i < 100 else 2 for i in range(120)}
    assert [label[text] for text in found.rows] == found.labels.tolist()
    assert [label[text] for text in found.held] == found.held_labels.tolist()
    assert datasets.read_texts(Source(names, "text")).held == found.held
    assert datasets.read_texts(Source(names, "text"), seed=1).held != found.held
    assert datasets.read_texts(Source(names, "text", most=2)).names == ("a", "b")


def test_texts_may_keep_their_first_characters_only(names):
    whole, cut = (datasets.read_texts(datasets.Source(str(names), "text", letters=letters)) for letters in (None, 2))
    assert cut.rows == [text[:2] for text in whole.rows]
    assert cut.held == [text[:2] for text in whole.held]
    assert torch.equal(cut.labels, whole.labels)


def test_blank_texts_are_left_out_with_their_labels(tmp_path):
    """Ten rows are enough for a label, and nine are not."""
    rows = [(" " if i % 3 == 0 else f" {'abc'[i % 2]}{i}", "ab"[i % 2]) for i in range(30)] + [("c", "c")] * 9
    path = tmp_path / "blank.parquet"
    pd.DataFrame(rows, columns=["text", "label"]).to_parquet(path)
    found = datasets.read_texts(Source(str(path), "text"))
    assert found.names == ("a", "b")
    assert len(found.rows) + len(found.held) == 20
    for texts, labels in ((found.rows, found.labels), (found.held, found.held_labels)):
        assert [text[0] for text in texts] == [found.names[label] for label in labels]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_every_format_gives_the_same_rows(names, tmp_path, suffix):
    frame, path = pd.read_parquet(names), tmp_path / f"names{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        path.write_text(json.dumps(frame.to_dict("records")))
    assert datasets.read_texts(Source(str(path), "text")).rows == datasets.read_texts(Source(names, "text")).rows


def test_digits_are_images_between_minus_one_and_one():
    found = datasets.read_images(Source("digits", "image"))
    assert found.rows.shape == (1528, 1, 8, 8)
    assert (float(found.rows.min()), float(found.rows.max())) == (-1.0, 1.0)
    assert len(found.names) == 10
    small = datasets.read_images(Source("digits", "image", size=4))
    torch.testing.assert_close(small.rows, torch.nn.functional.avg_pool2d(found.rows, 2))
    assert datasets.read_images(Source("digits", "image", size=12)).held.shape == (269, 1, 12, 12)


def test_folders_of_images_are_labels(tmp_path):
    for label, grey in (("dark", 10), ("light", 250)):
        (tmp_path / label).mkdir()
        for i in range(12):
            Image.fromarray(np.full((6, 9), grey + i // 4, dtype=np.uint8)).save(tmp_path / label / f"{i}.png")
    found = datasets.read_images(Source(str(tmp_path), "image", size=4))
    assert found.names == ("dark", "light")
    assert found.rows.shape == (20, 1, 4, 4)
    assert torch.equal(found.rows.flatten(1).mean(1) > 0, found.labels == 1)


@pytest.fixture
def pictures():
    """Return 24 grey pictures [8, 8] of all levels, and their labels, by turns."""
    generator = np.random.default_rng(0)
    grey = generator.integers(0, 256, (24, 8, 8), dtype=np.uint8)
    grey[:, 0, :2] = 0, 255
    return grey, ["ab"[i % 2] for i in range(24)]


def stored(path, cells, labels):
    pd.DataFrame({"pixels": cells, "label": labels}).to_parquet(path)
    return Source(str(path), "pixels")


def encoded(grey, suffix="png"):
    stream = BytesIO()
    Image.fromarray(grey).save(stream, suffix)
    return stream.getvalue()


CELLS = {
    "bytes": encoded,
    "structs": lambda grey: {"bytes": encoded(grey), "path": None},
    "integers": lambda grey: grey.tolist(),
    "floats": lambda grey: (grey / 255).tolist(),
    "signed": lambda grey: (grey / 127.5 - 1).tolist(),
    "channel last": lambda grey: grey[:, :, None].tolist(),
    "channel first": lambda grey: grey[None].tolist(),
    "colours last": lambda grey: np.stack([grey] * 3, 2).tolist(),
    "colours first": lambda grey: np.stack([grey] * 3).tolist(),
    "flat": lambda grey: grey.flatten().tolist(),
}


FILES = CELLS["bytes"], CELLS["structs"]


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("size", [8, 4])
def test_every_kind_of_cell_gives_the_same_image(tmp_path, pictures, kind, size):
    grey, labels = pictures
    found = datasets.read_images(stored(tmp_path / "x.parquet", list(map(CELLS[kind], grey)), labels)._replace(size=size))
    width = 8 // size
    means = torch.from_numpy(grey / 127.5 - 1).reshape(24, 1, size, width, size, width).mean((3, 5)).float()
    assert found.rows.dtype == torch.float32
    for rows, codes in ((found.rows, found.labels), (found.held, found.held_labels)):
        apart = (rows[:, None] - means).abs().flatten(2).amax(2)
        assert float(apart.amin(1).max()) < (0.009 if CELLS[kind] in FILES and size == 4 else 1e-4)  # of 256 levels
        assert (apart.argmin(1) % 2).tolist() == codes.tolist()


def test_numbers_are_scaled_by_their_range(tmp_path, pictures):
    """The range is the column's and not the image's, and a colour weighs as PIL weighs it."""
    levels = [np.full((2, 2), i % 17).tolist() for i in range(40)]
    found = datasets.read_images(stored(tmp_path / "x.parquet", levels, ["a", "b"] * 20)._replace(size=2))
    assert sorted(torch.cat([found.rows, found.held]).unique().tolist()) == pytest.approx([i / 8 - 1 for i in range(17)])
    colours = np.random.default_rng(1).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    colours[0, 0, :2] = [[0] * 3, [255] * 3]
    kinds = {"numbers": colours.tolist(), "files": list(map(encoded, colours))}
    rows = [
        datasets.read_images(stored(tmp_path / f"{name}.parquet", cells, pictures[1])).rows for name, cells in kinds.items()
    ]
    torch.testing.assert_close(*rows, rtol=0, atol=0.009)


@pytest.mark.parametrize(
    ("kind", "cell", "says"),
    [
        ("bytes", b"\x00\xff\x89 no picture", r"must hold images, got another cell \(row 4: not an image file, or only a"),
        ("bytes", encoded(np.eye(8, dtype=np.uint8))[:45], r"row 4: not an image file, or only a part"),
        ("bytes", None, "row 4 has no image in the column 'pixels'"),
        ("structs", None, "row 4 has no image"),
        ("structs", {"bytes": None, "path": None}, "row 4 has no image"),
        ("structs", {"bytes": None, "path": "none.png"}, "row 4, none.png: not an image file"),
        ("floats", None, "row 4 has no image"),
        ("floats", [[0.0, float("nan")]] * 2, "row 4: missing or infinite numbers"),
        ("floats", [[0.0, float("inf")]] * 2, "row 4: missing or infinite numbers"),
        ("floats", [[0.0], [0.5, 1.0]], "row 4: neither an image nor numbers in rows of equal length"),
        ("flat", [1] * 12, r"row 4: the shape of an image must be \[H, W\].*, got \[12\]"),
        ("flat", [], r"row 4: the shape of an image must be .*, got \[0\]"),
        ("colours last", np.zeros((2, 5, 2)).tolist(), r"row 4: the shape of an image must be .*, got \[2, 5, 2\]"),
    ],
    ids=range(13),
)
def test_a_bad_image_is_named_by_its_row(tmp_path, pictures, kind, cell, says):
    cells = list(map(CELLS[kind], pictures[0]))
    cells[3] = cell
    with pytest.raises(ValueError, match=says) as error:
        datasets.read_images(stored(tmp_path / "x.parquet", cells, pictures[1]))
    assert str(error.value).isprintable()


def test_a_broken_file_in_a_folder_is_named(tmp_path):
    for label in ("dark", "light"):
        (tmp_path / label).mkdir()
        for i in range(12):
            Image.fromarray(np.full((6, 9), 7 * i, dtype=np.uint8)).save(tmp_path / label / f"{i}.png")
    (tmp_path / "light" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"must hold images, got another cell \(row \d+, 3\.png: not an image file"):
        datasets.read_images(Source(str(tmp_path), "image"))


def test_equal_numbers_everywhere_are_refused(tmp_path):
    with pytest.raises(ValueError, match="the column 'pixels' must hold different numbers, got 3 everywhere"):
        datasets.read_images(stored(tmp_path / "x.parquet", [[3] * 4] * 24, ["a", "b"] * 12))


def test_a_path_is_relative_to_the_file_of_data(tmp_path, pictures):
    cells = [{"bytes": None, "path": f"{i}.png"} for i in range(24)]
    for i, grey in enumerate(pictures[0]):
        (tmp_path / f"{i}.png").write_bytes(encoded(grey))
    whole = stored(tmp_path / "whole.parquet", list(map(encoded, pictures[0])), pictures[1])
    found = datasets.read_images(stored(tmp_path / "paths.parquet", cells, pictures[1]))
    assert torch.equal(found.rows, datasets.read_images(whole).rows)


def test_a_folder_with_other_images_is_another_source(tmp_path):
    (tmp_path / "dark").mkdir()
    (tmp_path / "dark" / "1.png").write_bytes(encoded(np.zeros((4, 4), dtype=np.uint8)))
    source = Source(str(tmp_path), "image")
    seen = [datasets.identity(source)]
    assert seen[0]["data"].startswith(f"{tmp_path.name} (sha256 ")
    assert datasets.identity(source) == seen[0]
    (tmp_path / "dark" / "2.png").write_bytes(encoded(np.zeros((4, 4), dtype=np.uint8)))
    seen.append(datasets.identity(source))
    (tmp_path / "dark").rename(tmp_path / "light")
    seen.append(datasets.identity(source))
    same_time(tmp_path / "light" / "1.png", encoded(np.full((4, 4), 1, dtype=np.uint8)))
    seen.append(datasets.identity(source))
    assert len({told["data"] for told in seen}) == 4
    os.utime(tmp_path / "light" / "1.png", ns=(1, 1))
    assert datasets.identity(source) == seen[3]


def same_time(path, content):
    """Rewrite a file and put back its time."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_column_of_the_data_is_found(names, tmp_path):
    assert datasets.kind_of("digits") == ("image", True)
    assert datasets.kind_of(names) == ("text", False)
    assert datasets.kind_of(names, image_column="text") == ("text", True)
    pd.DataFrame({"a": ["x"], "b": ["y"]}).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(ValueError, match=r"must have a column image or text, got a, b; try --text-column or --image-column"):
        datasets.kind_of(str(tmp_path / "other.csv"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_labels_may_be_numbers_and_texts_any_string(tmp_path, suffix):
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
    found = datasets.read_texts(written("whole", frame))
    assert found.names == ("0", "1")
    assert sorted({*found.rows, *found.held}) == sorted({*texts})
    few = pd.concat([frame, pd.DataFrame({"text": ["rare"], "label": [7]})])
    assert datasets.read_texts(written("few", few)).names == ("0", "1")
    for column in ("text", "label"):
        broken = frame.copy()
        broken.loc[6, column] = None
        with pytest.raises(ValueError, match=rf"row 7 has no {column} in the column '{column}'"):
            datasets.read_texts(written(f"no {column}", broken))
    empty = written("empty", frame[:0])
    for read in (lambda: datasets.read_texts(empty), lambda: datasets.kind_of(empty.data)):
        with pytest.raises(ValueError, match="no rows"):
            read()


def test_bad_data_are_refused(names, tmp_path):
    cases = {
        "one label": ({"text": ["x"] * 30, "label": ["a"] * 30}, "must have two labels of 10 rows at least"),
        "few rows": ({"text": ["x"] * 12, "label": ["a"] * 6 + ["b"] * 6}, "must have two labels of 10 rows at least"),
        "empty": ({"text": pd.Series([], dtype=str), "label": pd.Series([], dtype=str)}, "no rows"),
        "numbers": ({"text": [1.5] * 30, "label": ["a", "b"] * 15}, "row 1 has no text in the column 'text'"),
    }
    for name, (columns, says) in cases.items():
        path = tmp_path / f"{name}.parquet"
        pd.DataFrame(columns).to_parquet(path)
        with pytest.raises(ValueError, match=says):
            datasets.read_texts(Source(str(path), "text"))
    with pytest.raises(ValueError, match="no --label-column 'kind'; it has text, label"):
        datasets.read_texts(Source(names, "text", "kind"))
    with pytest.raises(ValueError, match="--max-labels must be 2 at least, for guidance, got 1"):
        datasets.read_texts(Source(names, "text", most=1))
    with pytest.raises(ValueError, match="no column 'body'"):
        datasets.read_texts(Source(names, "body"))
    with pytest.raises(ValueError, match="must hold images"):
        datasets.read_images(Source(names, "text"))
    with pytest.raises(ValueError, match="digits are images"):
        datasets.read_texts(Source("digits", "text"))
    with pytest.raises(ValueError, match="no file"):
        datasets.read_texts(Source(str(tmp_path / "none.csv"), "text"))
    with pytest.raises(ValueError, match="cannot read the data some/where"):
        datasets.read_texts(Source("some/where", "text"))
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="cannot read the data"):
        datasets.read_texts(Source(str(tmp_path / "broken.parquet"), "text"))
