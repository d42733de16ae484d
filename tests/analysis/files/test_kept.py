"""A run resumes from its own whole files alone, which it checks before use."""

import dataclasses
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import save

from analysis.experiments import EXPERIMENTS, reproduce
from analysis.files import run_folder
from analysis.learning import datasets, learners, training
from analysis.learning.learners import Size
from analysis.study import plan as plans
from analysis.study import task as study_task
from analysis.study import tasks
from analysis.text import batch_jobs
from arguide import files
from arguide.training import Recipe

JOB = training.Job("classifier", datasets.Source("digits", "image", most=2), Recipe(6, batch=4, dropout=0.0), Size(8, 1))


def flip(path, generator):
    """Flip a bit of a file, and return its content before."""
    whole = path.read_bytes()
    bit = int(generator.integers(8 * len(whole)))
    path.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
    return whole


@pytest.fixture
def part(tmp_path):
    run_folder.claim(tmp_path / "run", {"seed": 0})
    return run_folder.part_of(tmp_path / "run", "a")


FRAME = pd.DataFrame(
    {
        "value": [0.1, float("nan"), float("inf"), -1e-300],
        "count": [1, 2, 3, 4],
        "text": ["a", None, "é\n", ""],
        "none": [None] * 4,
        "right": [True, False, None, True],
    }
)


def test_a_marked_frame_is_unchanged(tmp_path, part):
    run_folder.write_frame(tmp_path / "a.parquet", FRAME)
    plain = pd.read_parquet(tmp_path / "a.parquet")
    assert run_folder.read_marked(tmp_path / "a.parquet", part) is None
    run_folder.write_frame(tmp_path / "a.parquet", run_folder.marked(FRAME, part))
    pd.testing.assert_frame_equal(run_folder.read_marked(tmp_path / "a.parquet", part), plain)
    assert run_folder.read_marked(tmp_path / "a.parquet", part[::-1]) is None
    assert run_folder.read_marked(tmp_path / "b.parquet", part) is None


def test_flipped_bits_never_change_a_number(tmp_path, part):
    path, generator = tmp_path / "a.parquet", np.random.default_rng(0)
    frame = pd.DataFrame({"value": generator.normal(size=60), "family": ["joint", "sequential"] * 30})
    run_folder.write_frame(path, run_folder.marked(frame, part))
    unread = unmarked = 0
    for _ in range(300):
        whole = flip(path, generator)
        found = run_folder.read_marked(path, part)
        unread += found is None
        assert found is None or found.equals(frame)  # what no number depends on
        try:
            unmarked += not pd.read_parquet(path).equals(frame)
        except Exception:
            unmarked += 0
        path.write_bytes(whole)
    assert unread > 150
    assert unmarked > 30  # without the mark these would be other numbers


def test_damaged_and_foreign_parts_are_recomputed(tmp_path, monkeypatch, caplog):
    runs = []
    one = next(each for each in EXPERIMENTS if each.name == "fidelity")

    def counted(settings, track):
        runs.append(settings.seed)
        return pd.DataFrame(
            {"law": ["a"], "family": ["b"], "quantity": ["q"], "value": [float(settings.seed)], "std_error": 0.0}
        )

    monkeypatch.setattr(reproduce, "EXPERIMENTS", (dataclasses.replace(one, run=counted),))
    part = {}
    for seed in (1, 2):
        settings = reproduce.Settings(seed=seed)
        run_folder.claim(tmp_path / str(seed), reproduce.config(settings))
        assert not next(reproduce.chapters(tmp_path / str(seed), settings, lambda title: iter)).found
        assert next(reproduce.chapters(tmp_path / str(seed), settings, lambda title: iter)).found
        part[seed] = tmp_path / str(seed) / "experiments" / "fidelity.parquet"
    assert runs == [1, 2]
    assert not caplog.records
    unmarked = pd.read_parquet(part[2]).assign(value=9.0)
    flipped = bytearray(part[2].read_bytes())
    flipped[30] ^= 4
    for spoil in (
        lambda: shutil.copy(part[1], part[2]),
        lambda: unmarked.to_parquet(part[2]),
        lambda: part[2].write_bytes(flipped),
    ):
        spoil()
        chapter = next(reproduce.chapters(tmp_path / "2", reproduce.Settings(seed=2), lambda title: iter))
        assert not chapter.found
        assert chapter.frame["value"].tolist() == [2.0]
        assert str(part[2]) in caplog.records[-1].getMessage()
        assert "computed again" in caplog.records[-1].getMessage()
    assert runs == [1, 2, 2, 2, 2]


