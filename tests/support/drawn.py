"""Frames to draw, and what a panel then has."""

import numpy as np

from analysis.frames import tidy


def entries(ax):
    """Return the entries of the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def points(ax):
    """Return the points of every line with a name, by name."""
    named = [line for line in ax.lines if not str(line.get_label()).startswith("_") and len(line.get_xdata())]
    return {line.get_label(): np.asarray(line.get_xydata()).tolist() for line in named}


def table(columns, *rows, **case):
    """Return a tidy frame: rows of values under the names of columns, and columns that have one value."""
    return tidy(case | dict(zip(columns.split(), row, strict=True)) for row in rows)
