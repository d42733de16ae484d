r"""What is trained: a language model, a model of pixels, a denoiser, classifiers of images; with a label or without, in one.

    lm           a small Llama over characters or word pieces; a control token of the label goes first, or that of no label
    pixels       a small GPT-2 over pixels of 17 grey levels, row by row, the same control tokens first
    denoiser     D(x, σ, y), a network of residual layers, or a U-Net, with EDM's preconditioning
    classifier   log p(y | x, σ) of noised images, or of clean ones

Each is saved in a folder of its own: safetensors, a configuration, a model card.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from analysis.data import Data
from arguide.training import IGNORED, Recipe, causal_loss, causal_losses, fit
from diffusion.networks import MLP, UNET, Classifier, Denoiser
from diffusion.training import classifying_loss, denoising_loss

KINDS = ("lm", "pixels", "denoiser", "classifier")
LEVELS = 17
PAD, END, ANY = "<pad>", "<end>", "<any>"
SHORT, PIECES, CONTEXT = 20, 512, 160


@dataclass(frozen=True)
class Size:
    """Of a network: its width, its number of layers, and of a denoiser which network, see `diffusion.networks`."""

    width: int
    depth: int
    network: str = MLP


RECIPES = {
    "lm": Recipe(steps=600, batch=128, rate=4e-3),
    "pixels": Recipe(steps=700, batch=32, rate=5e-3, average=0.993),
    "denoiser": Recipe(steps=1500, batch=128, rate=2e-3, average=0.998),
    "classifier": Recipe(steps=800, batch=128, rate=2e-3, dropout=0.0),
}
SIZES = {"lm": Size(64, 2), "pixels": Size(64, 2), "denoiser": Size(192, 3), "classifier": Size(128, 2)}
# Of a denoiser: on digits it has a lower loss than an MLP of as much time to train, and takes several times as long to draw.
UNETS = Size(16, 1, UNET)


class Causal:
    """An autoregressive model of texts or pixels, whose first token says the label.

    Attributes:
        model: a causal language model.
        labels: the labels' names.
        controls: the tokens that stand for them, and for no label, [K + 1].
        words: how many tokens go before the control tokens.
        end: the token that ends a text, None where the length is fixed.
        length: the longest sequence.
        tokenizer: of texts, None for pixels.
    """

    def __init__(
        self, model: Any, labels: tuple[str, ...], words: int, length: int, end: int | None = None, tokenizer: Any = None
    ) -> None:
        self.model, self.labels, self.words, self.length = model, labels, words, length
        self.end, self.tokenizer = end, tokenizer
        self.controls = torch.arange(words, words + len(labels) + 1)

    @property
    def drawn(self) -> list[int]:
        """The tokens that a sequence may hold: neither padding nor control tokens."""
        pad = None if self.tokenizer is None else self.tokenizer.pad_token_id
        return [token for token in range(self.words) if token != pad]

    def encode(self, rows: Any) -> Tensor:
        """Return tokens, [n, T], `IGNORED` after the end."""
        if self.tokenizer is None:
            return quantised(rows)
        texts = [[*ids[: self.length - 1], self.end] for ids in self.tokenizer(list(rows)).input_ids]
        width = max(map(len, texts))
        return torch.tensor([ids + [IGNORED] * (width - len(ids)) for ids in texts])

    def decode(self, tokens: Tensor) -> Any:
        """Return texts, or images [n, 1, s, s] in [−1, 1]."""
        if self.tokenizer is None:
            size = round(tokens.shape[1] ** 0.5)
            return (tokens.reshape(-1, 1, size, size) / ((LEVELS - 1) / 2) - 1).float()
        whole = (row[: row.index(self.end)] if self.end in row else row for row in tokens.tolist())
        return [self.tokenizer.decode(row).strip() for row in whole]

    def loss(self, tokens: Tensor, labels: Tensor, generator: Any = None) -> Tensor:
        """Return the mean of −log p(x_t | label, x_<t) a token."""
        del generator
        return causal_loss(self.model, tokens, self.controls[labels])

    def prompt(self, label: int | None) -> Tensor:
        """Return the prompt of a label, or of none, [1, 1]."""
        return self.controls[len(self.labels) if label is None else label].reshape(1, 1)

    def save(self, folder: Path) -> None:
        """Write the model, its tokenizer if it has one, and what the tokens mean."""
        self.model.save_pretrained(folder)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        told = {"labels": self.labels, "words": self.words, "length": self.length, "end": self.end}
        (folder / "labels.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Causal":
        """Read what `save` has written."""
        told = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(folder) if (folder / "tokenizer.json").exists() else None
        return cls(model.eval(), tuple(told["labels"]), told["words"], told["length"], told["end"], tokenizer)


def quantised(images: Tensor) -> Tensor:
    """Return grey levels 0 … 16, row by row, [n, s²], of images in [−1, 1]."""
    return ((images + 1) * (LEVELS - 1) / 2).round().long().clamp(0, LEVELS - 1).flatten(1)


def new(kind: str, data: Data, size: Size, *, seed: int, noised: bool = True) -> Any:
    """Return a learner of its first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "lm":
            return _texts(data, size)
        if kind == "pixels":
            length = data.rows[0].numel()
            return Causal(_pixels(len(data.names), length, size), data.names, LEVELS, length)
        shape, deviation = list(data.rows.shape[1:]), float(data.rows.std())
        if kind == "denoiser":
            return Denoiser(shape, len(data.names), deviation, size.width, size.depth, size.network)
        return Classifier(shape, len(data.names), deviation, size.width, size.depth, noised)


