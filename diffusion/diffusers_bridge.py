r"""The bridge to diffusers: its denoising networks as scores, and scores as networks for its pipelines and schedulers.

A network of diffusers reads z = α·x with α = √ᾱ_t, and predicts noise, velocity or x_0 at a time t = 0 … T−1 of its scheduler.
In this package x is the sample and σ_t = √(1−ᾱ_t)/α its noise level. Between the T levels time is interpolated linearly in
log σ; Karras et al., table 1, take the nearest level. Beyond the levels the time is the first or last one, and α still follows
σ. Schedulers may clip or threshold x_0; scores do not: see `predictions.with_denoised`.

The module does not import diffusers: any function of (z, t, **inputs) is a network, and any object with `alphas_cumprod` is a
scheduler.

Source: Karras et al., "Elucidating the design space of diffusion-based generative models", arXiv:2206.00364.
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
    """The output of a denoising network."""

    sample: Tensor


def from_diffusers(model: Callable[..., Any], scheduler: Any) -> Score:
    """Return the score of a diffusers network that was trained with the scheduler's noise schedule and prediction type.

    A label is a mapping of further inputs of the network, such as {"encoder_hidden_states": [n, L, d]} or
    {"class_labels": [n]}. A tensor of one row is expanded to all samples; None gives no further input. The unconditional label
    of a text model is the encoding of the empty prompt. The network runs in its own dtype, and the score has the dtype of x.
    Gradients are recorded: sample under `torch.no_grad()`.

    Raises:
        ValueError: a scheduler without `alphas_cumprod` or with another prediction type; on calls, a label that is no mapping,
            or a network that predicts more than x.

    Example:
        >>> scheduler = diffusers.DDIMScheduler()
        >>> score = diffusion.from_diffusers(lambda z, time: (0 * z,), scheduler)  # a network that predicts no noise
        >>> score(torch.ones(2, 3), torch.tensor(1.0)).shape
        torch.Size([2, 3])
    """
    log_levels, prediction = _levels(scheduler).log(), _prediction(scheduler)
    checks.function("model", model)

    def score(x: Tensor, sigma: Tensor, label: Any = None) -> Tensor:
        sigma = torch.as_tensor(sigma, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        time = _interpolate(sigma.detach().cpu().double().log(), log_levels)
        wide = x.to(sigma.dtype)
        z = ((1 + sigma**2) ** -0.5 * wide).to(getattr(model, "dtype", x.dtype))
        if not isinstance(label, Mapping | None):
            raise checks.refusal("label", "a mapping of inputs of the network", label)
        output = model(z, time.to(z.device, torch.float32), **_expanded(label or {}, len(x)))
        output = output[0] if isinstance(output, tuple) else output.sample
        if output.shape != x.shape:
            raise checks.refusal("the output of the network", f"of the shape of its input, {tuple(x.shape)}", output)
        return prediction.score(output.to(wide.dtype), wide, sigma).to(x.dtype)

    return score


class Denoiser(torch.nn.Module):
    """A score as the network of a diffusers pipeline: (z, t, **inputs) ↦ the scheduler's kind of prediction.

    Args:
        score: a function of (x, σ), such as a `LogLinear`, with its conditions bound; or, if `labelled`, a `Score`.
        scheduler: gives the noise schedule and the prediction type.
        like: the network whose `config`, `dtype` and `device` the pipeline reads, if any.
        labelled: whether the inputs that are not None are the label of the score; by default they are ignored, and the
            pipeline's own scale should be 1.

    Raises:
        ValueError: as `from_diffusers`, and a score that is no function.

    Example:
        >>> network = diffusion.Denoiser(lambda x, sigma: -x / (1 + sigma**2), diffusers.DDIMScheduler())
        >>> network(torch.ones(2, 3), 500).sample.shape
        torch.Size([2, 3])
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
        """Return the prediction, [n, …], as `.sample` or as a tuple.

        Args:
            z: α·x, [n, …].
            timestep: t, one for all samples.
            return_dict: whether to return an `Output` rather than a tuple.
            inputs: the label, if `labelled`.

        Raises:
            ValueError: samples with different timesteps.
        """
        sigma = self._sigma(timestep).to(z.device, torch.promote_types(z.dtype, torch.float32))
        x = z.to(sigma.dtype) * (1 + sigma**2).sqrt()
        label = {name: value for name, value in inputs.items() if value is not None} if self.labelled else {}
        score: Callable[..., Tensor] = self.score
        output = self.prediction.of(score(x, sigma, label) if label else score(x, sigma), x, sigma).to(z.dtype)
        return Output(output) if return_dict else (output,)

    def _sigma(self, timestep: Tensor | float) -> Tensor:
        times = torch.as_tensor(timestep).cpu().double().reshape(-1)
        if (times != times[0]).any():
            raise checks.refusal("timestep", "one timestep for all samples, for a score has one noise level", times.tolist())
        below = int(times[0].floor().clamp(0, len(self.levels) - 2))
        low, high = self.levels[below : below + 2].log()
        return torch.lerp(low, high, (times[0] - below).clamp(0, 1)).exp()


