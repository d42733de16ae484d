r"""Translate prompts into tokens, tokens into text, and a prompt into its guided law.

The conditional branch reads the prompt. The unconditional branch reads the negative prompt or, without one, the last token of
the prompt. A tokenizer with a chat template renders both as messages of a user, each after its system prompt, if any. An empty
text is the beginning-of-text token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jinja2 import TemplateError

import arguide
from analysis.text.loading import Loaded
from arguide.text.prompts import padded


class Request(NamedTuple):
    """A prompt, its negative prompt (None for the last token of the prompt), and the scale γ."""

    prompt: str
    negative: str | None
    scale: float


class Encoded(NamedTuple):
    """A request in tokens."""

    prompt: list[int]
    negative: list[int] | None
    scale: float


@dataclass(frozen=True)
class Chat:
    """Settings that turn texts into the messages of a chat.

    Attributes:
        template: use the chat template of the tokenizer, if any.
        system: the system prompt; None for none of one's own, in which case some templates write theirs.
        negative_system: the system prompt of the negative prompt, which is by default the prompt itself; None for `system`.
    """

    template: bool = True
    system: str | None = None
    negative_system: str | None = None

    def pair(self, request: Request) -> tuple[list[dict[str, str]], list[dict[str, str]] | None]:
        """Return the messages of the prompt, and those of the negative prompt, if any."""
        own = _messages(request.prompt, self.system)
        if self.negative_system is None:
            return own, None if request.negative is None else _messages(request.negative, self.system)
        return own, _messages(request.prompt if request.negative is None else request.negative, self.negative_system)


PLAIN = Chat()


def encode(loaded: Loaded, requests: Sequence[Request], max_new_tokens: int, *, chat: Chat = PLAIN) -> list[Encoded]:
    """Return requests in tokens.

    Args:
        loaded: the models.
        requests: the prompts.
        max_new_tokens: the cap, for which the contexts must have room.
        chat: how the texts become messages, if the tokenizer has a chat template.

    Raises:
        ValueError: an empty text without a beginning-of-text token, a system prompt without a chat template, or more tokens
            than the context has room for.
    """
    template = chat.template and bool(loaded.tokenizer.chat_template)
    if not template and (chat.system, chat.negative_system) != (None, None):
        missing = "the chat template" if not chat.template else "a tokenizer with a chat template"
        raise ValueError(f"--system and --negative-system need {missing}; leave them out")
    out = []
    for i, request in enumerate(requests):
        where = f" {i + 1}" if len(requests) > 1 else ""
        own, other = chat.pair(request)
        cond = _tokens(loaded, own, f"prompt{where}", template=template)
        uncond = None if other is None else _tokens(loaded, other, f"negative{where}", template=template)
        _check_room(loaded.model, f"prompt{where}", cond, max_new_tokens)
        name = f"prompt{where}, for the negative model," if uncond is None else f"negative{where}"
        if uncond is not None or loaded.negative is not None:
            _check_room(loaded.negative or loaded.model, name, uncond or cond, max_new_tokens)
        out.append(Encoded(cond, uncond, request.scale))
    return out


def guidance(
    loaded: Loaded, batch: Sequence[Encoded], plausibility: float = 0.0, prior: float | None = None
) -> arguide.Guidance:
    """Return the settings of a batch's guided law, in which the default of a row without a negative is written out.

    Args:
        loaded: the models.
        batch: the prompts.
        plausibility: α; tokens with p_c(v) < α max p_c are left out.
        prior: π of the prompts in the mixture with their negatives, see `arguide.Guidance`.
    """
    scales = torch.tensor([each.scale for each in batch], dtype=torch.float64)
    settings = arguide.Guidance(scales, negative_model=loaded.negative, plausibility=plausibility, guidance_prior=prior)
    rows = [each.negative or (each.prompt[-1:] if loaded.negative is None else each.prompt) for each in batch]
    negative = padded(rows, pad_token(loaded)).to(loaded.model.device)
    return replace(settings, negative_prompt_ids=negative.inputs, negative_prompt_attention_mask=negative.mask)


def law(
    loaded: Loaded,
    encoded: Encoded,
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    cap: str = "truncate",
    plausibility: float = 0.0,
    prior: float | None = None,
) -> arguide.Autoregressive:
    """Return the guided law of the text after a prompt.

    Args:
        loaded: the models.
        encoded: the prompt.
        max_new_tokens: the maximum length.
        temperature: τ; the joint law is p(x)^(1/τ) at γ = 1.
        cap: "truncate" or "force", see `arguide.stopping`.
        plausibility: α, see `guidance`.
        prior: π, see `guidance`.
    """
    return arguide.continuation(
        loaded.model,
        torch.tensor([encoded.prompt], device=loaded.model.device),
        guidance=guidance(loaded, [encoded], plausibility, prior),
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        eos_token_id=stop_tokens(loaded),
        cap=cap,
    )


def check_cap(cap: str) -> None:
    """Refuse another meaning of the length cap than those of `arguide.stopping`.

    Raises:
        ValueError: such a cap.
    """
    if cap not in arguide.stopping.CAPS:
        raise ValueError(f"--cap must be one of {', '.join(arguide.stopping.CAPS)}, got {cap!r}")


def stop_tokens(loaded: Loaded) -> tuple[int, ...]:
    """Return the tokens that end a text: those of the model, else that of the tokenizer, if any."""
    own = loaded.model.generation_config.eos_token_id
    given = loaded.tokenizer.eos_token_id if own is None else own
    return (given,) if isinstance(given, int) else tuple(given or ())


def pad_token(loaded: Loaded) -> int:
    """Return a token to pad with; the mask hides it, so any token will do."""
    return next((i for i in (loaded.tokenizer.pad_token_id, loaded.tokenizer.eos_token_id) if i is not None), 0)


def text_of(loaded: Loaded, prompt: list[int], tokens: list[int]) -> str:
    """Return the text that tokens add to a prompt; decoded alone, many tokens would lose their first space.

    Args:
        loaded: the models.
        prompt: the tokens of the prompt.
        tokens: the tokens after it.
    """
    decode = loaded.tokenizer.decode
    if not loaded.model.config.is_encoder_decoder:
        before, whole = (decode(ids, skip_special_tokens=True) for ids in (prompt, prompt + tokens))
        if whole.startswith(before):
            return whole[len(before) :]
    return decode(tokens, skip_special_tokens=True)


def _messages(text: str, system: str | None) -> list[dict[str, str]]:
    """Return the messages of a chat; an empty system prompt is none."""
    return ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": text}]


def _tokens(loaded: Loaded, messages: list[dict[str, str]], name: str, *, template: bool) -> list[int]:
    tokenizer, text = loaded.tokenizer, messages[-1]["content"]
    try:
        "".join(message["content"] for message in messages).encode()
    except UnicodeEncodeError as error:  # undecodable bytes of an argument or a file become lone surrogates
        raise ValueError(f"the {name} is not text in UTF-8") from error
    if text and template:
        ids = tokenizer(_rendered(tokenizer, messages), add_special_tokens=False).input_ids
    elif text or loaded.model.config.is_encoder_decoder:  # the end token of an encoder is a text too
        ids = tokenizer(text).input_ids
    else:
        ids = []
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:  # written in the text, and added by the tokenizer
        ids = ids[1:]
    if not ids and bos is None:
        raise ValueError(f"the {name} is empty, and the tokenizer has no beginning-of-text token to stand for it")
    return ids or [bos]


def _rendered(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    try:
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except (TemplateError, ValueError) as error:
        without = "without a system prompt" if len(messages) > 1 else "--no-chat"
        raise ValueError(f"the chat template refuses the text ({error}); try {without}") from error


def _check_room(model: Any, name: str, ids: list[int], new: int) -> None:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return
    if not model.config.is_encoder_decoder and len(ids) + new > limit:
        raise ValueError(f"the {name} has {len(ids)} tokens; with {new} new ones they exceed the model's context of {limit}")
    if max(len(ids), new + 1) > limit:  # an encoder-decoder has room for each; the decoder starts with a token of its own
        raise ValueError(f"the {name} has {len(ids)} tokens, the text up to {new}; the model's context is {limit} for each")
