r"""Write a measurement of texts for the page `docs/explore`, token by token.

The file is one JSON object. `log_…` are natural logarithms with six decimals; the lists of a text have one entry per token.

    format, version     "arguide text", 1
    model, prompt       names; negative is null for the last token of the prompt
    scale, temperature  γ and τ
    base                "unconditional" or "model", the base law p of the scale factors
    max_new_tokens      T
    log_z               log Ẑ of T tokens; log_z_std_error, its standard error
    kl                  KL(sequential ‖ joint) in nats; kl_interval, its 95 % interval, null where it has no bounds
    verdict             the diagnosis of log Ẑ in one line; consistent, whether runs and probes agree
    texts               a list of texts:
        law             "sequential" or "joint", the law of the draw, or "given"
        tokens          texts of the tokens; "" for the token that ends a text, the name of one without a text of its own
        ended           whether the last token ends the text
        log_target      Σ_k w_k log p_k(x_t|x_<t)
        log_normalizer  log Z_t(x_<t)
        log_base        log p(x_t|x_<t)
        log_z           log Ẑ of the text's own length, if it has not ended

So log q(x) = Σ (log_target − log_normalizer) of the sequential law, log p(x) = Σ log_target − log_z of the joint one, and their
difference is Σ log Z_t − log Z. Joint texts are drawn by weight from the particles of all runs together, so some may repeat.
"""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import arguide
from analysis.files import run_folder
from analysis.metrics.gap_estimates import Measurement, Texts, own_log_z, read
from analysis.text.loading import Loaded
from analysis.text.measured_texts import Laws, Target, laws
from analysis.text.tokens import text_of

FORMAT, VERSION = "arguide text", 1
SHOWN = 12  # texts of each law
DIGITS = 6
UNFINISHED = "\ufffd"  # stands for bytes that are no character yet


def record(loaded: Loaded, target: Target, measured: Measurement, *, model: str, seed: int = 0) -> dict[str, Any]:
    """Return the content of the file, see the docstring of the module.

    Args:
        loaded: the models.
        target: the guided law.
        measured: its measurement.
        model: the name of the model.
        seed: the seed of the draws from the particles.
    """
    found, whole, asked = measured.diagnosis, measured.lengths.iloc[-1], target.settings()
    length = target.max_new_tokens
    its = laws(loaded, target)
    joint = read(its.law, its.base, joint_tokens(measured, its.ends, seed), length)
    groups = {"sequential": measured.drawn, "joint": joint}
    if measured.texts is not measured.drawn:
        groups = {"given": measured.texts} | groups
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        **{name: asked[name] for name in ("prompt", "negative", "scale", "temperature", "max_new_tokens")},
        "base": target.base,
        "log_z": _rounded(found.log_evidence),
        "log_z_std_error": _rounded(found.std_error),
        "kl": _rounded(whole["kl"]),
        "kl_interval": [_rounded(whole["kl_low"]), _rounded(whole["kl_high"])],
        "verdict": found.verdict,
        "consistent": bool(found.consistent),
        "texts": [text for law, texts in groups.items() for text in _texts(loaded, its, law, texts, measured)],
    }


def save(path: Path, content: dict[str, Any]) -> None:
    """Write the file atomically.

    Raises:
        ValueError: the folder cannot be written, or the disk is full.
    """
    run_folder.write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")


def joint_tokens(measured: Measurement, ends: Sequence[int], seed: int) -> list[list[int]]:
    """Return texts of the joint law in tokens, up to the first ending token.

    Args:
        measured: the measurement, with its particles.
        ends: the tokens that end a text.
        seed: the seed of the draws.
    """
    particles = arguide.pooled(measured.runs)
    generator = torch.Generator(particles.log_weights.device).manual_seed(seed)
    rows = particles.draw(SHOWN, generator).tolist()
    return [row[: next((i + 1 for i, token in enumerate(row) if token in ends), len(row))] for row in rows]


def pieces(loaded: Loaded, prompt: list[int], tokens: list[int]) -> list[str]:
    """Return the text that every token adds; for a token that adds none, or ends within a character, its name.

    Args:
        loaded: the models.
        prompt: the tokens of the prompt.
        tokens: the tokens after it.
    """
    before = [text_of(loaded, prompt, tokens[:t]) for t in range(len(tokens) + 1)]
    added = [whole.removeprefix(start.rstrip(UNFINISHED)) for start, whole in pairwise(before)]
    named = loaded.tokenizer.convert_ids_to_tokens(tokens)
    return [name if piece.endswith(UNFINISHED) else piece or name for piece, name in zip(added, named, strict=True)]


def _texts(loaded: Loaded, its: Laws, law: str, texts: Texts, measured: Measurement) -> Iterator[dict[str, Any]]:
    log_z = own_log_z(texts, measured.log_z)
    for i, size in enumerate(texts.sizes[:SHOWN].tolist()):
        tokens, ended = texts.tokens[i, :size].tolist(), bool(texts.ended[i])
        columns = {name: getattr(texts, name)[i, :size].tolist() for name in ("log_target", "log_normalizer", "log_base")}
        yield {
            "law": law,
            "tokens": [*pieces(loaded, its.prompt, tokens[:-1]), ""] if ended else pieces(loaded, its.prompt, tokens),
            "ended": ended,
            **{name: list(map(_rounded, values)) for name, values in columns.items()},
            "log_z": _rounded(log_z[i].value),
        }


def _rounded(value: float) -> float | None:
    return round(float(value), DIGITS) if math.isfinite(value) else None
