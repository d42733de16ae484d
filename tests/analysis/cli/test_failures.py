"""Failures are one line on the command line: full disks, torn records, impossible sizes, interrupts."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pandas as pd
import pytest
import sklearn.datasets  # noqa: F401 (which warns where it cannot write)
import torch
from command import ARGUIDE

from analysis import cli, limits
from analysis.learning import learners

FULL = Path("/dev/full")
SMALL = ("--steps", 6, "--width", 16, "--depth", 1, "--batch-size", 4)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "names.csv"
    rows = [("abc"[i % 3] * 3 + str(i), "xy"[i % 2]) for i in range(60)]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(path, index=False)
    return path


@pytest.fixture
def limited():
    """Return a function that limits the size of every file that is written, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Full disks.


@pytest.mark.parametrize("size", [0, 400, 3_000, 5_000, 9_000, 20_000])
@pytest.mark.parametrize("kind", ["lm", "denoiser"])
def test_a_training_on_a_full_disk_is_one_line(run, limited, names, tmp_path, kind, size):
    data = (names if kind == "lm" else "digits", "--out", tmp_path / "m")
    limited(size)
    code, _, err = run("train", kind, "--data", *data, *SMALL)
    limited(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    assert code == 2
    assert err.splitlines()[-1].startswith("arguide: cannot write")
    assert not list((tmp_path / "m").glob("result.json"))
    assert run("train", kind, "--data", *data, *SMALL)[0] == 0


def test_a_checkpoint_on_a_full_disk_leaves_no_part(run, limited, names, tmp_path, monkeypatch):
    fit = learners.fit
    monkeypatch.setattr(learners, "fit", lambda *args, **given: fit(*args, **given | {"every": 2}))
    limited(9_000)
    code, _, err = run("train", "lm", "--data", names, "--out", tmp_path / "m", *SMALL)
    assert code == 2
    assert "checkpoint.pt: File too large" in err.splitlines()[-1]
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["run.json"]


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_one_line(arguments, unbuffered):
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}  # buffered output fails once more at the end
    with FULL.open("w") as full:
        done = subprocess.run([ARGUIDE, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.returncode, done.stderr) == (2, "arguide: No space left on device\n")


# Torn records.

TORN = ["", "{", "[]", "null", "3", '{"program": "PROGRAM"}', '{"program": "PROGRAM", "config": [1]}', "[" * 99_999, "\x00"]
TORN += ['{"program": "PROGRAM", "config": {}, "versions": 3}', '{"program": "PROGRAM", "config": "x", "versions": null}']


@pytest.mark.parametrize("text", TORN, ids=range(len(TORN)))
@pytest.mark.parametrize("command", ["train", "study", "reproduce", "generate"])
def test_a_torn_record_is_one_line(run, fails, model, names, tmp_path, command, text):
    folder = tmp_path / (".a.parquet.parts" if command == "generate" else "out")
    folder.mkdir()
    (folder / "run.json").write_text(text.replace("PROGRAM", f"arguide {command}"))
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    options = {
        "train": ["lm", "--data", names, "--out", folder, *SMALL],
        "study": ["--data", names, "--out", folder, "--effort", 0.01, "--jobs", 1],
        "reproduce": ["--quick", "--out", folder],
        "generate": [model, "--prompts", tmp_path / "p.txt", "--out", tmp_path / "a.parquet", "--max-new-tokens", 2],
    }[command]
    if command == "generate":  # parts without a record may be of any settings, and are done anew
        code, _, err = run(command, *options)
        assert code == 0 or (code, len(err.splitlines())) == (2, 1), err
        return
    assert str(folder) in fails(command, *options)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"'])
def test_a_torn_result_is_one_line(run, fails, names, tmp_path, text):
    options = ("train", "lm", "--data", names, "--out", tmp_path / "m", *SMALL)
    assert run(*options)[0] == 0
    (tmp_path / "m/result.json").write_text(text)
    assert "result.json is damaged" in fails(*options)
    assert run(*options, "--fresh")[0] == 0


# Numbers and sizes.

SIZES = {
    "hidden_size": [0, -16, 10**12, 2**70, "x", None, 1.5],
    "num_hidden_layers": [10**9, 2**70, "x"],
    "vocab_size": [0, -1, 10**13, 2**70],
    "num_attention_heads": [0, -1, 3, 2**70],
    "num_key_value_heads": [0, -1, 5],
    "head_dim": [0, -1],
    "intermediate_size": [-1, 0, 10**14],
    "max_position_embeddings": [2**70],
    "eos_token_id": [2**70, [1, 2**70], "x"],
    "pad_token_id": [10**9],
    "model_type": [[], {}, 3],
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in SIZES.items() for value in values])
def test_impossible_sizes_of_a_model_are_one_line(fails, model, tmp_path, key, value):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    assert str(folder) in fails("generate", folder, "--prompt", "a", "--max-new-tokens", 2)


