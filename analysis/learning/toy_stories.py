"""Write stories in an artificial language of pets, and train a tiny language model on them to replace a pretrained one.

The first sentence of a story names its pet, and most of the later sentences are about this pet, so the influence of the
condition can be counted. One story in six only says "a pet" (conditioning dropout), which is the unconditional model's prompt.
"""

import random
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from analysis.frames import Track

NAMES = ("Ann", "Ben", "Lily", "Max", "Sue", "Tom")
PETS = ("bird", "cat", "dog", "fish", "frog", "horse")
VERBS = ("ate", "hid", "jumped", "played", "ran", "sang", "slept", "swam")
MOODS = ("angry", "glad", "happy", "proud", "sad", "tired")
GRAMMAR = (".", "The", "was", "had", "a", "pet")
BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def write(n: int, *, seed: int = 0) -> list[str]:
    """Return n stories of five to nine sentences."""
    draw = random.Random(seed)  # noqa: S311 (no secret)
    return [_story(draw) for _ in range(n)]


def tokenizer() -> "transformers.PreTrainedTokenizerFast":
    """Return a tokenizer with one token per word, which puts the beginning-of-text token first."""
    words = (PAD, BOS, EOS, *GRAMMAR, *NAMES, *PETS, *VERBS, *MOODS)
    raw = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=PAD))
    raw.pre_tokenizer = WhitespaceSplit()
    raw.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, words.index(BOS))])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=BOS, eos_token=EOS, pad_token=PAD, padding_side="left"
    )


def train(steps: int = 300, *, seed: int = 0, track: Track = iter) -> "transformers.LlamaForCausalLM":
    """Return a Llama of two layers trained on the stories; 300 steps take about ten seconds on one core.

    Args:
        steps: number of batches of 16 stories.
        seed: of the weights and the stories; the global generator is left unchanged.
        track: wraps the steps, for a progress bar.
    """
    tokens = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.LlamaForCausalLM(_config(tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005, betas=(0.9, 0.98))
    for step in track(range(steps)):
        batch = _batch(tokens, write(16, seed=(seed + 1) * 1_000_003 + step))
        for group in optimizer.param_groups:
            group["lr"] = 0.005 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def _story(draw: random.Random) -> str:
    name, pet = draw.choice(NAMES), draw.choice(PETS)
    sentences = [f"{name} had a {pet if draw.random() < 5 / 6 else 'pet'} ."]
    for _ in range(draw.randint(4, 8)):
        animal = pet if draw.random() < 0.6 else draw.choice(PETS)
        sentences.append(draw.choice((f"The {animal} {draw.choice(VERBS)} .", f"The {animal} was {draw.choice(MOODS)} .")))
    return " ".join(sentences)


def _config(tokens: Any) -> "transformers.LlamaConfig":
    return transformers.LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.15,  # with the usual 0.02 so small a model ignores its context for many steps
        max_position_embeddings=128,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )


def _batch(tokens: Any, stories: list[str]) -> dict[str, Any]:
    batch = tokens([f"{story} {EOS}" for story in stories], return_tensors="pt", padding=True, padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}
