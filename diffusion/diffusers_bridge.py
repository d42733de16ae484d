r"""diffusers: its denoising networks as scores, and scores as networks that its pipelines and schedulers call.

A network there reads z = α·x with α = √ᾱ_t, and predicts noise, velocity or x_0 at a time t = 0 … T−1 of its scheduler; x
and its noise level σ_t = √(1−ᾱ_t)/α are those of this package. Between the T levels time is linear in log σ, where Karras et
al. (2022), table 1, take the nearest; beyond them it stays at the first or last, while α follows σ. What the scheduler clips
or thresholds of x_0 is left as it is: see `predictions.with_denoised`.

This module needs no import of diffusers: a network is what takes (z, t, **inputs), a scheduler what has `alphas_cumprod`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide import checks
from diffusion import predictions
from diffusion.models import Field, Score
from diffusion.predictions import Prediction

PREDICTIONS = {"epsilon": predictions.noise, "v_prediction": predictions.velocity, "sample": predictions.denoised}


class Output(NamedTuple):
    """What a denoising network returns."""

    sample: Tensor


def from_diffusers(model: Callable[..., Any], scheduler: Any) -> Score:
    """Return the score of a diffusers network that was trained with the scheduler's noise schedule and prediction type.

    A label is the mapping of further inputs that the network is called with, such as {"encoder_hidden_states": [n, L, d]} or
    {"class_labels": [n]}; tensors of one row serve all samples; None is no further input. The unconditional score of a
    text model is that of the empty prompt's label. The network runs in its own dtype, the score has that of x. Gradients
    pass through: sample under `torch.no_grad()`.

    Raises:
        ValueError: a scheduler of another frame or prediction type; on calls, a label that is no mapping, or a network that
            predicts more than x.
    """
    log_levels, prediction = _levels(scheduler).log(), _prediction(scheduler)
    checks.function("model", model)

    def score(x: Tensor, sigma: Tensor, label: Any = None) -> Tensor:
        sigma = torch.as_tensor(sigma, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        time = _interpolate(sigma.detach().cpu().double().log(), log_levels)
        wide = x.to(sigma.dtype)
        z = ((1 + sigma**2) ** -0.5 * wide).to(getattr(model, "dtype", x.dtype))
        output = model(z, time.to(z.device, torch.float32), **_inputs(label, len(x)))
        output = output[0] if isinstance(output, tuple) else output.sample
        if output.shape != x.shape:
            raise ValueError(f"the network must predict what it reads, {tuple(x.shape)}, not {tuple(output.shape)}")
        return prediction.score(output.to(wide.dtype), wide, sigma).to(x.dtype)

    return score


class Denoiser(torch.nn.Module):
    """A score as the network of a diffusers pipeline: (z, t, **inputs) ↦ the scheduler's kind of prediction.

    Args:
        score: a field (x, σ), such as a `LogLinear`, whose conditions are part of it; or, if `labelled`, a `Score`.
        scheduler: gives the noise schedule and the prediction type.
        like: the network whose `config`, `dtype` and `device` a pipeline asks for, if any.
        labelled: whether the inputs that are not None reach the score as its label; by default they are left unread. Then
            let the pipeline not guide on its own: its scale is 1.
    """

    def __init__(
        self, score: Score | Field, scheduler: Any, like: torch.nn.Module | None = None, *, labelled: bool = False
    ) -> None:
        super().__init__()
        self.score, self.like, self.labelled = score, like, labelled
        self.levels, self.prediction = _levels(scheduler), _prediction(scheduler)
        checks.function("score", score)

    @property
    def config(self) -> Any:
        """The configuration of `like`."""
        return None if self.like is None else self.like.config

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of `like`, else the default one."""
        return torch.get_default_dtype() if self.like is None else next(self.like.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The device of `like`, else the default one."""
        return torch.get_default_device() if self.like is None else next(self.like.parameters()).device

    def forward(self, z: Tensor, timestep: Tensor | float, *, return_dict: bool = True, **inputs: Any) -> Any:
        """Return the prediction as `.sample`, [n, …], or as a tuple."""
        sigma = self._sigma(timestep).to(z.device, torch.promote_types(z.dtype, torch.float32))
        x = z.to(sigma.dtype) * (1 + sigma**2).sqrt()
        label = {name: value for name, value in inputs.items() if value is not None} if self.labelled else {}
        score: Callable[..., Tensor] = self.score
        output = self.prediction.of(score(x, sigma, label) if label else score(x, sigma), x, sigma).to(z.dtype)
        return Output(output) if return_dict else (output,)

    def _sigma(self, timestep: Tensor | float) -> Tensor:
        times = torch.as_tensor(timestep).cpu().double().reshape(-1)
        if (times != times[0]).any():
            raise ValueError("a score has one noise level for all samples, so they must share one timestep")
        below = int(times[0].floor().clamp(0, len(self.levels) - 2))
        low, high = self.levels[below : below + 2].log()
        return torch.lerp(low, high, (times[0] - below).clamp(0, 1)).exp()


def noise_levels(scheduler: Any) -> Tensor:
    """Return the grid of a scheduler's chosen timesteps, [steps + 1], closed by 0: on it Euler's steps are those of DDIM.

    Call its `set_timesteps(steps)` first. The grid is float64, on the CPU, and a `sigmas` for `sample`. DDIM ends at 0
    too where `set_alpha_to_one` holds.

    Raises:
        ValueError: timesteps that the network was not trained with, or that start at σ = ∞ (zero terminal SNR).
    """
    levels = _levels(scheduler)
    times = torch.as_tensor(scheduler.timesteps, device="cpu")
    if times.is_floating_point() and not times.equal(times.round()):
        raise ValueError("the scheduler's timesteps lie between those it was trained with; give a grid of `diffusion.noise`")
    if int(times.max()) >= len(levels):
        raise ValueError("the scheduler starts from pure noise, σ = ∞; choose its timesteps below the last")
    return torch.cat([levels[times.long()], levels.new_zeros(1)])


def _levels(scheduler: Any) -> Tensor:
    """Return σ_t at t = 0 … T−1, float64, on the CPU, without a last one that is infinite (zero terminal SNR)."""
    if getattr(scheduler, "alphas_cumprod", None) is None:
        name = type(scheduler).__name__
        raise ValueError(f"{name} has no alphas_cumprod: only schedulers of variance-preserving networks are read")
    if scheduler.config.get("timestep_type", "discrete") != "discrete":
        raise ValueError("networks that read log σ for a timestep are not read: timestep_type must be 'discrete'")
    kept = scheduler.alphas_cumprod.detach().cpu().double()
    kept = kept[kept > 0]
    return ((1 - kept) / kept).sqrt()


def _prediction(scheduler: Any) -> Prediction:
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise ValueError(f"prediction_type must be one of {', '.join(PREDICTIONS)}, got {kind!r}")
    return PREDICTIONS[kind]


def _interpolate(value: Tensor, rising: Tensor) -> Tensor:
    """Return the index, fractional and within the table, at which a rising table [T] takes a value []."""
    above = torch.searchsorted(rising, value).clamp(1, len(rising) - 1)
    low, high = rising[above - 1], rising[above]
    return above - 1 + ((value - low) / (high - low)).clamp(0, 1)


def _inputs(label: Any, n: int) -> dict[str, Any]:
    if label is None:
        return {}
    if not isinstance(label, Mapping):
        raise ValueError(f"a label is the mapping of inputs that the network is called with, not {type(label).__name__}")
    return {name: _expanded(value, n) for name, value in label.items()}


def _expanded(value: Any, n: int) -> Any:
    """Repeat tensors of one row for n samples, in mappings too."""
    if isinstance(value, Mapping):
        return {name: _expanded(inner, n) for name, inner in value.items()}
    return value.expand(n, *value.shape[1:]) if isinstance(value, Tensor) and value.ndim and len(value) == 1 else value
