"""The command `arguide train`: how its options reach the training, and those that it refuses."""

import pytest
import torch

from analysis.learning import training
from analysis.text import loading

COMMAND = ("train",)
DENOISER = ("denoiser", "--data", "digits", "--out", "m")


@pytest.fixture
def jobs(monkeypatch):
    """Return what trainings were asked for, with their numbers of threads; none is run."""
    asked, threads = [], torch.get_num_threads()

    def run(job, folder, track, *, device, fresh):
        asked.append((job, torch.get_num_threads()))
        return {"loss": 0.5}

    monkeypatch.setattr(training, "run", run)
    torch.set_num_threads(2)
    yield asked
    torch.set_num_threads(threads)


def test_every_option_of_a_training_reaches_it(run, jobs):
    numbers = ("--steps", 7, "--batch-size", 5, "--rate", 0.25, "--dropout", 0.5, "--dropout-from", 0.75, "--width", 24)
    assert run(*DENOISER, *numbers, "--depth", 3, "--seed", 4)[0] == 0
    job, _ = jobs[0]
    recipe = job.recipe
    assert (recipe.steps, recipe.batch, recipe.rate, recipe.dropout, recipe.dropout_from) == (7, 5, 0.25, 0.5, 0.75)
    assert (job.size.width, job.size.depth, job.seed) == (24, 3, 4)


def test_a_small_network_is_trained_on_one_thread_and_one_to_start_from_as_it_is(run, jobs, tmp_path):
    assert run(*DENOISER, "--init", tmp_path)[0] == run(*DENOISER)[0] == 0
    (tuned, all_of_them), (small, one) = jobs
    assert (one, all_of_them) == (1, 2)
    assert tuned.recipe.rate == pytest.approx(small.recipe.rate / 10)


def test_a_training_shows_no_bars_and_no_warnings_of_others(run, jobs, monkeypatch):
    silenced = []
    monkeypatch.setattr(loading, "silence", lambda: silenced.append(len(jobs)))
    assert run(*DENOISER)[0] == 0
    assert silenced == [0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("nonsense", "--data", "digits", "--out", "m"), "KIND must be one of"),
        ((*DENOISER, "--clean"), "--clean is for a classifier, got denoiser"),
        (("pixels", "--data", "digits", "--out", "m", "--network", "mlp"), "--network is for a denoiser, got pixels"),
        ((*DENOISER, "--network", "x"), "--network must be mlp or unet, got 'x'"),
    ],
)
def test_options_of_another_kind_are_refused(fails, jobs, options, says):
    assert says in fails(*options)
    assert not jobs
