"""Axes to draw one panel on."""

import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def ax():
    yield plt.figure().subplots()
    plt.close("all")
