r"""Measure the scale factors of texts under a guided law of a language model, relative to a base law.

    guidance      Σ_k w_k log p_k = β (γ log p_c + (1 − γ) log p_u),    base p_u, the unconditional law
    temperature   the same with γ = 1 and no negative,                   base p_c, the model's own law

with β = 1/τ. The base law has the same stop tokens, and its texts are truncated at the cap.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch

from analysis import limits
from analysis.frames import Track
from analysis.metrics.gap_estimates import Measurement, Plan, measure
from analysis.text.loading import Loaded
from analysis.text.tokens import PLAIN, Chat, Request, check_cap, encode, law, stop_tokens, text_of
from arguide.sampling import retrace


@dataclass(frozen=True)
class Target:
    """A guided law of the text after a prompt.

    Attributes:
        prompt: the prompt.
        negative: the negative prompt; None for the last token of the prompt.
        scale: γ.
        temperature: τ.
        power: β = 1/τ, instead of τ.
        max_new_tokens: T, the maximum length of a text.
        cap: the meaning of T, "truncate" or "force", see `arguide.stopping`.
        chat: the settings of the chat.

    Raises:
        ValueError: a number out of range, both τ and β, or another cap.
    """

    prompt: str
    negative: str | None
    scale: float
    temperature: float | None = None
    power: float | None = None
    max_new_tokens: int = 20
    cap: str = "truncate"
    chat: Chat = PLAIN

    def __post_init__(self) -> None:
        if not abs(self.scale) <= limits.WIDEST:
            raise ValueError(f"--scale must be finite, and at most {limits.WIDEST:g}, got {self.scale:g}")
        if self.temperature is not None and self.power is not None:
            raise ValueError("give either --temperature or --power, which is 1/temperature")
        for name, value in (("--temperature", self.temperature), ("--power", self.power)):
            if value is not None:
                limits.check_range(name, value)
        check_cap(self.cap)

    @property
    def tau(self) -> float:
        """τ, from the temperature or the power."""
        return self.temperature or 1 / (self.power or 1.0)

    @property
    def base(self) -> str:
        """The base law of the factors: "unconditional", or "model" if only the conditional branch has weight."""
        alone = self.negative is None and self.chat.negative_system is None
        return "model" if self.scale == 1 and alone else "unconditional"

    def settings(self) -> dict[str, Any]:
        """Return the settings of the law, both τ and β included."""
        return asdict(self) | {"temperature": self.tau, "power": 1 / self.tau}


class Laws(NamedTuple):
    """The guided law, its base law, those of both prompts, the tokens of the prompt, and the tokens that end a text."""

    law: Any
    base: Any
    pair: tuple[Any, Any]
    prompt: list[int]
    ends: tuple[int, ...]


def laws(loaded: Loaded, target: Target) -> Laws:
    """Return the laws of a target.

    Raises:
        ValueError: an unreadable prompt, no room in the context, or no stop token for the cap to force.
    """
    request, length = Request(target.prompt, target.negative, target.scale), target.max_new_tokens
    encoded = encode(loaded, [request], length, chat=target.chat)[0]
    ends = stop_tokens(loaded)
    guided = law(loaded, encoded, max_new_tokens=length, temperature=target.tau, cap=target.cap)
    cond, uncond = (law(loaded, encoded._replace(scale=scale), max_new_tokens=length) for scale in (1.0, 0.0))
    return Laws(guided, cond if target.base == "model" else uncond, (cond, uncond), encoded.prompt, ends)


def measure_texts(
    loaded: Loaded, target: Target, plan: Plan, *, texts: Sequence[str] = (), seed: int = 0, track: Track = iter
) -> Measurement:
    """Measure the scale factors of texts; the frame of sequences starts with a column of the texts.

    Args:
        loaded: the models.
        target: the guided law.
        plan: the numbers of samples, particles and runs.
        texts: the texts; by default samples of the sequential law.
        seed: the seed of the random generator.
        track: makes a progress bar.

    Raises:
        ValueError: as `laws` and `gap_estimates.measure`, or too little memory.
    """
    found = laws(loaded, target)
    generator = torch.Generator(loaded.model.device).manual_seed(seed)
    given = [tokens_of(loaded, found, target, text) for text in texts]
    try:
        measured = measure(found.law, found.base, target.max_new_tokens, plan, given=given, generator=generator, track=track)
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{loaded.model.device} has too little memory; lower --particles") from error
    whole = (row[:-1] if row[-1] in found.ends else row for row in measured.tokens)
    measured.sequences.insert(0, "text", list(texts) or [text_of(loaded, found.prompt, row) for row in whole])
    measured.sequences["log_ratio"] = log_ratios(found, measured.tokens, target.max_new_tokens, plan.particles)
    return measured


def log_ratios(found: Laws, tokens: Sequence[list[int]], length: int, size: int) -> list[float]:
    """Return log p(x|y)/p(x) of texts, the log-probability after the prompt minus that after the negative one.

    Args:
        found: the laws.
        tokens: the texts.
        length: T, the cap.
        size: texts per batch.
    """
    pad, out = found.ends[0] if found.ends else 0, []
    for start in range(0, len(tokens), size):
        part = tokens[start : start + size]
        rows = torch.tensor([[*text, *[pad] * (length - len(text))] for text in part])
        after = torch.arange(length) >= torch.tensor([len(text) for text in part])[:, None]
        cond, uncond = (retrace(each, rows).log_proposal.cpu().double() for each in found.pair)
        out += (cond - uncond).masked_fill(after[:, : cond.shape[1]], 0.0).sum(1).tolist()
    return out


def quantiles(sequences: pd.DataFrame) -> dict[str, float]:
    """Return the least, median and largest log ratio of texts, and the quantiles of 5 and 95 %.

    A mixture with prior π bounds the log ratio by −log π; prompts have no natural prior.
    """
    shares = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}
    return {name: float(sequences["log_ratio"].quantile(share)) for name, share in shares.items()}


def tokens_of(loaded: Loaded, found: Laws, target: Target, text: str) -> list[int]:
    """Return the tokens of a continuation, with an end token only if the cap forces one.

    Some tokenizers put a space before every text. A text that starts with a space is then read without it.

    Args:
        loaded: the models.
        found: the laws.
        target: the settings of the guided law.
        text: the continuation.
    """
    read = partial(loaded.tokenizer, add_special_tokens=False)
    tokens: list[int] = read(text).input_ids
    if text.startswith(" ") and text_of(loaded, found.prompt, tokens) != text:
        other = read(text[1:]).input_ids
        tokens = other if text_of(loaded, found.prompt, other) == text else tokens
    if target.cap == "force" and not (tokens and tokens[-1] in found.ends):
        own = loaded.tokenizer.eos_token_id
        tokens = [*tokens, own if own in found.ends else found.ends[0]]
    return tokens


def record(target: Target, plan: Plan, measured: Measurement) -> dict[str, Any]:
    """Return a measurement, ready for JSON.

    Args:
        target: the guided law.
        plan: the numbers of samples, particles and runs.
        measured: the measurement.
    """
    found, whole = measured.diagnosis, measured.lengths.iloc[-1]
    names = ["text", "tokens", "ended", "log_s", "log_s_prime", "log_path", "log_ratio"]
    intervals = measured.sequences[["log_s_low", "log_s_high"]].to_numpy().tolist()
    rows = measured.sequences[names].assign(log_s_interval=pd.Series(intervals))
    return {
        "base": target.base,
        "log_z": found.log_evidence,
        "log_z_std_error": found.std_error,
        "kl_sequential_joint": whole["kl"],
        "kl_interval": [whole["kl_low"], whole["kl_high"]],
        **whole[["kl_per_token", "ess", "ess_share"]],
        "log_ratio": quantiles(measured.sequences),
        "consistent": found.consistent,
        "verdict": found.verdict,
        "law": target.settings() | asdict(plan),
        "lengths": measured.lengths.to_dict("list"),
        "sequences": rows.to_dict("records"),
    }
