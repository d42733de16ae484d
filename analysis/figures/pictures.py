"""Write the picture of a plot, and cut it into its panels, which a page may set side by side or one below the other."""

import io
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


class Picture(NamedTuple):
    """One panel: its title, "" if it has none, its width on a page in pixels, and its PNG."""

    title: str
    width: int
    png: bytes


def save_panels(path: Path, plot: Plot, frame: pd.DataFrame) -> list[Picture]:
    """Draw a plot, write its picture atomically, and return its panels.

    Args:
        path: of the picture, a PNG.
        plot: the panels.
        frame: the tidy frame that they draw.

    Raises:
        ValueError: the folder cannot be written, or the disk is full.
    """
    mpl.use("agg")
    figure = style.draw(plot, frame)
    figure.set_dpi(DENSITY * INCH)
    figure.canvas.draw()
    whole = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]
    run_folder.write(path, partial(whole.save, format="PNG"))
    pictures = [
        Picture(str(ax.get_label()), (right - left) // DENSITY, _png(whole, left, right))
        for ax, (left, right) in zip(figure.axes, pairwise(_edges(figure)), strict=True)
    ]
    plt.close(figure)
    return pictures


def _edges(figure: Figure) -> list[int]:
    """Return where a drawn figure is cut, in pixels from the left: midway between the panels."""
    boxes = [box for ax in figure.axes if (box := ax.get_tightbbox()) is not None]
    middles = [round((left.x1 + right.x0) / 2) for left, right in pairwise(boxes)]
    return [0, *middles, int(figure.bbox.width)]


def _png(whole: Image.Image, left: int, right: int) -> bytes:
    """Return part of a picture as PNG, with a palette of 128 colours, which halves its size."""
    buffer = io.BytesIO()
    whole.crop((left, 0, right, whole.height)).quantize(128).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
