"""Write the picture of a plot, whole or cut into its panels, which a page may set side by side or one below the other."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from analysis.figures import style
from analysis.files import run_folder
from analysis.frames import Plot

DENSITY, INCH = 2, 96  # pixels of the picture per pixel of a page, of which an inch has so many
MARGIN = 6  # pixels of the picture


class Picture(NamedTuple):
    """One panel: its title, "" if it has none, its width on a page in pixels, and its PNG."""

    title: str
    width: int
    png: bytes


def save_plot(path: Path, plot: Plot, frame: pd.DataFrame, note: str = "") -> None:
    """Draw a plot and write the picture atomically.

    Args:
        path: of the picture; its suffix gives the format.
        plot: the panels.
        frame: the tidy frame that they draw.
        note: a warning above the panels.

    Raises:
        ValueError: the folder cannot be written, or the disk is full.
    """
    with _drawn(plot, frame, note) as figure:
        run_folder.write(path, partial(figure.savefig, dpi=150, bbox_inches="tight", pad_inches=0.05))


def save_panels(path: Path, plot: Plot, frame: pd.DataFrame) -> list[Picture]:
    """Draw a plot, write its picture atomically, and return its panels.

    Args:
        path: of the picture, a PNG.
        plot: the panels.
        frame: the tidy frame that they draw.

    Raises:
        ValueError: the folder cannot be written, or the disk is full.
    """
    with _drawn(plot, frame) as figure:
        figure.set_dpi(DENSITY * INCH)
        figure.canvas.draw()
        whole = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]
        run_folder.write(path, partial(whole.save, format="PNG"))
        return [
            Picture(str(ax.get_label()), (box[2] - box[0]) // DENSITY, _png(whole.crop(box)))
            for ax, box in zip(figure.axes, _boxes(figure), strict=True)
        ]


@contextmanager
def _drawn(plot: Plot, frame: pd.DataFrame, note: str = "") -> Iterator[Figure]:
    """Draw a plot, and close it at the end; the font may lack characters of labels, which gives no warning."""
    mpl.use("agg")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        figure = style.draw(plot, frame, note)
        try:
            yield figure
        finally:
            plt.close(figure)


def _boxes(figure: Figure) -> list[tuple[int, int, int, int]]:
    """Return left, upper, right and lower edge of every panel of a drawn figure, in pixels; all begin at one height."""
    found = [ax.get_tightbbox() or ax.bbox for ax in figure.axes]
    height, upper = int(figure.bbox.height), max(box.y1 for box in found)
    lefts = [0, *(int(box.x0) - DENSITY for box in found[1:]), int(figure.bbox.width)]
    return [
        (left, max(0, height - int(upper) - MARGIN), right, min(height, height - int(box.y0) + MARGIN))
        for box, (left, right) in zip(found, pairwise(lefts), strict=True)
    ]


def _png(panel: Image.Image) -> bytes:
    """Return a picture as PNG, with a palette of 128 colours, which halves its size."""
    buffer = io.BytesIO()
    panel.quantize(128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
