r"""Real text: is the difference between joint and sequential guidance meaningful in practice?

Texts of both laws after the same prompts, at equal γ and at equal adherence, and the gap KL(sequential ‖ joint) against
length. The model is the one given with `--model`, or a tiny one of a made-up language, trained here. At every γ a diagnosis
says whether the particles found the joint law; where they did not, its numbers are shown as such and decide nothing.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis import measurement, practice
from analysis.experiment import Experiment, Plot, Settings, Track, Verdict, pick, tidy
from analysis.figures import text as figures
from analysis.toys import stories

JOINT = (1.0, 1.25, 1.5, 2.0, 3.0)
SEQUENTIAL = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
PROMPTS = {
    "Lily had a big dog named Max.": ("dog", "Max"),
    "Tom found a red ball in the park.": ("ball", "park"),
    "The little bird was sad because it could not fly.": ("bird", "fly"),
}


def run(settings: Settings, track: Track) -> pd.DataFrame:
    """Return adherence, perplexity and diversity by family and scale, and the gap by length, a law a prompt."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the fastest for models this small
    try:
        return tidy(_rows(settings, track))
    finally:
        torch.set_num_threads(threads)


def _rows(settings: Settings, track: Track) -> Iterator[dict[str, Any]]:
    cases = dict(_cases(settings))
    n, length = (32, 12) if settings.quick else (128, 24)
    scales: dict[str, tuple[float, ...]] = {"joint": JOINT, "sequential": SEQUENTIAL, "gap": (1.5, 2.0)}
    if settings.quick:
        scales = {"joint": (1.0, 1.5, 3.0), "sequential": (1.0, 1.5, 2.0, 3.0, 4.0), "gap": (1.5,)}
    jobs = [(prompt, family, scale) for prompt in cases for family, several in scales.items() for scale in several]
    for prompt, family, scale in track(jobs):
        generator = torch.Generator().manual_seed(settings.seed)
        case = {"law": prompt, "family": family, "scale": scale, "length": length}
        if family == "gap":
            yield from _gap(cases[prompt], case, n, generator)
            continue
        if family == "joint":
            groups, diagnosis = practice.joint(cases[prompt], scale, n, length, generator)
            yield case | {"quantity": "log_z", "value": diagnosis.log_evidence, "std_error": diagnosis.std_error}
            yield case | {"quantity": "consistent", "value": float(diagnosis.consistent)}
            yield case | {"quantity": "spread", "value": diagnosis.spread}
        else:
            groups = practice.sequential(cases[prompt], scale, n, length, generator)
        for quantity, value, error in practice.measures(cases[prompt], groups, 64, generator):
            yield case | {"quantity": quantity, "value": value, "std_error": error}


def _gap(case: practice.Case, row: dict[str, Any], n: int, generator: torch.Generator) -> Iterator[dict[str, Any]]:
    """Yield the gap of every prefix length."""
    length = row["length"]
    plan = measurement.Plan(2 * n, n, practice.GROUPS)
    found = measurement.measure(case.law(row["scale"], length), case.law(0.0, length), length, plan, generator=generator)
    for each in found.lengths.to_dict("records"):
        error = float(np.hypot(each["log_z_std_error"], each["log_path_std_error"]))
        at = row | {"family": "sequential", "length": each["length"]}
        yield at | {"quantity": "kl", "value": each["kl"], "std_error": error}
        yield at | {"quantity": "ess_share", "value": each["ess_share"]}


