r"""Train networks that are conditional and unconditional models in one, and classifiers.

    lm           a small Llama over characters or word pieces; a control token of the label, or of no label, goes first
    pixels       a small GPT-2 over pixels of 17 grey levels, row by row, with the same control tokens
    denoiser     D(x, σ, y), a network of residual layers or a U-Net, with EDM's preconditioning
    classifier   log p(y | x, σ) of noised images, or of clean ones

Each is saved in its own folder: safetensors, a configuration, a model card.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from analysis import limits
from analysis.files import run_folder
from analysis.frames import Track
from analysis.learning import label_models
from analysis.learning.datasets import Data, Source
from analysis.learning.label_models import Causal
from arguide.text.training import causal_losses
from arguide.training import Recipe, fit
from diffusion.networks import MLP, UNET, Classifier, Denoiser
from diffusion.training import classifying_loss, classifying_losses, denoising_loss, denoising_losses

DRAWS = 16  # noise samples per held-out row
CHECKPOINT, LABELS = "checkpoint.pt", "labels.json"
WEIGHTS = ("config.json", "generation_config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
TOKENS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
VOCABULARY = ("vocab.json", "merges.txt", "tokenizer.model")
# The files that a training may write into its folder; `checkpoint-*.part` remains if it is killed.
FILES = (*WEIGHTS, *TOKENS, *VOCABULARY, LABELS, "README.md", CHECKPOINT, "checkpoint-*.part")
KINDS = ("lm", "pixels", "denoiser", "classifier")


@dataclass(frozen=True)
class Size:
    """The size of a network.

    Attributes:
        width: of its layers.
        depth: number of layers.
        network: of a denoiser, see `diffusion.networks`.
    """

    width: int
    depth: int
    network: str = MLP


RECIPES = {
    "lm": Recipe(steps=450, batch=128, rate=4e-3),
    "pixels": Recipe(steps=700, batch=32, rate=5e-3, average=0.993),
    "denoiser": Recipe(steps=1500, batch=128, rate=2e-3, average=0.998),
    "classifier": Recipe(steps=800, batch=128, rate=2e-3, dropout=0.0),
}
SIZES = {"lm": Size(64, 2), "pixels": Size(64, 2), "denoiser": Size(192, 3), "classifier": Size(128, 2)}
SENTENCES = Recipe(steps=1000, batch=64, rate=3e-3), Size(128, 2)  # a language model of word pieces
# On digits a U-Net has a lower loss than an MLP with equal training time, and takes several times as long to sample.
UNETS = Size(16, 1, UNET)


def usual(kind: str, data: Data) -> tuple[Recipe, Size]:
    """Return the default recipe and size of a kind."""
    if kind == "lm" and not label_models.short(data.rows):
        return SENTENCES
    return RECIPES[kind], SIZES[kind]


def new(kind: str, data: Data, size: Size, *, seed: int, noised: bool = True) -> Any:
    """Return a newly initialised learner.

    Args:
        kind: of `KINDS`.
        data: what it will learn.
        size: of the network.
        seed: of the weights; the global generator is left unchanged.
        noised: whether a classifier sees noise.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind in ("lm", "pixels"):
            return (label_models.of_texts if kind == "lm" else label_models.of_pixels)(data, size.width, size.depth)
        shape, deviation = list(data.rows.shape[1:]), float(data.rows.std())
        if kind == "denoiser":
            return Denoiser(shape, len(data.names), deviation, size.width, size.depth, size.network)
        return Classifier(shape, len(data.names), deviation, size.width, size.depth, noised)


def begun(kind: str, data: Data, init: str) -> Any:
    """Return a learner that starts from the weights of a model.

    Args:
        kind: of `KINDS`.
        data: what it will learn.
        init: the folder of the model, or for "lm" also a name on the hub.

    Raises:
        ValueError: the model cannot be loaded, or does not fit the kind or the data.
    """
    return label_models.pretrained(data, init) if kind == "lm" else load(kind, data, Path(init))


def load(kind: str, data: Data, folder: Path) -> Any:
    """Return a saved learner.

    Args:
        kind: of `KINDS`.
        data: what it has learned.
        folder: of the learner.

    Raises:
        ValueError: no such learner, or one of another kind, of other labels, or of images of another size.
    """
    if kind in ("lm", "pixels"):
        model = label_models.known(data, folder)
        if (model.tokenizer is None) != (kind == "pixels"):
            raise ValueError(f"{folder} holds no {kind}")
        if kind == "pixels" and model.length != data.rows[0].numel():
            raise ValueError(f"{folder} must be a model of images of {data.rows[0].numel()} pixels, got {model.length}")
        return model
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}")
    try:
        _check_config(folder / "config.json")
        found = (Denoiser if kind == "denoiser" else Classifier).from_pretrained(folder, strict=True)
    except Exception as error:  # a config.json may hold anything, and weights may have any shape
        raise ValueError(f"{folder} holds no {kind} saved by arguide train, or only a part of one") from error
    expected = tuple(data.rows.shape[1:]), len(data.names)
    if (found.shape, found.labels) != expected:
        raise ValueError(
            f"{folder} must be a model of images {expected[0]} with {expected[1]} labels, as the data, got {found.shape} with "
            f"{found.labels}"
        )
    return found.eval()


