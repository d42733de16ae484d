"""Autoregressive models of texts or pixels with labels: a control token goes first, of the label or of none.

texts     a small Llama over characters or word pieces, or a pretrained model that is taught the control tokens
pixels    a small GPT-2 over 17 grey levels, row by row
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from analysis.files import run_folder
from analysis.learning.datasets import Data
from analysis.text.loading import Choice, read_model, read_tokenizer
from arguide.text.training import IGNORED, causal_loss

LEVELS = 17
PAD, END, ANY = "<pad>", "<end>", "<any>"
OPENING = "<"  # of every token that is not text; no word piece has it with other characters
SHORT, PIECES, CONTEXT = 20, 512, 160


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

    Raises:
        ValueError: the tokenizer has other tokens at the place of the control tokens.
    """

    def __init__(
        self, model: Any, labels: tuple[str, ...], words: int, length: int, end: int | None = None, tokenizer: Any = None
    ) -> None:
        self.model, self.labels, self.words, self.length = model, labels, words, length
        self.end, self.tokenizer = end, tokenizer
        self.controls = torch.arange(words, words + len(labels) + 1)
        if tokenizer is not None and _ids(tokenizer, controls(labels)) != self.controls.tolist():
            raise ValueError("the tokenizer must have a token of its own for every label, and for none; train the model anew")

    @property
    def drawn(self) -> list[int]:
        """The tokens that a sequence may hold: neither control tokens nor padding, unless the end of a text pads as well."""
        pad = None if self.tokenizer is None else self.tokenizer.pad_token_id
        return [token for token in range(self.words) if token != pad or token == self.end]

    def encode(self, rows: Any) -> Tensor:
        """Return tokens, [n, T], `IGNORED` after the end."""
        if self.tokenizer is None:
            return quantised(rows)
        read = self.tokenizer(
            list(rows), add_special_tokens=False, split_special_tokens=True
        ).input_ids  # a text that says <end> has not come to it
        texts = [[*ids, self.end][: self.length] for ids in read]  # nor has one that is cut off
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
        return causal_loss(self.model, tokens, self.controls.to(labels.device)[labels])

    def prompt(self, label: int | None) -> Tensor:
        """Return the prompt of a label, or of none, [1, 1]."""
        return self.controls[len(self.labels) if label is None else label].reshape(1, 1)

    def save(self, folder: Path) -> None:
        """Write the model, its tokenizer if it has one, and what the tokens mean."""
        self.model.save_pretrained(folder)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        told = {"labels": self.labels, "words": self.words, "length": self.length, "end": self.end}
        run_folder.write_text(folder / "labels.json", json.dumps(told, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "Causal":
        """Read what `save` has written.

        Raises:
            ValueError: a folder that holds no such model, or not the whole of it, or one that needs code of its own.
        """
        try:
            told = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
            labels, words, length, end = tuple(told["labels"]), told["words"], told["length"], told["end"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder} holds no model that arguide train has saved: labels.json cannot be read") from error
        tokenizer, model = None if end is None else read_tokenizer(str(folder)), read_model(str(folder)).eval()
        try:
            return cls(model, labels, words, length, end, tokenizer)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error


def quantised(images: Tensor) -> Tensor:
    """Return grey levels 0 … 16, row by row, [n, s²], of images in [−1, 1]."""
    return ((images + 1) * (LEVELS - 1) / 2).round().long().clamp(0, LEVELS - 1).flatten(1)


def of_pixels(data: Data, width: int, depth: int) -> Causal:
    """Return a model of grey levels, of its first weights."""
    length = data.rows[0].numel()
    return Causal(_gpt2(len(data.names), length, width, depth), data.names, LEVELS, length)


def of_texts(data: Data, width: int, depth: int) -> Causal:
    """Return a model over characters where texts are short, over word pieces otherwise, of its first weights."""
    tokenizer, length = _tokenizer(data.rows, data.names)
    words, end = _ids(tokenizer, controls(data.names))[0], tokenizer.eos_token_id
    model = _llama(words, len(data.names), length, width, depth, eos_token_id=end, pad_token_id=tokenizer.pad_token_id)
    return Causal(model, data.names, words, length, end, tokenizer)


def pretrained(data: Data, name: str) -> Causal:
    """Return a language model that knows texts already, to be taught the labels: with a control token for each, and for none.

    Args:
        name: a folder, or a name on the hub; one that knows these labels goes on with its own control tokens.

    Raises:
        ValueError: a model that cannot be loaded, is no decoder, has no token that ends a text, or already is of other labels.
    """
    if (Path(name) / "labels.json").is_file():
        return known(data, Path(name))
    loaded = Choice(name, dtype="float32").load(torch.device("cpu"))
    model, tokenizer = loaded.model, loaded.tokenizer
    words, end = len(tokenizer), tokenizer.eos_token_id
    if model.config.is_encoder_decoder or end is None:
        raise ValueError(f"{name} cannot be taught labels: that takes a decoder, and a token that ends a text")
    tokenizer.add_tokens([AddedToken(token, special=True) for token in controls(data.names)])
    if _ids(tokenizer, controls(data.names)) != list(range(words, words + len(data.names) + 1)):
        raise ValueError(f"{name} has tokens already that stand for the labels here; give the labels other names")
    first = model.get_input_embeddings().weight[end if tokenizer.bos_token_id is None else tokenizer.bos_token_id].clone()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():  # a label begins as what texts begin with
        model.get_input_embeddings().weight[words:] = first
    limit = getattr(model.config, "max_position_embeddings", None) or CONTEXT
    return Causal(model, data.names, words, min(_length(tokenizer, data.rows), limit), end, tokenizer)


def known(data: Data, folder: Path) -> Causal:
    """Return a model that was saved, if it is one of these labels.

    Raises:
        ValueError: no such model, not the whole of it, or one of other labels.
    """
    found = Causal.load(folder)
    if found.labels != data.names:
        raise ValueError(
            f"{folder} knows the labels {', '.join(found.labels[:20])}; the data have {', '.join(data.names[:20])}"
        )
    return found


def _gpt2(labels: int, length: int, width: int, depth: int) -> GPT2LMHeadModel:
    """Return a model that learns a vector for every place of an image: digits are centred, so that a place tells much."""
    if width % 4:
        raise ValueError(f"the width of a model of pixels must be a multiple of 4, its heads, not {width}")
    config = GPT2Config(
        vocab_size=LEVELS + labels + 1,
        n_positions=length + 1,
        n_embd=width,
        n_layer=depth,
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


def _llama(words: int, labels: int, length: int, width: int, depth: int, **ends: Any) -> LlamaForCausalLM:
    if width % 8:  # four heads, each of pairs that turn together
        raise ValueError(f"the width of a language model must be a multiple of 8, not {width}")
    config = LlamaConfig(
        vocab_size=words + labels + 1,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=depth,
        num_attention_heads=4,
        max_position_embeddings=max(CONTEXT, length) + 96,  # positions are relative: more than were seen is no harm
        initializer_range=0.08,
        bos_token_id=None,
        **{"eos_token_id": None, "pad_token_id": None} | ends,
    )
    return LlamaForCausalLM(config)


def control(name: str) -> str:
    """Return the token that stands for a label, <label>, another one for every label.

    A label called "any", in n pairs of angle brackets or in none, has n + 2 of them, and "pad" and "end" likewise.
    """
    inner = name
    while inner.startswith("<") and inner.endswith(">") and len(inner) > 1:
        inner = inner[1:-1]
    return f"<<{name}>>" if f"<{inner}>" in (PAD, END, ANY) else f"<{name}>"


def controls(names: Sequence[str]) -> list[str]:
    """Return the tokens that stand for labels, and last for none."""
    return [*map(control, names), ANY]


def _ids(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Return the places of tokens in a vocabulary, -1 for one that is not in it."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary.get(token, -1) for token in tokens]


def short(texts: Sequence[str]) -> bool:
    """Whether texts are so short that they are read by the character."""
    return sum(map(len, texts)) / len(texts) < SHORT


def _tokenizer(texts: Iterable[str], names: tuple[str, ...]) -> tuple[PreTrainedTokenizerFast, int]:
    """Return a tokenizer with the control tokens last, and the length in tokens that 99 % of the texts keep to."""
    texts = list(texts)
    raw = Tokenizer(models.BPE(unk_token="?"))  # noqa: S106 (no secret)
    raw.normalizer = normalizers.NFC()
    spaces, alone = pre_tokenizers.Metaspace(prepend_scheme="never"), pre_tokenizers.Split(OPENING, "isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence([spaces, alone])  # a piece that is learned is no control token
    raw.decoder = decoders.Metaspace(prepend_scheme="never")
    alphabet = {char for text in texts for char in text if char != " "} | {"▁", "?"}
    pieces = len(alphabet) + 2 if short(texts) else max(PIECES, len(alphabet) + 2)
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, special_tokens=[PAD, END], initial_alphabet=sorted(alphabet), show_progress=False
    )
    raw.train_from_iterator(texts, trainer)
    raw.add_special_tokens(controls(names))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=PAD, eos_token=END)
    return tokenizer, _length(tokenizer, texts)


def _length(tokenizer: Any, texts: Sequence[str]) -> int:
    """Return what 99 % of the texts keep to in tokens, their end included."""
    sizes = sorted(map(len, tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True).input_ids))
    return min(sizes[int(0.99 * (len(sizes) - 1))] + 1, CONTEXT)
