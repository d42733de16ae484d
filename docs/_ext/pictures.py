"""Draw the pictures of the argument from exact toys; every number is computed here, when the site is built."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import analysis
import arguide
import diffusion
from analysis.figures import style
from analysis.metrics import distances
from analysis.toys import example_tables
from analysis.toys.gaussian import Gaussian, diffused

GREY = style.GREY
JOINT, SEQUENTIAL, ODE, SDE = (style.look(name)[0] for name in ("joint", "sequential", "diffusion ODE", "diffusion SDE"))
SCALES = torch.linspace(1, 5, 17, dtype=torch.float64).tolist()
BITS = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64).reshape(2, 2, 2) / 2


def write(folder: Path) -> None:
    """Draw all pictures into a folder; this takes some ten seconds."""
    folder.mkdir(exist_ok=True)
    mpl.use("agg")
    sns.set_theme(context="notebook", style="ticks", font_scale=0.9)
    for name, panel in PICTURES.items():
        figure, ax = plt.subplots(figsize=(4.4, 3.4), layout="constrained")
        panel(ax)
        sns.despine(ax=ax)
        figure.savefig(folder / f"{name}.png", dpi=120)
        plt.close(figure)


def bits(ax: Axes) -> None:
    """Draw the four laws of two bits at γ = 3 as bars."""
    table = analysis.Table(BITS)
    laws = {
        "p(x)": (table.log_probs().exp(), "#cccccc"),
        "p(x|y)": (table.log_probs(1).exp(), GREY),
        "sequential": (table.sequential_guided(1, 3.0).probabilities, SEQUENTIAL),
        "joint": (table.joint_guided(1, 3.0).probabilities, JOINT),
    }
    for i, (name, (law, colour)) in enumerate(laws.items()):
        ax.bar(torch.arange(4) + 0.2 * i - 0.3, law.flatten(), 0.2, color=colour, label=name)
    ax.set_xticks(range(4), ["00", "01", "10", "11"])
    style.label(ax, title="Two bits, γ = 3", x="x", y="probability")


def factors(ax: Axes) -> None:
    """Draw log s against log s′ of all sequences of a table."""
    table = example_tables.coupled_table(5)
    found = analysis.scale_factors(table, 1, 3.0)
    area = 200 * table.log_probs().exp().flatten() / table.log_probs().exp().max() + 2
    ax.scatter(found.log_joint.flatten(), found.log_sequential.flatten(), s=area, color=SEQUENTIAL, alpha=0.6, lw=0)
    ax.axline((0, 0), slope=1, color=JOINT, lw=1)
    style.label(ax, title="243 sequences, γ = 3", x="joint: log s (nats)", y="sequential: log s′ (nats)", legend=None)


def gap(ax: Axes) -> None:
    """Draw KL(sequential ‖ joint) against the length at three scales."""
    lengths = range(1, 9)
    for scale, dash in ((1.5, ":"), (3.0, "-"), (5.0, "--")):
        values = [divergence(example_tables.coupled_table(length), {None: 1 - scale, 1: scale}) for length in lengths]
        ax.plot(lengths, values, dash, color=SEQUENTIAL, lw=1.8, label=f"γ = {scale:g}")
    style.label(ax, title="The gap grows with length", x="length T", y="KL(sequential ‖ joint), nats")


def cooled(ax: Axes) -> None:
    """Draw KL(sequential ‖ joint) of temperature, on a coupled table and on an independent one."""
    temperatures = torch.linspace(0.3, 2, 18, dtype=torch.float64).tolist()
    tables = {"coupled": (example_tables.coupled_table(5), "-"), "independent x_t": (example_tables.independent_table(5), "--")}
    for name, (table, dash) in tables.items():
        values = [divergence(table, {None: 1 / tau}) for tau in temperatures]
        ax.plot(temperatures, values, dash, color=SEQUENTIAL, lw=1.8, label=name)
    style.label(ax, title="Temperature has the same gap", x="temperature τ", y="KL(sequential ‖ joint), nats")


def divergence(table: analysis.Table, weights: dict[int | None, float]) -> float:
    """Return KL(sequential ‖ joint) of a log-linear combination, in nats."""
    return float(distances.kl(table.log_sequential(weights)[0], table.log_joint(weights)[0]))


def squared(ax: Axes, *, ode: bool) -> None:
    """Draw the density of p² on two modes, with samples of the score times 2, or of weighted particles as well."""
    toy, beta, grid = example_tables.two_modes(), 2.0, diffusion.edm(150, 0.05, 30.0)
    generator = torch.Generator().manual_seed(0)
    score = diffusion.conditioned(toy.score)
    axis = torch.linspace(-4, 4, 401, dtype=torch.float64)
    density = toy.log_density(axis[:, None]).mul(beta).exp()
    step, colour, name = (diffusion.heun, ODE, "ODE") if ode else (diffusion.sde(), SDE, "SDE")
    naive = diffusion.sample(diffusion.scaled(score, beta), (4000, 1), grid, step=step, generator=generator).x
    histogram(ax, naive, None, colour, f"score × 2, {name}")
    if not ode:
        joint = diffusion.sample_joint(diffusion.LogLinear((score,), (beta,)), (4000, 1), grid, noise=2.0, generator=generator)
        histogram(ax, joint.x, joint.log_weights.softmax(0), style.look("Feynman–Kac")[0], "with weights")
    ax.plot(axis, density / torch.trapezoid(density, axis), color=JOINT, lw=1.6, label="p(x)² / Z")
    ax.set_ylim(0, 1.5)
    title = "Score × 2 collapses by the ODE" if ode else "By the SDE it is too narrow"
    style.label(ax, title=title, x="x", y="density")


def histogram(ax: Axes, x: torch.Tensor, weights: torch.Tensor | None, colour: str, name: str) -> None:
    """Draw weighted samples, [n, 1], as a histogram."""
    bins = torch.linspace(-4, 4, 61).tolist()
    look = {"histtype": "stepfilled", "color": colour, "alpha": 0.4, "label": name}
    ax.hist(x[:, 0].numpy(), bins=bins, weights=weights, density=True, **look)


def noised(moment: str, ax: Axes) -> None:
    """Draw a moment of the tilt, the ODE and the SDE of two Gaussians against γ: closed forms."""
    toy = analysis.GaussianPair.scalar(1.0, 1.0, 2.0)
    pair = [toy.law(1), toy.law(None)]

    def value(law: Gaussian) -> float:
        return float(getattr(law, moment).flatten()[0])

    lines = {
        "joint tilt": (JOINT, [value(toy.joint_guided(1, scale).law) for scale in SCALES]),
        "ODE": (ODE, [value(diffused(pair, (scale, 1 - scale), 0.0)) for scale in SCALES]),
        "SDE": (SDE, [value(diffused(pair, (scale, 1 - scale), 1.0)) for scale in SCALES]),
    }
    for name, (colour, values) in lines.items():
        ax.plot(SCALES, values, color=colour, lw=1.8, label=name)
    names = {"mean": "Diffusion overshoots the mean", "covariance": "Diffusion is too narrow"}
    style.label(ax, title=names[moment], x="scale γ", y="mean of x" if moment == "mean" else "variance of x")


def corrected(ax: Axes) -> None:
    """Draw the total variation of draws to the joint law against their number, without and with weights."""
    table, counts, generator = example_tables.coupled_table(4), (100, 300, 1000, 3000, 10_000), torch.Generator().manual_seed(0)
    model = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
    log_p = table.log_joint({None: -2.0, 1: 3.0})[0].flatten()
    place = 3 ** torch.arange(3, -1, -1)

    def distance(tokens: torch.Tensor, log_weights: torch.Tensor | None = None) -> float:
        return float(distances.tv(distances.empirical((tokens * place).sum(1), 81, log_weights), log_p))

    plain = [distance(arguide.sample(model, n, 4, generator=generator).tokens) for n in counts]
    runs = [arguide.sample_joint(model, n, 4, generator=generator) for n in counts]
    ax.plot(counts, plain, color=SEQUENTIAL, marker="o", lw=1.8, label="sequential")
    weighted = [distance(run.tokens, run.log_weights) for run in runs]
    ax.plot(counts, weighted, color=style.look("AR with weights")[0], marker="D", lw=1.8, label="with weights Π Z_t")
    ax.set(xscale="log", ylim=(0, None))
    style.label(ax, title="Weights close the gap", x="draws", y="total variation to the joint law")


def accepted(ax: Axes) -> None:
    """Draw the share of p(x|y) that a coherent pair's joint law keeps, and what it changes, against γ."""
    table = example_tables.coupled_table(5)
    log_cond, log_class = table.log_probs(1), table.log_class_probability()[1]
    rates = [float((log_cond + (scale - 1) * log_class).logsumexp((0, 1, 2, 3, 4)).exp()) for scale in SCALES]
    laws = [table.log_joint({None: 1 - scale, 1: scale})[0] for scale in SCALES]
    ax.plot(SCALES, rates, color=GREY, lw=1.8, label="share A that is kept")
    ax.plot(SCALES, [-torch.tensor(rate).log() for rate in rates], ":", color=JOINT, lw=1.6, label="bound −log A, nats")
    ax.plot(SCALES, [distances.kl(law, log_cond) for law in laws], color=JOINT, lw=1.8, label="KL(joint ‖ p(x|y)), nats")
    style.label(ax, title="A coherent pair is drawn exactly", x="scale γ", y="share, or nats")


PICTURES: dict[str, Callable[[Axes], object]] = {
    "bits": bits,
    "factors": factors,
    "gap": gap,
    "cooled": cooled,
    "mean": partial(noised, "mean"),
    "variance": partial(noised, "covariance"),
    "squared_ode": partial(squared, ode=True),
    "squared_sde": partial(squared, ode=False),
    "corrected": corrected,
    "accepted": accepted,
}
