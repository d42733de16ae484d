"""Answer the empirical questions on guidance from a study's frame: a decision per question, and the sentences that report it.

Samplers differ in accuracy and in diversity at once when γ is equal, so they are compared at equal accuracy too. A decision
depends on the smallest difference of interest, see `analysis.metrics.confidence`: a wide interval decides nothing.
"""

from collections.abc import Mapping

import pandas as pd

from analysis.frames import Cells, Verdict, pick
from analysis.metrics.confidence import Difference
from analysis.study.samplers import AWARE, CLEAN, CORRECTED, JOINT, ODE, SDE, SEQUENTIAL
from analysis.study.statistics import MEASURES, SMALLEST, Comparison, by_seed, compare, mean_at, paired

SMALLEST_COST = 0.02  # the smallest cost of interest, in units of the loss
PAIRS = {JOINT: SEQUENTIAL, CORRECTED: SDE}
FAMILIES = (SEQUENTIAL, JOINT, ODE, SDE, CORRECTED, AWARE, CLEAN)
WORDS = {"accuracy": "accurate", "coverage": "covering", "spread": "spread out"}


def question(frame: pd.DataFrame) -> Verdict:
    """Return whether joint and sequential guidance differ in practice, where the joint sampler converged."""
    found = {first: compare(frame, first, second) for first, second in PAIRS.items() if first in set(frame["family"])}
    reports = "\n".join(_compared(first, each) for first, each in found.items())
    main = found.get(JOINT)
    if main is None:
        return Verdict("the joint sampler", "not converged", f"{reports}\nUse more samples, or scales nearer 1.")
    return Verdict(
        f"{JOINT} − {SEQUENTIAL} at γ = {main.scale:g}, coverage of held-out data",
        main.at_scale["coverage"].text,
        f"{answer(main.at_scale)}\n{reports}{_above(frame, main.scale)}",
    )


def answer(found: Mapping[str, Difference]) -> str:
    """Return the decision on every difference at equal γ, one sentence per outcome."""
    clear = [_clear(WORDS[name], each) for name, each in found.items() if each.clear]
    alike = [name for name, each in found.items() if each.small and not each.clear]
    wide = [f"{name} ({each.text})" for name, each in found.items() if not each.small and not each.clear]
    sentences = []
    if clear:
        sentences.append(f"At equal γ the difference is seen in practice: the joint law is {' and '.join(clear)}.")
    if wide:
        why = f"The interval includes 0, and values beyond the {SMALLEST:g} that would matter."
        sentences.append(f"Not decided at equal γ: {', '.join(wide)}. {why}")
    if alike:
        sentences.append(f"No difference of {SMALLEST:g} or more at equal γ: {', '.join(alike)}.")
    return " ".join(sentences)


def _clear(word: str, found: Difference) -> str:
    return f"{'more' if found.mean > 0 else 'less'} {word}" + (f" (by less than {SMALLEST:g})" if found.small else "")


def _compared(first: str, found: Comparison | None) -> str:
    """Return the sentence on one joint sampler against its proposal."""
    if found is None:
        return f"{first}: the sampler converged at no scale above 1."
    return (
        f"{first} − {PAIRS[first]} is compared at γ = {found.scale:g}, the largest scale where the joint sampler converged; "
        f"about {found.remaining:.0%} of the bias remains."
    )


def compared(frame: pd.DataFrame) -> Cells:
    """Return the table of every joint sampler minus its proposal, at the largest scale where it converged."""
    rows = []
    for first, second in PAIRS.items():
        found = compare(frame, first, second) if first in set(frame["family"]) else None
        if found is not None:
            equal = "–" if found.at_accuracy is None else found.at_accuracy.text
            cells = [each.text for each in found.at_scale.values()]
            rows.append([f"{first} − {second}", f"{found.scale:g}", *cells, equal, f"{found.remaining:.0%}"])
    return ("difference", "γ", *MEASURES, "coverage at equal accuracy", "bias left"), rows


def _above(frame: pd.DataFrame, scale: float) -> str:
    """Return the sentence on the scales where the joint sampler did not converge."""
    last = frame[frame["family"] == JOINT]["scale"].max()
    if last <= scale:
        return ""
    return (
        f"\nAbove γ = {scale:g} the sampler “{JOINT}” did not converge: at γ = {last:g} the halves of its populations differ "
        f"by {mean_at(frame, JOINT, 'log_z_apart', last):.1f} nats in log Z, and the result is only partly corrected."
    )


def trade(frame: pd.DataFrame) -> Verdict:
    """Return how accuracy rises and diversity falls with γ."""
    means = pick(frame, quantity="accuracy").groupby(["family", "scale"], sort=False)["value"].mean()
    scales = sorted(means.index.unique("scale"))
    spread = by_seed(frame, SEQUENTIAL, "spread").mean()
    right = pick(frame, family="evaluator", quantity="accuracy")["value"].mean()
    return Verdict(
        f"accuracy of {SEQUENTIAL} by an independent classifier, γ = {scales[0]:g} to its best γ",
        f"{means[SEQUENTIAL][scales[0]]:.2f} → {means[SEQUENTIAL].max():.2f}",
        f"From γ = {scales[0]:g} to {scales[-1]:g} the spread within a label of {SEQUENTIAL} goes from {spread.iloc[0]:.2f} to "
        f"{spread.iloc[-1]:.2f}.\nThe classifier itself is right on {right:.1%} of held-out data.",
    )


def claims(frame: pd.DataFrame) -> Verdict:
    """Return the cost of dropout for the conditional model, and the results on the source's other claims."""
    loss, unlabelled = (
        pick(frame, quantity=name, law="pixels").pivot_table(index="seed", columns="family", values="value")
        for name in ("held-out loss", "held-out loss, no label")
    )
    mean = loss["dropout"].mean()
    loss, unlabelled = loss.dropna(), unlabelled.dropna()  # the seeds that have every variant
    cost = paired(loss["dropout"], loss["without dropout"], SMALLEST_COST * mean)
    late, late_unlabelled = (paired(each["dropout at the end"], each["dropout"]) for each in (loss, unlabelled))
    return Verdict(
        "cost of conditioning dropout for the conditional model, nats per held-out sequence",
        f"{cost.text} of {mean:.1f}",
        f"Conditioning dropout {_cost(cost)}.\nDropout in the last fifth of the training alone: conditional {late.text}, "
        f"unconditional {late_unlabelled.text} nats against dropout throughout.",
    )


def _cost(found: Difference) -> str:
    if found.small:
        return f"costs the conditional model seemingly nothing: less than {SMALLEST_COST:.0%} of its loss"
    if found.clear:
        return "costs the conditional model something" if found.mean > 0 else "makes the conditional model better"
    return (
        f"has a cost for the conditional model that is not decided: the interval includes 0, and values beyond "
        f"{SMALLEST_COST:.0%} of its loss ({found.smallest:.3f}), which would matter"
    )
