"""Files of prompts: every suffix, their columns, and files that are refused."""

import json

import pandas as pd
import pytest
from command import completions
from prompts import NEGATIVES, PROMPTS, SCALES, write_prompts

COMMAND = ("generate",)
FEW = ("--max-new-tokens", 6)


def test_a_text_file_has_one_prompt_per_line(run, model, tmp_path):
    source, out = write_prompts(tmp_path, "txt"), tmp_path / "out.parquet"
    code, text, _ = run(model, "--prompts", source, "--out", out, *FEW, "--num-samples", 2, "--json")
    frame = pd.read_parquet(out)
    assert (code, json.loads(text)) == (0, {"out": str(out), "completions": 14})
    assert list(frame) == ["index", "sample", "prompt", "scale", "completion", "tokens"]
    assert frame["index"].tolist() == [i for i in range(7) for _ in range(2)]
    assert frame["sample"].tolist() == [0, 1] * 7
    assert frame["prompt"].tolist() == [prompt for prompt in PROMPTS for _ in range(2)]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.xml", "a", "must end in .txt, .csv, .parquet, .jsonl"),
        ("p.txt", "\n \n", "no prompts"),
        ("p.csv", "", "not a readable .csv"),
        ("p.csv", "prompt\na, b\n", "not a readable .csv"),
        ("p.csv", "text\na\n", "no column 'prompt'"),
        ("p.csv", "prompt,tokens\na,1\n", "'tokens'"),
        ("p.csv", "prompt,scale\na,x\n", "row 1 has the scale 'x'"),
        ("p.csv", "prompt,scale\na,1\nb,inf\n", "row 2 has the scale inf"),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": 2}\n', "row 2 has no text in the column 'prompt'"),
        ("p.jsonl", '{"prompt": "a", "negative": 3}\n', "no text in the column 'negative'"),
        ("p.jsonl", '{"prompt": "a"\n', "not a readable .jsonl"),
        ("p.jsonl", "[1]\n", "every row must be an object"),
        ("p.jsonl", '{"prompt": "a", "m": 1}\n{"prompt": "a", "m": "x"}\n', "cannot be written to parquet"),
        ("p.parquet", "PAR1", "not a readable .parquet"),
        ("p.txt", "a\n" + "b" * 60, "the prompt 2 has 61 tokens"),
    ],
)
def test_a_bad_file_is_one_line_and_leaves_nothing(fails, model, tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    assert says in fails(model, "--prompts", tmp_path / name, "--out", tmp_path / "out.parquet", *FEW)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("column", ["log_evidence", "std_error", "consistent", "verdict"])
def test_columns_of_the_joint_law_are_reserved(run, fails, model, tmp_path, column):
    (tmp_path / "in.csv").write_text(f"prompt,{column}\nab,1\n")
    given = (model, "--prompts", tmp_path / "in.csv", "--out", tmp_path / "out.parquet", *FEW)
    assert f"the output has a column '{column}' of its own" in fails(*given, "--joint")
    assert run(*given)[0] == 0


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "json"])
def test_a_row_has_its_own_scale_and_negative(run, model, tmp_path, kind):
    source, out = write_prompts(tmp_path, kind), tmp_path / "out.parquet"
    code, text, err = run(model, "--prompts", source, "--out", out, "--greedy", *FEW, "--batch-size", 3, "--scale", 2.5)
    assert code == 0
    assert "7 completions are in" in text
    assert "100%" in err
    frame = pd.read_parquet(out)
    assert list(frame) == ["index", "sample", "prompt", "negative", "kept", "scale", "completion", "tokens"]
    assert frame["prompt"].tolist() == PROMPTS
    assert frame["kept"].tolist() == list(range(7))
    assert frame["scale"].tolist() == [2.5 if scale is None else scale for scale in SCALES]
    for row, (prompt, negative, scale) in enumerate(zip(PROMPTS, NEGATIVES, frame["scale"], strict=True)):
        empty = kind == "csv" and negative == ""  # an empty cell is no negative
        given = [] if negative is None or empty else ["--negative", negative]
        alone = completions(run, model, "--prompt", prompt, "--scale", scale, "--greedy", *FEW, *given)
        assert frame["completion"][row] == alone[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, "out.parquet"])
