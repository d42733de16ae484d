r"""Text of a language model under joint and sequential guidance: is the difference meaningful in practice?

Texts of both laws continue the same prompts, at equal γ and at equal adherence; the gap KL(sequential ‖ joint) is measured per
length. The model is the one given with `--model`, or a tiny model of an artificial language that is trained here. At every γ
a diagnosis says whether the particles converged; where they did not, the numbers are marked and decide nothing.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pandas as pd
import torch

from analysis.experiments.base import Experiment, Settings, stream
from analysis.figures import text as figures
from analysis.frames import Cells, Grid, Plot, Row, Track, Verdict, per_quantity, pick, tidy
from analysis.learning import toy_stories
from analysis.metrics import comparison, gap_estimates, text_statistics
from analysis.metrics.confidence import Difference
from analysis.typeset import signed

SHOWN = 2  # texts per prompt, law and scale
SMALLEST = {"adherence": 1.0, "log perplexity": 0.05}  # smallest differences of interest, in nats per text and per token
PROMPTS = {
    "Lily had a big dog named Max.": ("dog", "Max"),
    "Tom found a red ball in the park.": ("ball", "park"),
    "The little bird was sad because it could not fly.": ("bird", "fly"),
}


class Effort(NamedTuple):
    """Size of a run: texts per run of every law, their length, and the scales γ of every family."""

    texts: int
    length: int
    joint: tuple[float, ...]
    sequential: tuple[float, ...]
    gap: tuple[float, ...]


FULL = Effort(128, 24, (1.0, 1.25, 1.5, 2.0, 3.0), (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0), (1.5, 2.0))
QUICK = Effort(32, 12, (1.0, 1.5, 3.0), (1.0, 1.5, 2.0, 3.0, 4.0), (1.5,))


def run(settings: Settings, track: Track) -> pd.DataFrame:
    """Return adherence, perplexity and diversity per family and scale, and the gap per length; every prompt is a law."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the fastest for such small models
    try:
        rows = measured(dict(_cases(settings)), QUICK if settings.quick else FULL, settings.seed, track)
        return tidy(rows).assign(model=settings.model or "a tiny language model that is trained here")
    finally:
        torch.set_num_threads(threads)


def measured(cases: Mapping[str, text_statistics.Case], effort: Effort, seed: int, track: Track) -> Iterator[Row]:
    """Yield the rows of every prompt, family and scale, each with its own random numbers, so that errors are independent.

    Args:
        cases: model and prompt by the prompt's text.
        effort: size of the run.
        seed: seed of all random numbers.
        track: progress bar.
    """
    scales = {"joint": effort.joint, "sequential": effort.sequential, "gap": effort.gap}
    jobs = [(prompt, family, scale) for prompt in cases for family, several in scales.items() for scale in several]
    for number, (prompt, family, scale) in enumerate(track(jobs)):
        row = {"law": prompt, "family": family, "scale": scale, "length": effort.length}
        drawn = _gap if family == "gap" else _texts
        yield from drawn(cases[prompt], row, effort.texts, stream(seed, number))


def _texts(case: text_statistics.Case, row: Row, n: int, generator: torch.Generator) -> Iterator[Row]:
    """Yield the statistics of texts of one law."""
    if row["family"] == "joint":
        groups, diagnosis = text_statistics.joint(case, row["scale"], n, row["length"], generator)
        yield row | {"quantity": "log_z", "value": diagnosis.log_evidence, "std_error": diagnosis.std_error}
        yield from per_quantity(row, {"consistent": diagnosis.consistent, "spread": diagnosis.spread})
    else:
        groups = text_statistics.sequential(case, row["scale"], n, row["length"], generator)
    for number, text in enumerate(case.texts(groups[0].draw(SHOWN, torch.Generator().manual_seed(0)))):
        yield row | {"quantity": "text", "value": math.nan, "number": number, "text": text}
    for quantity, value, error in text_statistics.measures(case, groups, 64, generator):
        yield row | {"quantity": quantity, "value": value, "std_error": error, "freedom": text_statistics.GROUPS - 1.0}


def _gap(case: text_statistics.Case, row: Row, n: int, generator: torch.Generator) -> Iterator[Row]:
    """Yield the gap of every prefix length."""
    length = row["length"]
    plan = gap_estimates.Plan(2 * n, n, text_statistics.GROUPS)
    found = gap_estimates.measure(case.law(row["scale"], length), case.law(0.0, length), length, plan, generator=generator)
    for each in found.lengths.to_dict("records"):
        at = row | {"family": "sequential", "length": each["length"]}
        interval = {"low": each["kl_low"], "high": each["kl_high"]}
        error = math.hypot(each["log_z_std_error"], each["log_path_std_error"])
        yield at | {"quantity": "kl", "value": each["kl"], "std_error": error} | interval
        yield at | {"quantity": "ess_share", "value": each["ess_share"]}


def _cases(settings: Settings) -> Iterator[tuple[str, text_statistics.Case]]:
    if settings.model is None:
        model, tokenizer = toy_stories.train(150 if settings.quick else 300), toy_stories.tokenizer()
        for pet in ("dog",) if settings.quick else ("dog", "fish", "horse"):
            prompt, rest = (tokenizer(f"Lily had a {word} .", return_tensors="pt").input_ids for word in (pet, "pet"))
            yield f"Lily had a {pet} .", text_statistics.Case(model, tokenizer, prompt, rest, (pet,))
        return
    from analysis.text.loading import Choice, silence

    silence()
    loaded = Choice(settings.model).load(torch.device("cpu"))
    first = loaded.tokenizer.bos_token_id
    if first is None:
        raise ValueError("tokenizer of the model must have a beginning-of-text token for the unconditional branch, got none")
    for prompt, words in list(PROMPTS.items())[: 1 if settings.quick else None]:
        ids = loaded.tokenizer(prompt, return_tensors="pt").input_ids
        yield prompt, text_statistics.Case(loaded.model, loaded.tokenizer, ids, torch.tensor([[first]]), words)


