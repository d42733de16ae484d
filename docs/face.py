"""Draw the figure of the README from the folders of three studies: python docs/face.py DIGITS SURNAMES CUT OUT.png.

arguide study --data digits --out DIGITS
arguide study --data names.parquet --text-column text --max-labels 8 --seeds 8 --samples 64 --out SURNAMES
arguide study --data names.parquet --text-column text --max-labels 8 --seeds 12 --samples 64 --text-length 3 --out CUT
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from analysis.figures import study, style
from analysis.study.coherent import DDPM, PATHS, SCORES
from analysis.study.findings import coherent

SHOWN = (1.0, 3.0, 10.0)  # scales of the samples
NAMES = ("digits, pixels", "digits, diffusion", "surnames", "first 3 letters of surnames")
TITLES = {
    DDPM: "Plain guidance leaves the data",
    SCORES: "A coherent pair stays",
    PATHS: "Its joint law: the conditional one here",
}


def main() -> None:
    *folders, out = map(Path, sys.argv[1:])
    digits, *texts = (pd.read_parquet(folder / "results.parquet") for folder in folders)
    sns.set_theme(context="notebook", style="ticks", font_scale=0.85)
    figure = plt.figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.05))
    draw_gaps(left.subplots(), [digits, *texts])
    for ax, (family, title) in zip(right.subplots(3, 1), TITLES.items(), strict=True):
        study.samples(family)(digits[digits["scale"].isin(SHOWN)], ax)
        ax.set_title(title, loc="left", fontsize="medium", fontweight="bold")
        ax.set_xticks([])
    figure.savefig(out, dpi=110)


def draw_gaps(ax, frames) -> None:
    """Draw KL(sequential ‖ joint) of every coherent pair against γ."""
    gaps = [coherent.divergence(frame, wing) for frame in frames for wing in coherent.wings(frame)]
    for i, (name, found) in enumerate(zip(NAMES, gaps, strict=True)):
        colour, marker = style.look(name, i)
        scales = [scale for scale in found if scale >= 1]
        values, halves = (pd.Series([getattr(found[scale], part) for scale in scales]) for part in ("value", "half"))
        style.curve(ax, scales, values, halves, colour=colour, marker=marker, name=name)
    style.label(
        ax, title="Joint and sequential guidance differ", x=style.AXES["scale"], y="KL(sequential ‖ joint), nats per sample"
    )
    sns.despine(ax=ax)


if __name__ == "__main__":
    main()
