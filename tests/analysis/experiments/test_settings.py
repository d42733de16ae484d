"""What all chapters share: settings, streams of random numbers, grids of scales, and where their numbers are from."""

import pytest

from analysis.experiments import EXPERIMENTS, classifier, fidelity, real_data, scale_factors, whole_texts
from analysis.experiments.base import Settings, stream
from analysis.experiments.temperature import scores, tokens

GRIDS = {
    "classifier": classifier.SCALES,
    "fidelity": fidelity.SCALES,
    "digits": real_data.SCALES,
    "digits, tuned": real_data.TUNED,
    "scale factors": scale_factors.SCALES,
    "whole texts": whole_texts.SCALES,
    "temperatures": tokens.TEMPERATURES,
    "powers of tokens": tokens.BETAS,
    "powers of scores": scores.BETAS,
}


@pytest.mark.parametrize("name", GRIDS)
def test_the_points_of_a_grid_increase(name):
    assert list(GRIDS[name]) == sorted(set(GRIDS[name]))


def test_a_full_run_on_the_cpu_with_seed_0_is_the_default():
    settings = Settings()
    assert (settings.quick, settings.seed, settings.device) == (False, 0, "cpu")
    assert stream(settings.seed).initial_seed() == stream(0).initial_seed()


def test_every_seed_and_every_key_has_random_numbers_of_its_own():
    keys = [(0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 1, 2), (0, 2, 1), (1, 2, 0), (2, 1, 0)]
    assert len({stream(*key).initial_seed() for key in keys}) == len(keys)
    assert stream(3, 1).initial_seed() == stream(3, 1).initial_seed()


def test_every_chapter_says_what_its_numbers_are_from():
    assert [each.name for each in EXPERIMENTS if not each.source] == []


def test_a_terminal_shows_the_tables_of_two_chapters():
    shown = {each.name: sum(not grid.wide for grid in each.tables) for each in EXPERIMENTS}
    assert {name: count for name, count in shown.items() if count} == {"temperature": 3, "families": 1}
