"""What a prior buys on real text: coherent guidance beside plain guidance of the same mean ratio.

    python -m benchmarks.coherent_text [--texts 512] [--tokens 48] [--model FOLDER]

For each scale γ and prior π it draws texts after one prompt, guided away from another, and prints

    ratio        mean of log p(x|prompt)/p(x|negative), in nats: how much a text fits the prompt rather than the negative
    log p        mean of log p(x|prompt): how likely a text is under the model, a measure of fluency
    distinct     share of the texts whose first eight tokens no other text has

each with its standard error. *Gain* is log p, or distinct, minus that of plain guidance at the scale that has the same ratio,
interpolated between the measured scales. A positive gain means that the prior buys something that a smaller γ does not.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import arguide
from benchmarks.models import STORIES

PROMPT, NEGATIVE = "Lily had a big dog named Max.", "Once upon a time"
SCALES, BOUNDS = (1.5, 2.0, 3.0, 5.0, 10.0), (0.7, 5.0, 10.0, 20.0, 30.0, 40.0)  # γ, and −log π in nats
PLAIN = (1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)


class Measured(NamedTuple):
    """Means of the ratio, log p and distinct over texts, [3], and their standard errors, [3]."""

    mean: Tensor
    error: Tensor


class Cell(NamedTuple):
    """A scale, −log π (∞ for plain guidance), what was measured, and the gains over plain guidance with their errors."""

    scale: float
    bound: float
    found: Measured
    gain: Measured


def draw(model: Any, prompts: tuple[Tensor, Tensor], scale: float, prior: float | None, texts: int, tokens: int) -> Measured:
    """Draw texts by `generate`, and measure them.

    Args:
        model: a guided view.
        prompts: the prompt and the negative prompt, [1, L] each.
        scale: γ.
        prior: π; None for plain guidance.
        texts: number of texts.
        tokens: number of tokens of each; none ends a text.
    """
    given = {"negative_prompt_ids": prompts[1], "guidance_prior": prior}
    options = {"do_sample": True, "top_k": 0, "num_return_sequences": texts, "pad_token_id": 0}
    out = model.generate(prompts[0], guidance_scale=scale, max_new_tokens=tokens, **given, **options)
    rows = out[:, prompts[0].shape[1] :]
    score = arguide.score(model, prompts[0].expand(texts, -1), rows, guidance_scale=0.5, negative_prompt_ids=prompts[1])
    cond, negative = score.branches
    _, index, count = rows[:, :8].unique(dim=0, return_inverse=True, return_counts=True)
    values = torch.stack([cond - negative, cond, (count[index] == 1).float()]).double()
    return Measured(values.mean(1), values.std(1) / texts**0.5)


def gain(found: Measured, curve: Sequence[Measured]) -> Measured:
    """Return log p and distinct minus those of plain guidance with the same ratio, [2], and standard errors.

    Args:
        found: a measured cell.
        curve: plain guidance at increasing scales; a ratio outside its range gives NaN.
    """
    for low, high in itertools.pairwise(curve):
        if low.mean[0] <= found.mean[0] <= high.mean[0]:
            step = high.mean - low.mean
            at, slope = (found.mean[0] - low.mean[0]) / step[0], step[1:] / step[0]
            on_curve = torch.lerp(low.error, high.error, at)
            error = found.error[1:].square() + on_curve[1:].square() + (slope * found.error[0]).square()
            return Measured(found.mean[1:] - torch.lerp(low.mean, high.mean, at)[1:], error.sqrt())
    return Measured(*torch.full((2, 2), torch.nan, dtype=torch.float64))


def measure(
    folder: Path,
    texts: int,
    tokens: int,
    *,
    scales: Sequence[float] = SCALES,
    bounds: Sequence[float] = BOUNDS,
    plain: Sequence[float] = PLAIN,
) -> list[Cell]:
    """Measure plain guidance at some scales, and coherent guidance at every scale and prior.

    Args:
        folder: a model with its tokenizer.
        texts: number of texts per cell.
        tokens: number of tokens of each.
        scales: γ of coherent guidance.
        bounds: its −log π.
        plain: γ of plain guidance, increasing.
    """
    model = arguide.guided(AutoModelForCausalLM.from_pretrained(folder).eval())
    model.generation_config.eos_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt, negative = (tokenizer(text, return_tensors="pt").input_ids for text in (PROMPT, NEGATIVE))
    torch.manual_seed(0)
    curve = [draw(model, (prompt, negative), scale, None, texts, tokens) for scale in plain]
    none = Measured(*torch.full((2, 2), torch.nan, dtype=torch.float64))
    cells = [Cell(scale, torch.inf, each, none) for scale, each in zip(plain, curve, strict=True)]
    for scale in scales:
        for bound in bounds:
            prior = float(torch.tensor(-bound, dtype=torch.float64).exp())
            found = draw(model, (prompt, negative), scale, prior, texts, tokens)
            cells.append(Cell(scale, bound, found, gain(found, curve)))
    return cells


def table(cells: Sequence[Cell]) -> str:
    """Return a table in Markdown."""
    lines = ["| γ | −log π | ratio | log p | distinct | gain in log p | gain in distinct |", "|" + "---|" * 7]
    for cell in cells:
        ratio, likelihood, distinct, more, other = (
            f"{float(mean):.{digits}f} ± {float(error):.{digits}f}"
            for mean, error, digits in zip(
                [*cell.found.mean, *cell.gain.mean], [*cell.found.error, *cell.gain.error], (1, 1, 2, 1, 2), strict=True
            )
        )
        if cell.bound == torch.inf:
            more = other = "–"
        bound = "plain" if cell.bound == torch.inf else f"{cell.bound:g}"
        lines.append(f"| {cell.scale:g} | {bound} | {ratio} | {likelihood} | {distinct} | {more} | {other} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coherent_text", description=__doc__)
    parser.add_argument("--texts", type=int, default=512, help="texts per cell (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of a text (default: %(default)s)")
    parser.add_argument("--model", type=Path, default=STORIES, help="a folder (default: stories260K)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    print(table(measure(given.model, given.texts, given.tokens)))


if __name__ == "__main__":
    main()
