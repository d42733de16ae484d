"""Figures of classifier guidance."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import label, lines
from analysis.frames import pick

ORDER = ("classifier-free", "noise-aware classifier", "classifier of clean data")


def mean(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the mean of the samples against the scale."""
    lines(pick(frame, quantity="mean"), ax, x="scale", order=ORDER)
    return label(ax, title="Mean of the samples", x="scale γ", y="mean of x")


def variance(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the variance of the samples against the scale."""
    lines(pick(frame, quantity="variance"), ax, x="scale", order=ORDER)
    return label(ax, title="Variance", x="scale γ", y="variance of x", legend=None)


def pull(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the mean size of the classifiers' gradients against the noise level."""
    lines(pick(frame, quantity="pull"), ax, x="sigma", order=ORDER)
    ax.set_xscale("log")
    ax.set_yscale("log")
    return label(ax, title="Size of the gradient", x="noise level σ", y="E|∇ log p(y|x)|", legend=None)
