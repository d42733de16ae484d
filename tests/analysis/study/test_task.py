"""Tasks leave files, in turn, each on one thread and without the notices of other libraries."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
import transformers

from analysis import engines
from analysis.files import run_folder
from analysis.frames import tidy
from analysis.study.task import Task


@pytest.fixture
def loud():
    """Let transformers report everything and torch use two threads, as in a new process."""
    before = transformers.logging.get_verbosity(), torch.get_num_threads()
    transformers.logging.set_verbosity_info()
    torch.set_num_threads(2)
    yield
    transformers.logging.set_verbosity(before[0])
    torch.set_num_threads(before[1])


def test_tasks_are_done_in_turn_on_one_thread_in_silence(loud, tmp_path):
    seen = []

    def run(plan, folder):
        seen.append((plan, torch.get_num_threads(), transformers.logging.get_verbosity()))
        return tidy([{"quantity": "loss", "value": plan}])

    run_folder.claim(tmp_path, {}, parts=("experiments",))
    tasks = [Task(name, run) for name in ("a", "b")]

    def done():
        with engines.engine("processes", 1) as work:
            calls = [partial(task.work, 0.5, tmp_path) for task in tasks]
            return [[task.finished(tmp_path) for task in tasks] for _ in work(calls)]

    with ThreadPoolExecutor(1) as fresh:  # torch sets the threads of one when it first asks
        assert fresh.submit(done).result() == [[True, False], [True, True]]
    assert seen == [(0.5, 1, transformers.logging.ERROR)] * 2
