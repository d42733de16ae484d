"""Inputs and outputs stay apart: no command writes among the data that it reads."""

import json
import re
import shlex
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from analysis.files import columns
from analysis.learning import datasets, learners


@pytest.fixture
def images(tmp_path):
    for i in range(24):
        folder = tmp_path / "imgs" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 10 * i, dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "imgs"


@pytest.mark.parametrize("command", [["train", "denoiser"], ["study"]])
@pytest.mark.parametrize("place", ["model", "a/model", "../imgs/model", "."])
def test_an_output_among_the_data_is_refused(fails, images, command, place):
    before = sorted(images.rglob("*"))
    assert "--out must lie outside the folder of --data" in fails(*command, "--data", images, "--out", images / place)
    assert sorted(images.rglob("*")) == before


def test_an_output_linked_into_the_data_is_refused(fails, images, tmp_path):
    (tmp_path / "link").symlink_to(images)
    assert "--out must lie outside" in fails("train", "pixels", "--data", images, "--out", tmp_path / "link/model")


def test_data_in_a_fresh_output_folder_are_refused(fails, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.json").write_text(json.dumps({"program": "arguide train", "config": {}, "versions": {}}))
    data = tmp_path / "out/losses.parquet"
    pd.DataFrame({"text": ["one", "two"] * 20, "label": ["a", "b"] * 20}).to_parquet(data)
    assert "lies in the folder of --out" in fails("train", "lm", "--data", data, "--out", tmp_path / "out", "--fresh")
    assert data.exists()


def test_a_link_with_a_pattern_as_name_is_read(images, tmp_path):
    (tmp_path / "l[n]").symlink_to(images)
    assert columns.load(str(tmp_path / "l[n]"))["label"] == columns.load(str(images))["label"]


def test_a_missing_folder_is_reported_before_torch_loads(fails, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "no file or folder ./none" in fails("train", "pixels", "--data", "./none", "--out", "out")
    assert "no folder none" in fails("train", "pixels", "--data", "digits", "--out", "out", "--init", "none")


def test_a_card_quotes_the_label_in_its_command():
    rows = datasets.Data([], torch.tensor([]), ('a"b$(x)', "c"), [], torch.tensor([]))
    card = learners.card("lm", datasets.Source("x.csv", "text"), rows, None, {})
    command = shlex.split(re.search(r"`(arguide generate.*)`", card)[1])
    assert command[command.index("--prompt") + 1] == '<a"b$(x)>'