def _check_config(path: Path) -> None:
    """Refuse a network that does not fit into memory, before it is built."""
    config = json.loads(path.read_text(encoding="utf-8"))
    limits.check_network(f"the network of {path}", config["width"], config["depth"], copies=1)


def train(
    learner: Any,
    data: Data,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    track: Track = iter,
) -> list[float]:
    """Train a learner in place and return the loss of every step; continue from the checkpoint if the file exists.

    Args:
        learner: from `new`, `begun` or `load`.
        data: rows and labels.
        recipe: steps, batch, rates.
        seed: of batches, dropout and noise.
        device: to train on.
        checkpoint: file to write, None for none.
        track: wraps the steps, for a progress bar.

    Raises:
        ValueError: a checkpoint that cannot be read or written or is damaged, or a loss that is not finite.
    """
    loss: Callable[..., torch.Tensor]
    if isinstance(learner, Causal):
        model, rows, loss = learner.model, learner.encode(data.rows), learner.loss
    else:
        model, rows = learner, data.rows
        loss = partial(denoising_loss if isinstance(learner, Denoiser) else classifying_loss, learner)
    generator = torch.Generator().manual_seed(seed)
    given = model.to(device), rows.to(device), data.labels.to(device), len(data.names), loss, recipe
    return fit(*given, generator=generator, checkpoint=checkpoint, track=track)


def held_loss(learner: Any, data: Data, *, labelled: bool = True) -> tuple[float, float]:
    """Return the mean loss per held-out row and its standard error over rows.

    The loss of a text or of pixels is in nats per sequence; that of a noised image is the training loss, as a mean over `DRAWS`
    noise samples.

    Args:
        learner: trained.
        data: with held-out rows.
        labelled: whether the learner gets the labels, or the label for none.
    """
    text = isinstance(learner, Causal)
    device = next((learner.model if text else learner).parameters()).device
    labels = (data.held_labels if labelled else torch.full_like(data.held_labels, len(data.names))).to(device)
    with torch.no_grad():
        if text:
            parts = zip(torch.split(learner.encode(data.held).to(device), 256), torch.split(labels, 256), strict=True)
            rows = torch.cat([causal_losses(learner.model, x, learner.controls.to(device)[y]) for x, y in parts])
        else:
            generator = torch.Generator().manual_seed(0)
            losses = denoising_losses if isinstance(learner, Denoiser) else classifying_losses
            drawn = [losses(learner, data.held.to(device), labels, generator) for _ in range(DRAWS)]
            rows = torch.stack(drawn).mean(0)
    return float(rows.mean()), float(rows.std() / len(rows) ** 0.5)


def save(learner: Any, folder: Path, card: str) -> None:
    """Write a learner with its model card.

    Args:
        learner: trained.
        folder: to write to.
        card: the text of its README.md.

    Raises:
        ValueError: the folder cannot be written, or the disk is full.
    """
    try:
        learner.save(folder) if isinstance(learner, Causal) else learner.save_pretrained(folder)
    except Exception as error:  # safetensors and tokenizers raise errors of their own types, tokenizers a bare Exception
        raise ValueError(f"cannot write the model to {folder}: {error}") from error
    run_folder.write_text(folder / "README.md", card)


def files_of(folder: Path) -> list[Path]:
    """Return the files of the learner in a folder, without its card."""
    return [path for name in (*WEIGHTS, *TOKENS, *VOCABULARY, LABELS) for path in folder.glob(name)]


def card(kind: str, source: Source, data: Data, recipe: Recipe | None, facts: dict[str, Any], *, noised: bool = True) -> str:
    """Return a model card.

    Args:
        kind: of `KINDS`.
        source: of the data.
        data: with the names of the labels.
        recipe: of the training, None if it is unknown.
        facts: further lines, name ↦ value.
        noised: whether a classifier sees noise.
    """
    how = {} if recipe is None else asdict(recipe)
    lines = source._asdict() | {"data": run_folder.shown(source.data)} | how | facts
    prompts = f"--prompt {shlex.quote(label_models.control(data.names[0]))} --negative {shlex.quote(label_models.ANY)}"
    use = {
        "lm": f"arguide generate FOLDER --no-chat {prompts} --scale 2",
        "pixels": "analysis.learning.label_models.Causal.load(FOLDER)",
        "denoiser": "diffusion.networks.Denoiser.from_pretrained(FOLDER)",
        "classifier": "diffusion.networks.Classifier.from_pretrained(FOLDER)",
    }[kind]
    return "\n".join(
        [
            "---\nlibrary_name: arguide\n---",
            f"# {_title(kind, recipe, noised=noised)}",
            f"Labels: {', '.join(data.names)}. Use: `{use}`",
            *(f"- {name}: {value}" for name, value in lines.items()),
            "",
        ]
    )


def _title(kind: str, recipe: Recipe | None, *, noised: bool) -> str:
    """Return the title of a card. A classifier takes no labels, so it has no dropout."""
    if kind == "classifier":
        return f"classifier of {'noised' if noised else 'clean'} images"
    if recipe is None:
        return f"{kind}, loaded and not trained here"
    return f"{kind}, trained {'with' if recipe.dropout else 'without'} conditioning dropout"
