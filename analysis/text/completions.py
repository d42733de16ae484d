r"""Completions of prompts under guidance: text to tokens, room in the context, seeded batches, tokens to text.

Every branch reads tokens: the conditional one the prompt, the unconditional one the negative, or the prompt's last token where
there is none. A tokenizer with a chat template renders both as messages of a user. An empty text is the beginning-of-text
token alone.

Batch i of a run draws from the seed (seed, i), whatever ran before it, so that a run can be interrupted or shared out. Stop
tokens, penalties and the like are those that the model brings along.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jinja2 import TemplateError
from transformers import TextStreamer

from analysis import limits
from analysis.text.joint import Joint
from analysis.text.loading import Loaded
from arguide import Diagnosis, Guidance, guided
from arguide.text.prompts import padded


@dataclass(frozen=True)
class Sampling:
    """How to draw.

    Attributes:
        temperature, top_p, top_k: after guidance; 1, 1 and 0 draw from the guided law itself.
        greedy: take the likeliest token instead.
        num_samples: completions a prompt.
        max_new_tokens: the longest completion.
        plausibility: α; tokens with p_c(v) < α max p_c are left out.
        chat: use the tokenizer's chat template if it has one.
        seed: of every batch, together with its index.
        joint: how to draw from the joint law, in the place of the sequential one.

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
    chat: bool = True
    seed: int = 0
    joint: Joint | None = None

    def __post_init__(self) -> None:
        if self.joint is not None and (self.temperature, self.top_p, self.top_k, self.greedy) != (1.0, 1.0, 0, False):
            raise ValueError("the joint law has --power in the place of --temperature, --top-p, --top-k and --greedy")
        try:
            limits.check_range("--temperature", self.temperature)
        except ValueError as error:
            raise ValueError(f"{error}; --greedy is its limit at 0") from None
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top-p must lie in (0, 1], not {self.top_p:g}")
        if not 0 <= self.plausibility <= 1:
            raise ValueError(f"--plausibility must lie in [0, 1], not {self.plausibility:g}")
        if self.greedy and self.num_samples > 1:
            raise ValueError("--greedy has one completion a prompt; leave out --num-samples")

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `generate`."""
        common = {"max_new_tokens": self.max_new_tokens, "num_beams": 1}
        if self.greedy:
            return common | {"do_sample": False}
        law = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        return common | law | {"do_sample": True, "num_return_sequences": self.num_samples}


class Request(NamedTuple):
    """A prompt, what to steer away from (None for the prompt's last token), and the scale γ."""

    prompt: str
    negative: str | None
    scale: float


class Encoded(NamedTuple):
    """A request in tokens."""

    prompt: list[int]
    negative: list[int] | None
    scale: float


DIAGNOSIS = ("log_evidence", "std_error", "consistent", "verdict")  # what a record has of the diagnosis of a joint law


class Completion(NamedTuple):
    """The text after a prompt, of how many tokens it is, stop tokens not counted, and what is told of the joint law."""

    text: str
    tokens: int
    diagnosis: Diagnosis | None = None

    def record(self) -> dict[str, Any]:
        """Return what a table has of it."""
        record = {"completion": self.text, "tokens": self.tokens}
        if self.diagnosis is None:
            return record
        return record | {name: getattr(self.diagnosis, name) for name in DIAGNOSIS}


def encode(loaded: Loaded, requests: Sequence[Request], sampling: Sampling) -> list[Encoded]:
    """Return requests in tokens.

    Raises:
        ValueError: an empty text without a beginning-of-text token, or more tokens than the context has room for.
    """
    out = []
    for i, (prompt, negative, scale) in enumerate(requests):
        where = f" {i + 1}" if len(requests) > 1 else ""
        cond = _tokens(loaded, prompt, f"prompt{where}", chat=sampling.chat)
        uncond = None if negative is None else _tokens(loaded, negative, f"negative{where}", chat=sampling.chat)
        _check_room(loaded.model, f"prompt{where}", cond, sampling.max_new_tokens)
        name = f"prompt{where}, for the negative model," if uncond is None else f"negative{where}"
        if uncond is not None or loaded.negative is not None:
            _check_room(loaded.negative or loaded.model, name, uncond or cond, sampling.max_new_tokens)
        out.append(Encoded(cond, uncond, scale))
    return out


def complete(
    loaded: Loaded, batch: Sequence[Encoded], sampling: Sampling, index: int = 0, streamer: Any = None
) -> list[list[Completion]]:
    """Return the completions of every prompt of a batch, which is the one of this index in its run.

    Raises:
        ValueError: a batch for which the memory is too small.
    """
    if sampling.joint is not None:
        return [_complete_joint(loaded, each, sampling, (index, i)) for i, each in enumerate(batch)]
    device, pad = loaded.model.device, _pad(loaded.tokenizer)
    prompt = padded([each.prompt for each in batch], pad).to(device)
    try:
        with _seeded((sampling.seed, index), device):
            out = guided(loaded.model).generate(
                prompt.inputs,
                attention_mask=prompt.mask,
                pad_token_id=pad,
                eos_token_id=stop_tokens(loaded),
                guidance=guidance(loaded, batch, sampling.plausibility),
                streamer=streamer,
                **sampling.arguments(),
            )
    except torch.OutOfMemoryError as error:
        raise ValueError(f"{device} has too little memory for {len(batch)} prompts at once; lower --batch-size") from error
    read = 1 if loaded.model.config.is_encoder_decoder else prompt.width
    texts = [_completion(loaded, batch[i // sampling.num_samples], row) for i, row in enumerate(out[:, read:].tolist())]
    return [texts[i : i + sampling.num_samples] for i in range(0, len(texts), sampling.num_samples)]


def _complete_joint(loaded: Loaded, encoded: Encoded, sampling: Sampling, index: tuple[int, int]) -> list[Completion]:
    """Return the completions of one prompt under the joint law."""
    assert sampling.joint is not None
    law = sampling.joint.law(
        loaded,
        encoded.prompt,
        guidance(loaded, [encoded], sampling.plausibility),
        max_new_tokens=sampling.max_new_tokens,
        stops=stop_tokens(loaded),
    )
    generator = torch.Generator(loaded.model.device).manual_seed(_seed((sampling.seed, *index)))
    texts, diagnosis = sampling.joint.draw(law, sampling.num_samples, sampling.max_new_tokens, generator)
    return [_completion(loaded, encoded, row)._replace(diagnosis=diagnosis) for row in texts.tolist()]


def records(
    loaded: Loaded, requests: Sequence[Request], sampling: Sampling, size: int, *, stream: bool = False
) -> list[dict[str, Any]]:
    """Return one record a completion, after reading `size` prompts at once; print the text as it comes if asked.

    Raises:
        ValueError: as `encode` and `complete`.
    """
    encoded = encode(loaded, requests, sampling)
    streamer = TextStreamer(loaded.tokenizer, skip_prompt=True, skip_special_tokens=True) if stream else None
    done: list[list[Completion]] = []
    for index, start in enumerate(range(0, len(encoded), size)):
        done += complete(loaded, encoded[start : start + size], sampling, index, streamer)
    return [
        {"index": i} | request._asdict() | {"sample": sample} | completion.record()
        for i, (request, completions) in enumerate(zip(requests, done, strict=True))
        for sample, completion in enumerate(completions)
    ]


def _tokens(loaded: Loaded, text: str, name: str, *, chat: bool) -> list[int]:
    tokenizer = loaded.tokenizer
    try:
        text.encode()
    except UnicodeEncodeError as error:  # bytes of an argument or file that are no text become lone surrogates
        raise ValueError(f"the {name} is not text in UTF-8") from error
    if text and chat and tokenizer.chat_template:
        ids = tokenizer(_rendered(tokenizer, text), add_special_tokens=False).input_ids
    elif text or loaded.model.config.is_encoder_decoder:  # an encoder's end token is a text too
        ids = tokenizer(text).input_ids
    else:
        ids = []
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:  # written out in the text, and added
        ids = ids[1:]
    if not ids and bos is None:
        raise ValueError(f"the {name} is empty, and the tokenizer has no beginning-of-text token to stand for it")
    return ids or [bos]


def _rendered(tokenizer: Any, text: str) -> str:
    try:
        return tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False)
    except (TemplateError, ValueError) as error:
        raise ValueError(f"the chat template refuses the text ({error}); --no-chat does without it") from error


def _check_room(model: Any, name: str, ids: list[int], new: int) -> None:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return
    if not model.config.is_encoder_decoder and len(ids) + new > limit:
        raise ValueError(f"the {name} has {len(ids)} tokens; with {new} new ones they exceed the model's context of {limit}")
    if max(len(ids), new + 1) > limit:  # an encoder-decoder has room for each; the decoder starts with a token of its own
        raise ValueError(f"the {name} has {len(ids)} tokens, the text up to {new}; the model's context is {limit} for each")


def guidance(loaded: Loaded, batch: Sequence[Encoded], plausibility: float = 0.0) -> Guidance:
    """Return the settings of a batch's guided law; if any row has a negative, the default of the others is written out."""
    scales = torch.tensor([each.scale for each in batch], dtype=torch.float64)
    settings = Guidance(guidance_scale=scales, negative_model=loaded.negative, plausibility=plausibility)
    if all(each.negative is None for each in batch):
        return settings
    rows = [each.negative or (each.prompt[-1:] if loaded.negative is None else each.prompt) for each in batch]
    negative = padded(rows, _pad(loaded.tokenizer)).to(loaded.model.device)
    return replace(settings, negative_prompt_ids=negative.inputs, negative_prompt_attention_mask=negative.mask)


def _pad(tokenizer: Any) -> int:
    """Return a token to pad with; behind the mask any will do."""
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)


def stop_tokens(loaded: Loaded) -> list[int] | None:
    """Return the tokens that end a text: the model's own, else the tokenizer's."""
    own = loaded.model.generation_config.eos_token_id
    given = loaded.tokenizer.eos_token_id if own is None else own
    return [given] if isinstance(given, int) else given


def _completion(loaded: Loaded, encoded: Encoded, tokens: list[int]) -> Completion:
    stops = stop_tokens(loaded) or []
    length = next((i for i, token in enumerate(tokens) if token in stops), len(tokens))
    return Completion(text_of(loaded, encoded.prompt, tokens[:length]), length)


def text_of(loaded: Loaded, prompt: list[int], tokens: list[int]) -> str:
    """Return what tokens add to the prompt's text; decoded alone, many would lose the space they start with."""
    decode = loaded.tokenizer.decode
    if not loaded.model.config.is_encoder_decoder:
        before, whole = (decode(ids, skip_special_tokens=True) for ids in (prompt, prompt + tokens))
        if whole.startswith(before):
            return whole[len(before) :]
    return decode(tokens, skip_special_tokens=True)


@contextmanager
def _seeded(seed: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Seed torch's global generators, which `generate` draws from, and put back the states they had."""
    devices = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(_seed(seed))
        yield


def _seed(seed: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
