"""Draw the figures of the correction."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLACK, BLUE, FAMILIES, INK, Panel, curve, label, logarithmic
from analysis.frames import pick
from analysis.metrics.confidence import by_family
from analysis.metrics.trends import clearly

NAMES = {"joint": "joint tilt", "λ": "closed form"}
SAMPLERS = ("diffusion ODE", "diffusion SDE")
# The two laws that the source equates, and the samplers between them: colour and line style.
CANDIDATES = {"tilt of p_σ": "--", "noised tilt of p_0": ":"}
WAY = {name: (FAMILIES[name][0], dash) for name, dash in CANDIDATES.items()} | {
    family: (FAMILIES[family][0], "-") for family in SAMPLERS
}
SMALL = 0.02  # differences that a figure does not show


def densities(law: str, name: str) -> Panel:
    """Return the panel of the final densities of one law, which the title names."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law=law, quantity="density")
        for family in ("joint", "conditional"):
            line = pick(rows, family=family)
            ax.plot(line["x"], line["value"], color=FAMILIES[family][0], lw=1.8, label=NAMES.get(family, family))
        for family in SAMPLERS:
            line = pick(rows, family=family)
            ax.step(line["x"], line["value"], where="mid", color=FAMILIES[family][0], lw=1.2, label=family)
        most = pick(rows, family="diffusion ODE")["value"].max() / pick(rows, family="joint")["value"].max()
        narrow = "draws a narrower law than" if most > 1.05 else "draws a wider law than" if most < 0.95 else "beside"
        return label(ax, title=f"{name}: the ODE {narrow} the joint tilt", x="x", y="density")

    return panel


