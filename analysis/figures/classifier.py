"""Draw the figures of classifier guidance."""

from functools import partial

from analysis.figures.style import adjusted, line_panel

LINES = partial(line_panel, order=("classifier-free", "noise-aware classifier", "classifier of clean data"))

mean = LINES("Mean of the samples", "mean of x", "scale", {"quantity": "mean"})
variance = LINES("Variance", "variance of x", "scale", {"quantity": "variance"}, legend=None)
pull = adjusted(
    LINES("Size of the gradient", "E|∇ log p(y|x)|", "sigma", {"quantity": "pull"}, legend=None),
    lambda ax: ax.set(xscale="log", yscale="log"),
)
