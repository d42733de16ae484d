"""Shards of array jobs, and bad engines: every shard does its part, and the plain command finishes."""

import json
import subprocess
import time
from functools import partial

import pandas as pd
import pytest
from command import ARGUIDE
from labelled_names import write_names
from prompts import write_prompts
from short_calls import claim_at

from analysis.engines import engine
from analysis.experiments import EXPERIMENTS, reproduce
from analysis.files import run_folder
from analysis.study import temperatures
from analysis.text import batch_jobs

FEW = ("--max-new-tokens", 6, "--batch-size", 2)


@pytest.mark.slow
def test_shards_of_prompts_are_merged_by_the_plain_command(run, model, tmp_path, monkeypatch):
    source = write_prompts(tmp_path, "csv")
    options = ("generate", model, "--prompts", source, *FEW, "--out")
    assert run(*options, tmp_path / "whole.parquet")[0] == 0
    out = tmp_path / "out.parquet"
    children = [
        subprocess.Popen([ARGUIDE, *map(str, (*options, out, "--shard", f"{i}/3"))], stdout=subprocess.PIPE, text=True)
        for i in (1, 2, 3)
    ]
    said = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert said == [f"Shard {i}/3 is finished: {n} prompts.\n" for i, n in ((1, 3), (2, 2), (3, 2))]
    assert not out.exists()
    code, told, _ = run(*options, out, "--shard", "2/3", "--json")
    assert (code, json.loads(told)) == (0, {"shard": "2/3", "prompts": 2})
    monkeypatch.setattr(batch_jobs, "complete", None)  # nothing is left to complete
    assert run(*options, out)[0] == 0
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.mark.slow
def test_shards_of_a_study_train_then_sample(run, tmp_path, monkeypatch):
    monkeypatch.setattr(temperatures, "BETAS", (1.0, 2.0))
    names = write_names(tmp_path / "names.csv")
    small = ("--effort", 0.01, "--scales", "0,2", "--seeds", 2, "--samples", 4, "--engine", "here")
    options = ("study", "--data", names, *small, "--out")
    again = "When they have ended, run all shards again."
    done = "Shard {} is finished, and all others are; the same command without --shard writes the results.\n"

    def shard(text):
        code, out, err = run(*options, tmp_path / "s", "--shard", text)
        assert code == 0, err
        return out

    assert shard("1/2") == f"Shard 1/2 is finished; 2 of 4 trainings are left to other shards. {again}\n"
    assert shard("2/2").startswith("Shard 2/2 is finished; 5 of 10 samplings are left")
    assert not (tmp_path / "s" / "report.html").exists()
    assert shard("1/2") == done.format("1/2")
    assert shard("2/2") == done.format("2/2")
    pieces = {path: path.stat().st_mtime_ns for path in (tmp_path / "s" / "experiments").iterdir()}
    for name in ("s", "whole"):
        assert run(*options, tmp_path / name)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in pieces} == pieces
    found = [pd.read_parquet(tmp_path / name / "results.parquet") for name in ("s", "whole")]
    pd.testing.assert_frame_equal(*found, check_exact=True)


def test_shards_of_the_argument_leave_the_other_chapters(run, tmp_path, monkeypatch):
    some = [each for each in EXPERIMENTS if each.name in ("scale_factors", "fidelity")]
    for place in (reproduce, __import__("analysis.experiments").experiments):
        monkeypatch.setattr(place, "EXPERIMENTS", some)
    options = ("reproduce", "--quick", "--out", tmp_path / "r", "--engine", "here")
    code, out, err = run(*options, "--shard", "2/2")
    assert code == 0, err
    assert out.startswith("Shard 2/2 is finished; 1 of 2 chapters are left to other shards.")
    assert [path.stem for path in (tmp_path / "r" / "experiments").iterdir()] == [some[1].name]
    assert json.loads(run(*options, "--shard", "1/2", "--json")[1]) == {"shard": "1/2", "left": None}
    assert not (tmp_path / "r" / "report.html").exists()


@pytest.mark.parametrize("alike", [True, False], ids=["one run", "two runs"])
@pytest.mark.slow
def test_shards_that_claim_a_folder_at_once_agree_on_its_run(tmp_path, alike):
    """Of two runs with different settings one gets the folder, and all shards of the other fail."""
    with engine("processes", 4) as run:
        list(run([partial(time.sleep, 0.5)] * 4))  # until all processes are there
        for n in range(25):
            moment, folder = time.time() + 0.05, tmp_path / f"{n}"
            found = list(run([partial(claim_at, folder, moment, {"a": alike or i % 2}) for i in range(4)]))
            config = run_folder.read_record(folder)["config"]
            refused = [each for each in found if each != config]
            assert len(refused) == (0 if alike else 2), found
            assert all("holds a run with other settings" in each for each in refused), refused


COMMANDS = {
    "generate": ("some/model", "--prompts", "p.txt", "--out", "o.parquet"),
    "study": ("--data", "digits"),
    "reproduce": ("--quick",),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--engine", "dask"), "--engine must be one of here, processes, ray, got 'dask'"),
        (("--address", "auto"), "--address is of a Ray cluster; add --engine ray"),
        (("--shard", "3/2"), "--shard must be i/n with i from 1 to n, got '3/2'; try 1/2"),
        (("--shard", "0/2"), "--shard must be i/n"),
        (("--shard", "1"), "--shard must be i/n"),
        (("--shard", "1/2", "--fresh"), "--fresh would delete the results of other shards"),
    ],
)
def test_bad_options_are_one_line_before_anything_is_written(fails, tmp_path, monkeypatch, command, options, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.txt").write_text("one\n")
    assert says in fails(command, *COMMANDS[command], *options)
    assert [path.name for path in tmp_path.iterdir()] == ["p.txt"]


@pytest.mark.parametrize("options", [("--jobs", 2), ("--engine", "ray"), ("--shard", "1/2")])
def test_engines_are_for_files(fails, model, monkeypatch, options):
    says = "--jobs, --engine, --address and --shard are for --prompts, without torchrun"
    assert says in fails("generate", model, "--prompt", "a", *options)
