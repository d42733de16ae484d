"""A run deletes and replaces its own files only, never its inputs or files of the user."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import save

from analysis.experiments import EXPERIMENTS, reproduce
from analysis.files import run_folder
from analysis.learning import training
from analysis.text import batch_jobs

FEW = ("--max-new-tokens", 4, "--greedy")
SMALL = ("--steps", 3, "--batch-size", 8, "--width", 16, "--depth", 1)
STUDY = ("--effort", 0.01, "--scales", "0,2", "--seeds", 2, "--samples", 2, "--jobs", 1)


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "names.csv"
    rows = [(label[i % 2] * (1 + i % 5), label) for label in ("ab", "xy") for i in range(24)]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.parquet"
    pd.DataFrame({"prompt": ["one", "two", "three"]}).to_parquet(path)
    return path


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_the_prompts_are_never_the_output(fails, model, tmp_path, prompts, fresh):
    (tmp_path / "link.parquet").symlink_to(prompts)
    before = contents(tmp_path)
    for out in (prompts, tmp_path / "link.parquet", tmp_path / "." / "x" / ".." / "prompts.parquet"):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert "is the file of --prompts" in fails("generate", model, "--prompts", prompts, "--out", out, *FEW, *fresh)
    parts = tmp_path / ".out.parquet.parts"
    parts.mkdir()
    shutil.copy(prompts, parts)
    given = ("--prompts", parts / prompts.name, "--out", tmp_path / "out.parquet")
    assert "lies in the folder" in fails("generate", model, *given, *FEW, *fresh)
    assert contents(tmp_path) == before | {".out.parquet.parts/prompts.parquet": prompts.read_bytes()}


def test_only_our_own_outputs_are_replaced(run, fails, model, tmp_path, prompts):
    out = tmp_path / "out.parquet"
    options = ("generate", model, "--prompts", prompts, "--out", out, *FEW)
    assert run(*options)[0] == 0
    edited = pd.read_parquet(out)
    edited.assign(rating=5).to_parquet(out)
    rated = out.read_bytes()
    assert "no output of arguide generate" in fails(*options, "--fresh")
    assert out.read_bytes() == rated
    edited.assign(tokens=0).to_parquet(out)
    assert "no output of arguide generate" in fails(*options, "--fresh")
    pd.DataFrame({"mine": [1]}).to_parquet(out)
    assert "no output of arguide generate" in fails(*options, "--fresh")
    out.write_text("mine")
    assert "no output of arguide generate" in fails(*options, "--fresh")
    assert out.read_text() == "mine"
    assert not (tmp_path / ".out.parquet.parts").exists()


def test_an_output_is_replaced_at_the_end(run, fails, model, tmp_path, prompts, monkeypatch):
    out = tmp_path / "out.parquet"
    options = ("generate", model, "--prompts", prompts, "--out", out, *FEW, "--batch-size", 1)
    assert run(*options)[0] == 0
    before, complete, calls = out.read_bytes(), batch_jobs.complete, []

    def killed(*given):
        calls.append(given[3])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return complete(*given)

    monkeypatch.setattr(batch_jobs, "complete", killed)
    assert run(*options, "--scale", 0, "--fresh")[0] == 130
    assert out.read_bytes() == before
    assert run(*options, "--scale", 0)[0] == 0  # goes on with the run that replaces it
    assert calls == [0, 1, 1, 2]
    assert pd.read_parquet(out)["scale"].tolist() == [0.0] * 3
    calls.clear()
    assert run(*options, "--scale", 1, "--fresh")[0] == 130
    pd.DataFrame({"mine": [1]}).to_parquet(out)
    assert "exists already" in fails(*options, "--scale", 1)


def test_tables_and_texts_are_never_the_output(fails, model, tmp_path):
    table, texts = tmp_path / "table.parquet", tmp_path / "texts.parquet"
    pd.DataFrame({"y": [0, 1] * 8, "x": [0, 0, 1, 1] * 4}).to_parquet(table)
    pd.DataFrame({"text": ["ab", "cd"]}).to_parquet(texts)
    np.save(tmp_path / "table.npy", np.full((2, 2), 0.25))
    before = contents(tmp_path)
    exact = ("--label-column", "y", "--label", 0, "--scale", 2)
    assert "nothing was overwritten" in fails("exact", table, *exact, "--out", table)
    assert "must end in .parquet" in fails("exact", tmp_path / "table.npy", *exact, "--out", tmp_path / "table.npy")
    given = ("scale-factors", model, "--prompt", "a", "--scale", 2, "--max-new-tokens", 4, "--texts", texts)
    assert "nothing was overwritten" in fails(*given, "--out", texts)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_data_in_the_output_folder_are_refused(fails, tmp_path, names, monkeypatch, fresh):
    monkeypatch.setattr(reproduce, "EXPERIMENTS", tuple(e for e in EXPERIMENTS if e.name == "fidelity"))
    run_folder.claim(tmp_path / "out", {}, training.PROGRAM)
    inside = shutil.copy(names, tmp_path / "out" / "experiments")
    before = contents(tmp_path)
    given = ("--data", inside)
    for command in (("train", "lm", *given, *SMALL), ("study", *given, *STUDY), ("reproduce", "--quick", "--text", inside)):
        assert "lies in the folder of --out" in fails(*command, "--out", tmp_path / "out", *fresh)
    assert contents(tmp_path) == before


def fresh_runs(tmp_path, names, monkeypatch):
    """Return commands that write a folder each, the name of one of its numbers, and what they vary."""
    monkeypatch.setattr(reproduce, "EXPERIMENTS", tuple(e for e in EXPERIMENTS if e.name == "fidelity"))
    return {
        "train": (("train", "lm", "--data", names, *SMALL), "losses.parquet"),
        "reproduce": (("reproduce", "--quick"), "results.parquet"),
        "study": (("study", "--data", names, *STUDY), "results.parquet"),
    }


@pytest.mark.parametrize("program", ["train", "reproduce", pytest.param("study", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_fresh_run_deletes_its_own_files_only(run, tmp_path, names, monkeypatch, program):
    command, number = fresh_runs(tmp_path, names, monkeypatch)[program]
    out = tmp_path / "out"
    assert run(*command, "--out", out)[0] == 0
    mine = ("notes.txt", ".notes-abcdefgh.txt", "figures/mine.png", "experiments/mine.parquet", "models/mine/README.md")
    place = "models/lm-0/" if program == "study" else ""
    left = (".run-abcdefgh.json", f".{number.replace('.', '-abcd_123.')}")
    left += () if program == "reproduce" else (f"{place}checkpoint-k3x90zz1.part", f"{place}.checkpoint-k3x90zz1.pt")
    for name in (*mine, *left):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    before = (out / number).read_bytes()
    code, _, err = run(*command, "--seed", 1, "--out", out, "--fresh")
    assert code == 0, err
    assert [(out / name).read_text() for name in mine] == list(mine)
    assert not any((out / name).exists() for name in left)
    assert json.loads((out / "run.json").read_text())["config"]["seed"] == 1
    assert program == "reproduce" or (out / number).read_bytes() != before


@pytest.mark.parametrize("program", ["train", "reproduce", "study"])
def test_a_refused_run_deletes_nothing(run, fails, tmp_path, names, monkeypatch, program):
    command, _ = fresh_runs(tmp_path, names, monkeypatch)[program]
    other = {"train": run_folder.PROGRAM, "reproduce": training.PROGRAM, "study": training.PROGRAM}[program]
    run_folder.claim(tmp_path / "out", {}, other)
    (tmp_path / "out" / "losses.parquet").write_text("theirs")
    (tmp_path / "out" / "figures" / "mine.png").write_text("mine")
    before = contents(tmp_path)
    assert "is not empty and holds no run" in fails(*command, "--out", tmp_path / "out", "--fresh")
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_results_contain_no_local_path(run, tmp_path, names):
    base = save(tmp_path / "base")
    for command in (
        ("train", "lm", "--data", names, "--init", base, "--steps", 2, "--batch-size", 4, "--out", tmp_path / "m"),
        ("train", "lm", "--data", names, *SMALL, "--out", tmp_path / "n"),
        ("train", "lm", "--data", names, *SMALL, "--init", tmp_path / "n", "--out", tmp_path / "o"),
        ("study", "--data", names, *STUDY, "--out", tmp_path / "s"),
    ):
        code, _, err = run(*command)
        assert code == 0, err
    for name in "mnos":
        assert not [path for path, content in contents(tmp_path / name).items() if str(tmp_path).encode() in content]
    assert "- data: names.csv" in (tmp_path / "n" / "README.md").read_text().splitlines()
    assert set(pd.read_parquet(tmp_path / "s" / "results.parquet")["law"].dropna()) >= {"names.csv"}


def test_a_kill_during_deletion_leaves_a_valid_run(tmp_path, monkeypatch):
    run_folder.claim(tmp_path, {"seed": 0}, training.PROGRAM, parts=())
    names = ("notes.txt", "result.json", "model.safetensors", "losses.parquet")
    for name in names:
        (tmp_path / name).write_text("")
    unlink, calls = Path.unlink, []

    def killed(path, **options):
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            run_folder.claim(tmp_path, {"seed": 1}, training.PROGRAM, parts=(), own=training.OWN, fresh=True)
    assert calls[0] == "result.json"  # a training without a result is not finished
    run_folder.claim(tmp_path, {"seed": 0}, training.PROGRAM, parts=(), own=training.OWN)
    run_folder.claim(tmp_path, {"seed": 1}, training.PROGRAM, parts=(), own=training.OWN, fresh=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "run.json"]


@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_a_folder_of_the_user_is_not_for_batches(fails, model, tmp_path, prompts, fresh):
    notes = tmp_path / ".out.parquet.parts" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    options = ("--prompts", prompts, "--out", tmp_path / "out.parquet", *FEW, *fresh)
    assert "holds no run of arguide generate" in fails("generate", model, *options)
    assert notes.read_text() == "mine"


def test_a_run_of_another_program_is_refused(fails, tmp_path):
    record = {"program": "arguide train", "config": {}, "versions": {}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert "holds no run of arguide reproduce" in fails("reproduce", "--quick", "--out", tmp_path)