def train(
    kind: str,
    data: Data,
    recipe: Recipe,
    size: Size,
    *,
    seed: int = 0,
    noised: bool = True,
    checkpoint: Path | None = None,
    track: Any = iter,
) -> tuple[Any, list[float]]:
    """Train a learner; return it and the loss of every step. A checkpoint that is there is gone on from."""
    learner = new(kind, data, size, seed=seed, noised=noised)
    generator = torch.Generator().manual_seed(seed)
    null = len(data.names)
    options = {"generator": generator, "checkpoint": checkpoint, "track": track}
    if isinstance(learner, Causal):
        tokens = learner.encode(data.rows)
        return learner, fit(learner.model, tokens, data.labels, null, learner.loss, recipe, **options)
    loss = denoising_loss if kind == "denoiser" else classifying_loss
    return learner, fit(learner, data.rows, data.labels, null, partial(loss, learner), recipe, **options)


def held_loss(learner: Any, data: Data, *, labelled: bool = True) -> tuple[float, float]:
    """Return the mean loss a held-out row, with labels or without, and its standard error: nats a sequence, or as trained."""
    labels = data.held_labels if labelled else torch.full_like(data.held_labels, len(data.names))
    with torch.no_grad():
        if isinstance(learner, Causal):
            tokens = learner.encode(data.held)
            parts = zip(torch.split(tokens, 256), torch.split(labels, 256), strict=True)
            rows = torch.cat([causal_losses(learner.model, x, learner.controls[y]) for x, y in parts])
        else:
            generator = torch.Generator().manual_seed(0)
            loss = denoising_loss if isinstance(learner, Denoiser) else classifying_loss
            rows = torch.stack([loss(learner, data.held, labels, generator) for _ in range(16)])
    return float(rows.mean()), float(rows.std() / len(rows) ** 0.5)


def save(learner: Any, folder: Path, card: str) -> None:
    """Write a learner with its model card."""
    learner.save(folder) if isinstance(learner, Causal) else learner.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def card(kind: str, source: Any, data: Data, recipe: Recipe, told: dict[str, Any]) -> str:
    """Return a model card."""
    lines = [f"- {name}: {value}" for name, value in (source._asdict() | asdict(recipe) | told).items()]
    use = {
        "lm": f'arguide generate FOLDER --no-chat --prompt "<{data.names[0]}>" --negative "{ANY}" --scale 2',
        "pixels": "analysis.learners.Causal.load(FOLDER)",
        "denoiser": "diffusion.networks.Denoiser.from_pretrained(FOLDER)",
        "classifier": "diffusion.networks.Classifier.from_pretrained(FOLDER)",
    }[kind]
    return "\n".join(
        [
            "---\nlibrary_name: arguide\n---",
            f"# {kind}, trained with conditioning dropout",
            f"Labels: {', '.join(data.names)}. Use: `{use}`",
            *lines,
            "",
        ]
    )


def _pixels(labels: int, length: int, size: Size) -> GPT2LMHeadModel:
    """Return a model that learns a vector for every place of an image: digits are centred, so that a place tells much."""
    config = GPT2Config(
        vocab_size=LEVELS + labels + 1,
        n_positions=length + 1,
        n_embd=size.width,
        n_layer=size.depth,
        n_head=4,
        activation_function="gelu",
        initializer_range=0.08,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config)


def _llama(words: int, labels: int, length: int, size: Size, **ends: Any) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=words + labels + 1,
        hidden_size=size.width,
        intermediate_size=3 * size.width,
        num_hidden_layers=size.depth,
        num_attention_heads=4,
        max_position_embeddings=max(CONTEXT, length) + 96,  # positions are relative: more than were seen is no harm
        initializer_range=0.08,
        bos_token_id=None,
        **{"eos_token_id": None, "pad_token_id": None} | ends,
    )
    return LlamaForCausalLM(config)


def _texts(data: Data, size: Size) -> Causal:
    """Return a model over characters where texts are short, over word pieces otherwise."""
    tokenizer, length = _tokenizer(data.rows, data.names)
    words, end = len(tokenizer) - len(data.names) - 1, tokenizer.eos_token_id
    model = _llama(words, len(data.names), length, size, eos_token_id=end, pad_token_id=tokenizer.pad_token_id)
    return Causal(model, data.names, words, length, end, tokenizer)


def _tokenizer(texts: Iterable[str], names: tuple[str, ...]) -> tuple[PreTrainedTokenizerFast, int]:
    """Return a tokenizer with the control tokens last, and the length in tokens that 99 % of the texts keep to."""
    texts = list(texts)
    mean = sum(map(len, texts)) / len(texts)
    raw = Tokenizer(models.BPE(unk_token="?"))  # noqa: S106 (no secret)
    raw.normalizer = normalizers.NFC()
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    raw.decoder = decoders.Metaspace(prepend_scheme="never")
    alphabet = {char for text in texts for char in text if char != " "} | {"▁", "?"}
    pieces = len(alphabet) + 2 if mean < SHORT else max(PIECES, len(alphabet) + 2)
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, special_tokens=[PAD, END], initial_alphabet=sorted(alphabet), show_progress=False
    )
    raw.train_from_iterator(texts, trainer)
    raw.add_special_tokens([*(f"<{name}>" for name in names), ANY])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=PAD, eos_token=END)
    sizes = sorted(map(len, tokenizer(texts).input_ids))
    return tokenizer, min(sizes[int(0.99 * (len(sizes) - 1))] + 1, CONTEXT)
