import math

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import Table, digits_table, read_chain, read_table


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


def test_character_chains_are_the_counts_by_hand(texts):
    # The alphabet is a, b, the rare □ and the end. Label A has ab| and aab|, label B has bb|; 0.1 is added to pooled counts.
    chain = read_chain(texts, smoothing=2.0, least=1)
    assert chain.labels == ("A", "B")
    assert (chain.size, chain.length) == (4, 4)
    pooled_first, pooled_after_a, pooled_after_b = (
        np.array(counts) / sum(counts) for counts in ([2.1, 1.1, 0.1, 0.1], [1.1, 2.1, 0.1, 0.1], [0.1, 1.1, 0.1, 3.1])
    )
    pooled, law = chain.log_law(), chain.log_law("A")
    assert pooled.first.exp().tolist() == pytest.approx(pooled_first.tolist())
    assert law.first.exp().tolist() == pytest.approx(((np.array([2, 0, 0, 0]) + 2 * pooled_first) / 4).tolist())
    expected = [
        (np.array([1, 2, 0, 0]) + 2 * pooled_after_a) / 5,
        (np.array([0, 0, 0, 2]) + 2 * pooled_after_b) / 4,
        [0.25] * 4,
        [0, 0, 0, 1],
    ]
    np.testing.assert_allclose(law.step.exp().numpy(), np.array(expected), atol=1e-12)
    np.testing.assert_allclose(pooled.step.exp()[:2].numpy(), [pooled_after_a, pooled_after_b], atol=1e-12)


def test_every_text_is_a_sequence_and_the_chain_is_normalised(texts):
    chain = read_chain(texts, least=1)
    assert float(chain.log_law("B").marginals().sum(1).max()) == pytest.approx(1)
    joint, (sequential, _) = chain.joint_guided("A", 3.0), chain.sequential_guided("A", 3.0)
    assert joint.marginals().sum(1).tolist() == pytest.approx([1] * 4)
    assert sequential.kl(joint) > 0


def test_rare_characters_share_one_state(tmp_path):
    (tmp_path / "t.txt").write_text("A\tabab\nA\taxb\nA\tayb\n")
    chain = read_chain(tmp_path / "t.txt", least=2, smoothing=0.0)
    assert chain.size == 4
    assert chain.log_law("A").step.exp()[0].tolist() == pytest.approx([0, 0.5, 0.5, 0])


def test_the_length_can_be_given(texts):
    assert read_chain(texts, least=1, length=30).length == 30


def test_unused_characters_leave_guidance_proper(tmp_path):
    # Without smoothing B never writes a, so what follows a under B does not matter.
    (tmp_path / "t.tsv").write_text("A\tab\nA\taab\nB\tbb\n")
    chain = read_chain(tmp_path / "t.tsv", least=1, smoothing=0.0)
    assert chain.joint_guided("B", 2.0).log_normalizer.isfinite()


def test_text_may_hold_tabs_and_blank_lines(tmp_path):
    (tmp_path / "t.txt").write_text("A\ta\tb\n\nB\tb\n", encoding="utf-8")
    chain = read_chain(tmp_path / "t.txt", least=1)
    assert (chain.labels, chain.length, chain.size) == (("A", "B"), 4, 5)


def test_a_line_ends_at_its_line_end_alone(tmp_path):
    (tmp_path / "t.txt").write_text("A\ta\u2028b\nB\tb\x0ca\n", encoding="utf-8")
    assert read_chain(tmp_path / "t.txt", least=1).length == 4


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
        read_chain(tmp_path / name)


def test_missing_text_files_and_negative_smoothing_raise(tmp_path, texts):
    with pytest.raises(ValueError, match=r"none\.txt"):
        read_chain(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="smoothing"):
        read_chain(texts, smoothing=-0.1)


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


def test_surnames_make_chains_with_a_gap_between_joint_and_sequential(data):
    chain = read_chain(data / "names_nationality.parquet")
    assert len(chain.labels) == 18
    joint, (sequential, _) = chain.joint_guided("Italian", 3.0), chain.sequential_guided("Italian", 3.0)
    assert joint.log_normalizer.isfinite()
    assert 0 < sequential.kl(joint) < math.inf
    torch.testing.assert_close(joint.marginals().sum(1), torch.ones(chain.length).double())


def test_a_table_from_a_file_is_a_table(tmp_path, frame):
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert isinstance(read_table(tmp_path / "t.csv", label_column="kind"), Table)


def test_the_digits_are_a_coherent_pair():
    """p(x) = Σ_y π_y p(x|y) with weights π that are found by least squares, so p(x|y)/p(x) is at most 1/π_y everywhere."""
    table, _ = digits_table(6)
    mixture = table.log_probs().exp().flatten()
    parts_of_it = torch.stack([table.log_probs(y).exp().flatten() for y in range(10)])
    prior = torch.linalg.lstsq(parts_of_it.T, mixture[:, None]).solution[:, 0]
    torch.testing.assert_close(prior @ parts_of_it, mixture)
    assert float(prior.sum()) == pytest.approx(1.0)
    assert float(prior.min()) > 0.05
    assert bool((parts_of_it / mixture <= 1 / prior[:, None] + 1e-9).all())