def test_damaged_and_foreign_batches_are_recomputed(run, tmp_path, monkeypatch, caplog):
    model = save(tmp_path / "tiny")
    (tmp_path / "prompts.txt").write_text("one\ntwo\nthree\n")
    options = ("generate", model, "--prompts", tmp_path / "prompts.txt", "--out", tmp_path / "out.parquet")
    options += ("--max-new-tokens", 4, "--batch-size", 1)
    with monkeypatch.context() as patch:
        patch.setattr(batch_jobs.Run, "merge", lambda self: 0)
        assert run(*options)[0] == 0
    done, complete = [], batch_jobs.complete
    monkeypatch.setattr(batch_jobs, "complete", lambda *given: done.append(given[3]) or complete(*given))
    part = tmp_path / ".out.parquet.parts" / "00000001.parquet"
    whole = pd.read_parquet(part)
    whole.assign(tokens=whole["tokens"] + 1).to_parquet(part)
    shutil.copy(part.with_name("00000000.parquet"), part.with_name("00000002.parquet"))
    shutil.copy(part.with_name("00000002.parquet"), part.with_name("00000003.parquet"))  # of no batch
    assert run(*options)[0] == 0
    assert done == [1, 2]
    assert f"{part} is damaged or of another run" in caplog.records[0].getMessage()
    frame = pd.read_parquet(tmp_path / "out.parquet")
    (tmp_path / "out.parquet").unlink()
    assert run(*options)[0] == 0
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), frame)


def test_a_checkpoint_with_a_flipped_bit_is_refused(tmp_path):
    rows, path, generator = datasets.read_images(JOB.source), tmp_path / "checkpoint.pt", np.random.default_rng(0)

    def killed(steps):
        for step in steps:
            if step == 5:
                raise KeyboardInterrupt
            yield step

    def go_on(track=iter):
        learner, options = learners.new("classifier", rows, JOB.size, seed=0), {"checkpoint": path, "every": 2, "track": track}
        draws = torch.Generator().manual_seed(0)
        loss = lambda x, y, draw: learners.classifying_loss(learner, x, y, draw)  # noqa: E731
        return learners.fit(learner, rows.rows, rows.labels, 2, loss, JOB.recipe, generator=draws, **options)

    with pytest.raises(KeyboardInterrupt):
        go_on(killed)
    for _ in range(60):
        whole = flip(path, generator)
        with pytest.raises(ValueError, match=r"checkpoint\.pt is no checkpoint"):
            go_on()
        path.write_bytes(whole)
    assert len(go_on()) == 6


@pytest.mark.parametrize("name", ["model.safetensors", "losses.parquet", "result.json", "config.json"])
def test_a_changed_training_is_refused(tmp_path, name):
    told = training.run(JOB, tmp_path, iter)
    assert training.run(JOB, tmp_path, iter) == told
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if name != "losses.parquet" else -6] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged, or was changed after the training; --fresh trains again"):
        training.run(JOB, tmp_path, iter)
    assert training.run(JOB, tmp_path, iter, fresh=True) == told


def test_a_changed_model_of_a_study_is_retrained(tmp_path, caplog):
    plan = plans.Plan(datasets.Source("digits", "image", most=2), True, effort=1e-3)
    task = next(each for each in tasks.training(plan) if each.name == "classifier-0")
    run_folder.claim(tmp_path, {}, plans.PROGRAM, parts=("experiments", "models"))
    assert not task.finished(tmp_path)
    task.work(plan, tmp_path)
    assert task.finished(tmp_path)
    weights = tmp_path / "models" / "classifier-0" / "model.safetensors"
    whole = flip(weights, np.random.default_rng(0))
    assert not task.finished(tmp_path)
    assert str(weights) in caplog.records[-1].getMessage()
    task.work(plan, tmp_path)
    assert weights.read_bytes() == whole
    weights.unlink()
    assert not task.finished(tmp_path)


def test_a_record_shows_every_letter_as_itself(tmp_path):
    run_folder.claim(tmp_path, {"label": "Größe"})
    assert '"label": "Größe"' in (tmp_path / run_folder.RECORD).read_text(encoding="utf-8")


