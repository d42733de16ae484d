"""Guiders and a pipeline of diffusers against the formulas of the papers that they name, on random predictions.

c and u are the conditional and the unconditional prediction, Δ = c − u, and plain guidance is u + γ Δ.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import diffusion
from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim, Source
from analysis.experiments.published.peers.cases import TRIALS, Case, judged, version

SCALE, SKIP, ALPHA, THRESHOLD = 4.0, 2.8, 0.5, 15.0
SHAPE = (TRIALS, 3, 8, 8)
WIDTH, STEPS = 8, 4  # of the network of the pipeline
ONE = torch.tensor(1.0)
NEAR, NEARLY = 1 + 1e-6, "the guider at 1 + 10⁻⁶"  # a scale that a guider does not take for 1
PYRAMID = (
    "FrequencyDecoupledGuidance needs kornia for its pyramid; here, private names of its module are replaced by a pyramid of "
    "2 × 2 averages."
)
Run = Callable[[], Tensor]


def claims(seed: int) -> Iterator[Claim]:
    """Yield one claim per guider: whether its prediction is that of its paper; none where diffusers is not installed."""
    return iter(()) if SOURCE.missing else judged(_cases(seed))


def _cases(seed: int) -> Iterator[Case]:
    draw = stream(seed, 1)
    cond, uncond, skip = (torch.randn(SHAPE, generator=draw, dtype=torch.float64) for _ in range(3))
    yield _plain(cond, uncond)
    yield _projected("with η = 0", cond / 2, uncond / 2, eta=0.0)
    yield _projected(f"by default, ‖c − u‖ over its threshold of {THRESHOLD:g}", 2 * cond, 2 * uncond)
    for name, layers in (("Skip-Layer", "skip_layer"), ("Perturbed-Attention", "perturbed"), ("Smoothed-Energy", "seg")):
        yield _skipped(name, layers, cond, uncond, skip)
    if hasattr(import_module("diffusers.guiders"), "MagnitudeAwareGuidance"):  # older releases have none
        yield _magnitude(cond, uncond)
    yield _tangential(cond / 16, uncond / 16)
    yield _by_frequency("first", cond, uncond)
    yield _by_frequency("second", cond, uncond)
    pipeline = _Pipeline(seed, draw)
    yield pipeline.guided(2.0)
    yield from (pipeline.off(scale) for scale in (0.5, 0.0))


def _case(
    where: str, formula: Callable[[float], Tensor], peer: Run, ours: Run | None, defect: str, scale: float = SCALE
) -> Case:
    """Return a case of a formula, γ ↦ the guided predictions."""
    return Case(where, formula(scale), formula(scale - 1), peer, ours, defect, "samples")


def _guider(name: str, **options: Any) -> Any:
    return getattr(import_module("diffusers.guiders"), name)(**options)


def _guide(cond: Tensor, uncond: Tensor, scale: float | Tensor) -> Tensor:
    return uncond + scale * (cond - uncond)


def _plain(cond: Tensor, uncond: Tensor) -> Case:
    return _case(
        f"plain guidance at γ = {SCALE:g}",
        lambda scale: _guide(cond, uncond, scale),
        lambda: _guider("ClassifierFreeGuidance", guidance_scale=SCALE).forward(cond, uncond).pred,
        lambda: diffusion.guide(cond, uncond, SCALE),
        "",
    )


def projection(cond: Tensor, uncond: Tensor, scale: float, parallel: float) -> Tensor:
    """Return c + (γ − 1)(Δ − (1 − η)⟨Δ, c⟩/⟨c, c⟩ c), with Δ shortened to the threshold: Sadat et al., algorithm 1.

    Args:
        cond: c, [n, …].
        uncond: u, [n, …].
        scale: γ.
        parallel: η.
    """
    rows = []
    for c, u in zip(cond, uncond, strict=True):
        delta = (c - u) * min(1.0, THRESHOLD / float((c - u).square().sum().sqrt()))
        along = (delta * c).sum() / c.square().sum() * c
        rows.append(c + (scale - 1) * (delta - (1 - parallel) * along))
    return torch.stack(rows)


def _projected(use: str, cond: Tensor, uncond: Tensor, **options: float) -> Case:
    eta = options.get("eta", 1.0)
    return _case(
        f"adaptive projected guidance {use}",
        lambda scale: projection(cond, uncond, scale, eta),
        lambda: _guider("AdaptiveProjectedGuidance", guidance_scale=SCALE, **options).forward(cond, uncond).pred,
        lambda: diffusion.projected(SCALE, parallel=eta, threshold=THRESHOLD)(cond, uncond, ONE),
        "AdaptiveProjectedGuidance adds γ times the changed difference to u, where the paper adds γ − 1 times it to c. Its "
        "documentation refers to that of plain guidance, which calls the two forms equivalent. `use_original_formulation` with "
        "γ − 1 follows the paper",
    )


def _skipped(name: str, layers: str, cond: Tensor, uncond: Tensor, skip: Tensor) -> Case:
    """Return the case of a guider with a third prediction, of a network that lacks some layers, at γ = 1."""

    def run(scale: float) -> Tensor:
        options = {"guidance_scale": scale, f"{layers}_guidance_layers": [0], f"{layers}_guidance_scale": SKIP}
        return _guider(f"{name.replace('-', '')}Guidance", **options).forward(cond, uncond, skip).pred

    return _case(
        f"{name.lower()} guidance at γ = 1",
        lambda scale: _guide(cond, uncond, scale) + SKIP * (cond - skip),
        lambda: run(1.0),
        lambda: run(NEAR),
        "The guiders with a third prediction s return u + γ (c − u) + w (c − s), but c + (w − 1)(c − s) at γ = 1",
        scale=1.0,
    )._replace(rule=NEARLY)


def _magnitude(cond: Tensor, uncond: Tensor) -> Case:
    ratio = (cond - uncond).square().sum((1, 2, 3)).sqrt() / uncond.square().sum((1, 2, 3)).sqrt()

    def formula(scale: float) -> Tensor:
        scales = 1 + (scale - 1) * (-ALPHA * ratio).exp()
        return _guide(cond, uncond, scales[:, None, None, None])

    def run(cond: Tensor, uncond: Tensor) -> Tensor:
        return _guider("MagnitudeAwareGuidance", guidance_scale=SCALE, alpha=ALPHA).forward(cond, uncond).pred

    return _case(
        "magnitude-aware guidance (MAMBO-G) of images",
        formula,
        lambda: run(cond, uncond),
        lambda: run(cond.flatten(1), uncond.flatten(1)).reshape(SHAPE),
        "MagnitudeAwareGuidance takes a norm that has no more than two dimensions",
    )._replace(rule="the guider on flat samples")


def _tangential(cond: Tensor, uncond: Tensor) -> Case:
    """Return the case of small predictions, as the guider computes in float32."""
    rows = []
    for c, u in zip(cond.flatten(1), uncond.flatten(1), strict=True):
        pair = torch.stack([c, u])
        first = torch.linalg.eigh(pair @ pair.T).eigenvectors[:, -1] @ pair  # a multiple of the first right singular vector
        rows.append((u @ first) / (first @ first) * first)
    along = torch.stack(rows).reshape(SHAPE)
    return _case(
        f"tangential guidance at γ = {SCALE:g}",
        lambda scale: _guide(cond, along, scale),
        lambda: _guider("TangentialClassifierFreeGuidance", guidance_scale=SCALE).forward(cond, uncond).pred,
        None,
        "TangentialClassifierFreeGuidance does not project u on the first singular vector of c and u",
    )


def _pyramid(x: Tensor, _: int) -> list[Tensor]:
    """Return the details and the averages of 2 × 2 pixels."""
    small = torch.nn.functional.avg_pool2d(x, 2)
    return [x - _doubled(small), small]


def _doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def _by_frequency(off: str, cond: Tensor, uncond: Tensor) -> Case:
    """Return the case of two levels, one of them at γ = 1; the pyramid stands for the one of kornia, a package more."""
    module = import_module("diffusers.guiders.frequency_decoupled_guidance")
    parts: dict[str, Any] = {
        "_CAN_USE_KORNIA": True,
        "build_laplacian_pyramid_func": _pyramid,
        "upsample_and_blur_func": _doubled,
    }

    def scales(scale: float, one: float = 1.0) -> list[float]:
        return [one, scale] if off == "first" else [scale, one]

    def formula(scale: float) -> Tensor:
        levels = zip(_pyramid(cond, 2), _pyramid(uncond, 2), scales(scale), strict=True)
        details, rest = (_guide(*level) for level in levels)
        return details + _doubled(rest)

    def run(one: float) -> Tensor:
        with patch.multiple(module, **parts):
            return _guider("FrequencyDecoupledGuidance", guidance_scales=scales(SCALE, one)).forward(cond, uncond).pred

    return _case(
        f"frequency-decoupled guidance, {off} level at γ = 1",
        formula,
        lambda: run(1.0),
        lambda: run(NEAR),
        "FrequencyDecoupledGuidance takes a level that is not guided from the level before it (issue 14643)",
    )._replace(rule=NEARLY, remark=PYRAMID)


class _Pipeline:
    """A tiny text pipeline, and DDIM by hand on its network."""

    def __init__(self, seed: int, draw: torch.Generator) -> None:
        self.diffusers = import_module("diffusers")
        self.network, self.process = self._network(seed), self.diffusers.DDIMScheduler(clip_sample=False, steps_offset=1)
        self.process.set_timesteps(STEPS)
        self.texts = [8 * torch.randn((1, 5, 6), generator=draw, dtype=torch.float64) for _ in range(2)]
        self.start = torch.randn((TRIALS, 1, WIDTH, WIDTH), generator=draw, dtype=torch.float64)

    def _network(self, seed: int) -> Any:
        blocks = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
        sizes = {"block_out_channels": (WIDTH,), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
        ends = {"sample_size": WIDTH, "in_channels": 1, "out_channels": 1, "cross_attention_dim": 6, "mid_block_type": None}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.diffusers.UNet2DConditionModel(**ends, **blocks, **sizes).double().eval().requires_grad_(False)

    def guided(self, scale: float) -> Case:
        return _case(
            f"text pipeline at γ = {scale:g}",
            self._by_hand,
            lambda: self._peer(scale),
            lambda: self._ours(scale),
            "",
            scale=scale,
        )

    def off(self, scale: float) -> Case:
        """Return the case of γ ≤ 1, where guidance is documented to be off."""
        return Case(
            f"text pipeline at γ = {scale:g}: no guidance, as documented",
            self._by_hand(1.0),
            self._by_hand(scale),
            lambda: self._peer(scale),
            None,
            "StableDiffusionPipeline guides at γ ≤ 1, which it does not document",
            "samples",
            wrong_rule="u + γ Δ",
            remark="StableDiffusionPipeline documents that guidance is on above 1, so that every γ ≤ 1 gives the law of γ = 1.",
        )

    def _by_hand(self, scale: float) -> Tensor:
        z = self.start
        for time in self.process.timesteps:
            cond, uncond = (
                self.network(z, time, encoder_hidden_states=text.expand(TRIALS, -1, -1)).sample for text in self.texts
            )
            z = self.process.step(_guide(cond, uncond, scale), time, z, eta=0.0).prev_sample
        return z

    def _peer(self, scale: float) -> Tensor:
        parts: dict[str, Any] = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
        parts |= {"unet": self.network, "scheduler": self.process, "requires_safety_checker": False}
        pipeline = self.diffusers.StableDiffusionPipeline(**parts)
        pipeline.set_progress_bar_config(disable=True)
        texts = dict(zip(("prompt_embeds", "negative_prompt_embeds"), self.texts, strict=True))
        size = {"height": 8 * WIDTH, "width": 8 * WIDTH, "num_images_per_prompt": TRIALS, "num_inference_steps": STEPS}
        return pipeline(**texts, **size, latents=self.start, guidance_scale=scale, output_type="latent").images

    def _ours(self, scale: float) -> Tensor:
        score, sigmas = diffusion.from_diffusers(self.network, self.process), diffusion.noise_levels(self.process)
        cond, uncond = (diffusion.conditioned(score, {"encoder_hidden_states": text}) for text in self.texts)
        scaled = self.start * (1 + sigmas[0] ** 2).sqrt() / sigmas[0]
        field = diffusion.LogLinear.guidance(cond, uncond, scale)
        return diffusion.sample(field, tuple(scaled.shape), sigmas, step=diffusion.euler, draw=lambda _: scaled).x


SOURCE = Source(
    "diffusers",
    f"{version('diffusers')}, guiders and guidance_scale of pipelines",
    "https://huggingface.co/docs/diffusers/api/modular_diffusers/guiders",
    claims,
    "its documentation and the papers that it names; it warns that guiders are experimental",
    package="diffusers",
)
