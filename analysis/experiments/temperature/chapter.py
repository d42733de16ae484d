r"""Temperature, the exercise left to the reader: all ways to lower it, in both wings, and the β that each of them reaches.

Laws of tokens are exact. In diffusion, samplers on exact scores are compared with p^β and with closed forms.
"""

from functools import partial

import pandas as pd

from analysis.experiments.base import Experiment, Settings
from analysis.experiments.temperature import claims, scores, tokens
from analysis.figures import temperature as figures
from analysis.frames import Grid, Plot, Track, Verdict, pick, tidy
from analysis.metrics.confidence import by_family, nearest
from analysis.metrics.temperature.claims import USELESS
from analysis.metrics.temperature.laws import LENGTH, SEQUENTIAL, TOP_K, TOP_P

SHOWN = {SEQUENTIAL: (1.5, 3.0), TOP_K: (1, 2, 5), TOP_P: (0.5, 0.8, 0.9)}  # settings in the table


def run(settings: Settings, track: Track) -> pd.DataFrame:
    """Return the exact laws of tokens at all temperatures, and β*, variance and W1 of diffusion samplers."""
    lengths, betas = ((2, 3, 5), (0.7, 2.0, 3.0)) if settings.quick else ((2, 3, 5, 7), scores.BETAS)
    exact = tokens.rows(lengths, tokens.TEMPERATURES, tokens.SETTINGS, tokens.TEXTS)
    return tidy([*exact, *scores.rows(settings, betas, track), *scores.densities(settings)])


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return the gap at τ = ½, the entropy that ways lose at equal likelihood, the β reached, and both statements."""
    exact = pick(frame, quantity="kl_sequential_joint", temperature=0.5, length=tokens.LONG)
    gap = pick(exact, law=tokens.COUPLED)["value"].iloc[0]
    none = exact[exact["law"].isin([tokens.INDEPENDENT, tokens.SEQUENCE])]["value"].max()
    return Verdict(
        "KL(sequential ‖ joint) at τ = ½, T = 5",
        f"{gap:.3f} nats",
        f"Lowering every factor's temperature is not lowering the joint's. They agree (≤ {none:.0e}) under independence, and "
        f"for any Gaussian sequence though it is not independent.\n{_lost(frame)}\n{_useless(frame)}\n{_lengths(frame)}\n"
        f"{_terrible(frame)}\n{_nearest(frame)}",
    )


def _lost(frame: pd.DataFrame) -> str:
    """Return the sentence on the entropy that every way loses at equal likelihood."""
    lost = pick(frame, quantity="lost", law=tokens.COUPLED)
    most = {name: float(pick(lost, family=name)["value"].max()) for name in (SEQUENTIAL, TOP_K, TOP_P)}
    parts = ", ".join(
        f"{'temperature of the factors' if name == SEQUENTIAL else name} {value:.3f}" for name, value in most.items()
    )
    return (
        "At equal likelihood no law has more entropy than p^β. Every other way loses KL(way ‖ p^β*) nats of it; on the coupled "
        f"table at most: {parts}."
    )


def _useless(frame: pd.DataFrame) -> str:
    """Return the sentence on the statement that the joint's temperature is useless."""
    answers = "; ".join(f"{law}: {claim.answer}" for law, claim in claims.useless(frame).items())
    return f"{USELESS}: {answers}."


def _lengths(frame: pd.DataFrame) -> str:
    """Return the sentence on the lengths of stories, whose ends a temperature moves."""
    rows = pick(frame, law=tokens.STORY)
    cold = pick(rows, family=SEQUENTIAL, setting=claims.AT).set_index("quantity")["value"]
    same = pick(frame, law=tokens.SAME_LENGTH, family=SEQUENTIAL, setting=claims.AT).set_index("quantity")["value"]
    lengths = pick(rows, quantity="mean length").set_index("family")["value"]
    return (
        f"Texts of free length change their length: stories have {lengths['p']:.1f} tokens on average, those of p² "
        f"{lengths['p²']:.1f}, and those of factors at τ = ½ {cold[LENGTH]:.1f}. Their mean log-likelihood is that of "
        f"β = {cold['effective_beta']:.2f}, {'no' if cold['effective_beta'] < 1 else 'a'} lower temperature of the whole text. "
        f"Beside powers of equal length too, p^β e^(ρ · length), factors at τ = ½ reach β = {same['effective_beta']:.2f} and "
        f"lose {same['lost']:.3f} nats of entropy."
    )