def samples(frame: pd.DataFrame) -> Cells:
    """Return the table of texts of both laws side by side, at three of the γ that both have."""
    rows = pick(frame, quantity="text")
    wide = rows.pivot_table(index=["law", "scale"], columns="family", values="text", aggfunc="\n".join, sort=False).dropna()
    scales = sorted(wide.index.unique("scale"))
    wide = wide[wide.index.isin({scales[0], scales[len(scales) // 2], scales[-1]}, level="scale")]
    cells = [[str(prompt), f"{scale:g}", *wide.loc[(prompt, scale), ["sequential", "joint"]]] for prompt, scale in wide.index]
    return ("prompt", "γ", "sequential", "joint"), cells


def source(frame: pd.DataFrame) -> str:
    """Return the model, the prompts and the length."""
    return f"{frame['model'].iloc[0]}, {frame['law'].nunique()} prompts, {frame['length'].max():g} tokens"


def adherence(frame: pd.DataFrame) -> tuple[float, Difference] | None:
    """Return the largest γ with converged particles, and joint minus sequential adherence there; None if there is none."""
    converged = _compared(frame)
    if not converged:
        return None
    scale = max(converged)
    same = comparison.pooled([row.adherence for row in converged[scale]])
    return scale, Difference(same.value, same.half, SMALLEST["adherence"])


def _compared(frame: pd.DataFrame) -> dict[float, list[comparison.Compared]]:
    """Return the comparisons of all prompts at every γ above 1 where all particles converged."""
    joint = frame[(frame["family"] == "joint") & (frame["scale"] > 1)]
    pairs = joint[["law", "scale"]].drop_duplicates().itertuples(index=False)
    rows = [comparison.compared(frame, str(prompt), float(scale)) for prompt, scale in pairs]
    doubted = {row.scale for row in rows if not row.consistent}
    return {scale: [row for row in rows if row.scale == scale] for scale in {row.scale for row in rows} - doubted}


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return the difference of the two laws, at equal γ and at equal adherence, for the largest γ with converged particles."""
    found, converged = adherence(frame), _compared(frame)
    if found is None:
        nothing = "At no γ above 1 did the particles find every joint law."
        return Verdict("difference of adherence at equal γ", "not converged", nothing)
    scale, change = found
    sampled = frame.loc[(frame["family"] == "joint") & (frame["scale"] > 1), "scale"]
    doubts = ", ".join(f"{each:g}" for each in sorted(set(sampled) - set(converged)))
    doubt = f"\nAt γ = {doubts} the particles did not converge for every prompt, and nothing follows there." if doubts else ""
    return Verdict(
        f"joint minus sequential adherence at γ = {scale:g}, mean over prompts",
        f"{signed(change.mean, '.2f')} ± {change.half:.2f} nats per text",
        f"At equal γ, joint minus sequential adherence is {change.text} nats per text ({change.smallest:g} would matter): "
        f"{change.answer}.\n{_matched(converged[scale])}{doubt}",
    )


def _matched(rows: list[comparison.Compared]) -> str:
    """Return a sentence on the difference of the two laws at equal adherence."""
    found = [row for row in rows if row.matched is not None]
    if not found:
        return "The sequential law has the joint law's adherence at no γ that was sampled."
    own, theirs = sum(row.own for row in found) / len(found), comparison.pooled([row.matched for row in found])
    loss = Difference(theirs.value, theirs.half, SMALLEST["log perplexity"])
    part = "" if len(found) == len(rows) else f", for {len(found)} of {len(rows)} prompts"
    return (
        f"The sequential law has the same adherence at γ = {own:.2f}{part}; there the joint law's log perplexity under the "
        f"conditional model, minus the sequential one's, is {loss.text} nats per token ({loss.smallest:g} would matter): "
        f"{loss.answer}."
    )


EXPERIMENT = Experiment(
    name="text",
    title="Text of a language model",
    claim="“I don't think this has been extensively tested at this point”: sequential guidance of language models, and whether "
    "the joint law would be another in practice.",
    run=run,
    verdict=verdict,
    source=source,
    tables=(
        Grid(
            samples,
            "Texts of both laws after the same prompt, the first of one run, not selected. Where the particles did not "
            "converge, those of the joint law are only partly corrected.",
            wide=True,
            verbatim=True,
        ),
    ),
    plots=(
        Plot(
            "text",
            (figures.adherence, figures.perplexity, figures.diversity),
            "Adherence to the prompt, perplexity and diversity against γ, means over the prompts with 95 % intervals as "
            "bands; hollow points: the particles did not converge, so nothing follows from them.",
        ),
        Plot(
            "text_gap",
            (figures.matched, figures.gap, figures.share),
            "Left: the same texts at equal adherence. Middle: the gap between the two laws against length, a line per prompt "
            "and scale. Right: the effective sample size of sequential samples weighted towards the joint law, per sample.",
        ),
    ),
)
