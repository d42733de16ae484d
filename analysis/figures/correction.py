"""Figures of the correction."""

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLACK, BLUE, FAMILIES, ORANGE, label
from analysis.frames import pick

Panel = Callable[[pd.DataFrame, Axes], Axes]
NAMES = {"joint": "joint tilt", "λ": "closed form"}
# The two laws that the source took for one, and the samplers between them.
WAY = {
    "tilt of p_σ": (BLUE, "--"),
    "noised tilt of p_0": (BLACK, ":"),
    "diffusion ODE": (FAMILIES["diffusion ODE"][0], "-"),
    "diffusion SDE": (FAMILIES["diffusion SDE"][0], "-"),
}


def densities(law: str, title: str) -> Panel:
    """Return the panel of the final densities of one law."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law=law, quantity="density")
        for family in ("joint", "conditional"):
            line = pick(rows, family=family)
            ax.plot(line["x"], line["value"], color=FAMILIES[family][0], lw=1.8, label=NAMES.get(family, family))
        for family in ("diffusion ODE", "diffusion SDE"):
            line = pick(rows, family=family)
            ax.step(line["x"], line["value"], where="mid", color=FAMILIES[family][0], lw=1.2, label=family)
        return label(ax, title=title, x="x", y="density")

    return panel


def moments(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the variance of the pair against the scale."""
    rows = pick(frame, law="pair of Gaussians", quantity="variance")
    for family in ("joint", "diffusion SDE", "diffusion ODE"):
        colour, marker = FAMILIES[family]
        line = pick(rows, family=family, how="exact").sort_values("scale")
        ax.plot(line["scale"], line["value"], color=colour, lw=1.6, label=NAMES.get(family, family))
        _points(pick(rows, family=family, how="drawn"), ax, "scale", colour, marker)
    return label(ax, title="Variance, pair of Gaussians", x="scale γ", y="variance of x")


def quantiles(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw quantiles of three laws on the way from noise to data."""
    rows = frame[frame["quantity"] == "quantile"]
    for family in ("tilt of p_σ", "noised tilt of p_0", "diffusion ODE"):
        colour, style = WAY[family]
        for i, (_, line) in enumerate(pick(rows, family=family).groupby("level")):
            line = line.sort_values("sigma")
            ax.plot(line["sigma"], line["value"], style, color=colour, lw=1.6, label=family if i == 0 else None)
    return _way(ax, title="10, 50, 90 % quantiles", y="x_σ / √(1 + σ²)")


def means(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the means of both samplers and of both candidate laws on the way."""
    rows = frame[(frame["quantity"] == "mean") & frame["sigma"].notna()]
    for family, (colour, style) in WAY.items():
        line = pick(rows, family=family).sort_values("sigma")
        ax.plot(line["sigma"], line["value"], style, color=colour, lw=1.6, label=family)
        low, high = line["value"] - 2 * line["std_error"], line["value"] + 2 * line["std_error"]
        ax.fill_between(line["sigma"], low, high, color=colour, alpha=0.18, lw=0)
    return _way(ax, title="Mean of x_σ", y="mean of x_σ")


def distances(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw W1 of each sampler to each candidate law on the way."""
    rows = frame[frame["quantity"] == "w1"]
    for family in ("diffusion ODE", "diffusion SDE"):
        for against, style in (("tilt of p_σ", "--"), ("noised tilt of p_0", ":")):
            line = pick(rows, family=family, against=against).sort_values("sigma")
            colour = FAMILIES[family][0]
            ax.plot(line["sigma"], line["value"], style, color=colour, lw=1.6, label=f"{family[-3:]} to {against}")
            low, high = line["value"] - 2 * line["std_error"], line["value"] + 2 * line["std_error"]
            ax.fill_between(line["sigma"], low, high, color=colour, alpha=0.18, lw=0)
    ax.set_ylim(bottom=0)
    return _way(ax, title="Distance on the way", y="W1 (units of x)")


def bridge(moment: str) -> Panel:
    """Return the panel of a moment against λ."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law="pair of Gaussians", quantity=moment, scale=2.0)
        line = pick(rows, family="λ", how="exact").sort_values("noise")
        tilt = pick(rows, family="joint")["value"].iloc[0]
        ax.axhline(tilt, color=BLACK, lw=1.2, ls="--", label="joint tilt")
        ax.plot(line["noise"], line["value"], color=ORANGE, lw=1.6, label="closed form")
        for family, name in (("λ", "other λ"), ("diffusion ODE", "ODE"), ("diffusion SDE", "SDE")):
            colour, marker = FAMILIES.get(family, (ORANGE, "o"))
            _points(pick(rows, family=family, how="drawn"), ax, "noise", colour, marker, name)
        return label(ax, title=f"From ODE to tilt: {moment}", x="noise level λ", y=f"{moment} of x")

    return panel


def plane(scale: float) -> Panel:
    """Return the panel of the ODE's draws over the tilt's contours."""

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
    for family in ("diffusion ODE", "diffusion SDE", "exact draws"):
        colour, marker = FAMILIES[family]
        line = pick(rows, family=family).sort_values("scale")
        ax.errorbar(
            line["scale"], line["value"], 2 * line["std_error"], color=colour, marker=marker, ms=5, lw=1.6, label=family
        )
    ax.set_ylim(bottom=0)
    return label(ax, title="Distance to the joint tilt", x="scale γ", y="total variation (binned)")


def _points(rows: pd.DataFrame, ax: Axes, x: str, colour: str, marker: str, name: str | None = None) -> None:
    if not rows.empty:
        error = 2 * rows["std_error"]
        ax.errorbar(rows[x], rows["value"], error, color=colour, marker=marker, ms=5, ls="", capsize=2, zorder=3, label=name)


def _way(ax: Axes, *, title: str, y: str) -> Axes:
    """Finish a panel over σ, which falls from left to right."""
    ax.set_xscale("log")
    ax.invert_xaxis()
    return label(ax, title=title, x="noise level σ (falling)", y=y)
