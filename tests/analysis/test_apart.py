"""A command writes where it is told to, and never among the data that it reads."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image


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


def test_an_output_reached_by_a_link_into_the_data_is_refused(fails, images, tmp_path):
    (tmp_path / "link").symlink_to(images)
    assert "--out must lie outside" in fails("train", "pixels", "--data", images, "--out", tmp_path / "link/model")


def test_data_in_the_folder_that_is_deleted_are_refused(fails, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.json").write_text(json.dumps({"program": "arguide train", "config": {}, "versions": {}}))
    data = tmp_path / "out/losses.parquet"
    pd.DataFrame({"text": ["one", "two"] * 20, "label": ["a", "b"] * 20}).to_parquet(data)
    assert "lies in the folder of --out" in fails("train", "lm", "--data", data, "--out", tmp_path / "out", "--fresh")
    assert data.exists()