@pytest.mark.parametrize("value", [{"width": 10**9}, {"depth": 10**12}, {"width": 2**70}, {"width": "x"}, {"labels": -3}])
def test_impossible_sizes_of_a_denoiser_are_one_line(run, fails, tmp_path, value):
    options = ("train", "denoiser", "--data", "digits", *SMALL)
    assert run(*options, "--out", tmp_path / "m")[0] == 0
    config = json.loads((tmp_path / "m/config.json").read_text())
    (tmp_path / "m/config.json").write_text(json.dumps(config | value))
    assert f"{tmp_path / 'm'} holds no denoiser" in fails(*options, "--out", tmp_path / "n", "--init", tmp_path / "m")


HUGE = [
    ("train", "pixels", "--data", "digits", "--out", "m", "--width", 10**9),
    ("train", "denoiser", "--data", "digits", "--out", "m", "--depth", 10**12),
    ("train", "pixels", "--data", "digits", "--out", "m", "--batch-size", 10**12),
    ("train", "pixels", "--data", "digits", "--out", "m", "--batch-size", 10**10),
    ("train", "denoiser", "--data", "digits", "--out", "m", "--image-size", 10**7),
    ("train", "denoiser", "--data", "digits", "--out", "m", "--image-size", 20_000),
    ("study", "--data", "digits", "--out", "m", "--samples", 10**13),
    ("study", "--data", "digits", "--out", "m", "--seeds", 10**12),
    ("generate", "MODEL", "--prompt", "a", "--num-samples", 10**12),
    ("generate", "MODEL", "--prompt", "a", "--max-new-tokens", 10**13),
    ("generate", "MODEL", "--prompt", "a", "--joint", "--particles", 10**12),
    ("generate", "MODEL", "--prompt", "a", "--joint", "--repeats", 10**12),
    ("scale-factors", "MODEL", "--prompt", "a", "--scale", 2, "--samples", 10**12),
    ("scale-factors", "MODEL", "--prompt", "a", "--scale", 2, "--repeats", 10**12),
]


@pytest.mark.parametrize("arguments", HUGE, ids=lambda arguments: " ".join(map(str, (arguments[0], *arguments[-2:]))))
def test_sizes_beyond_the_memory_are_refused(fails, model, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    err = fails(*(model if each == "MODEL" else each for each in arguments))
    assert "GB; try smaller ones" in err
    assert arguments[-2] in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("seeds", "says"), [(10**6, "no folder none"), (10**6 + 1, "--seeds 1e+06 must fit into the memory of 4 GB")]
)
def test_sizes_that_fill_the_memory_are_no_error(fails, monkeypatch, seeds, says):
    monkeypatch.setattr(limits, "_memory", lambda: 4e9)
    assert says in fails("study", "--data", "digits", "--models", "none", "--seeds", seeds)


