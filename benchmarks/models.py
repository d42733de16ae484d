"""Language models to measure, each as it is and as a guided view of a copy, and ways to decode from them."""

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

import arguide
from arguide.text.seam import CACHE

STORIES = Path(__file__).parents[2] / "shared/data/stories260K"
LLAMAS = {
    "15M": {
        "vocab_size": 32_000,
        "hidden_size": 288,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
    },
    "135M": {
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
}
MODELS = ("stories260K", "15M", "gpt2", "135M")


class Pair(NamedTuple):
    """One model twice: as it is, and as a guided view of a copy. The view may lay its weights out in another order."""

    plain: Any
    guided: Any


def pair(name: str, stories: Path = STORIES, device: str = "cpu") -> Pair:
    """Return a model with random weights, or the one in `stories`, and a guided view of a copy; no token ends a text."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = _build(name, stories).eval().to(device)
    model.generation_config = GenerationConfig(do_sample=False, pad_token_id=0)
    return Pair(model, arguide.guided(copy.deepcopy(model)))


def generate(model: Any, ids: Tensor, tokens: int, **more: Any) -> Any:
    """Return prompts and `tokens` more, [n, L + tokens], by `generate`."""
    return model.generate(ids, attention_mask=torch.ones_like(ids), min_new_tokens=tokens, max_new_tokens=tokens, **more)


@torch.no_grad()
def loop(model: Any, ids: Tensor, tokens: int) -> Tensor:
    """Return the same without guidance, by as little code as does it."""
    cache = DynamicCache(config=model.config)
    read, texts = ids, ids
    for _ in range(tokens):
        logits = model(read, **{CACHE: cache}, use_cache=True, logits_to_keep=1).logits
        read = logits[:, -1].argmax(-1, keepdim=True)
        texts = torch.cat([texts, read], 1)
    return texts


def check_agreement(models: Pair, ids: Tensor, tokens: int, guidance: dict[str, Any]) -> None:
    """Raise AssertionError unless both guidances, and both unguided ways, choose the same tokens up to ties of rounding."""
    theirs = generate(models.plain, ids, tokens, **guidance)
    ours = generate(models.guided, ids, tokens, **guidance)
    assert theirs.shape == ours.shape == (ids.shape[0], ids.shape[1] + tokens)
    if not theirs.equal(ours):
        out = generate(models.guided, ids, tokens, output_scores=True, return_dict_in_generate=True, **guidance)
        _check_ties(theirs[:, -tokens:], ours[:, -tokens:], torch.stack(out.scores, 1))
    assert loop(models.plain, ids, 2).equal(generate(models.plain, ids, 2))


def random_ids(model: Any, n: int, length: int, seed: int = 0) -> Tensor:
    """Return random prompts [n, L] without the special tokens."""
    ids = torch.randint(3, model.config.vocab_size, (n, length), generator=torch.Generator().manual_seed(seed))
    return ids.to(model.device)


def _build(name: str, stories: Path) -> Any:
    if name == "stories260K":
        return AutoModelForCausalLM.from_pretrained(stories)
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config())
    return LlamaForCausalLM(LlamaConfig(**LLAMAS[name], tie_word_embeddings=True))


def _check_ties(theirs: Tensor, ours: Tensor, scores: Tensor) -> None:
    """Raise AssertionError unless the first tokens that differ, [n, t], are as likely up to rounding."""
    differ = theirs != ours
    first = differ & (differ.cumsum(1) == 1)
    loss = scores.amax(-1) - scores.gather(-1, theirs[..., None])[..., 0]
    assert (loss[first] < 1e-3).all(), f"guidances disagree by {loss[first].max():.3g}"
