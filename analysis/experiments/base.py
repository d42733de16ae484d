r"""An experiment: a claim, the computation that tests it, a verdict on the numbers, and figures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from analysis.frames import Story, Track


@dataclass(frozen=True)
class Settings:
    """The settings that a run of the experiments depends on.

    Attributes:
        quick: whether grids and samples are small; all experiments take about a minute.
        seed: seed of every generator.
        device: device of the diffusion samplers.
        text: a labelled text file for the chapter on whole texts, see `analysis.toys.read_ngrams`.
        model: a language model for the chapter on text, a folder or a name on the hub.
    """

    quick: bool = False
    seed: int = 0
    device: str = "cpu"
    text: Path | None = None
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment(Story):
    """One chapter of the argument.

    Attributes:
        run: (settings, track) ↦ tidy frame.
    """

    run: Callable[[Settings, Track], pd.DataFrame]


def stream(seed: int, *key: int) -> torch.Generator:
    """Return a generator that is independent of the generators of other seeds and other keys."""
    state = np.random.SeedSequence([seed, *key]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
