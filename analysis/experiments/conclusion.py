"""Conclude from a whole run, in a few sentences for newcomers.

Every number comes from the run, and every sentence has a form for the opposite result.

A sentence is left out where the run lacks its chapter.
"""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from analysis.experiments import correction, family_tables, text, whole_texts
from analysis.frames import Chapter, pick
from analysis.metrics.trends import EQUAL


def conclude(done: Sequence[Chapter]) -> list[str]:
    """Return what a run found: the gap, diffusion, the correction, p(x), and real data; nothing for a quick run."""
    frames = {chapter.experiment.name: chapter.frame for chapter in done if not chapter.quick}
    parts: Mapping[tuple[str, ...], Callable[..., str]] = {
        ("scale_factors",): gap,
        ("correction",): diffusion,
        ("families",): corrected,
        ("whole_texts",): coherent,
        ("real_data", "text"): practice,
    }
    return [part(*(frames[name] for name in names)) for names, part in parts.items() if set(names) <= set(frames)]


def gap(frame: pd.DataFrame) -> str:
    """Return whether guiding every token is guiding the whole sequence, and what the difference is."""
    case = pick(frame, law="coupled", scale=3.0, length=5, coupling=1.0)
    kl, tv = (float(pick(case, quantity=name)["value"].iloc[0]) for name in ("kl_sequential_joint", "tv"))
    error = float(frame[frame["quantity"] == "identity_error"]["value"].max())
    where = "on a table of five three-valued tokens at γ = 3"
    if tv < EQUAL:
        return f"Guiding every token gives the law of guiding the whole sequence {where}, against the claim of the post."
    explained = f"exactly the product of the local normalizers, Π Z_t / Z (error {error:.0e})"
    if error > EQUAL:
        explained = f"not the product of the local normalizers, Π Z_t / Z, which is wrong by {error:.0e}"
    return (
        f"Guiding every token is not guiding the whole sequence. The two laws differ by a total variation of {tv:.2f} "
        f"({kl:.3f} nats) {where}, and the difference is {explained}."
    )


def diffusion(frame: pd.DataFrame) -> str:
    """Return whether guided diffusion draws the joint law of the data."""
    found, text = correction.ode_variance(frame)
    measured = f"at γ = {correction.SCALE:g}, on a pair of Gaussians, the ODE draws a variance of {text}"
    if found.small:
        return f"Guided diffusion comes near the joint law of the data: {measured}."
    if found.clear:
        return f"Guided diffusion does not draw the joint law of the data either: {measured}."
    return f"Whether guided diffusion draws the joint law of the data is not decided: {measured}."


def corrected(frame: pd.DataFrame) -> str:
    """Return whether weights bring draws of an autoregressive model to the joint law."""
    length, tv = family_tables.at_longest(frame)
    each = (tv[name] for name in (family_tables.DRAWN[family_tables.AR], family_tables.WEIGHTED, family_tables.EXACT))
    plain, weighted, floor = map(str, each)
    excess = family_tables.excess(tv)[family_tables.WEIGHTED]
    measured = (
        f"with weights, draws of a table of {length} tokens are at a total variation of {weighted} from the joint law; without "
        f"they are at {plain}, and the same number of exact draws at {floor}"
    )
    if excess.small:
        return f"The difference can be corrected in an autoregressive model: {measured}."
    if excess.clear and excess.mean > 0:
        return f"Weights do not remove the difference in an autoregressive model: {measured}."
    return f"Whether weights remove the difference in an autoregressive model is not decided: {measured}."


def coherent(frame: pd.DataFrame) -> str:
    """Return the difference of the two laws of whole texts, with each of the two unconditional laws."""
    scale, order = frame["scale"].max(), frame["order"].max()
    pooled, mixture = (
        whole_texts.at(frame, pair, "kl_sequential_joint", scale) for pair in (whole_texts.POOLED, whole_texts.MIXTURE)
    )
    measured = f"on whole texts of n-gram models of order {order:g} the two laws are"
    if pooled is None or mixture is None:
        return f"What the difference is depends on p(x): {measured} not compared at γ = {scale:g}."
    found = (
        f"{measured} {pooled.value:.3g} nats apart at γ = {scale:g} where p(x) is a model of its own, and {mixture.value:.3g}"
    )
    less = "Much of the difference" if mixture.value < pooled.value / 2 else "Little of the difference"
    return f"{less} comes from an incoherent p(x): {found} (± {mixture.half:.2g}) where it is the mixture of the p(x|y)."


def practice(digits: pd.DataFrame, texts: pd.DataFrame) -> str:
    """Return whether the difference matters for real digits and for texts."""
    kl = pick(digits, law="digits", scale=3.0).groupby("quantity")["value"].median()
    small, large = kl["kl_sequential_joint"], kl["kl_joint_conditional"]
    size = "more" if small > large else "less"
    found = text.adherence(texts)
    outcome = "on texts the joint sampler converged at no γ above 1, so nothing follows"
    if found is not None:
        scale, change = found
        outcome = (
            f"on texts ({text.source(texts)}) it is {change.answer}: joint minus sequential adherence is {change.text} nats at "
            f"γ = {scale:g}"
        )
    return (
        f"Whether it matters depends on the data: on {digits['length'].max():g} pixels of real digits the two laws are "
        f"{small:.2f} nats apart at γ = 3, {size} than what joint guidance changes ({large:.2f} nats); {outcome}."
    )
