r"""What a coherent pair changes: exact guided laws where p(x) is the mixture of the p(x|y), and where it is not.

    coherent      p(x) = Σ_k π_k p(x|k), so r(x) = log p(x|y)/p(x) ≤ −log π_y
    incoherent    the same p(x|y), and as p(x) a fit of the mixture with an error KL(mixture ‖ fit)
    clamped       the incoherent pair, its running ratio kept at or below −log π_y

Words of up to T letters are enumerated. The fit that a model of order 1 learns is the chain of the pooled transition counts;
noise of size ε on every log p(x_t|x_<t) of the mixture gives fits of any error. On the line the mixture of Gaussians is fitted
by itself with noise added to the data, and by one Gaussian. The conditional laws are exact everywhere: what differs between
pairs is p(x) alone.

*Outside* is the share of a law on the unlikeliest x under p(x|y), which have 1 % of p(x|y); x that it lacks are among them.
"""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

import arguide
from analysis.experiments.base import Experiment, Settings, stream
from analysis.figures.coherence import coherent as figures
from analysis.frames import Cells, Grid, Plot, Row, Track, Verdict, per_point, per_quantity, pick, tidy
from analysis.metrics import distances
from analysis.toys import Table
from analysis.toys.autoregressive import every_branch
from analysis.toys.clamped import Clamped
from analysis.toys.example_tables import crowded_line
from analysis.toys.law import Weights
from analysis.toys.pairs import UNLIKELY, Pair, paired, unlikely
from analysis.toys.words import Words, words

WORDS, LINE = "words", "line"
PAIRS = COHERENT, INCOHERENT, CLAMPED = "coherent", "incoherent", "clamped"
BLURRED, GAUSSIAN = "blurred mixture", "one Gaussian"
SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0)
NOISES, AT = (0.05, 0.1, 0.2, 0.4, 0.8), 5.0


def run(settings: Settings, track: Track) -> pd.DataFrame:
    """Return ratios, guided laws and their distances per pair and scale, means over the labels."""
    found = words(5 if settings.quick else 7)
    fits = {COHERENT: found.table.log_probs(), INCOHERENT: found.pooled()}
    noisy = {f"noise {size:g}": found.blurred(size, stream(settings.seed)) for size in NOISES}
    labels = range(2 if settings.quick else len(found.table.labels))
    rows, counts = list(_line()), counted(found)
    for label in track(labels):
        for name, log_fit in (fits | noisy).items():
            pair = paired(found.table, label, log_fit)._replace(counts=counts)
            case = {"law": WORDS, "pair": name, "label": label, "length": found.table.length}
            rows += _ratio(pair, case, found.table, log_fit, curve=name in fits)
            rows += [row for scale in (SCALES if name in fits else (AT,)) for row in _guided(pair, case, scale)]
            if name == INCOHERENT:
                rows += [row for scale in SCALES for row in _clamped(pair, case | {"pair": CLAMPED}, scale)]
    return _over_labels(tidy(rows))


def counted(found: Words) -> dict[str, Tensor]:
    """Return the letters of every word, whether it is cut at the cap, and its repeated steps."""
    letters = found.letters()
    return {"letters": letters, "at_cap": (letters == found.table.length).double(), "repeats": found.repeats()}


def clamped_laws(pair: Pair, scale: float) -> tuple[Tensor, Tensor]:
    """Return the log sequential law of the clamped pair, [V_1, …, V_T], and the clamped ratio of every x."""
    both = arguide.LogLinear.guidance(pair.laws.autoregressive(0), pair.laws.autoregressive(1), 2.0)  # reads both branches
    log_q, state = every_branch(Clamped(both, scale, pair.bound), pair.laws.shape)
    return log_q, state.log_ratio.reshape(log_q.shape)


def _ratio(pair: Pair, case: Row, table: Table, log_fit: Tensor, *, curve: bool) -> Iterator[Row]:
    """Yield the error of the fit, what the ratio is under p(x|y) beside the bound, and the share of p(x|y) above every r."""
    ratio, mass = pair.log_ratio.flatten(), pair.log_cond.exp().flatten()
    beyond = ratio > pair.bound + 1e-9
    values = {
        "fit_error": distances.kl(table.log_probs(), log_fit),
        "bound": pair.bound,
        "ratio_mean": distances.expectation(pair.log_cond, pair.log_ratio),
        "ratio_most": ratio.max(),
        "ratio_beyond": mass[beyond].sum(),
    }
    yield from per_quantity(case | {"family": "exact"}, values)
    if curve:
        levels = torch.linspace(-1.5, 5.0, 66, dtype=torch.float64)
        shares = [float(mass[ratio > level].sum()) for level in levels]
        yield from per_point(case | {"family": "exact", "quantity": "share_above"}, r=levels.tolist(), value=shares)


