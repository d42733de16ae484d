"""Guidance of transformers' `generate` (`guidance_scale`, `negative_prompt_ids`), on tiny random models.

The reference reads both branches anew for every token, without a cache and without padding, and takes the best token of
γ log p_c + (1 − γ) log p_u; for beams it enumerates all texts.
"""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import LogitsProcessorList, UnbatchedClassifierFreeGuidanceLogitsProcessor

import arguide
from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim, Source
from analysis.experiments.published.peers.cases import TRIALS, Case, judged, version

SCALE, TOKENS = 2.5, 8
WORDS, PAD = 40, 0
FEW, SHORT = 6, 3  # tokens and length of the texts that are enumerated
SIZES: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "initializer_range": 0.3,
    "pad_token_id": PAD,
    "bos_token_id": None,
    "eos_token_id": None,
}
ATTENTION = SIZES | {"num_attention_heads": 4, "max_position_embeddings": 64}
T5: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "initializer_factor": 3.0}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**ATTENTION, intermediate_size=48),
    "few words": lambda: transformers.LlamaConfig(**ATTENTION | {"vocab_size": FEW}, intermediate_size=48),
    "gpt2": lambda: transformers.GPT2Config(**ATTENTION),
    "mamba": lambda: transformers.MambaConfig(**SIZES, state_size=8),
    "t5": lambda: transformers.T5Config(
        vocab_size=WORDS, **T5, pad_token_id=PAD, decoder_start_token_id=PAD, eos_token_id=None, tie_word_embeddings=False
    ),
}
SIMPLE: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("greedy decoding", "llama", {}, ""),
    (
        "three samples per prompt, top-k of 1",
        "llama",
        {"do_sample": True, "top_k": 1, "num_return_sequences": 3},
        "Several samples per prompt: `negative_prompt_ids` are not expanded to them",
    ),
    (
        "recurrent state (Mamba)",
        "mamba",
        {},
        "Recurrent state: the mask of all tokens multiplies the last one, and the second branch reads it several times",
    ),
    ("encoder–decoder (T5)", "t5", {}, "Encoder–decoders: the second branch gets no decoder input"),
)
DRAFTED = "Prompt lookup: tokens that are not accepted stay in the cache of the second branch"


def claims(seed: int) -> Iterator[Claim]:
    """Yield one claim per mode of `generate`: whether its tokens are those of the guided law."""
    return judged(_cases(seed))


def _cases(seed: int) -> Iterator[Case]:
    draw = stream(seed, 0)
    prompts, negatives = (torch.randint(1, WORDS, (TRIALS, length), generator=draw) for length in (6, 3))
    models = {name: _built(config(), seed) for name, config in MODELS.items()}
    for where, name, mode, defect in SIMPLE:
        yield _case(where, models[name], prompts, negatives, defect, **mode)
    llama = models["llama"]
    lookup = {"prompt_lookup_num_tokens": 3}
    yield _one_by_one("prompt-lookup decoding", llama, prompts.repeat(1, 2)[:, :10], negatives, DRAFTED, **lookup)
    yield _padded(models["gpt2"], prompts, negatives)
    yield _beams(models["few words"], torch.randint(1, FEW, (TRIALS, 5), generator=draw))
    yield _embedded(llama, prompts)
    yield _twice(llama, prompts, negatives)
    yield _case(
        "tokens of probability 0",
        _built(MODELS["llama"](), seed, impossible=10),
        prompts,
        negatives,
        "Probability 0: the weighted average of −∞ and −∞ is NaN, which greedy decoding takes for the largest number. It "
        "writes tokens that both branches rule out",
    )


