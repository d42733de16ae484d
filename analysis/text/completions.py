r"""Draw completions of prompts, from the sequential or the joint law under guidance.

Batch i of a run draws from the seed (seed, i), whatever ran before it, so that a run can be resumed or shared. Stop tokens,
penalties and the like are those of the model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import TextStreamer

import arguide
from analysis import limits
from analysis.text.joint_draws import DIAGNOSIS, Acceptance, Kept, Ladders, Particles
from analysis.text.loading import Loaded
from analysis.text.tokens import PLAIN, Chat, Encoded, Request, encode, guidance, law, pad_token, stop_tokens, text_of
from arguide.text.prompts import padded


@dataclass(frozen=True)
class Sampling:
    """The settings of draws.

    Attributes:
        temperature: τ, applied after guidance.
        top_p: the probability of the likeliest tokens that are kept; 1 keeps all.
        top_k: the number of likeliest tokens that are kept; 0 keeps all.
        greedy: take the likeliest token instead.
        num_samples: completions per prompt.
        max_new_tokens: the maximum length of a completion.
        plausibility: α; tokens with p_c(v) < α max p_c are left out.
        chat: the settings of the chat.
        seed: the seed of every batch, together with its index.
        joint: the settings of draws from the joint law; None for the sequential law.
        prior: π, the prior of the prompt in a mixture with the negative one; None for plain guidance.

    Raises:
        ValueError: a number out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    greedy: bool = False
    num_samples: int = 1
    max_new_tokens: int = 64
    plausibility: float = 0.0
    chat: Chat = PLAIN
    seed: int = 0
    joint: Particles | Ladders | Acceptance | None = None
    prior: float | None = None

    def __post_init__(self) -> None:
        if self.prior is not None and not 0 < self.prior <= 1:
            raise ValueError(f"--prior must be in (0, 1], got {self.prior:g}")
        if self.joint is not None and (self.temperature, self.top_p, self.top_k, self.greedy) != (1.0, 1.0, 0, False):
            raise ValueError("the joint law has --power in the place of --temperature, --top-p, --top-k and --greedy")
        try:
            limits.check_range("--temperature", self.temperature)
        except ValueError as error:
            raise ValueError(f"{error}; --greedy is the limit at 0") from None
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top-p must be in (0, 1], got {self.top_p:g}")
        if not 0 <= self.plausibility <= 1:
            raise ValueError(f"--plausibility must be in [0, 1], got {self.plausibility:g}")
        if self.greedy and self.num_samples > 1:
            raise ValueError("--greedy has one completion per prompt; leave out --num-samples")

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `generate`."""
        if self.greedy:
            return {"do_sample": False}
        law = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        return law | {"do_sample": True, "num_return_sequences": self.num_samples}

    def encode(self, loaded: Loaded, requests: Sequence[Request]) -> list[Encoded]:
        """Return requests in tokens, see `tokens.encode`.

        Raises:
            ValueError: a prior, and a request without a negative prompt or a model for it; and as `tokens.encode`.
        """
        given = loaded.negative is not None or self.chat.negative_system is not None
        if self.prior is not None and not given and any(request.negative is None for request in requests):
            raise ValueError(
                "--prior needs a negative for every prompt; give --negative, --negative-model or a column negative"
            )
        return encode(loaded, requests, self.max_new_tokens, chat=self.chat)


class Completion(NamedTuple):
    """The text after a prompt, its number of tokens without the stop token, and the diagnosis of the joint law, if any."""

    text: str
    tokens: int
    diagnosis: arguide.Diagnosis | arguide.Ladder | Kept | None = None

    def record(self) -> dict[str, Any]:
        """Return the columns of a table."""
        found = {name: getattr(self.diagnosis, name) for name in DIAGNOSIS if hasattr(self.diagnosis, name)}
        numbers = {name: float(value) if isinstance(value, torch.Tensor) else value for name, value in found.items()}
        return {"completion": self.text, "tokens": self.tokens} | numbers


def complete(
    loaded: Loaded, batch: Sequence[Encoded], sampling: Sampling, index: int = 0, streamer: Any = None
) -> list[list[Completion]]:
    """Return the completions of every prompt of a batch.

    Args:
        loaded: the models.
        batch: the prompts.
        sampling: the settings of the draws.
        index: the index of the batch in its run.
        streamer: prints tokens while they are generated, see `transformers`.

    Raises:
        ValueError: a batch that exceeds the memory.
    """
    if sampling.joint is not None:
        return [_complete_joint(loaded, each, sampling, sampling.joint, (index, i)) for i, each in enumerate(batch)]
    device, pad = loaded.model.device, pad_token(loaded)
    prompt = padded([each.prompt for each in batch], pad).to(device)
    try:
        with _seeded((sampling.seed, index), device):
            out = arguide.guided(loaded.model).generate(
                prompt.inputs,
                attention_mask=prompt.mask,
                pad_token_id=pad,
                eos_token_id=list(stop_tokens(loaded)) or None,
                guidance=guidance(loaded, batch, sampling.plausibility, sampling.prior),
                streamer=streamer,
                max_new_tokens=sampling.max_new_tokens,
                num_beams=1,
                **sampling.arguments(),
            )
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{device} has too little memory for {len(batch)} prompts at once; lower --batch-size") from error
    new = out[:, 1 if loaded.model.config.is_encoder_decoder else prompt.width :].reshape(len(batch), sampling.num_samples, -1)
    return [[_completion(loaded, each, row) for row in rows] for each, rows in zip(batch, new.tolist(), strict=True)]


def _complete_joint(
    loaded: Loaded, encoded: Encoded, sampling: Sampling, joint: Particles | Ladders | Acceptance, index: tuple[int, int]
) -> list[Completion]:
    """Return the completions of one prompt under the joint law."""
    length = sampling.max_new_tokens
    given: Any = {"max_new_tokens": length, "plausibility": sampling.plausibility, "prior": sampling.prior}
    guided = law(loaded, encoded, temperature=1 / joint.power, cap=joint.cap, **given)
    generator = torch.Generator(loaded.model.device).manual_seed(_seed((sampling.seed, *index)))
    texts, diagnosis = joint.draw(guided, encoded.scale, sampling.num_samples, length, generator)
    return [_completion(loaded, encoded, row)._replace(diagnosis=diagnosis) for row in texts.tolist()]


def records(
    loaded: Loaded, requests: Sequence[Request], sampling: Sampling, size: int, *, stream: bool = False
) -> list[dict[str, Any]]:
    """Return one record per completion.

    Args:
        loaded: the models.
        requests: the prompts.
        sampling: the settings of the draws.
        size: prompts per batch.
        stream: whether to print the text while it is generated.

    Raises:
        ValueError: as `encode` and `complete`.
    """
    encoded = sampling.encode(loaded, requests)
    streamer = TextStreamer(loaded.tokenizer, skip_prompt=True, skip_special_tokens=True) if stream else None
    done: list[list[Completion]] = []
    for index, start in enumerate(range(0, len(encoded), size)):
        done += complete(loaded, encoded[start : start + size], sampling, index, streamer)
    return [
        {"index": i} | request._asdict() | {"sample": sample} | completion.record()
        for i, (request, completions) in enumerate(zip(requests, done, strict=True))
        for sample, completion in enumerate(completions)
    ]


def _completion(loaded: Loaded, encoded: Encoded, tokens: list[int]) -> Completion:
    stops = stop_tokens(loaded)
    length = next((i for i, token in enumerate(tokens) if token in stops), len(tokens))
    return Completion(text_of(loaded, encoded.prompt, tokens[:length]), length)


@contextmanager
def _seeded(seed: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch, from which `generate` draws, and restore their states."""
    devices = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(_seed(seed))
        yield


def _seed(seed: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