def _terrible(frame: pd.DataFrame) -> str:
    """Return the sentence on the statement that score × β yields terrible results."""
    naive = [each for each in claims.reached(frame) if each.way in (scores.ODE, scores.SDE)]
    parts = "; ".join(f"{each.law}, {each.way}: {each.claim.answer} ({each.claim.reason})" for each in naive)
    return f"Score × β is “terrible”, farther from p² than draws of p by W1: {parts}."


def _nearest(frame: pd.DataFrame) -> str:
    """Return the sentence on the sampler that is the nearest to p² on two modes, and on the distance from the best power."""
    w1 = by_family(pick(frame, law=scores.MIXTURE, quantity="w1", beta=claims.AT))
    floor = w1.pop(scores.EXACT)
    w1.pop(scores.IDLE)
    first = min(w1.values(), key=lambda each: each.value)
    best = by_family(pick(frame, law=scores.MIXTURE, quantity="w1_nearest", beta=claims.AT))
    far = ", ".join(f"{name} {best[name]}" for name in scores.SAMPLERS if name in best)
    return (
        f"On two modes, by W1 to p², {nearest(w1)}, at {first}; the same number of exact draws measures {floor}. Even from the "
        f"power that each reaches, the distance is: {far}."
    )


EXPERIMENT = Experiment(
    name="temperature",
    title="Temperature: the exercise left to the reader",
    claim="“changing the temperature of the sequential conditionals is not the same as changing the temperature of the joint "
    "distribution. Working this out is left as an excerise to the reader :)”; tuning that of the joint "
    "is useless where that of the conditionals works; multiplying the score “invariably yields terrible results”.",
    run=run,
    verdict=verdict,
    source="exact laws of tables of three-valued tokens, T = 5; n-gram stories; exact scores of N(0, 1) and of two modes",
    tables=(
        Grid(
            partial(claims.at_equal_likelihood, shown=SHOWN),
            "Ways to lower the temperature of tokens, each beside the power p^β of equal likelihood (way / p^β). Exact. "
            "Lost: entropy of p^β minus that of the way, in nats. Distinct texts: the share in 16 draws.",
        ),
        Grid(
            claims.useless_cells,
            "Joint − sequential at equal likelihood: the largest difference over the settings at which the temperature of the "
            "factors raises the likelihood. “Useless”: worse in some figure of merit and better in none.",
        ),
        Grid(
            claims.reached_cells,
            "The β that every way reaches at β = 2: of the power of equal mean log-likelihood, the nearest by KL divergence. A "
            "way is “terrible” where it is farther from p² than draws of p are, at which nothing was lowered; intervals 95 %.",
        ),
    ),
    plots=(
        Plot(
            "temperature",
            (figures.gap, figures.gap_to_length, figures.lost),
            "Left: the gap between the temperature of the factors and of the joint, which is zero at τ = 1. Middle: the gap on "
            "tables of several lengths. Right: entropy lost against p^β of equal likelihood, by its β; coupled table, T = 5.",
        ),
        Plot(
            "temperature_diffusion",
            (figures.reached(scores.GAUSSIAN), figures.reached(scores.MIXTURE), figures.w1),
            "Diffusion on exact scores. Left and middle: the β reached against the β asked for; grey: equal. Closed forms are "
            "dashed. Right: distance to p^β on two modes; black: exact draws, the best possible; grey: draws of p.",
        ),
        Plot(
            "temperature_densities",
            (figures.naive_density, figures.density),
            "Densities of the samples at β = 2 on two modes, beside the data's p and the target p². Left: the score times β. "
            "Right: the other rules; note the scale of the axis.",
        ),
    ),
)
