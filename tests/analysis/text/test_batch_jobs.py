"""A file of prompts in batches: interruptions, kills and processes change nothing."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from command import ARGUIDE
from prompts import PROMPTS, write_prompts
from tiny import save

from analysis.engines import Engine
from analysis.text import batch_jobs, completer, distributed
from analysis.text.batches import batches
from analysis.text.completions import Sampling
from analysis.text.loading import Choice
from analysis.text.tokens import Request

COMMAND = ("generate",)
FEW = ("--max-new-tokens", 6)


def arguments(model, folder, *more):
    return (model, "--prompts", folder / "prompts.csv", "--out", folder / "out.parquet", *FEW, "--batch-size", 2, *more)


@pytest.fixture
def interrupted(run, model, tmp_path, monkeypatch):
    """A run that was interrupted in its second batch; the folder and what it should have come to."""
    source = write_prompts(tmp_path, "csv")
    assert run(*arguments(model, tmp_path), "--num-samples", 2)[0] == 0
    whole = pd.read_parquet(tmp_path / "out.parquet")
    (tmp_path / "out.parquet").unlink()

    def stop(*given, complete=batch_jobs.complete):
        if given[3] == 1:
            raise KeyboardInterrupt
        return complete(*given)

    with monkeypatch.context() as patch:
        patch.setattr(batch_jobs, "complete", stop)
        code, _, err = run(*arguments(model, tmp_path), "--num-samples", 2)
    assert code == 130
    assert "interrupted" in err
    assert sorted(p.name for p in (tmp_path / ".out.parquet.parts").iterdir()) == ["00000000.parquet", "run.json"]
    assert not (tmp_path / "out.parquet").exists()
    return source, whole


def test_an_interrupted_run_resumes_to_the_same(run, model, tmp_path, interrupted, monkeypatch):
    done = []

    def note(*given, complete=batch_jobs.complete):
        done.append(given[3])
        return complete(*given)

    monkeypatch.setattr(batch_jobs, "complete", note)
    assert run(*arguments(model, tmp_path), "--num-samples", 2)[0] == 0
    assert done == [1, 2, 3]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), interrupted[1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.parquet", "prompts.csv"]


def test_other_settings_do_not_resume_a_run(run, fails, model, tmp_path, interrupted):
    same = (*arguments(model, tmp_path), "--num-samples", 2)
    err = fails(*same, "--temperature", 0.5, "--seed", 1)
    assert "temperature 1.0 → 0.5" in err
    assert "seed 0 → 1" in err
    assert "--fresh" in err
    assert "model" in fails(save(tmp_path / "other", seed=1), *same[1:])
    interrupted[0].write_text(interrupted[0].read_text().replace("one", "1ne"))
    assert "content of the prompts" in fails(*same)
    assert run(*same, "--fresh")[0] == 0
    assert pd.read_parquet(tmp_path / "out.parquet")["prompt"][0] == "1ne"


@pytest.mark.parametrize("record", [None, "{"])
def test_batches_without_a_record_are_recomputed(run, model, tmp_path, interrupted, record):
    """They may be of any settings."""
    parts = tmp_path / ".out.parquet.parts"
    (parts / "run.json").unlink()
    if record is not None:
        (parts / "run.json").write_text(record)
    other = (*arguments(model, tmp_path), "--greedy")
    assert run(*other)[0] == 0
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert run(*other, "--fresh")[0] == 0
    pd.testing.assert_frame_equal(found, pd.read_parquet(tmp_path / "out.parquet"))


def test_undeletable_batches_are_reported(fails, model, tmp_path, interrupted, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert "Permission denied" in fails(*arguments(model, tmp_path), "--temperature", 0.5, "--fresh")


def test_a_users_file_among_the_batches_is_kept(run, model, tmp_path, interrupted):
    notes = tmp_path / ".out.parquet.parts" / "notes.txt"
    notes.write_text("mine")
    assert run(*arguments(model, tmp_path), "--num-samples", 2)[0] == 0
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), interrupted[1])
    assert list(notes.parent.iterdir()) == [notes]


def test_a_retrained_model_is_another(run, fails, tmp_path, monkeypatch):
    folder = save(tmp_path / "mine")
    write_prompts(tmp_path, "csv")
    with monkeypatch.context() as patch:
        patch.setattr(batch_jobs.Run, "merge", lambda self: 0)
        assert run(*arguments(folder, tmp_path))[0] == 0
    save(folder, seed=1)
    assert "model" in fails(*arguments(folder, tmp_path))


def test_only_fresh_overwrites_an_output(run, fails, model, tmp_path):
    write_prompts(tmp_path, "csv")
    assert run(*arguments(model, tmp_path))[0] == 0
    before = (tmp_path / "out.parquet").read_bytes()
    assert "nothing was overwritten" in fails(*arguments(model, tmp_path), "--seed", 1)
    assert (tmp_path / "out.parquet").read_bytes() == before
    assert run(*arguments(model, tmp_path), "--seed", 1, "--fresh")[0] == 0
    assert (tmp_path / "out.parquet").read_bytes() != before
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 7


def test_an_unwritable_output_is_one_line(fails, model, tmp_path):
    source = write_prompts(tmp_path, "txt")
    assert "cannot write" in fails(model, "--prompts", source, "--out", tmp_path / "none/out.parquet", *FEW)
    assert "end in .parquet" in fails(model, "--prompts", source, "--out", tmp_path / "out.csv", *FEW)


@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_run_killed_while_it_tidies_up_ends(run, fails, model, tmp_path, monkeypatch, left, fresh):
    """Its output is complete, and `left` of its files beside the record are still there; nothing is computed again."""
    write_prompts(tmp_path, "csv")
    command, out, clear = arguments(model, tmp_path), tmp_path / "out.parquet", batch_jobs.run_folder.clear
    if fresh:
        assert run(*command, "--seed", 1)[0] == 0

    def killed(folder, own):
        if out.exists() and len(pd.read_parquet(out)) == 7 and batch_jobs.WHOLE in own and list(folder.glob("0*")):
            for path in sorted(folder.glob("0*"))[left:]:
                path.unlink()
            raise KeyboardInterrupt
        clear(folder, own)

    with monkeypatch.context() as patch:
        patch.setattr(batch_jobs.run_folder, "clear", killed)
        assert run(*command, *fresh)[0] == 130
    written, parts = out.read_bytes(), tmp_path / ".out.parquet.parts"
    assert len(list(parts.glob("0*"))) == left
    assert "settings" in fails(*command, "--seed", 2)
    monkeypatch.setattr(batch_jobs, "complete", None)
    assert run(*command)[0] == 0
    assert out.read_bytes() == written
    assert not parts.exists()
    assert "nothing was overwritten" in fails(*command)


def test_a_batch_that_loses_its_processes_is_refused(model, tmp_path):
    """The processes have left a byte each; a new command forgets them."""
    frames, given = batches([Request("the", "", 1.5)] * 3, 2), (Choice(str(model)), Sampling(max_new_tokens=2), "cpu", tmp_path)
    batch_jobs.run_folder.claim(tmp_path, {}, parts=())
    (tmp_path / "00000001.tries").write_bytes(b"." * (completer.TRIES - 1))
    own = completer.Completer(*given)
    assert len(own(frames[1])) == 1
    assert not (tmp_path / "00000001.tries").exists()
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["00000001.parquet"]
    (tmp_path / "00000000.tries").write_bytes(b"." * completer.TRIES)
    with pytest.raises(ValueError, match=r"batch 0 lost its process 5 times.*--batch-size"):
        own(frames[0])
    assert sum(completer.complete_batches(frames, *given, Engine("here"))) == 3


class Blocks:
    """Ray Data in this process: a block per frame, which iteration joins by default."""

    def __init__(self, blocks):
        self.blocks = blocks

    def map_batches(self, kind, *, fn_constructor_args, **_):
        actor = kind(*fn_constructor_args)
        return Blocks([actor(block) for block in self.blocks])

    def iter_batches(self, *, batch_size=256, **_):
        return iter(self.blocks if batch_size is None else [pd.concat(self.blocks)])


def test_ray_tells_of_each_batch_and_of_the_first_error(model, tmp_path, monkeypatch):
    context = SimpleNamespace(get_current=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(data=SimpleNamespace(DataContext=context, from_pandas=Blocks)))
    monkeypatch.setattr(completer.clusters, "connected", lambda *_: nullcontext())
    monkeypatch.setattr(completer.clusters, "count", lambda *_: 2)
    given = Choice(str(model)), Sampling(max_new_tokens=2), "cpu", tmp_path, Engine("ray")
    batch_jobs.run_folder.claim(tmp_path, {}, parts=())
    frames = batches([Request("the", "", 1.5)] * 3, 2)
    assert list(completer.complete_batches(frames, *given)) == [2, 1]
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    frames = batches([Request("the", "", 1.5)] * 2 + [Request("a" * 60, "", 1.5)], 1)
    (tmp_path / "00000000.parquet").unlink()
    with pytest.raises(ValueError, match="the prompt has 61 tokens"):
        list(completer.complete_batches(frames, *given))


def test_a_batch_names_its_prompts_by_their_place_in_the_file():
    first, last = batches([Request(prompt, None, 1.5) for prompt in ("a", "b", "c")], 2)
    assert list(first) == ["batch", "index", "prompt", "negative", "scale"]
    assert [first.values.tolist(), last.values.tolist()] == [
        [[0, 0, "a", None, 1.5], [0, 1, "b", None, 1.5]],
        [[1, 2, "c", None, 1.5]],
    ]


@pytest.mark.parametrize(("engine", "place"), [("ray", "cuda"), ("processes", "cuda:1")])
def test_ray_finds_a_gpu_of_its_own_for_an_actor(model, tmp_path, monkeypatch, engine, place):
    seen = []
    monkeypatch.setattr(batch_jobs, "complete_batches", lambda frames, choice, sampling, *given: seen.append(given[0]) or [])
    task = batch_jobs.Task(write_prompts(tmp_path, "txt"), tmp_path / "out.parquet")
    team = distributed.Team(0, 1, torch.device("cuda", 1))
    given = Choice(str(model)), Sampling(max_new_tokens=2), team, lambda **_: nullcontext(), Engine(engine, 2)
    assert batch_jobs.complete_file(task, *given, shard=(1, 1)) == len(PROMPTS)
    assert seen == [place]


def environment():
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same(run, model, tmp_path):
    write_prompts(tmp_path, "csv")
    (tmp_path / "prompts.csv").write_text("prompt\n" + "".join(f"prompt {i}\n" for i in range(120)))
    command = [ARGUIDE, "generate", *map(str, arguments(model, tmp_path))]
    child = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts, limit = tmp_path / ".out.parquet.parts", time.monotonic() + 120
    while not list(parts.glob("0*.parquet")) and time.monotonic() < limit and child.poll() is None:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    finished = len(list(parts.glob("0*.parquet")))
    assert 0 < finished < 60
    assert run(*arguments(model, tmp_path))[0] == 0
    resumed = pd.read_parquet(tmp_path / "out.parquet")
    assert run(*arguments(model, tmp_path), "--fresh")[0] == 0
    pd.testing.assert_frame_equal(resumed, pd.read_parquet(tmp_path / "out.parquet"))
    assert resumed["index"].tolist() == list(range(120))


def torchrun(*arguments, folder=None):
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python", ARGUIDE]
    options = {"capture_output": True, "text": True, "timeout": 240, "check": False}
    return subprocess.run([*start, "generate", *map(str, arguments)], env=environment(), cwd=folder, **options)


@pytest.mark.slow
def test_two_processes_write_what_one_does(run, model, tmp_path):
    """Also in a folder that holds a package `analysis` of the user."""
    pytest.importorskip("accelerate")
    write_prompts(tmp_path, "csv")
    (tmp_path / "user" / "analysis").mkdir(parents=True)
    (tmp_path / "user" / "analysis" / "__init__.py").write_text("raise ImportError('of the user')")
    assert run(*arguments(model, tmp_path))[0] == 0
    alone = pd.read_parquet(tmp_path / "out.parquet")
    (tmp_path / "out.parquet").unlink()
    done = torchrun(*arguments(model, tmp_path), folder=tmp_path / "user")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"7 completions are in {tmp_path / 'out.parquet'}"]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), alone)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.parquet", "prompts.csv", "user"]


def test_a_users_folder_can_hide_the_package(tmp_path):
    """The negative control: the folder above does hide `analysis` from `python -m`."""
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").write_text("raise ImportError('of the user')")
    command = [sys.executable, "-m", "analysis"]
    assert "of the user" in subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stderr
    done = subprocess.run([ARGUIDE, "--version"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("arguide ")


@pytest.mark.parametrize("rank", [0, 1])
def test_one_failure_stops_all_processes(monkeypatch, rank):
    pytest.importorskip("accelerate")
    monkeypatch.setattr("accelerate.utils.gather_object", lambda mine: [*mine, "the other failed"])
    monkeypatch.setattr(distributed.time, "sleep", (waits := []).append)
    team = distributed.Team(rank, 2, torch.device("cpu"), state=object())
    with pytest.raises(SystemExit if rank else ValueError, match="2" if rank else "the other failed"):
        team.together(lambda: "mine is fine")
    assert waits == [distributed.PAUSE] * rank  # until the leader has reported it
    monkeypatch.setattr("accelerate.utils.gather_object", lambda mine: [*mine, None])
    assert team.together(lambda: "mine is fine") == "mine is fine"


def test_several_processes_need_accelerate(fails, model, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert "arguide[distributed]" in fails(model, "--prompt", "a")


def test_one_process_needs_no_accelerate(monkeypatch):
    for name in ("accelerate", "accelerate.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    with distributed.team(None) as own:
        assert own.together(lambda: "done") == "done"


@pytest.mark.parametrize(
    ("device", "gpus", "found"),
    [(None, 0, "cpu"), ("cpu", 2, "cpu"), (None, 2, "cuda"), ("cuda", 2, "cuda"), (None, 1, None), ("cuda", 1, None)],
)
def test_every_process_has_a_gpu_of_its_own_or_none(monkeypatch, device, gpus, found):
    """Two processes that torchrun started."""
    accelerate = pytest.importorskip("accelerate")

    def state(*, cpu, timeout):
        place = torch.device("cpu") if cpu else torch.device("cuda", 1)
        return SimpleNamespace(device=place, process_index=1, num_processes=2, destroy_process_group=lambda: None)

    monkeypatch.setattr(accelerate, "PartialState", state)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if found is None:
        with pytest.raises(ValueError, match="2 processes cannot share 1 GPUs"), distributed.team(device):
            pass
    else:
        with distributed.team(device) as own:
            assert (own.rank, own.size, own.device.type) == (1, 2, found)


def test_shares_partition_the_batches(tmp_path):
    run = batch_jobs.Run(tmp_path / "out.parquet", pd.DataFrame({"prompt": PROMPTS}), 2, {})
    shares = [run.share(distributed.Team(rank, 3, torch.device("cpu"))) for rank in range(3)]
    assert sorted(batch for share in shares for batch in share) == [0, 1, 2, 3]
    assert sorted(row for batch in run.batches for row in run.rows(batch)) == list(range(7))
