"""Build autoregressive models of labelled texts or pixels, whose first token is the control token of a label, or of no label.

texts     a small Llama over characters or word pieces, or a pretrained model that learns the control tokens
pixels    a small GPT-2 over 17 grey levels, row by row
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from analysis.files import run_folder
from analysis.learning.datasets import Data
from analysis.text.loading import Choice, read_model, read_tokenizer
from arguide.text.training import IGNORED, causal_loss

LEVELS = 17
PAD, END, ANY = "<pad>", "<end>", "<any>"
OPENING = "<"  # starts every control token; no word piece joins it with other characters
SHORT, PIECES, CONTEXT = 20, 512, 160
MEANING = ("labels", "words", "length", "end")  # of a `Causal`, in its labels.json


@dataclass(eq=False)
class Causal:
    """An autoregressive model of texts or pixels, whose first token is the control token of a label.

    Attributes:
        model: a causal language model.
        labels: the names of the labels.
        words: number of tokens before the control tokens.
        length: of the longest sequence, in tokens.
        end: the token that ends a text, None for sequences of fixed length.
        tokenizer: of texts, None for pixels.
        controls: the control tokens of the labels, and last of no label, [K + 1].

    Raises:
        ValueError: the tokenizer has other tokens in place of the control tokens.
    """

    model: Any
    labels: tuple[str, ...]
    words: int
    length: int
    end: int | None = None
    tokenizer: Any = None

    def __post_init__(self) -> None:
        self.controls = torch.arange(self.words, self.words + len(self.labels) + 1)
        if self.tokenizer is not None and _ids(self.tokenizer, controls(self.labels)) != self.controls.tolist():
            raise ValueError("the tokenizer must have a token of its own for every label, and for none; train the model anew")

    @property
    def drawn(self) -> list[int]:
        """The tokens that a sequence may contain: no control tokens, and no padding unless it is also the end of a text."""
        pad = None if self.tokenizer is None else self.tokenizer.pad_token_id
        return [token for token in range(self.words) if token != pad or token == self.end]

    def encode(self, rows: Any) -> Tensor:
        """Return the tokens of texts or images, [n, T], with `IGNORED` after the end."""
        if self.tokenizer is None:
            return quantised(rows)
        texts = [[*ids, self.end][: self.length] for ids in _read(self.tokenizer, rows)]  # a cut text has no end
        width = max(map(len, texts))
        return torch.tensor([ids + [IGNORED] * (width - len(ids)) for ids in texts])

    def decode(self, tokens: Tensor) -> Any:
        """Return the texts, or images [n, 1, s, s] in [−1, 1], of tokens [n, T]."""
        if self.tokenizer is None:
            size = round(tokens.shape[1] ** 0.5)
            return (tokens.reshape(-1, 1, size, size) / ((LEVELS - 1) / 2) - 1).float()
        whole = (row[: row.index(self.end)] if self.end in row else row for row in tokens.tolist())
        return [self.tokenizer.decode(row).strip() for row in whole]

    def loss(self, tokens: Tensor, labels: Tensor, generator: Any = None) -> Tensor:
        """Return the mean of −log p(x_t | label, x_<t) per token.

        Args:
            tokens: x, [n, T].
            labels: [n], K for no label.
            generator: unused; `fit` passes one to every loss.
        """
        del generator
        return causal_loss(self.model, tokens, self.controls.to(labels.device)[labels])

    def prompt(self, label: int | None) -> Tensor:
        """Return the prompt of a label, or of no label, [1, 1]."""
        return self.controls[len(self.labels) if label is None else label].reshape(1, 1)

    def save(self, folder: Path) -> None:
        """Write the model, its tokenizer if it has one, and the meaning of the tokens."""
        self.model.save_pretrained(folder)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        meaning = {name: getattr(self, name) for name in MEANING}
        run_folder.write_text(folder / "labels.json", json.dumps(meaning, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "Causal":
        """Return a saved model.

        Raises:
            ValueError: the folder holds no such model, only a part of one, or one that needs its own code.
        """
        try:
            found = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
            labels, words, length, end = (found[name] for name in MEANING)
            labels = tuple(labels)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder} holds no model saved by arguide train: labels.json cannot be read") from error
        tokenizer, model = None if end is None else read_tokenizer(str(folder)), read_model(str(folder)).eval()
        try:
            return cls(model, labels, words, length, end, tokenizer)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error


def quantised(images: Tensor) -> Tensor:
    """Return the grey levels 0 … 16 of images in [−1, 1], row by row, [n, s²]."""
    return ((images + 1) * (LEVELS - 1) / 2).round().long().clamp(0, LEVELS - 1).flatten(1)


def of_pixels(data: Data, width: int, depth: int) -> Causal:
    """Return a newly initialised model of grey levels.

    It learns one vector per position of an image: digits are centred, so that a position carries much information.

    Args:
        data: images.
        width: of the network, a multiple of 4.
        depth: number of layers.

    Raises:
        ValueError: a width that four heads cannot share.
    """
    if width % 4:
        raise ValueError(f"the width of a model of pixels must be a multiple of 4, its heads, got {width}")
    length = data.rows[0].numel()
    config = GPT2Config(
        vocab_size=LEVELS + len(data.names) + 1,
        n_positions=length + 1,
        n_embd=width,
        n_layer=depth,
        n_head=4,
        activation_function="gelu",
        initializer_range=0.08,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        bos_token_id=None,
        eos_token_id=None,
    )
    return Causal(GPT2LMHeadModel(config), data.names, LEVELS, length)


def of_texts(data: Data, width: int, depth: int) -> Causal:
    """Return a newly initialised model over characters if the texts are short, over word pieces otherwise.

    Args:
        data: texts.
        width: of the network, a multiple of 8.
        depth: number of layers.

    Raises:
        ValueError: a width that four heads with rotary embeddings cannot share.
    """
    if width % 8:
        raise ValueError(f"the width of a language model must be a multiple of 8, got {width}")
    tokenizer = _tokenizer(data.rows, data.names)
    length = _length(tokenizer, data.rows)
    words, end = _ids(tokenizer, controls(data.names))[0], tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=words + len(data.names) + 1,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=depth,
        num_attention_heads=4,
        max_position_embeddings=max(CONTEXT, length) + 96,  # positions are relative, so longer sequences are harmless
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Causal(LlamaForCausalLM(config), data.names, words, length, end, tokenizer)


def pretrained(data: Data, name: str) -> Causal:
    """Return a pretrained language model with new control tokens for the labels and for no label.

    Args:
        data: texts.
        name: a folder, or a name on the hub; a model that has learned these labels keeps its own control tokens.

    Raises:
        ValueError: the model cannot be loaded, is no decoder, has no token that ends a text, or has learned other labels.
    """
    if (Path(name) / "labels.json").is_file():
        return known(data, Path(name))
    loaded = Choice(name, dtype="float32").load(torch.device("cpu"))
    model, tokenizer = loaded.model, loaded.tokenizer
    words, end = len(tokenizer), tokenizer.eos_token_id
    if model.config.is_encoder_decoder or end is None:
        raise ValueError(f"{name} must be a decoder with a token that ends a text, to learn labels; try another --init")
    tokenizer.add_tokens([AddedToken(token, special=True) for token in controls(data.names)])
    if _ids(tokenizer, controls(data.names)) != list(range(words, words + len(data.names) + 1)):
        raise ValueError(f"{name} already has tokens with the names of the labels; give the labels other names")
    first = model.get_input_embeddings().weight[end if tokenizer.bos_token_id is None else tokenizer.bos_token_id].clone()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():  # a label starts with the embedding of the token that begins a text
        model.get_input_embeddings().weight[words:] = first
    limit = getattr(model.config, "max_position_embeddings", None) or CONTEXT
    return Causal(model, data.names, words, min(_length(tokenizer, data.rows), limit), end, tokenizer)


def known(data: Data, folder: Path) -> Causal:
    """Return a saved model of the labels of some data.

    Raises:
        ValueError: no such model, only a part of one, or one of other labels.
    """
    found = Causal.load(folder)
    if found.labels != data.names:
        expected, got = (", ".join(names[:20]) for names in (data.names, found.labels))
        raise ValueError(f"{folder} must be a model of the labels {expected}, got {got}")
    return found


def control(name: str) -> str:
    """Return the control token of a label, <label>, which differs between labels.

    A label "any", with n ≥ 0 pairs of angle brackets around it, gets n + 2 pairs; so do "pad" and "end".
    """
    inner = name
    while inner.startswith("<") and inner.endswith(">") and len(inner) > 1:
        inner = inner[1:-1]
    return f"<<{name}>>" if f"<{inner}>" in (PAD, END, ANY) else f"<{name}>"


def controls(names: Sequence[str]) -> list[str]:
    """Return the control tokens of labels, and last of no label."""
    return [*map(control, names), ANY]


def _ids(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Return the indices of tokens in a vocabulary, −1 for a token outside it."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary.get(token, -1) for token in tokens]


def short(texts: Sequence[str]) -> bool:
    """Return whether texts are so short that a model reads them by the character."""
    return sum(map(len, texts)) / len(texts) < SHORT


def _tokenizer(texts: Sequence[str], names: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose last tokens are the control tokens."""
    raw = Tokenizer(models.BPE(unk_token="?"))  # noqa: S106 (no secret)
    raw.normalizer = normalizers.NFC()
    spaces, alone = pre_tokenizers.Metaspace(prepend_scheme="never"), pre_tokenizers.Split(OPENING, "isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence([spaces, alone])  # no learned piece equals a control token
    raw.decoder = decoders.Metaspace(prepend_scheme="never")
    alphabet = set().union(*texts) - {" "} | {"▁", "?"}
    pieces = len(alphabet) + 2 if short(texts) else max(PIECES, len(alphabet) + 2)
    options: dict[str, Any] = {"special_tokens": [PAD, END], "initial_alphabet": sorted(alphabet), "show_progress": False}
    raw.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=pieces, **options))
    raw.add_special_tokens(controls(names))
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=PAD, eos_token=END)


def _read(tokenizer: Any, texts: Iterable[str]) -> list[list[int]]:
    """Return the tokens of texts, in which a control token is read as ordinary text."""
    return tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True).input_ids


def _length(tokenizer: Any, texts: Sequence[str]) -> int:
    """Return the number of tokens that 99 % of the texts keep to, with the end."""
    sizes = sorted(map(len, _read(tokenizer, texts)))
    return min(sizes[int(0.99 * (len(sizes) - 1))] + 1, CONTEXT)