def _cases(settings: Settings) -> Iterator[tuple[str, practice.Case]]:
    if settings.model is None:
        model, tokenizer = stories.train(150 if settings.quick else 300), stories.tokenizer()
        for pet in ("dog",) if settings.quick else ("dog", "fish", "horse"):
            prompt, rest = (tokenizer(f"Lily had a {word} .", return_tensors="pt").input_ids for word in (pet, "pet"))
            yield f"Lily had a {pet} .", practice.Case(model, tokenizer, prompt, rest, (pet,))
        return
    from analysis.loading import Choice, silence

    silence()
    loaded = Choice(settings.model).load(torch.device("cpu"))
    first = loaded.tokenizer.bos_token_id
    if first is None:
        raise ValueError("the model's tokenizer has no beginning-of-text token, which the unconditional branch would read")
    for prompt, words in list(PROMPTS.items())[: 1 if settings.quick else None]:
        ids = loaded.tokenizer(prompt, return_tensors="pt").input_ids
        yield prompt, practice.Case(loaded.model, loaded.tokenizer, ids, torch.tensor([[first]]), words)


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return how far the two laws are apart where runs of the joint one agree: at equal γ, and at equal adherence."""
    joint = frame[(frame["family"] == "joint") & (frame["scale"] > 1)]
    pairs = joint[["law", "scale"]].drop_duplicates().itertuples(index=False)
    rows = [_compared(frame, str(prompt), float(scale)) for prompt, scale in pairs]
    doubted = {row["scale"] for row in rows if not row["consistent"]}
    scale = max((row["scale"] for row in rows if row["scale"] not in doubted), default=None)
    if scale is None:
        return Verdict(
            "difference of adherence at equal γ", "not converged", "At no γ above 1 did the particles find every joint law."
        )
    at = [row for row in rows if row["scale"] == scale]
    adherence, error = _mean(at, "adherence")
    matched, width = _mean(at, "matched")
    equal = [row for row in at if np.isfinite(row["own"])]
    real = "more than its error" if abs(matched) > 2 * width else "within its error"
    doubts = ", ".join(f"{each:g}" for each in sorted(doubted))
    doubt = f" At γ = {doubts} the particles did not converge for every prompt, and nothing follows there." if doubts else ""
    own = float(np.mean([row["own"] for row in equal])) if equal else float("nan")
    return Verdict(
        f"adherence of the joint law less the sequential one's at γ = {scale:g}, mean over prompts",
        f"{adherence:+.2f} ± {2 * error:.2f} nats a text",
        f"At equal γ the joint law follows the prompt by {adherence:+.2f} ± {2 * error:.2f} nats more. The sequential law is "
        f"as adherent at γ = {own:.2f}; there the log perplexity of the joint law under the conditional model differs by "
        f"{matched:+.3f} ± {2 * width:.3f} a token: {real}." + doubt,
    )


def _mean(rows: list[dict[str, Any]], name: str) -> tuple[float, float]:
    pairs = np.array([row[name] for row in rows if np.isfinite(row[name][0])])
    if not len(pairs):
        return float("nan"), float("nan")
    return float(pairs[:, 0].mean()), float(np.sqrt((pairs[:, 1] ** 2).sum()) / len(pairs))


def _compared(frame: pd.DataFrame, prompt: str, scale: float) -> dict[str, Any]:
    """Return the differences of one prompt at one γ, and at the sequential law's own γ of equal adherence."""
    rows = frame[frame["law"] == prompt]
    joint = pick(rows, family="joint", scale=scale).set_index("quantity")
    curve = pick(rows, family="sequential").pivot_table(index="scale", columns="quantity", values=["value", "std_error"])
    value, error = curve["value"], curve["std_error"]
    adherence, loss = joint.loc["adherence"], joint.loc["perplexity, conditional"]
    same = float(adherence["value"] - value["adherence"][scale])
    noise = float(np.hypot(adherence["std_error"], error["adherence"][scale]))
    points = value["adherence"].to_numpy()
    inside = points.min() <= adherence["value"] <= points.max()
    own = float(np.interp(adherence["value"], points, curve.index)) if inside else float("nan")
    theirs = float(np.interp(own, curve.index, np.log(value["perplexity, conditional"])))
    relative = error["perplexity, conditional"] / value["perplexity, conditional"]
    width = float(np.hypot(loss["std_error"] / loss["value"], np.interp(own, curve.index, relative)))
    return {
        "scale": scale,
        "consistent": bool(joint.loc["consistent", "value"]),
        "adherence": (same, noise),
        "own": own,
        "matched": (float(np.log(loss["value"])) - theirs, width),
    }


EXPERIMENT = Experiment(
    name="text",
    title="Text of a language model",
    claim="“I don't think this has been extensively tested at this point”: sequential guidance of language models, and whether "
    "the joint law would be another in practice.",
    run=run,
    verdict=verdict,
    plots=(
        Plot(
            "text",
            (figures.adherence, figures.perplexity, figures.diversity),
            "Adherence to the prompt, perplexity and diversity against γ, means over the prompts with bands of two standard "
            "errors; hollow points: the particles did not converge, so nothing follows from them.",
        ),
        Plot(
            "text_gap",
            (figures.matched, figures.gap, figures.share),
            "Left: the same texts at equal adherence. Middle: the gap between the two laws against length, a line a prompt and "
            "scale. Right: what share of sequential samples counts when they are weighted towards the joint law.",
        ),
    ),
)
