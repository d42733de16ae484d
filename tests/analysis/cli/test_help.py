"""The help of every command is in short groups that fit the terminal; `python -m arguide` is the command."""

import os
import subprocess
import sys

import pytest
import typer
from command import ARGUIDE

from analysis.cli.commands import app

COMMANDS = dict(typer.main.get_command(app).commands)
GROUPS = {
    "generate": ["Options", "Chat", "Sampling", "Guidance", "The joint law", "A file of prompts", "Running"],
    "scale-factors": ["Options", "Chat", "Measurement", "Files to write", "Running"],
    "train": ["Options", "The data", "The model", "The training", "Running"],
    "study": ["Options", "The data", "Training and sampling", "Running"],
    "reproduce": ["Options", "Running"],
    "exact": ["Options", "Texts", "Running"],
    "published": ["Options", "Running"],
    "temperature": [
        "Options",
        "Chat",
        "Ways to lower the temperature",
        "Exact laws of your own file",
        "Measurement",
        "Running",
    ],
}


def options_of(name):
    """Return the options of a command, {group: their names}; the options that all commands have come last."""
    groups = {}
    for option in COMMANDS[name].params:
        if isinstance(option, typer.core.TyperOption):
            groups.setdefault(option.rich_help_panel or "Options", []).append(option.opts[0])
    return groups


def shown(*arguments, width, start=(ARGUIDE,)):
    environment = os.environ | {"COLUMNS": str(width), "TERM": "dumb", "NO_COLOR": "1"}
    return subprocess.run([*start, *arguments], capture_output=True, text=True, check=True, env=environment).stdout


def test_every_command_is_in_the_table():
    assert set(GROUPS) == set(COMMANDS)


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_is_short_and_no_option_is_in_the_wrong_one(name):
    groups = options_of(name)
    assert list(groups) == GROUPS[name]
    assert max(map(len, groups.values())) <= 8
    assert {"--seed", "--device", "--json"} <= set(groups["Running"])


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", GROUPS)
def test_help_shows_all_options_within_the_width_and_without_markup(name, width):
    text = shown(name, "--help", width=width)
    assert max(map(len, text.splitlines())) <= width
    assert [title for title in GROUPS[name] if f"─ {title} ─" not in text] == []
    assert [option for group in options_of(name).values() for option in group if f" {option} " not in text] == []
    assert [mark for mark in ("\\", "[/", "None]", "…]") if mark in text] == []


def test_brackets_in_a_text_are_no_markup():
    assert "[y, x_1, …, x_T]" in shown("exact", "--help", width=120)


def test_the_command_alone_shows_its_help(run):
    _, out, err = run()
    assert all(f" {name} " in out + err for name in COMMANDS)
    assert "Missing command" not in out + err


MODULE = (sys.executable, "-m", "arguide")


def test_the_package_runs_as_the_command():
    assert shown("--version", width=80, start=MODULE) == shown("--version", width=80)
    text = shown("generate", "--help", width=80, start=MODULE)
    own = shown("generate", "--help", width=80)
    assert text.splitlines()[2:] == own.splitlines()[2:]
    assert "python -m arguide generate" in text.splitlines()[1]


def test_the_package_fails_as_the_command():
    done = [subprocess.run([*start, "exact", "none.npy"], capture_output=True, text=True) for start in ((ARGUIDE,), MODULE)]
    assert done[0].returncode == done[1].returncode == 2
    assert done[0].stderr == done[1].stderr
    assert len(done[0].stderr.splitlines()) == 1