def test_other_versions_do_not_resume_a_run(tmp_path, monkeypatch):
    run_folder.claim(tmp_path / "run", {"seed": 0})
    run = batch_jobs.Run(tmp_path / "out.parquet", pd.DataFrame({"prompt": ["a"]}), 1, {"seed": 0})
    run.claim()
    monkeypatch.setattr(run_folder, "version", lambda name: "0.0" if name == "torch" else version(name))
    with pytest.raises(ValueError, match=rf"other settings \(.*torch {torch.__version__.split('+')[0]}.* → 0\.0.*\)"):
        run_folder.claim(tmp_path / "run", {"seed": 0})
    with pytest.raises(ValueError, match=r"other settings \(.*torch .* → 0\.0"):
        run.claim()


class Half:
    """A writer that is killed when it has written half a file."""

    def __init__(self, write):
        self.write = write

    def __call__(self, *given, **options):
        self.write(*given, **options)
        path = next(Path(each) for each in given if isinstance(each, str | Path))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        raise KeyboardInterrupt


def test_a_kill_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    checkpoint, write = tmp_path / "checkpoint.pt", files.write
    fit, saves = learners.fit, []

    def torn(path, save):
        saves.extend([path] if path == checkpoint else [])
        write(path, Half(save) if path == checkpoint and len(saves) == 2 else save)

    monkeypatch.setattr(files, "write", torn)
    monkeypatch.setattr(learners, "fit", lambda *given, **options: fit(*given, **options | {"every": 2}))
    with pytest.raises(KeyboardInterrupt):
        training.run(JOB, tmp_path, iter)
    assert checkpoint.exists()
    assert not list(tmp_path.glob(".*"))
    left = []
    told = training.run(JOB, tmp_path, lambda steps: left.append(len(steps)) or steps)
    assert left == [4]
    assert told == training.run(JOB, tmp_path / "whole", iter)


@pytest.mark.parametrize("name", ["run.json", "losses.parquet", "loss.png", "result.json"])
def test_a_killed_training_leaves_no_partial_file(tmp_path, monkeypatch, name):
    write, sizes = run_folder.write, {}

    def torn(path, save):
        write(path, Half(save) if path.name == name else save)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write", torn)
        with pytest.raises(KeyboardInterrupt):
            training.run(JOB, tmp_path / "run", iter)
    assert not (tmp_path / "run" / name).exists()
    told = training.run(JOB, tmp_path / "run", iter)
    assert told == training.run(JOB, tmp_path / "whole", iter)
    for path in (tmp_path / "whole").iterdir():
        sizes[path.name] = path.read_bytes() == (tmp_path / "run" / path.name).read_bytes()
    assert all(sizes.values()), sizes


@pytest.mark.parametrize("kill", [0, 1, 2])
def test_a_killed_generate_leaves_no_partial_file(run, tmp_path, monkeypatch, kill):
    """Of the first part, the second, or the whole."""
    model = save(tmp_path / "tiny")
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    options = ("generate", model, "--prompts", tmp_path / "prompts.txt", "--out", tmp_path / "out.parquet")
    options += ("--max-new-tokens", 4, "--batch-size", 1)
    calls, to_parquet = [], pd.DataFrame.to_parquet

    def torn(self, path, *given, **options):
        calls.append(path)
        to_parquet(self, path, *given, **options)
        if len(calls) == kill + 1:
            Path(path).write_bytes(Path(path).read_bytes()[:200])
            raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_parquet", torn)
    assert run(*options)[0] == 130
    assert not (tmp_path / "out.parquet").exists()
    parts = sorted((tmp_path / ".out.parquet.parts").glob("*.parquet"))
    assert [path.name for path in parts] == [f"{i:08}.parquet" for i in range(kill)]
    assert all(len(pd.read_parquet(path)) == 1 for path in parts)
    assert run(*options)[0] == 0
    assert len(calls) == 4
    assert pd.read_parquet(tmp_path / "out.parquet")["prompt"].tolist() == ["one", "two"]


def test_a_task_writes_its_file_atomically(tmp_path, monkeypatch):
    run_folder.claim(tmp_path, {}, plans.PROGRAM)
    task = study_task.Task("one", lambda plan, folder: FRAME)
    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", lambda self, path, **_: Path(path).write_text("half") and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            task.work(None, tmp_path)
    assert not list((tmp_path / "experiments").iterdir())
    task.work(None, tmp_path)
    assert task.finished(tmp_path)


def test_without_hard_links_shards_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    def refuse(path, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(ValueError, match="Operation not permitted; --shard needs a file system with hard links"):
        run_folder.claim(tmp_path / "out", {}, shared=True)
    assert list((tmp_path / "out").iterdir()) == []
