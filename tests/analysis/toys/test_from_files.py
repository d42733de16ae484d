import math

import numpy as np
import pandas as pd
import pytest

from analysis import digits_table, read_ngrams, read_table


def saved(path, array, **kwargs):
    np.save(path, array, **kwargs)
    return path


def test_a_table_comes_back_from_npy(tmp_path, make_joint):
    joint = make_joint(2, (3, 2, 4))
    np.testing.assert_allclose(read_table(saved(tmp_path / "t.npy", joint)).log_joint_with_label.exp().numpy(), joint)


@pytest.mark.parametrize("dtype", ["f4", ">f8", "longdouble", "i8", "u2"])
def test_every_kind_of_number_is_read(tmp_path, dtype):
    table = read_table(saved(tmp_path / "t.npy", np.array([[0, 0], [1, 0]], dtype=dtype)))
    assert table.log_joint_with_label.exp().tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        ([[0.5, -0.1], [0.3, 0.3]], "negative"),
        ([[0.5, math.nan], [0.3, 0.2]], "nan"),
        ([[0.5, 0.5], [0.3, 0.2]], "sum to 1"),
        ([0.5, 0.5], "at least one variable"),
        (np.zeros((0, 2)), "at least one variable"),
        ([["a", "b"]], "numbers"),
        ([[0.5 + 0j, 0.5]], "numbers"),
        ([[True, False]], "numbers"),
    ],
)
def test_npy_files_that_hold_no_probabilities_raise(tmp_path, array, words):
    with pytest.raises(ValueError, match=words):
        read_table(saved(tmp_path / "t.npy", np.array(array)))


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 not a zip", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'"])
def test_files_that_are_no_npy_raise(tmp_path, content):
    (tmp_path / "t.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"t\.npy: "):
        read_table(tmp_path / "t.npy")


def test_a_truncated_npy_raises(tmp_path):
    path = saved(tmp_path / "t.npy", np.full((2, 50), 0.01))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"t\.npy: "):
        read_table(path)


def test_pickles_are_refused_unread(tmp_path):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a pickle was loaded",)

    path = saved(tmp_path / "t.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"t\.npy: "):
        read_table(path)


def test_missing_files_directories_and_unknown_kinds_raise(tmp_path):
    (tmp_path / "d.npy").mkdir()
    (tmp_path / "t.xls").write_text("y,x\n")
    for name in ("none.npy", "none.csv", "none.parquet", "d.npy", "t.xls"):
        with pytest.raises(ValueError, match=name):
            read_table(tmp_path / name, label_column="y")


# Columns.


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    size = rng.choice(["s", "m", "l"], 60, p=[0.5, 0.3, 0.2])
    return pd.DataFrame({"size": size, "kind": rng.choice(["b", "a"], 60), "count": rng.choice([10, 2, 7], 60)})


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_are_counted_as_a_cross_table(tmp_path, frame, suffix, smoothing):
    path = tmp_path / f"t{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    table = read_table(path, label_column="kind", smoothing=smoothing)
    assert table.labels == ("a", "b")
    assert table.values == (("l", "m", "s"), (2, 7, 10))
    cells = pd.crosstab(frame["kind"], [frame["size"], frame["count"]], dropna=False)
    counts = (
        cells.reindex(columns=pd.MultiIndex.from_product(table.values), fill_value=0).to_numpy().reshape(2, 3, 3) + smoothing
    )
    np.testing.assert_allclose(table.log_joint_with_label.exp().numpy(), counts / counts.sum(), atol=1e-12)


@pytest.mark.parametrize(
    ("content", "kwargs", "words"),
    [
        ("", {}, "not a readable"),
        ("y,x\n", {}, "no rows"),
        ("y,x\n1,2\n", {"label_column": None}, "--label-column"),
        ("y,x\n1,2\n", {"label_column": "z"}, "no column 'z'"),
        ("y,x\n1,2\n,3\n", {}, "missing"),
        ("y\n1\n2\n", {}, "one column beside"),
        ("y,x\n1,2\n", {"smoothing": -1.0}, "smoothing"),
        ("y,x\n1,2\n", {"smoothing": math.nan}, "NaN|smoothing"),
        ('y,x\n1,"2\n', {}, "not a readable"),
    ],
)
def test_malformed_columns_raise(tmp_path, content, kwargs, words):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ValueError, match=words):
        read_table(tmp_path / "t.csv", **{"label_column": "y", **kwargs})


