r"""What is measured: a model, a prompt and weights, the base law that scale factors refer to, and texts to tokens and back.

    guidance      Σ_k w_k log p_k = β (γ log p_c + (1 − γ) log p_u),    base p_u, the unconditional law
    temperature   the same with γ = 1 and no negative,                   base p_c, the model's own law

with β = 1/τ. The base law has the same ends; a cap forces none on it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import torch

import arguide
from analysis import limits
from analysis.metrics.gap_estimates import Measurement, Plan, Track, measure
from analysis.text.completions import Request, Sampling, encode, stop_tokens, text_of
from analysis.text.loading import Loaded
from arguide.stopping import CAPS


@dataclass(frozen=True)
class Target:
    """A guided law of what follows a prompt.

    Attributes:
        prompt, negative, scale: as in `completions.Request`.
        temperature, power: τ, or β = 1/τ; not both.
        max_new_tokens, cap: where texts end at the latest, and what that means, see `arguide.stopping`.
        chat: use the tokenizer's chat template if it has one.

    Raises:
        ValueError: a number out of range, both τ and β, or another word for the cap.
    """

    prompt: str
    negative: str | None
    scale: float
    temperature: float | None = None
    power: float | None = None
    max_new_tokens: int = 20
    cap: str = "truncate"
    chat: bool = True

    def __post_init__(self) -> None:
        if not abs(self.scale) <= limits.WIDEST:
            raise ValueError(f"--scale must be finite, and at most {limits.WIDEST:g}, not {self.scale:g}")
        if self.temperature is not None and self.power is not None:
            raise ValueError("give either --temperature or --power, which is 1/temperature")
        for name, value in (("--temperature", self.temperature), ("--power", self.power)):
            if value is not None:
                limits.check_range(name, value)
        if self.cap not in CAPS:
            raise ValueError(f"--cap must be one of {', '.join(CAPS)}, not {self.cap!r}")

    @property
    def tau(self) -> float:
        """τ, from what was given."""
        return self.temperature or 1 / (self.power or 1.0)

    @property
    def base(self) -> str:
        """Which law the factors refer to: "unconditional", or "model" where nothing but the model is in the weights."""
        return "model" if self.scale == 1 and self.negative is None else "unconditional"

    def settings(self) -> dict[str, Any]:
        """Return what decides the law, τ and β both."""
        return asdict(self) | {"temperature": self.tau, "power": 1 / self.tau}


class Laws(NamedTuple):
    """The guided law, its base law, the prompt's tokens, and those that end a text."""

    law: Any
    base: Any
    prompt: list[int]
    ends: tuple[int, ...]


def laws(loaded: Loaded, target: Target) -> Laws:
    """Return the laws of a target.

    Raises:
        ValueError: a prompt that cannot be read, no room in the context, or no end that the cap could force.
    """
    sampling = Sampling(max_new_tokens=target.max_new_tokens, chat=target.chat)
    prompt, negative, _ = encode(loaded, [Request(target.prompt, target.negative, target.scale)], sampling)[0]
    ends = tuple(stop_tokens(loaded) or ())
    if target.cap == "force" and not ends:
        raise ValueError("no token ends this model's texts, so --cap force has nothing to force")
    tensor = partial(torch.tensor, device=loaded.model.device)
    law = partial(
        arguide.continuation,
        loaded.model,
        tensor([prompt]),
        negative_prompt_ids=None if negative is None else tensor([negative]),
        max_new_tokens=target.max_new_tokens,
        eos_token_id=ends,
    )
    guided = law(guidance_scale=target.scale, temperature=target.tau, cap=target.cap)
    return Laws(guided, law(guidance_scale=float(target.base == "model")), prompt, ends)


def measure_texts(
    loaded: Loaded, target: Target, plan: Plan, *, texts: Sequence[str] = (), seed: int = 0, track: Track = iter
) -> Measurement:
    """Measure the scale factors of texts, or of samples from the sequential law; the frame of sequences begins with the text.

    Raises:
        ValueError: as `laws` and `measurement.measure`, or a memory that is too small.
    """
    found = laws(loaded, target)
    generator = torch.Generator(loaded.model.device).manual_seed(seed)
    given = [tokens_of(loaded, found, target, text) for text in texts]
    try:
        measured = measure(found.law, found.base, target.max_new_tokens, plan, given=given, generator=generator, track=track)
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{loaded.model.device} has too little memory for this; lower --particles") from error
    whole = (row[:-1] if row[-1] in found.ends else row for row in measured.tokens)
    measured.sequences.insert(0, "text", list(texts) or [text_of(loaded, found.prompt, row) for row in whole])
    return measured


def tokens_of(loaded: Loaded, found: Laws, target: Target, text: str) -> list[int]:
    """Return a continuation's tokens, none added but the end where the cap forces one.

    Some tokenizers begin every text with a space; a text that begins with one already is then read without it.
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
    """Return what was measured, for JSON."""
    found, whole = measured.diagnosis, measured.lengths.iloc[-1]
    names = ["text", "tokens", "ended", "log_s", "log_s_prime", "log_path"]
    rows = measured.sequences[names].to_dict("records")
    intervals = measured.sequences[["log_s_low", "log_s_high"]].to_numpy().tolist()
    return {
        "base": target.base,
        "log_z": found.log_evidence,
        "log_z_std_error": found.std_error,
        "kl_sequential_joint": whole["kl"],
        "kl_interval": [whole["kl_low"], whole["kl_high"]],
        "kl_per_token": whole["kl_per_token"],
        "ess": whole["ess"],
        "ess_share": whole["ess_share"],
        "consistent": found.consistent,
        "verdict": found.verdict,
        "law": target.settings() | asdict(plan),
        "lengths": measured.lengths.to_dict("list"),
        "sequences": [row | {"log_s_interval": interval} for row, interval in zip(rows, intervals, strict=True)],
    }