def noise_levels(scheduler: Any) -> Tensor:
    """Return the noise levels of a scheduler's timesteps, then 0, [steps + 1]: a grid on which Euler's steps are DDIM's.

    Call its `set_timesteps(steps)` first. The grid is float64, on the CPU, and serves as `sigmas` of `sample`. DDIM also ends
    at 0 where `set_alpha_to_one` is set.

    Raises:
        ValueError: timesteps that the network was not trained with, or that start at σ = ∞ (zero terminal SNR).

    Example:
        >>> scheduler = diffusers.DDIMScheduler()
        >>> scheduler.set_timesteps(4)
        >>> diffusion.noise_levels(scheduler).shape
        torch.Size([5])
    """
    levels = _levels(scheduler)
    times = torch.as_tensor(scheduler.timesteps, device="cpu")
    if times.is_floating_point() and not times.equal(times.round()):
        raise checks.refusal(
            "timesteps of the scheduler", "time steps of training", times.tolist(), "try a grid of diffusion.noise"
        )
    if int(times.max()) >= len(levels):
        raise checks.refusal("timesteps of the scheduler", "below the last, where σ = ∞", int(times.max()), "try other spacing")
    return torch.cat([levels[times.long()], levels.new_zeros(1)])


def _levels(scheduler: Any) -> Tensor:
    """Return σ_t at t = 0 … T−1, float64, on the CPU, without the last one if it is infinite (zero terminal SNR)."""
    if getattr(scheduler, "alphas_cumprod", None) is None:
        name = type(scheduler).__name__
        raise ValueError(f"scheduler must have alphas_cumprod, got {name}; try one of a variance-preserving network")
    if (kind := scheduler.config.get("timestep_type", "discrete")) != "discrete":
        raise checks.refusal("timestep_type of the scheduler", "'discrete'", kind)
    kept = scheduler.alphas_cumprod.detach().cpu().double()
    kept = kept[kept > 0]
    return ((1 - kept) / kept).sqrt()


def _prediction(scheduler: Any) -> Prediction:
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind not in PREDICTIONS:
        raise checks.refusal("prediction_type", f"one of {', '.join(PREDICTIONS)}", kind)
    return PREDICTIONS[kind]


def _interpolate(value: Tensor, rising: Tensor) -> Tensor:
    """Return the fractional index, within the table, at which a rising table [T] has a value []."""
    above = torch.searchsorted(rising, value).clamp(1, len(rising) - 1)
    low, high = rising[above - 1], rising[above]
    return above - 1 + ((value - low) / (high - low)).clamp(0, 1)


def _expanded(value: Any, n: int) -> Any:
    """Expand tensors of one row to n samples, in mappings too."""
    if isinstance(value, Mapping):
        return {name: _expanded(inner, n) for name, inner in value.items()}
    return value.expand(n, *value.shape[1:]) if isinstance(value, Tensor) and value.ndim and len(value) == 1 else value