def moments(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the variance of the pair against the scale."""
    rows = pick(frame, law="pair of Gaussians", quantity="variance")
    for family in ("joint", "diffusion SDE", "diffusion ODE"):
        line = pick(rows, family=family, how="exact").sort_values("scale")
        curve(ax, line["scale"], line["value"], colour=FAMILIES[family][0], name=NAMES.get(family, family))
        _points(pick(rows, family=family, how="drawn"), ax, "scale", family)
    exact = pick(rows, how="exact").pivot_table(index="scale", columns="family", values="value")
    low = exact.loc[exact.index > 1, list(SAMPLERS)].max(axis=1) < exact.loc[exact.index > 1, "joint"]
    title = "Above γ = 1 both samplers draw too little variance" if low.all() else "Variance, pair of Gaussians"
    return label(ax, title=title, x="scale γ", y="variance of x")


def quantiles(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw quantiles of three laws along the way from noise to data."""
    rows = pick(frame, quantity="quantile")
    for family in ("tilt of p_σ", "noised tilt of p_0", "diffusion ODE"):
        for i, (_, line) in enumerate(pick(rows, family=family).groupby("level")):
            _way(line, ax, *WAY[family], family if i == 0 else None)
    last = rows[rows["sigma"] == pick(rows, family="diffusion ODE")["sigma"].min()]
    end = pick(last, level=0.5).set_index("family")["value"]
    away = min(abs(end["diffusion ODE"] - end[name]) for name in CANDIDATES)
    title = f"At the end the ODE's median is {away:.2f} from either law's" if away > SMALL else "Quantiles of 10, 50 and 90 %"
    return _over_noise(ax, title=title, y="x_σ / √(1 + σ²)")


def means(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the means of both samplers and of both candidate laws along the way."""
    rows = pick(frame, quantity="mean").dropna(subset="sigma")
    for family, look in WAY.items():
        _way(pick(rows, family=family), ax, *look, family)
    end = rows.sort_values("sigma").groupby("family")["value"].first()  # at the smallest σ of each
    far = [float(end[family] - end["tilt of p_σ"]) for family in SAMPLERS]
    side = "above" if min(far) > SMALL else "below" if max(far) < -SMALL else ""
    return _over_noise(ax, title=f"Both samplers end {side} the tilt's mean" if side else "Mean of x_σ", y="mean of x_σ")


def distances(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw W1 from each sampler to each candidate law along the way."""
    for family in SAMPLERS:
        for against, dash in CANDIDATES.items():
            rows = pick(frame, quantity="w1", family=family, against=against)
            _way(rows, ax, FAMILIES[family][0], dash, f"{family.split()[-1]} to {against}")
    ax.set_ylim(bottom=0)
    way = pick(frame, quantity="w1", against="tilt of p_σ").sort_values("sigma")
    ends = [rows["value"].iloc[[0, -1]].tolist() for _, rows in way.groupby("family")]
    left = all(near_data > 2 * near_noise for near_data, near_noise in ends)
    title = "Both samplers leave the tilt of p_σ on the way" if left else "Distance along the way"
    return _over_noise(ax, title=title, y="W1 (units of x)")


def bridge(moment: str) -> Panel:
    """Return the panel of a moment against the stochasticity λ."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law="pair of Gaussians", quantity=moment, scale=2.0)
        line = pick(rows, family="λ", how="exact").sort_values("noise")
        tilt = pick(rows, family="joint")["value"].iloc[0]
        ax.axhline(tilt, color=BLUE, lw=1.2, ls="--", label="joint tilt")
        curve(ax, line["noise"], line["value"], colour=BLACK, name="closed form")
        for family, name in (("λ", "other λ"), ("diffusion ODE", "ODE"), ("diffusion SDE", "SDE")):
            _points(pick(rows, family=family, how="drawn"), ax, "noise", family, name)
        first, last = abs(line["value"].iloc[[0, -1]] - tilt)
        title = f"Noise of λ = {line['noise'].max():g} removes {1 - last / first:.0%} of the error of the {moment}"
        return label(ax, title=title, x="stochasticity λ", y=f"{moment} of x")

    return panel


def plane(scale: float) -> Panel:
    """Return the panel of the ODE's samples over the contours of the tilt."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, law="plane", scale=scale)
        draws, grid = (pick(rows, quantity=name) for name in ("draw", "density"))
        density = grid.pivot(index="x_2", columns="x", values="value")
        ax.scatter(draws["x"], draws["x_2"], s=5, color=FAMILIES["diffusion ODE"][0], alpha=0.5, lw=0, label="diffusion ODE")
        ax.contour(density.columns, density.index, density.to_numpy(), levels=[0.03, 0.2, 0.5, 0.8], colors=BLUE, linewidths=1)
        ax.plot([], [], color=BLUE, lw=1, label="joint tilt")
        ax.set_aspect("equal", adjustable="box")
        ax.set(xlim=(-4, 5), ylim=(-4, 5))
        far = pick(rows, quantity="tv").set_index("family")["value"]
        title = f"γ = {scale:g}: total variation {far['diffusion ODE']:.2f}, of exact draws {far['exact draws']:.2f}"
        return label(ax, title=title, x="x_1", y="x_2")

    return panel


def plane_distance(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the total variation to the tilt against the scale."""
    rows = pick(frame, law="plane", quantity="tv")
    for family in (*SAMPLERS, "exact draws"):
        _points(pick(rows, family=family).sort_values("scale"), ax, "scale", family, family, dash="-")
    ax.set_ylim(bottom=0)
    at = by_family(rows[rows["scale"] == rows["scale"].max()])
    side = clearly(*(at[family] for family in SAMPLERS))
    title = {1: "The ODE is farther than the SDE", -1: "The SDE is farther than the ODE"}.get(
        side, "Distance to the joint tilt"
    )
    return label(ax, title=f"{title}, γ = {rows['scale'].max():g}", x="scale γ", y="total variation (binned)")


def _points(rows: pd.DataFrame, ax: Axes, x: str, family: str, name: str | None = None, dash: str = "") -> None:
    """Draw the points of a sampler with two standard errors."""
    colour, marker = FAMILIES.get(family, (INK, "o"))
    if not rows.empty:
        looks: dict[str, Any] = {"color": colour, "marker": marker, "ms": 5, "ls": dash, "lw": 1.6, "capsize": 2, "zorder": 3}
        ax.errorbar(rows[x], rows["value"], 2 * rows["std_error"], label=name, **looks)


def _way(rows: pd.DataFrame, ax: Axes, colour: str, dash: str, name: str | None) -> None:
    """Draw a value along the way from noise to data, with a band of two standard errors."""
    rows = rows.sort_values("sigma")
    curve(ax, rows["sigma"], rows["value"], 2 * rows["std_error"], colour=colour, dash=dash, name=name)


def _over_noise(ax: Axes, *, title: str, y: str) -> Axes:
    """Finish a panel over σ, which falls from left to right."""
    logarithmic(ax, "x")
    ax.invert_xaxis()
    return label(ax, title=title, x="noise level σ (falling)", y=y)
