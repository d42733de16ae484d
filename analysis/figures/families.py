"""Draw the figures of the samplers: their distance to the joint tilt, and the normalizers along their paths."""

import math

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import BLACK, FAMILIES, INK, TEAL, Panel, Title, adjusted, from_zero, label, line_panel
from analysis.frames import pick
from analysis.metrics.confidence import by_family, difference
from analysis.metrics.trends import above, clearly, nearest_along

UNCORRECTED = ("sequential AR", "diffusion ODE", "diffusion SDE")
CORRECTED = ("AR with weights", "Feynman–Kac", "MALA", "exact draws")
DRAWN = ("sequential AR, drawn", *UNCORRECTED[1:], *CORRECTED)
GUIDED = ("sequential AR", "masked softmax", "masked rates", "uniform noise")
AS_DRAWN = tuple(f"{name}, drawn" for name in GUIDED)
ACCEPTED = ("AR by acceptance", "paths by acceptance", "data by acceptance")
BESIDE = ("sequential AR, drawn", "AR coherent, drawn", *ACCEPTED, "exact draws")
WEIGHTED = ("AR with weights", "softmax with weights", "rates with weights", "uniform with weights", "exact draws")
TABLE, SEQUENCE = "table", "Gaussian sequence"
DISTANCE = {TABLE: ("tv", "total variation"), SEQUENCE: ("w2", "W2 (units of x)")}
SWEPT = {TABLE: 2, SEQUENCE: 4}
SMALLEST = 0.02  # the smallest excess of a total variation of interest
SHORT = {"sequential AR": "sequential", "diffusion ODE": "ODE", "diffusion SDE": "SDE"}
SYMBOLS, AGAINST = {"scale": "γ", "length": "T"}, {"scale": "scale, T = 2", "length": "length, γ = 3"}


def against_scale(law: str) -> Panel:
    """Return the panel of the distance to the joint tilt against the scale."""
    return _distance(
        law, "scale", _missed("scale") if law == TABLE else _nearest("scale"), DRAWN if law == TABLE else UNCORRECTED
    )


def against_length(law: str) -> Panel:
    """Return the panel of the distance to the joint tilt against the length."""
    order, legend = (DRAWN, None) if law == TABLE else (UNCORRECTED, "")
    return _distance(law, "length", _missed("length") if law == TABLE else _nearest("length"), order, legend=legend)


def _missed(x: str) -> Title:
    """Return the title of a panel of draws: where all uncorrected ones are clearly farther from the joint law."""

    def title(rows: pd.DataFrame) -> str:
        found = above(rows, x, DRAWN[:3], "exact draws", SMALLEST)
        where = ", ".join(f"{each:g}" for each in found)
        return f"Uncorrected draws miss the joint law at {SYMBOLS[x]} = {where}" if found else f"Draws by {AGAINST[x]}"

    return title


def _nearest(x: str) -> Title:
    return lambda rows: nearest_along(rows, x, SYMBOLS[x], SHORT)


def _reached(rows: pd.DataFrame) -> str:
    """Return the title of a panel of draws by acceptance: whether those of tokens are as near as exact draws."""
    gaps = []
    for _, at in rows.groupby(["scale", "length"]):
        values = by_family(at)
        gaps.append(difference(values[ACCEPTED[0]], values["exact draws"], SMALLEST))
    small = all(gap.small for gap in gaps)
    return f"Accepted tokens are within {SMALLEST:g} of exact draws" if small else "Draws by acceptance"


def _ahead(rows: pd.DataFrame) -> str:
    """Return the title of a panel of discrete diffusion: how many are nearer than left to right where guidance is strongest."""
    at = rows[(rows["scale"] == rows["scale"].max()) & (rows["length"] == rows["length"].max())].set_index("family")["value"]
    nearer = sum(at[name] < at[GUIDED[0]] for name in GUIDED[1:])
    return f"{nearer} of {len(GUIDED) - 1} token diffusions are nearer than left to right"


def _distance(law: str, x: str, title: Title, order: tuple[str, ...], *, legend: str | None = "") -> Panel:
    quantity, name = DISTANCE[law]
    where = {"law": law, "quantity": quantity} | ({"length": SWEPT[law]} if x == "scale" else {"scale": 3.0})
    return adjusted(line_panel(title, f"{name} to the joint tilt", x, where, order=order, legend=legend), from_zero)


accepted_against_scale = _distance(TABLE, "scale", lambda rows: f"{_reached(rows)}, T = {SWEPT[TABLE]}", BESIDE)
accepted_against_length = _distance(TABLE, "length", lambda rows: f"{_reached(rows)}, γ = 3", BESIDE, legend=None)
discrete_against_scale = _distance(TABLE, "scale", lambda rows: f"{_ahead(rows)}, T = {SWEPT[TABLE]}", GUIDED)
discrete_against_length = _distance(TABLE, "length", lambda rows: f"{_ahead(rows)}, γ = 3", GUIDED, legend=None)