@pytest.mark.parametrize(
    "error", [MemoryError(), MemoryError("Unable to allocate 9 TiB"), RuntimeError("can't allocate memory: x")]
)
def test_exhausted_memory_is_one_line(fails, monkeypatch, error):
    def app(**_):
        raise error

    monkeypatch.setattr(cli, "app", app)
    assert fails().startswith("arguide: the memory is too small (")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left", "a.npy"), "a.npy: No space left"),
        (OSError(28, "No space left"), "No space left"),
        (OSError("torn"), "torn"),
    ],
)
def test_an_error_of_the_system_names_its_file(fails, monkeypatch, error, line):
    def app(**_):
        raise error

    monkeypatch.setattr(cli, "app", app)
    assert fails() == f"arguide: {line}\n"


def test_an_error_that_is_a_bug_keeps_its_traceback(run, monkeypatch):
    def app(**_):
        raise KeyError("a bug")

    monkeypatch.setattr(cli, "app", app)
    with pytest.raises(KeyError, match="a bug"):
        run()


@pytest.mark.parametrize(
    ("option", "command"),
    [
        ("--seed", ("exact", "t.npy", "--label", 0, "--scale", 2)),
        ("--steps", ("train", "lm", "--data", "n.csv", "--out", "m")),
        ("--seed", ("study", "--data", "digits")),
        ("--particles", ("generate", "MODEL", "--prompt", "a", "--joint")),
        ("--top-k", ("generate", "MODEL", "--prompt", "a")),
        ("--seed", ("reproduce",)),
    ],
)
@pytest.mark.parametrize("value", [2**63, 2**200])
def test_integers_beyond_64_bits_are_refused(fails, tmp_path, monkeypatch, option, command, value):
    monkeypatch.chdir(tmp_path)
    assert f"{option} must fit into 64 bits" in fails(*command, option, value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_largest_seed_is_valid(run, names, tmp_path):
    small = ("--effort", 0.01, "--scales", "0,2", "--seeds", 2, "--samples", 2, "--jobs", 1, "--seed", 2**63 - 1)
    assert run("study", "--data", names, "--out", tmp_path / "s", *small)[0] == 0


@pytest.mark.parametrize("effort", ["inf", "nan", "1e300", "0", "-1"])
def test_an_infinite_effort_writes_nothing(fails, names, tmp_path, effort):
    assert "effort" in fails("study", "--data", names, "--out", tmp_path / "s", "--effort", effort)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("value", ["1e-50", "1e-300", "1e300", "0", "inf", "nan"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("generate",), "--temperature"),
        (("generate", "--joint"), "--power"),
        (("scale-factors", "--scale", 2), "--temperature"),
        (("scale-factors", "--scale", 2), "--power"),
    ],
)
def test_temperatures_beyond_float32_are_one_line(fails, model, command, option, value):
    assert f"{option} must be positive" in fails(*command, model, "--prompt", "a", option, value)


def test_the_lowest_temperature_is_greedy(run, model):
    options = ("generate", model, "--prompt", "ab", "--max-new-tokens", 8)
    assert run(*options, "--temperature", 1e-30)[1] == run(*options, "--greedy")[1]


# Checks before torch is imported.

EARLY = [
    ["generate", "x", "--prompts", "none.csv", "--out", "a.parquet"],
    ["generate", "x"],
    ["generate", "./none", "--prompt", "a"],
    ["exact", "none.npy", "--label", "0", "--scale", "2"],
    ["reproduce", "--text", "none.csv"],
    ["reproduce", "--model", "./none"],
    ["reproduce", "--device", "nowhere"],
    ["train", "lm", "--data", "none.csv", "--out", "m"],
    ["train", "lm", "--data", "", "--out", "m"],
    ["study", "--data", "none.parquet"],
    ["study", "--data", "digits", "--models", "none"],
    ["scale-factors", "x", "--scale", "2"],
    ["scale-factors", "./none", "--scale", "2", "--prompt", "a"],
    ["scale-factors", "x", "--scale", "2", "--prompt", "a", "--texts", "none.csv"],
    ["--version"],
]