def _guided(pair: Pair, case: Row, scale: float) -> Iterator[Row]:
    """Yield the measures of both guided laws of a pair."""
    weights: Weights = {1: 1 - scale, 0: scale}
    log_joint, log_z = pair.laws.log_joint(weights)
    yield from _measured(pair, case | {"scale": scale}, log_joint, pair.laws.log_sequential(weights)[0], log_z)
    if case["pair"] == COHERENT and scale >= 1:
        log_a = distances.expectation(pair.log_cond, ((scale - 1) * pair.log_posterior).exp()).log()
        values = {"acceptance": log_a.exp(), "most_kl": -log_a, "most_tv": -log_a.expm1()}
        yield from per_quantity(case | {"scale": scale, "family": "exact"}, values)


def _clamped(pair: Pair, case: Row, scale: float) -> Iterator[Row]:
    """Yield the measures of both guided laws of a clamped pair."""
    log_q, log_ratio = clamped_laws(pair, scale)
    tilt = pair.log_cond + (scale - 1) * log_ratio
    log_z = tilt.flatten().logsumexp(0)
    yield from _measured(pair, case | {"scale": scale}, tilt - log_z, log_q, log_z)


def _measured(pair: Pair, case: Row, log_joint: Tensor, log_q: Tensor, log_z: Tensor) -> Iterator[Row]:
    """Yield log Z and the divergence of two guided laws, and the measures of each."""
    yield from per_quantity(case | {"family": "exact"}, {"log_z": log_z, "kl_sequential_joint": distances.kl(log_q, log_joint)})
    outside = unlikely(pair.log_cond)
    for family, law in (("joint", log_joint), ("sequential", log_q)):
        values = {
            "kl_conditional": distances.kl(law, pair.log_cond),
            "tv_conditional": distances.tv(law, pair.log_cond),
            "accuracy": distances.expectation(law, pair.log_posterior.exp()),
            "outside": law.exp()[outside].sum(),
            "entropy": distances.entropy(law),
        }
        values |= {name: distances.expectation(law, each) for name, each in pair.counts.items()}
        yield from per_quantity(case | {"family": family}, values)


def _line() -> Iterator[Row]:
    """Yield the ratio and the guided laws of Gaussians on the line, where joint and sequential guidance agree."""
    line = crowded_line()
    axes = line.axes(1001)
    table = line.on_grid(axes)
    mean = distances.expectation(table.log_probs(), axes[0])
    variance = distances.expectation(table.log_probs(), (axes[0] - mean) ** 2)
    fits = {
        COHERENT: table.log_probs(),
        BLURRED: line.on_grid(axes, sigma=0.5).log_probs(),
        GAUSSIAN: (-((axes[0] - mean) ** 2) / (2 * variance)).log_softmax(0),
    }
    for name, log_fit in fits.items():
        case, pair = {"law": LINE, "pair": name, "label": 0, "length": 1}, paired(table, 0, log_fit)
        yield from _ratio(pair, case, table, log_fit, curve=False)
        for scale in SCALES:
            yield from _guided(pair, case, scale)


def _over_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the means over labels; of the largest ratio, the largest."""
    keys = [name for name in frame if name not in ("label", "value", "std_error")]
    most = frame["quantity"] == "ratio_most"
    parts = [frame[~most].groupby(keys, dropna=False, sort=False)["value"].mean()]
    parts.append(frame[most].groupby(keys, dropna=False, sort=False)["value"].max())
    return tidy(pd.concat(parts).reset_index().to_dict("records"))


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return the gap of the three pairs at γ = 5, and what their joint laws are."""
    at = pick(frame, law=WORDS, scale=AT)
    gap = pick(at, quantity="kl_sequential_joint").set_index("pair")["value"]
    return Verdict(
        f"KL(sequential ‖ joint) at γ = {AT:g}, words of up to {int(at['length'].max())} letters",
        ", ".join(f"{gap[name]:.3f} nats ({name} pair)" for name in PAIRS),
        "\n".join((_degenerate(frame), _near(at), _by_the_bound(at), _kept(frame), _on_the_line(frame))),
    )