def test_files_that_are_no_parquet_raise(tmp_path):
    for content in (b"", b"hello", b"PAR1 but no more PAR1"):
        (tmp_path / "t.parquet").write_bytes(content)
        with pytest.raises(ValueError, match=r"t\.parquet: not a readable"):
            read_table(tmp_path / "t.parquet", label_column="y")


def test_columns_that_span_too_many_cells_raise(tmp_path):
    pd.DataFrame({f"x{i}": range(300) for i in range(4)}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="cells"):
        read_table(tmp_path / "t.csv", label_column="x0")


# Text.

TEXTS = [("A", "ab"), ("A", "Aab"), ("B", "bb")]


@pytest.fixture(params=["tsv", "csv", "parquet"])
def texts(request, tmp_path):
    path = tmp_path / f"t.{request.param}"
    frame = pd.DataFrame(TEXTS, columns=["label", "text"])
    if request.param == "tsv":
        path.write_text("".join(f"{label}\t{text}\n" for label, text in TEXTS))
    else:
        frame.to_csv(path, index=False) if request.param == "csv" else frame.to_parquet(path)
    return path


def test_every_label_has_its_own_counts(texts):
    """The alphabet is a, b and the end. Label A has ab and aab: after a come a and b, 1 and 2 times, two kinds."""
    models = read_ngrams(texts, order=2, least=1)
    assert models.labels == ("A", "B")
    assert (models.size, models.length) == (3, 4)
    lower = (np.array([3, 2, 2]) + 3 / 3) / (7 + 3)
    after_a = (np.array([1, 2, 0]) + 2 * lower) / (3 + 2)
    state = models.contexts.following[models.contexts.start, 0]
    np.testing.assert_allclose(models.log_probs("A").exp()[state], after_a, atol=1e-12)


def test_rare_characters_share_one_code(tmp_path):
    (tmp_path / "t.txt").write_text("A\tabab\nA\taxb\nB\tayb\n")
    models = read_ngrams(tmp_path / "t.txt", order=2, least=2)
    assert models.alphabet == ("a", "b", "□")


def test_the_length_can_be_given(texts):
    assert read_ngrams(texts, order=2, least=1, length=30).length == 30


def test_text_may_hold_tabs_and_blank_lines(tmp_path):
    (tmp_path / "t.txt").write_text("A\ta\tb\n\nB\tb\n", encoding="utf-8")
    models = read_ngrams(tmp_path / "t.txt", order=1, least=1)
    assert (models.labels, models.length, models.size) == (("A", "B"), 4, 4)


def test_a_line_ends_at_its_line_end_alone(tmp_path):
    (tmp_path / "t.txt").write_text("A\ta\u2028b\nB\tb\x0ca\n", encoding="utf-8")
    assert read_ngrams(tmp_path / "t.txt", order=1, least=1).length == 4


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.txt", b"", "no rows"),
        ("t.txt", b"no tab here\n", "label<tab>text"),
        ("t.txt", b"A\t\xff\xfe\n", "utf-8"),
        ("t.csv", b"text,name\na,b\n", "no column 'label'"),
        ("t.csv", b"text,label\n", "no rows"),
        ("t.csv", b"text,label\n,a\n,b\n", r"t\.csv"),
    ],
)
def test_malformed_texts_raise(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_ngrams(tmp_path / name, order=2)


def test_missing_text_files_raise(tmp_path):
    with pytest.raises(ValueError, match=r"none\.txt"):
        read_ngrams(tmp_path / "none.txt", order=2)


# Real data.


def test_the_digits_are_counted_and_their_pixels_inform():
    from sklearn.datasets import load_digits

    table, pixels = digits_table(4, smoothing=0.25)
    data = load_digits()
    counts = np.full((10, 2, 2, 2, 2), 0.25)
    for image, digit in zip(data.data[:, pixels] > 7, data.target, strict=True):
        counts[(digit, *image.astype(int))] += 1
    np.testing.assert_allclose(table.log_joint_with_label.exp().numpy(), counts / counts.sum(), atol=1e-12)
    assert pixels.tolist() == sorted(set(pixels.tolist()))

    def information(chosen):
        joint = np.full((10, 16), 0.0)
        np.add.at(joint, (data.target, (data.data[:, chosen] > 7) @ [1, 2, 4, 8]), 1 / len(data.target))
        outer = joint.sum(1, keepdims=True) * joint.sum(0)
        return (joint[joint > 0] * np.log(joint[joint > 0] / outer[joint > 0])).sum()

    rng = np.random.default_rng(0)
    assert information(pixels.numpy()) > max(information(rng.choice(64, 4, replace=False)) for _ in range(200))
