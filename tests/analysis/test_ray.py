"""Ray on two nodes of this machine: the same results, and faults lose nothing."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pandas as pd
import pytest
from command import ARGUIDE
from labelled_names import write_names
from lost_actors import Lost
from short_calls import node, note
from tiny import save

from analysis.engines import Engine, engine
from analysis.files import run_folder
from analysis.text import completer
from analysis.text.batches import batches
from analysis.text.completions import Sampling
from analysis.text.loading import Choice
from analysis.text.tokens import Request

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray")
KILLS = 10
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # those of Ray


@pytest.fixture(scope="module")
def address():
    """Return the address of a cluster of two nodes with one core each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # of the calls in this file
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        nodes.add_node(num_cpus=1)
    yield nodes.address
    nodes.shutdown()


def command(*arguments, **options):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([ARGUIDE, *map(str, arguments)], env=environment, text=True, **options)


def finish(*arguments):
    """Run a command that must succeed, with nothing on stderr but bars, which are for terminals."""
    child = command(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = child.communicate(timeout=900)
    assert child.returncode == 0, err
    return out


def kill_one(kind, seed):
    """Kill a process that this one's nodes have started for a kind of work; return whether there was one."""
    own = [each for each in psutil.Process().children(recursive=True) if each.name().startswith("ray::")]
    found = [each for each in own if kind in " ".join(each.cmdline())]
    if found:
        seed.choice(found).send_signal(signal.SIGKILL)
    return bool(found)


def killer(kind, killed, seed, stop, finished):
    """Kill `KILLS` times, each at a random moment after more work is finished than at the last kill."""
    begin, last = time.monotonic(), 0
    while len(killed) < KILLS and not stop.is_set():
        while finished() == last and not stop.is_set():
            time.sleep(0.01)
        time.sleep(seed.uniform(0, 1))
        try:
            if kill_one(kind, seed):
                killed.append(time.monotonic() - begin)
                last = finished()
        except psutil.Error:  # it has ended by itself
            continue


def with_kills(kind, work, finished):
    """Return what the work returns, and the number of kills beside it."""
    killed, stop = [], threading.Event()
    thread = threading.Thread(target=killer, args=(kind, killed, random.Random(0), stop, finished))
    thread.start()
    try:
        done = work()
        print(f"{kind} killed after", *map("{:.1f} s".format, killed))
        return done, len(killed)
    finally:
        stop.set()
        thread.join()


def test_calls_run_on_both_nodes(address):
    with engine("ray", 1, address) as run:
        assert len(set(run([partial(node, n) for n in range(6)]))) == 2


def test_killed_workers_lose_nothing_and_repeat_nothing(address, tmp_path):
    def work():
        with engine("ray", 1, address) as run:
            return list(run([partial(note, tmp_path, n) for n in range(80)]))

    done, kills = with_kills("_call", work, lambda: len(list(tmp_path.glob("[0-9]*"))))
    assert kills == KILLS
    assert sorted(done) == list(range(80))
    assert {path.name: path.read_text() for path in tmp_path.glob("[0-9]*")} == {f"{n}.txt": str(n) for n in range(80)}
    begun = (tmp_path / "begun").read_text().splitlines()
    print(len(begun), "calls began")
    assert len(begun) > 80  # the kills have hit calls


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """Return the arguments of a run over prompts, and its completions in one process."""
    folder = tmp_path_factory.mktemp("prompts")
    model = save(folder / "tiny")
    rows = "".join(f"the {i},{'a' if i % 3 else ''},{1 + i / 100 if i % 2 else ''}\n" for i in range(240))
    (folder / "p.csv").write_text("prompt,negative,scale\n" + rows)
    given = ("generate", model, "--prompts", folder / "p.csv", "--max-new-tokens", 40, "--batch-size", 2)
    finish(*given, "--out", folder / "here.parquet")
    return given, (folder / "here.parquet").read_bytes()


def test_killed_actors_lose_no_prompt(address, prompts, tmp_path):
    given, here = prompts
    out, parts = tmp_path / "out.parquet", tmp_path / ".out.parquet.parts"
    work = partial(finish, *given, "--out", out, "--engine", "ray", "--address", address)
    said, kills = with_kills("Completer", work, lambda: len(list(parts.glob("0*.parquet"))))
    assert kills == KILLS
    assert said == f"240 completions are in {out}\n"
    assert out.read_bytes() == here
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_a_batch_that_kills_every_actor_ends_the_run(address, tmp_path, monkeypatch):
    """Ray would start actors for it without end."""
    frames, sampling = batches([Request("the", "", 1.5)] * 3, 2), Sampling(max_new_tokens=2)
    run_folder.claim(tmp_path / "run", {}, parts=())
    monkeypatch.setattr(completer, "RayCompleter", Lost)
    given = Choice(str(save(tmp_path / "tiny"))), sampling, "cpu", tmp_path / "run", Engine("ray", 1, address)
    with pytest.raises(ValueError, match=f"lost its process {completer.TRIES} times"):
        list(completer.complete_batches(frames, *given))
    monkeypatch.undo()
    assert sum(completer.complete_batches(frames, *given)) == 3  # the next command tries anew
    assert not list((tmp_path / "run").glob("*.tries"))


@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_a_driver_that_is_killed_resumes(request, tmp_path, kind):
    """The driver loads no models, so that the kills are among its calls and not in its imports."""
    address = [request.getfixturevalue("address")] if kind == "ray" else []
    start = [sys.executable, "-m", "short_calls", tmp_path, "200", kind, "2", *address]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    seed, finished = random.Random(1), [0]
    for _ in range(KILLS):
        driver = subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert driver.stdout.readline()  # it works
        time.sleep(seed.uniform(0, 2))
        driver.kill()
        driver.wait()
        time.sleep(2)  # its calls end with it
        finished.append(len(list(tmp_path.glob("[0-9]*"))))
    print("finished calls at the kills:", *finished)
    assert sorted(finished) == finished
    assert 0 < finished[-1] < 200
    said = subprocess.run(start, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert len(said) == 200 - finished[-1]  # nothing that was finished is done again
    assert {path.name: path.read_text() for path in tmp_path.glob("[0-9]*")} == {f"{n}.txt": str(n) for n in range(200)}


def test_a_killed_command_resumes(prompts, tmp_path):
    given, here = prompts
    out, seed, finished = tmp_path / "out.parquet", random.Random(1), [0]
    for _ in range(KILLS):
        child = command(*given, "--out", out, "--jobs", 2, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        parts, limit = tmp_path / ".out.parquet.parts", time.monotonic() + 120
        while len(list(parts.glob("0*.parquet"))) == finished[-1] and child.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)  # until it works
        time.sleep(seed.uniform(0, 0.5))
        child.kill()
        assert child.wait() == -signal.SIGKILL
        finished.append(len(list(parts.glob("0*.parquet"))))
    print("finished batches at the kills:", *finished)
    assert sorted(finished) == finished
    assert 0 < finished[-1] < 120
    finish(*given, "--out", out, "--jobs", 2)
    assert out.read_bytes() == here
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_a_study_is_the_same_on_every_engine(address, tmp_path):
    names = write_names(tmp_path / "names.csv")
    small = ("study", "--data", names, "--effort", 0.01, "--scales", "0,2", "--seeds", 2, "--samples", 4)
    frames = {}
    for name, options in {
        "here": ("--engine", "here"),
        "processes": ("--jobs", 2),
        "ray": ("--engine", "ray", "--address", address),
        "local": ("--engine", "ray", "--jobs", 2),
    }.items():
        finish(*small, "--out", tmp_path / name, *options)
        files = sorted((tmp_path / name / "experiments").iterdir())
        frames[name] = {path.name: pd.read_parquet(path) for path in (*files, tmp_path / name / "results.parquet")}
    assert len(frames["here"]) > 8
    for name in ("processes", "ray", "local"):
        assert list(frames[name]) == list(frames["here"])
        for file, frame in frames["here"].items():
            pd.testing.assert_frame_equal(frames[name][file], frame, check_exact=True)


def test_no_cluster_is_one_line(prompts, tmp_path):
    given = [*prompts[0], "--out", tmp_path / "o.parquet", "--engine", "ray", "--address", "127.0.0.1:9"]
    child = command(*given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = child.communicate(timeout=120)
    assert (child.returncode, out, len(err.splitlines())) == (2, "", 1), err
    assert "no Ray cluster answers at --address 127.0.0.1:9" in err
    assert list(tmp_path.iterdir()) == []


def test_an_error_on_ray_is_one_line(address, prompts, tmp_path):
    """A device that the actors do not have."""
    given = [*prompts[0], "--out", tmp_path / "o.parquet", "--engine", "ray", "--address", address, "--device", "cuda"]
    child = command(*given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 2
    assert "no machine of the Ray cluster has a GPU" in err


def test_the_error_of_a_call_is_raised(address):
    with pytest.raises(ZeroDivisionError), engine("ray", 1, address) as run:
        list(run([partial(divmod, 1, 0)]))


def test_a_call_that_always_ends_its_worker_stops(address):
    from concurrent.futures import BrokenExecutor

    with pytest.raises(BrokenExecutor), engine("ray", 1, address) as run:
        list(run([partial(os._exit, 1)]))