def _degenerate(frame: pd.DataFrame) -> str:
    """Return what the ratio and the joint law of the incoherent pair are."""
    exact = pick(frame, law=WORDS, pair=INCOHERENT, family="exact")
    pair = exact[exact["scale"].isna()].drop_duplicates("quantity").set_index("quantity")["value"]
    rows = pick(frame, law=WORDS, family="joint").set_index(["scale", "pair", "quantity"])["value"].sort_index()
    joint, other = rows[AT, INCOHERENT], rows[AT, COHERENT]
    worse = all(joint[name] > other[name] for name in ("at_cap", "repeats"))
    return (
        f"An unconditional law with an error of only {pair['fit_error']:.3f} nats, KL(mixture ‖ fit), passes Bayes' bound of "
        f"{pair['bound']:.2f} nats on {pair['ratio_beyond']:.2f} of p(x|y). At γ = {AT:g} its joint law cuts "
        f"{joint['at_cap']:.0%} of the words at the cap, the coherent one {other['at_cap']:.0%}"
        + (": it runs into loops." if worse else ".")
    )


def _near(at: pd.DataFrame) -> str:
    """Return the distances of the coherent joint law from p(x|y) and their bounds."""
    rows = pick(at, pair=COHERENT).set_index(["family", "quantity"])["value"].sort_index()
    joint, exact = rows["joint"], rows["exact"]
    return (
        f"The coherent joint law keeps {exact['acceptance']:.2f} of p(x|y), which bounds its distance from it: "
        f"{joint['kl_conditional']:.2f} nats, at most −log A = {exact['most_kl']:.2f}. Sequential guidance by the same pair is "
        f"{rows['sequential', 'kl_conditional']:.2f} nats away."
    )


def _by_the_bound(at: pd.DataFrame) -> str:
    """Return how much of what incoherence changes in the joint law the clamp alone removes."""
    rows = at.set_index(["family", "quantity", "pair"])["value"].sort_index()
    shares = {
        name: (rows[*key, INCOHERENT] - rows[*key, CLAMPED]) / (rows[*key, INCOHERENT] - rows[*key, COHERENT])
        for name, key in {
            "words at the cap": ("joint", "at_cap"),
            "its distance from the sequential law": ("exact", "kl_sequential_joint"),
        }.items()
    }
    return (
        "The same fit, clamped at the bound, removes "
        + " and ".join(f"{min(share, 1):.0%} of the joint law's excess in {name}" for name, share in shares.items())
        + ": here the bound does most of what coherence does."
        if min(shares.values()) > 0.5
        else f"The bound alone removes {min(shares.values()):.0%} of the excess: it takes coherence."
    )


def _kept(frame: pd.DataFrame) -> str:
    """Return the mass of the joint laws on the unlikeliest x, where p(x|y) is exact."""
    rows = pick(frame, law=WORDS, family="joint", quantity="outside").set_index(["scale", "pair"])["value"].sort_index()
    worst, at = max(NOISES), rows[AT]
    return (
        f"With exact p(x|y), errors of p(x) must be large to leave its support: the unlikeliest {UNLIKELY:.0%} of p(x|y) has "
        f"{at[COHERENT]:.3f} of the coherent joint law at γ = {AT:g}, {at[INCOHERENT]:.3f} of the incoherent one "
        f"({rows[10.0, INCOHERENT]:.3f} at γ = 10), and {at[f'noise {worst:g}']:.3f} with noise of {worst:g} on every token."
    )


def _on_the_line(frame: pd.DataFrame) -> str:
    """Return how far the joint law is from p(x|y) on the line, for a coherent pair and for two fits."""
    rows = pick(frame, law=LINE)
    most = pick(rows, quantity="ratio_most").set_index("pair")["value"]
    moved = pick(rows, quantity="kl_conditional", family="joint", scale=AT).set_index("pair")["value"]
    report = ", ".join(f"{name} {moved[name]:.2f} (largest ratio {most[name]:.2f})" for name in moved.index)
    return f"On the line, where both laws agree, the nats from p(x|y) are: {report}. Errors of p(x) guide too."


