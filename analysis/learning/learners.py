r"""What is trained: a language model, a model of pixels, a denoiser, classifiers of images; with a label or without, in one.

    lm           a small Llama over characters or word pieces; a control token of the label goes first, or that of no label
    pixels       a small GPT-2 over pixels of 17 grey levels, row by row, the same control tokens first
    denoiser     D(x, σ, y), a network of residual layers, or a U-Net, with EDM's preconditioning
    classifier   log p(y | x, σ) of noised images, or of clean ones

Each is saved in a folder of its own: safetensors, a configuration, a model card.
"""

import json
import shlex
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from analysis import limits
from analysis.files import run_folder
from analysis.learning import label_models
from analysis.learning.datasets import Data
from arguide.text.training import causal_losses
from arguide.training import Recipe, fit
from diffusion.networks import MLP, UNET, Classifier, Denoiser
from diffusion.training import classifying_loss, classifying_losses, denoising_loss, denoising_losses

DRAWS = 16  # of the noise of every held-out row
CHECKPOINT, LABELS = "checkpoint.pt", "labels.json"
WEIGHTS = ("config.json", "generation_config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
TOKENS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
VOCABULARY = ("vocab.json", "merges.txt", "tokenizer.model")
# What a training may leave in its folder, `checkpoint-*.part` if it was killed.
FILES = (*WEIGHTS, *TOKENS, *VOCABULARY, LABELS, "README.md", CHECKPOINT, "checkpoint-*.part")
KINDS = ("lm", "pixels", "denoiser", "classifier")


@dataclass(frozen=True)
class Size:
    """Of a network: its width, its number of layers, and of a denoiser which network, see `diffusion.networks`."""

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
# Of a denoiser: on digits it has a lower loss than an MLP of as much time to train, and takes several times as long to draw.
SENTENCES = Recipe(steps=1000, batch=64, rate=3e-3), Size(128, 2)  # a language model of word pieces
UNETS = Size(16, 1, UNET)


def usual(kind: str, data: Data) -> tuple[Recipe, Size]:
    """Return how a kind is trained, and its size, if nothing else is said."""
    if kind == "lm" and not label_models.short(data.rows):
        return SENTENCES
    return RECIPES[kind], SIZES[kind]


def new(kind: str, data: Data, size: Size, *, seed: int, noised: bool = True) -> Any:
    """Return a learner of its first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind in ("lm", "pixels"):
            return (label_models.of_texts if kind == "lm" else label_models.of_pixels)(data, size.width, size.depth)
        shape, deviation = list(data.rows.shape[1:]), float(data.rows.std())
        if kind == "denoiser":
            return Denoiser(shape, len(data.names), deviation, size.width, size.depth, size.network)
        return Classifier(shape, len(data.names), deviation, size.width, size.depth, noised)


def begun(kind: str, data: Data, init: str) -> Any:
    """Return a learner that goes on from a model."""
    return label_models.pretrained(data, init) if kind == "lm" else load(kind, data, Path(init))


def load(kind: str, data: Data, folder: Path) -> Any:
    """Return a learner that was saved, if it is of this kind, and of data like these.

    Raises:
        ValueError: no such model, or one of other labels or of images of another size.
    """
    if kind in ("lm", "pixels"):
        model = label_models.known(data, folder)
        if (model.tokenizer is None) != (kind == "pixels"):
            raise ValueError(f"{folder} holds no {kind}")
        if kind == "pixels" and model.length != data.rows[0].numel():
            raise ValueError(f"{folder} is of images of {model.length} pixels; the data have {data.rows[0].numel()}")
        return model
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}")
    try:
        _check_config(folder / "config.json")
        found = (Denoiser if kind == "denoiser" else Classifier).from_pretrained(folder, strict=True)
    except Exception as error:  # a config.json may hold anything, and weights may be of any shape
        raise ValueError(f"{folder} holds no {kind} that arguide train has saved, or not the whole of it") from error
    if (found.shape, found.labels) != (tuple(data.rows.shape[1:]), len(data.names)):
        raise ValueError(f"{folder} is of {found.labels} labels and images {found.shape}, unlike the data")
    return found.eval()


def _check_config(path: Path) -> None:
    """Refuse a network that no memory here holds, before it is built."""
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
    track: Any = iter,
) -> list[float]:
    """Train a learner in place, and return the loss of every step. A checkpoint that is there is gone on from."""
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "checkpoint": checkpoint, "track": track}
    if isinstance(learner, label_models.Causal):
        model, rows, loss = learner.model, learner.encode(data.rows), learner.loss
    else:
        model, rows = learner, data.rows
        loss = partial(denoising_loss if isinstance(learner, Denoiser) else classifying_loss, learner)
    return fit(model.to(device), rows.to(device), data.labels.to(device), len(data.names), loss, recipe, **options)


def held_loss(learner: Any, data: Data, *, labelled: bool = True) -> tuple[float, float]:
    """Return the mean loss a held-out row, with labels or without, and its standard error over rows.

    Of texts and pixels in nats a sequence; of noised images as trained, each row's a mean over `DRAWS` draws of its noise.
    """
    text = isinstance(learner, label_models.Causal)
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

    Raises:
        ValueError: a folder that cannot be written, or a disk that is full.
    """
    try:
        learner.save(folder) if isinstance(learner, label_models.Causal) else learner.save_pretrained(folder)
    except Exception as error:  # safetensors and tokenizers raise errors of their own types, tokenizers a bare Exception
        raise ValueError(f"cannot write the model to {folder}: {error}") from error
    run_folder.write_text(folder / "README.md", card)


def files_of(folder: Path) -> list[Path]:
    """Return the files of the learner that a folder holds, without its card."""
    names = (*WEIGHTS, *TOKENS, *VOCABULARY, LABELS)
    return [path for name in names for path in folder.glob(name)]


def card(kind: str, source: Any, data: Data, recipe: Recipe | None, told: dict[str, Any], *, noised: bool = True) -> str:
    """Return a model card.

    Args:
        recipe: how it was trained, None if that is not known.
        noised: whether a classifier has seen noise.
    """
    how = {} if recipe is None else asdict(recipe)
    own = source._asdict() | {"data": run_folder.shown(source.data)}
    lines = [f"- {name}: {value}" for name, value in (own | how | told).items()]
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
            *lines,
            "",
        ]
    )


def _title(kind: str, recipe: Recipe | None, *, noised: bool) -> str:
    """Return what is true of a kind: a classifier is given no labels, and others may have been trained without dropout."""
    if kind == "classifier":
        return f"classifier of {'noised' if noised else 'clean'} images"
    if recipe is None:
        return f"{kind}, loaded and not trained here"
    return f"{kind}, trained {'with' if recipe.dropout else 'without'} conditioning dropout"
