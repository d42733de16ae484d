"""Draw the figures of classifier guidance."""

from analysis.figures.style import line_panel

ORDER = ("classifier-free", "noise-aware classifier", "classifier of clean data")

mean = line_panel({"quantity": "mean"}, "scale", ("Mean of the samples", "scale γ", "mean of x"), order=ORDER)
variance = line_panel({"quantity": "variance"}, "scale", ("Variance", "scale γ", "variance of x"), order=ORDER, legend=None)
pull = line_panel(
    {"quantity": "pull"},
    "sigma",
    ("Size of the gradient", "noise level σ", "E|∇ log p(y|x)|"),
    order=ORDER,
    log="xy",
    legend=None,
)