@pytest.mark.parametrize("arguments", EARLY, ids=" ".join)
def test_missing_inputs_are_reported_before_slow_imports(tmp_path, arguments):
    code = (
        f"import sys; sys.argv = ['arguide', *{arguments!r}]\nfrom analysis.cli import main\n"
        "try: main()\nexcept SystemExit as stop: print(stop.code)\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    expected = ["0", "[]"] if arguments == ["--version"] else ["2", "[]"]
    assert done.stdout.splitlines()[-2:] == expected
    assert len(done.stderr.splitlines()) == (0 if arguments == ["--version"] else 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [(), ("--help",), ("nonsense",)])
def test_the_version_is_that_of_the_package(run, more):
    from importlib.metadata import version

    assert run("--version", *more) == (0, f"arguide {version('arguide')}\n", "")


PLACES = [
    ("reproduce", "--out"),
    ("exact", "t.npy", "--label", 0, "--scale", 2, "--out"),
    ("generate", "x", "--prompts", "p.txt", "--out"),
    ("scale-factors", "x", "--scale", 2, "--prompt", "a", "--out"),
    ("scale-factors", "x", "--scale", 2, "--prompt", "a", "--figure"),
    ("train", "lm", "--data", "digits", "--out"),
    ("study", "--data", "digits", "--out"),
    ("study", "--data"),
    ("study", "--data", "digits", "--models"),
    ("train", "lm", "--data", "digits", "--out", "m", "--init"),
    ("generate", "x", "--prompt", "a", "--negative-model"),
]


@pytest.mark.parametrize("arguments", PLACES, ids=lambda arguments: " ".join(map(str, (arguments[0], arguments[-1]))))
def test_an_empty_path_is_refused(fails, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    for form in ([*arguments, ""], [*arguments[:-1], f"{arguments[-1]}="]):
        err = fails(*form)
        assert arguments[-1] in err
        assert "empty text" in err
    assert not list(tmp_path.iterdir())


# Interrupts.


def started(*arguments):
    """Return a command that runs and from here on handles its own interrupts; before, Python prints a traceback."""
    code = f"import os, sys; from analysis import cli; sys.argv = ['arguide', *{list(arguments)!r}]\n"
    code += "note = cli.note_interrupts\ncli.note_interrupts = lambda seen: (note(seen), os.write(1, b'!'))\ncli.main()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.read(1) == b"!"
    return process


@pytest.mark.parametrize("delay", [0, 0.1, 0.4, 1.6])
def test_an_early_interrupt_is_one_line(names, tmp_path, delay):
    process = started("train", "lm", "--data", str(names), "--out", str(tmp_path / "m"))
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == f"arguide: {cli.INTERRUPTED}"
    assert "Traceback" not in err


@pytest.mark.parametrize(("argv", "says"), [([], "the same command resumes"), (["--fresh"], "command without --fresh resumes")])
def test_the_way_to_resume_is_said(monkeypatch, argv, says):
    monkeypatch.setattr(sys, "argv", ["arguide", "study", *argv])
    assert says in cli._resumed(cli.INTERRUPTED)
    assert says in cli._resumed(cli.KILLED)


def test_an_interrupt_waits_for_the_import_of_torch(monkeypatch):
    def wait():
        for _ in range(1000):  # the interrupt comes between two sleeps
            time.sleep(0.01)

    spec, interrupts, before = types.SimpleNamespace(_initializing=True), [], signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(torch, "__spec__", spec)
    cli.note_interrupts(interrupts)
    try:
        signal.raise_signal(signal.SIGINT)
        spec._initializing = False
        with pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(interrupts) == 2


def test_an_interrupted_import_is_an_interrupt(run, monkeypatch):
    def app(**_):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RecursionError("not initialised")

    monkeypatch.setattr(cli, "app", app)
    assert run()[0] == 130