def _wider(rows: pd.DataFrame) -> str:
    """Return the title of the panel of the spread of Σ log Z: which wing has the larger one at every length."""
    sides = set()
    for _, at in rows.groupby("length"):
        values = by_family(at[at["family"] != "exact"])
        sides.add(clearly(values[UNCORRECTED[2]], values[UNCORRECTED[0]]))
    more = {1: "Diffusion paths", -1: "Sequential paths"}.get(sides.pop() if len(sides) == 1 else 0)
    return f"{more} spread more, γ = 3" if more else "Spread of Σ log Z, γ = 3"


SPREAD = "standard deviation (nats)", "length", {"quantity": "path_sd"}
spread = adjusted(line_panel(_wider, *SPREAD, order=UNCORRECTED), from_zero)


def discrete_weighted(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the distance of samples of discrete diffusion, with weights and without, against the length."""
    rows = pick(frame, law=TABLE, quantity="tv", scale=3.0)
    for family in AS_DRAWN:
        line = pick(rows, family=family).sort_values("length")
        ax.plot(line["length"], line["value"], color=FAMILIES[family][0], ls="--", lw=1.2, alpha=0.8)
    ax.plot([], [], color=INK, ls="--", lw=1.2, label="dashed: no weights")
    at = by_family(rows[rows["length"] == rows["length"].max()])
    nearer = sum(clearly(at[drawn], at[weighted]) > 0 for drawn, weighted in zip(AS_DRAWN[1:], WEIGHTED[1:], strict=False))
    return _distance(TABLE, "length", f"Weights bring {nearer} of 3 token diffusions clearly nearer", WEIGHTED)(frame, ax)


def kept(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share A against the scale, and the distances from the conditional law beside what A bounds."""
    rows = pick(frame, law=TABLE, length=SWEPT[TABLE])
    line_panel("", "", "scale", {"quantity": "acceptance"}, order=ACCEPTED, legend=None)(rows, ax)
    exact = pick(rows, family="exact").pivot(index="scale", columns="quantity", values="value").sort_index()
    bounds = {"kl_joint_conditional": (INK, "KL", -exact["acceptance"].map(math.log))}
    bounds["tv_joint_conditional"] = (TEAL, "TV", 1 - exact["acceptance"])
    for quantity, (colour, name, most) in bounds.items():
        ax.plot(exact.index, exact[quantity], color=colour, lw=1.6, label=f"{name}(joint, conditional)")
        ax.plot(exact.index, most, color=colour, lw=1.2, ls="--", label=f"bound of {name} by A")
    ax.plot(exact.index, exact["acceptance"], color=BLACK, ls=":", lw=1.2, label="A, exact")
    held = all((exact[quantity] <= most + 1e-9).all() for quantity, (_, _, most) in bounds.items())
    title = f"A {'bounds' if held else 'does not bound'} what the joint law changes, T = {SWEPT[TABLE]}"
    return label(ax, title=title, x="scale γ", y="share, or nats")


def sampled(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Draw W2 of every sampler of a Gaussian sequence's joint tilt against the length, where exact samples give the floor."""
    rows = pick(frame, law=SEQUENCE, quantity="w2", scale=3.0)
    rows = rows[rows["length"].isin(pick(rows, family="exact draws")["length"])]
    return _distance(SEQUENCE, "length", _corrected, ("sequential AR, drawn", *CORRECTED))(rows, ax)


def _corrected(rows: pd.DataFrame) -> str:
    """Return the title of the panel of sampled sequences: which samplers are clearly nearer than sequential draws."""
    at = by_family(rows[rows["length"] == rows["length"].max()])
    nearer = [name for name in CORRECTED[:-1] if name in at and clearly(at["sequential AR, drawn"], at[name]) > 0]
    return f"Nearer than sequential draws: {' and '.join(nearer)}" if nearer else "Samplers of the joint law, γ = 3"


def paths(length: int) -> Panel:
    """Return the panel of the histograms of Σ log Z − log Z at one length."""

    def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
        rows = pick(frame, quantity="path_share", length=length)
        for family in ("sequential AR", "diffusion SDE"):
            colour, _ = FAMILIES[family]
            line = pick(rows, family=family)
            ax.fill_between(line["x"], line["value"], step="mid", color=colour, alpha=0.35, lw=0)
            ax.step(line["x"], line["value"], where="mid", color=colour, lw=1.4, label=family)
        ax.axvline(0, color=BLACK, lw=1, ls="--", label="exact log Z")
        sd = pick(frame, quantity="path_sd", length=length).set_index("family")["value"]
        spreads = f"{sd['sequential AR']:.2f} (sequential) and {sd['diffusion SDE']:.2f} nats (SDE)"
        return label(ax, title=f"T = {length}: spread {spreads}", x="Σ log Z − log Z (nats)", y="share of paths")

    return panel
