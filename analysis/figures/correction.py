"""Draw the figures of the correction."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLACK, BLUE, FAMILIES, ORANGE, Panel, curve, label
from analysis.frames import pick

NAMES = {"joint": "joint tilt", "λ": "closed form"}
SAMPLERS = ("diffusion ODE", "diffusion SDE")
# The two laws that the source equates, and the samplers between them: colour and line style.
WAY = {
    "tilt of p_σ": (BLUE, "--"),
    "noised tilt of p_0": (BLACK, ":"),
    **{family: (FAMILIES[family][0], "-") for family in SAMPLERS},
}


def densities(law: str, title: str) -> Panel:
    """Return the panel of the final densities of one law."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law=law, quantity="density")
        for family in ("joint", "conditional"):
            line = pick(rows, family=family)
            ax.plot(line["x"], line["value"], color=FAMILIES[family][0], lw=1.8, label=NAMES.get(family, family))
        for family in SAMPLERS:
            line = pick(rows, family=family)
            ax.step(line["x"], line["value"], where="mid", color=FAMILIES[family][0], lw=1.2, label=family)
        return label(ax, title=title, x="x", y="density")

    return panel


def moments(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the variance of the pair against the scale."""
    rows = pick(frame, law="pair of Gaussians", quantity="variance")
    for family in ("joint", "diffusion SDE", "diffusion ODE"):
        line = pick(rows, family=family, how="exact").sort_values("scale")
        curve(ax, line["scale"], line["value"], colour=FAMILIES[family][0], name=NAMES.get(family, family))
        _points(pick(rows, family=family, how="drawn"), ax, "scale", family)
    return label(ax, title="Variance, pair of Gaussians", x="scale γ", y="variance of x")


def quantiles(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw quantiles of three laws along the way from noise to data."""
    rows = pick(frame, quantity="quantile")
    for family in ("tilt of p_σ", "noised tilt of p_0", "diffusion ODE"):
        for i, (_, line) in enumerate(pick(rows, family=family).groupby("level")):
            _way(line, ax, *WAY[family], family if i == 0 else None)
    return _over_noise(ax, title="10, 50, 90 % quantiles", y="x_σ / √(1 + σ²)")


def means(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the means of both samplers and of both candidate laws along the way."""
    rows = pick(frame, quantity="mean").dropna(subset="sigma")
    for family, look in WAY.items():
        _way(pick(rows, family=family), ax, *look, family)
    return _over_noise(ax, title="Mean of x_σ", y="mean of x_σ")


def distances(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw W1 from each sampler to each candidate law along the way."""
    for family in SAMPLERS:
        for against, dash in (("tilt of p_σ", "--"), ("noised tilt of p_0", ":")):
            rows = pick(frame, quantity="w1", family=family, against=against)
            _way(rows, ax, FAMILIES[family][0], dash, f"{family[-3:]} to {against}")
    ax.set_ylim(bottom=0)
    return _over_noise(ax, title="Distance along the way", y="W1 (units of x)")


def bridge(moment: str) -> Panel:
    """Return the panel of a moment against the stochasticity λ."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law="pair of Gaussians", quantity=moment, scale=2.0)
        line = pick(rows, family="λ", how="exact").sort_values("noise")
        tilt = pick(rows, family="joint")["value"].iloc[0]
        ax.axhline(tilt, color=BLACK, lw=1.2, ls="--", label="joint tilt")
        curve(ax, line["noise"], line["value"], colour=ORANGE, name="closed form")
        for family, name in (("λ", "other λ"), ("diffusion ODE", "ODE"), ("diffusion SDE", "SDE")):
            _points(pick(rows, family=family, how="drawn"), ax, "noise", family, name)
        return label(ax, title=f"From ODE to tilt: {moment}", x="stochasticity λ", y=f"{moment} of x")

    return panel


def plane(scale: float) -> Panel:
    """Return the panel of the ODE's samples over the contours of the tilt."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law="plane", scale=scale)
        draws, grid = pick(rows, quantity="draw"), pick(rows, quantity="density")
        density = grid.pivot(index="x_2", columns="x", values="value")
        ax.scatter(draws["x"], draws["x_2"], s=5, color=FAMILIES["diffusion ODE"][0], alpha=0.5, lw=0, label="diffusion ODE")
        ax.contour(density.columns, density.index, density.to_numpy(), levels=[0.03, 0.2, 0.5, 0.8], colors=BLACK, linewidths=1)
        ax.plot([], [], color=BLACK, lw=1, label="joint tilt")
        ax.set_aspect("equal", adjustable="box")
        ax.set(xlim=(-4, 5), ylim=(-4, 5))
        return label(ax, title=f"In the plane, γ = {scale:g}", x="x₁", y="x₂")

    return panel


def plane_distance(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the total variation to the tilt against the scale."""
    rows = pick(frame, law="plane", quantity="tv")
    for family in (*SAMPLERS, "exact draws"):
        _points(pick(rows, family=family).sort_values("scale"), ax, "scale", family, family, dash="-")
    ax.set_ylim(bottom=0)
    return label(ax, title="Distance to the joint tilt", x="scale γ", y="total variation (binned)")


def _points(rows: pd.DataFrame, ax: Axes, x: str, family: str, name: str | None = None, dash: str = "") -> None:
    """Draw the points of a sampler with two standard errors."""
    colour, marker = FAMILIES.get(family, (ORANGE, "o"))
    if not rows.empty:
        looks: dict[str, Any] = {"color": colour, "marker": marker, "ms": 5, "ls": dash, "lw": 1.6, "capsize": 2, "zorder": 3}
        ax.errorbar(rows[x], rows["value"], 2 * rows["std_error"], label=name, **looks)


def _way(rows: pd.DataFrame, ax: Axes, colour: str, dash: str, name: str | None) -> None:
    """Draw a value along the way from noise to data, with a band of two standard errors."""
    rows = rows.sort_values("sigma")
    curve(ax, rows["sigma"], rows["value"], 2 * rows["std_error"], colour=colour, dash=dash, name=name)


def _over_noise(ax: Axes, *, title: str, y: str) -> Axes:
    """Finish a panel over σ, which falls from left to right."""
    ax.set_xscale("log")
    ax.invert_xaxis()
    return label(ax, title=title, x="noise level σ (falling)", y=y)