def _built(config: Any, seed: int, impossible: int = 0) -> Any:
    """Return a random model, in which the first tokens may be impossible."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        model = kind.from_config(config).eval().requires_grad_(False)
    if impossible:
        model.lm_head.register_forward_hook(lambda _, __, out: out.index_fill(-1, torch.arange(impossible), -torch.inf))
    return model


def log_probs(model: Any, before: Tensor, text: Tensor) -> Tensor:
    """Return log p(x_t | before, x_{<t}) for t = 1 … T + 1, [N, T + 1, V], by one pass over whole texts.

    Args:
        model: a language model.
        before: the tokens before the text, or of the encoder, [N, L].
        text: x, [N, T].
    """
    if model.config.is_encoder_decoder:
        given = {"input_ids": before, "decoder_input_ids": torch.cat([before.new_full((len(before), 1), PAD), text], 1)}
    else:
        given = {"input_ids": torch.cat([before, text], 1)}
    return model(**given, use_cache=False).logits[:, -text.shape[1] - 1 :].double().log_softmax(-1)


def guided(model: Any, prompts: Tensor, negatives: Tensor, text: Tensor, scale: float) -> Tensor:
    """Return γ log p_c + (1 − γ) log p_u, −∞ where p_c is 0, in the shape of `log_probs`.

    Args:
        model: a language model.
        prompts: the tokens before the text in the conditional branch, [N, L].
        negatives: those in the unconditional one, [N, M].
        text: x, [N, T].
        scale: γ.
    """
    cond, uncond = (log_probs(model, before, text) for before in (prompts, negatives))
    return (scale * cond + (1 - scale) * uncond).masked_fill(cond == -torch.inf, -torch.inf)


def greedy(model: Any, prompts: Tensor, negatives: Tensor, scale: float) -> Tensor:
    """Return the best token after the best token, [N, TOKENS]; arguments as in `guided`."""
    text = prompts[:, :0]
    for _ in range(TOKENS):
        text = torch.cat([text, guided(model, prompts, negatives, text, scale)[:, -1:].argmax(-1)], 1)
    return text


def best(model: Any, prompts: Tensor, negatives: Tensor, scale: float) -> Tensor:
    """Return the text of the largest Σ_t (γ log p_c + (1 − γ) log p_u) by enumeration, [N, SHORT]; arguments as in `guided`."""
    texts = torch.tensor(list(product(range(FEW), repeat=SHORT)))
    n, many = len(prompts), len(texts)
    rows = texts.repeat(n, 1)
    laws = guided(model, prompts.repeat_interleave(many, 0), negatives.repeat_interleave(many, 0), rows, scale)[:, :-1]
    return texts[laws.gather(2, rows[..., None]).sum((1, 2)).reshape(n, many).argmax(1)]


def _both(reference: Callable[..., Tensor], *given: Any) -> tuple[Tensor, Tensor]:
    return reference(*given, SCALE), reference(*given, SCALE - 1)


def _written(model: Any, prompts: Tensor, negatives: Tensor, **mode: Any) -> Tensor:
    """Return the tokens that `generate` writes, [prompts, samples · TOKENS]."""
    given = {"guidance_scale": SCALE, "negative_prompt_ids": negatives, "max_new_tokens": TOKENS} | mode
    return model.generate(prompts, **given)[:, -TOKENS:].reshape(len(prompts), -1)


def _case(where: str, model: Any, prompts: Tensor, negatives: Tensor, defect: str, **mode: Any) -> Case:
    samples = mode.get("num_return_sequences", 1)
    exact, wrong = (text.repeat(1, samples) for text in _both(greedy, model, prompts, negatives))
    view = arguide.guided(model)
    peer, ours = ((lambda m=m: _written(m, prompts, negatives, **mode)) for m in (model, view))
    return Case(where, exact, wrong, peer, ours, defect)


def _one_by_one(where: str, model: Any, prompts: Tensor, negatives: Tensor, defect: str, **mode: Any) -> Case:
    """Generate for a prompt at a time, as drafts need."""
    case = _case(where, model, prompts, negatives, defect)

    def each(model: Any) -> Tensor:
        rows = zip(prompts.chunk(TRIALS), negatives.chunk(TRIALS), strict=True)
        return torch.cat([_written(model, prompt, negative, **mode) for prompt, negative in rows])

    return case._replace(peer=lambda: each(model), ours=lambda: each(arguide.guided(model)))


def _padded(model: Any, prompts: Tensor, negatives: Tensor) -> Case:
    """Pad negatives of different lengths on the left; the reference reads them without padding."""
    width = negatives.shape[1]
    lengths = [1 + i % width for i in range(TRIALS)]
    mask = torch.tensor([[0] * (width - length) + [1] * length for length in lengths])
    ids = negatives * mask
    rows = [(prompts[i : i + 1], ids[i : i + 1, -length:]) for i, length in enumerate(lengths)]
    case = _case(
        "left-padded negatives, absolute positions (GPT-2)",
        model,
        prompts,
        ids,
        "Padding: the second branch counts positions from the first token of the padding",
        negative_prompt_attention_mask=mask,
    )
    exact, wrong = (torch.cat([greedy(model, *row, scale) for row in rows]) for scale in (SCALE, SCALE - 1))
    return case._replace(exact=exact, wrong=wrong)


def _beams(model: Any, prompts: Tensor) -> Case:
    """Search with a beam for every beginning, so that the best text of all is found."""
    mode = {"guidance_scale": SCALE, "max_new_tokens": SHORT, "num_beams": FEW ** (SHORT - 1)}
    return Case(
        "beam search over all beginnings",
        *_both(best, model, prompts, prompts[:, -1:]),
        peer=lambda: model.generate(prompts, **mode)[:, -SHORT:],
        ours=lambda: arguide.guided(model).generate(prompts, **mode, beam_law="joint")[:, -SHORT:],
        defect="Beams: the cache of the second branch is not reordered with the beams. Nothing is normalised after the "
        "processor, so the best text has the largest Σ γ log p_c + (1 − γ) log p_u",
    )


def _embedded(model: Any, prompts: Tensor) -> Case:
    """Give the prompt as embeddings; the second branch starts at its last token."""
    mode = {"guidance_scale": SCALE, "max_new_tokens": TOKENS, "inputs_embeds": model.get_input_embeddings()(prompts)}
    return Case(
        "inputs_embeds without a negative prompt",
        *_both(greedy, model, prompts, prompts[:, -1:]),
        peer=lambda: model.generate(**mode),
        ours=lambda: arguide.guided(model).generate(**mode),
        defect="Embeddings: the second branch has no token to start with",
    )


def _twice(model: Any, prompts: Tensor, negatives: Tensor) -> Case:
    """Generate two times with one processor, and keep the second text."""
    view = arguide.guided(model)

    def peer() -> Tensor:
        processor = UnbatchedClassifierFreeGuidanceLogitsProcessor(SCALE, model, unconditional_ids=negatives)
        mode = {"logits_processor": LogitsProcessorList([processor]), "max_new_tokens": TOKENS}
        return [model.generate(prompts, **mode) for _ in range(2)][1][:, -TOKENS:]

    return Case(
        "the second text of one processor",
        *_both(greedy, model, prompts, negatives),
        peer=peer,
        ours=lambda: [_written(view, prompts, negatives) for _ in range(2)][1],
        defect="One processor: the second branch continues the first text",
    )


SOURCE = Source(
    "transformers",
    f"{version('transformers')}, guidance_scale of generate",
    "https://huggingface.co/docs/transformers/internal/generation_utils"
    "#transformers.UnbatchedClassifierFreeGuidanceLogitsProcessor",
    claims,
    "its documentation, which promises a weighted average of scores, names no mode in which it fails, and calls "
    "`negative_prompt_ids` experimental",
)
