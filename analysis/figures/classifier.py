"""Draw the figures of classifier guidance."""

from functools import partial

import pandas as pd

from analysis.figures.style import adjusted, line_panel, logarithmic
from analysis.metrics.trends import EQUAL

FREE, AWARE, BLIND = ORDER = ("classifier-free", "noise-aware classifier", "classifier of clean data")
LINES = partial(line_panel, order=ORDER)


def _same(rows: pd.DataFrame) -> str:
    wide = rows.pivot(index="scale", columns="family", values="value")
    same = (wide[FREE] - wide[AWARE]).abs().max() < EQUAL
    return "A noise-aware classifier gives classifier-free guidance" if same else "Mean of the samples"


def _ratio(rows: pd.DataFrame) -> str:
    at = rows[rows["scale"] == 2.0].set_index("family")["value"]
    return f"The clean classifier leaves {at[BLIND] / at[FREE]:.2f} of the variance at γ = 2"


def _pull(rows: pd.DataFrame) -> str:
    far = rows["sigma"].max()
    at = rows[rows["sigma"] == far].set_index("family")["value"]
    return f"At σ = {far:g} its gradient is {at[BLIND] / at[AWARE]:.0f} times the right one"


mean = LINES(_same, "mean of x", "scale", {"quantity": "mean"})
variance = LINES(_ratio, "variance of x", "scale", {"quantity": "variance"}, legend=None)
pull = adjusted(
    LINES(_pull, "E|∇ log p(y|x)|", "sigma", {"quantity": "pull"}, legend=None), lambda ax: logarithmic(ax, "x", "y")
)