def at_one_scale(frame: pd.DataFrame) -> Cells:
    """Return the table of what the joint laws are at γ = 5, beside p(x|y)."""
    rows = pick(frame, law=WORDS, family="joint").set_index(["scale", "pair", "quantity"])["value"].sort_index()
    names = {
        "words cut at the cap": "at_cap",
        "repeated steps per word": "repeats",
        "entropy, nats": "entropy",
        "mass on the unlikeliest 1 % of p(x|y)": "outside",
    }
    laws = ((1.0, COHERENT), *((AT, pair) for pair in PAIRS))
    cells = [[name, *(f"{rows[*law, quantity]:.3f}" for law in laws)] for name, quantity in names.items()]
    return ("joint law", "p(x|y), γ = 1", *(f"{pair}, γ = {AT:g}" for pair in PAIRS)), cells


def at_scales(frame: pd.DataFrame) -> Cells:
    """Return the columns and rows of the table of scales above 1."""
    rows = pick(frame, law=WORDS).dropna(subset="scale")
    cells = rows.set_index(["scale", "pair", "family", "quantity"])["value"].sort_index()
    several = {
        "KL(seq. ‖ joint)": ("exact", "kl_sequential_joint", ".2f"),
        "log Z": ("exact", "log_z", ".1f"),
        "at the cap": ("joint", "at_cap", ".2f"),
        "repeats": ("joint", "repeats", ".2f"),
        "outside": ("joint", "outside", ".3f"),
    }

    def row(scale: float) -> list[str]:
        joint, exact = cells[scale, COHERENT, "joint"], cells[scale, COHERENT, "exact"]
        texts = [f"{joint[f'{name}_conditional']:.2f} ≤ {exact[f'most_{name}']:.2f}" for name in ("kl", "tv")]
        texts += [" / ".join(f"{cells[scale, pair, *key]:{digits}}" for pair in PAIRS) for *key, digits in several.values()]
        return [f"{scale:g}", f"{exact['acceptance']:.2f}", *texts]

    return ["γ", "A", "KL(joint ‖ p(x|y)) ≤ −log A", "TV ≤ 1 − A", *several], [row(scale) for scale in SCALES if scale > 1]


EXPERIMENT = Experiment(
    name="coherent",
    title="What a coherent pair changes",
    claim="guidance is defined by one joint law, p(x) p(y|x)^γ / E_p[p(y|x)^γ], in which p(y|x) follows by Bayes' rule from "
    "the conditional and the unconditional model; is diffusion the only model class that can apply it to the joint?",
    run=run,
    verdict=verdict,
    source=lambda frame: f"exact laws of words of up to {pick(frame, law=WORDS)['length'].max():g} letters under four labels",
    tables=(
        Grid(at_one_scale, "Exact, means over the labels: what a joint law is, by the pair that defines it.", wide=True),
        Grid(
            at_scales,
            "Exact, means over the labels. A is the share of p(x|y) that the coherent joint law keeps, KL and TV are its "
            "distances from p(x|y). The other cells are of the coherent / incoherent / clamped pair: the gap in nats, log Z, "
            "and of the joint law the words cut at the cap, the repeated steps per word, and the mass on the unlikeliest 1 % "
            "of p(x|y).",
            wide=True,
        ),
    ),
    plots=(
        Plot(
            "coherent_shape",
            (figures.ratio, figures.at_cap, figures.repeats),
            "Exact, words under four labels, means over them. The incoherent pair has the same p(x|y) and as p(x) the chain "
            "that is fitted to the mixture. Left: the share of p(x|y) whose ratio is above r. Middle and right: the words that "
            "are cut at the cap, and the steps from letter to letter that repeat an earlier one; blue joint, orange "
            "sequential; solid coherent, dashed incoherent, dotted incoherent and clamped at the bound.",
        ),
        Plot(
            "coherent_distances",
            (figures.bounded, figures.gap, figures.dose),
            "Left: distances of the coherent joint law from p(x|y), and their bounds by the share A of p(x|y) that it keeps. "
            "Middle: the gap of the three pairs. Right: divergences against the error of p(x), a mixture with noise on every "
            "token's log-probability; the star is the fit of order 1, the dash-dotted lines are the coherent pair.",
        ),
    ),
)
