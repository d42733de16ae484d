"""Guiders and a pipeline of diffusers against the formulas of the papers that their documentation names, on random predictions."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import diffusion
from analysis.experiments.base import stream
from analysis.experiments.published.claims import Claim, Source
from analysis.experiments.published.peers import TRIALS, Case, judged, version

SCALE, SKIP, ALPHA = 4.0, 2.8, 0.5
SHAPE = (TRIALS, 3, 8, 8)
WIDTH, STEPS = 8, 4  # of the network of the pipeline
ONE = torch.tensor(1.0)
Formula = Callable[[float], Tensor]


def claims(seed: int) -> Iterator[Claim]:
    """Yield one claim per guider: whether its prediction is that of its paper; none where diffusers is not installed."""
    return iter(()) if SOURCE.missing else judged(_cases(seed))


def _cases(seed: int) -> Iterator[Case]:
    draw = stream(seed, 1)
    cond, uncond, skip = (torch.randn(SHAPE, generator=draw, dtype=torch.float64) for _ in range(3))
    yield _plain(cond, uncond)
    yield _rescaled(cond[:, :, 0, 0][:, :1], uncond[:, :, 0, 0][:, :1])
    yield from _projected(cond, uncond)
    yield from _skipped(cond, uncond, skip)
    yield _magnitude(cond, uncond)
    yield _tangential(cond, uncond)
    yield from _by_frequency(cond, uncond)
    yield from _pipeline(seed, draw)


def _case(
    where: str, formula: Formula, peer: Callable[[], Tensor], ours: Callable[[], Tensor], defect: str, scale: float = SCALE
) -> Case:
    """Return a case of a formula, γ ↦ the guided predictions."""
    return Case(where, formula(scale), formula(scale - 1), peer, ours, defect, "samples")


def _guide(cond: Tensor, uncond: Tensor, scale: float | Tensor) -> Tensor:
    return uncond + scale * (cond - uncond)


def _plain(cond: Tensor, uncond: Tensor) -> Case:
    from diffusers.guiders import ClassifierFreeGuidance

    return _case(
        f"plain guidance at γ = {SCALE:g}",
        lambda scale: _guide(cond, uncond, scale),
        lambda: ClassifierFreeGuidance(SCALE).forward(cond, uncond).pred,
        lambda: diffusion.guide(cond, uncond, SCALE),
        "",
    )


def _rescaled(cond: Tensor, uncond: Tensor) -> Case:
    from diffusers.guiders import ClassifierFreeGuidance

    return _case(
        "rescaling samples of one number, which have no spread",
        lambda scale: _guide(cond, uncond, scale),
        lambda: ClassifierFreeGuidance(SCALE, guidance_rescale=0.5).forward(cond, uncond).pred,
        lambda: diffusion.rescaled(SCALE, 0.5)(cond, uncond, ONE),
        "`guidance_rescale` divides by the standard deviation of a sample, which is NaN for one number",
    )


def projection(cond: Tensor, uncond: Tensor, scale: float, *, parallel: float, threshold: float) -> Tensor:
    """Return c + (γ − 1)(Δ − (1 − η)⟨Δ, c⟩/⟨c, c⟩ c) with Δ = c − u, shortened to the threshold: Sadat et al., algorithm 1.

    Args:
        cond: c, [n, …].
        uncond: u, [n, …].
        scale: γ.
        parallel: η.
        threshold: the largest norm of Δ.
    """
    rows = []
    for c, u in zip(cond, uncond, strict=True):
        delta = (c - u) * min(1.0, threshold / float((c - u).square().sum().sqrt()))
        along = (delta * c).sum() / c.square().sum() * c
        rows.append(c + (scale - 1) * (delta - (1 - parallel) * along))
    return torch.stack(rows)


def _projected(cond: Tensor, uncond: Tensor) -> Iterator[Case]:
    """Yield APG where it projects, and where its default threshold is exceeded."""
    from diffusers.guiders import AdaptiveProjectedGuidance

    uses: tuple[tuple[str, float, dict[str, float]], ...] = (
        ("adaptive projected guidance with η = 0", 0.5, {"eta": 0.0}),
        ("adaptive projected guidance by default, ‖c − u‖ over its threshold of 15", 2.0, {}),
    )
    for where, size, options in uses:
        c, u, eta = size * cond, size * uncond, options.get("eta", 1.0)
        yield _case(
            where,
            lambda scale, c=c, u=u, eta=eta: projection(c, u, scale, parallel=eta, threshold=15.0),
            lambda c=c, u=u, options=options: AdaptiveProjectedGuidance(SCALE, **options).forward(c, u).pred,
            lambda c=c, u=u, eta=eta: diffusion.projected(SCALE, parallel=eta, threshold=15.0)(c, u, ONE),
            "AdaptiveProjectedGuidance adds γ times the changed difference to u, where the paper adds γ − 1 times it to c; "
            "`use_original_formulation` with γ − 1 follows the paper",
        )


def _skipped(cond: Tensor, uncond: Tensor, skip: Tensor) -> Iterator[Case]:
    """Yield the guiders with a third prediction, of a network without some layers, at γ = 1."""
    from diffusers import guiders

    for name, layers in (("Skip-Layer", "skip_layer"), ("Perturbed-Attention", "perturbed"), ("Smoothed-Energy", "seg")):
        options = {"guidance_scale": 1.0, f"{layers}_guidance_layers": [0], f"{layers}_guidance_scale": SKIP}
        kind = getattr(guiders, f"{name.replace('-', '')}Guidance")
        yield _case(
            f"{name.lower()} guidance at γ = 1",
            lambda scale: _guide(cond, uncond, scale) + SKIP * (cond - skip),
            lambda kind=kind, options=options: kind(**options).forward(cond, uncond, skip).pred,
            lambda: diffusion.combine((cond, skip), (1 + SKIP, -SKIP)),
            "The guiders with a third prediction s return c + w (c − s) + (γ − 1)(c − u), but c + (w − 1)(c − s) at γ = 1",
            scale=1.0,
        )


def _magnitude(cond: Tensor, uncond: Tensor) -> Case:
    from diffusers.guiders import MagnitudeAwareGuidance

    def scales(scale: float) -> Tensor:
        ratio = (cond - uncond).square().sum((1, 2, 3)).sqrt() / uncond.square().sum((1, 2, 3)).sqrt()
        return 1 + (scale - 1) * (-ALPHA * ratio).exp()

    return _case(
        "magnitude-aware guidance (MAMBO-G) of images",
        lambda scale: _guide(cond, uncond, scales(scale)[:, None, None, None]),
        lambda: MagnitudeAwareGuidance(SCALE, alpha=ALPHA).forward(cond, uncond).pred,
        lambda: diffusion.guide(cond, uncond, scales(SCALE)),
        "MagnitudeAwareGuidance takes a norm that has no more than two dimensions",
    )


def _tangential(cond: Tensor, uncond: Tensor) -> Case:
    """Run the two passes as a modular pipeline does, which asks the guider which of them it is in."""
    from diffusers.guiders import TangentialClassifierFreeGuidance

    rows = []
    for c, u in zip(cond.flatten(1), uncond.flatten(1), strict=True):
        pair = torch.stack([c, u])
        first = torch.linalg.eigh(pair @ pair.T).eigenvectors[:, -1] @ pair  # the first right singular vector times its value
        rows.append((u @ first) / (first @ first) * first)
    along = torch.stack(rows).reshape(SHAPE)

    def peer() -> Tensor:
        guider, predictions = TangentialClassifierFreeGuidance(SCALE), []
        for _ in range(guider.num_conditions):
            guider.prepare_models(torch.nn.Identity())
            predictions.append(cond if guider.is_conditional else uncond)
        return guider.forward(*predictions).pred

    return _case(
        "tangential guidance, with is_conditional read",
        lambda scale: _guide(cond, along, scale),
        peer,
        lambda: diffusion.guide(cond, along, SCALE),
        "TangentialClassifierFreeGuidance reads its number of passes by a name that does not exist (issue 14643)",
    )


def _pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """Return the details of every level and the rest, by averages of 2 × 2 pixels."""
    parts = []
    for _ in range(levels - 1):
        small = torch.nn.functional.avg_pool2d(x, 2)
        parts.append(x - _doubled(small))
        x = small
    return [*parts, x]


def _doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)


def _by_frequency(cond: Tensor, uncond: Tensor) -> Iterator[Case]:
    """Yield frequency-decoupled guidance with one level at γ = 1; its pyramid is ours, for that of kornia is an extra."""
    from diffusers.guiders import frequency_decoupled_guidance as module

    levels = list(zip(_pyramid(cond, 2), _pyramid(uncond, 2), strict=True))
    parts = {"_CAN_USE_KORNIA": True, "build_laplacian_pyramid_func": _pyramid, "upsample_and_blur_func": _doubled}

    def peer(scales: list[float]) -> Tensor:
        with patch.multiple(module, **parts):
            return module.FrequencyDecoupledGuidance(scales).forward(cond, uncond).pred

    for which, off in (("first", 0), ("second", 1)):

        def scales(scale: float, off: int = off) -> list[float]:
            return [1.0 if level == off else scale for level in (0, 1)]

        def combined(
            scale: float, rule: Callable[..., Tensor] = _guide, scales: Callable[[float], list[float]] = scales
        ) -> Tensor:
            details, rest = (rule(*level, each) for level, each in zip(levels, scales(scale), strict=True))
            return details + _doubled(rest)

        yield _case(
            f"frequency-decoupled guidance, {which} level at γ = 1",
            combined,
            lambda scales=scales: peer(scales(SCALE)),
            lambda combined=combined: combined(SCALE, diffusion.guide),
            "FrequencyDecoupledGuidance takes a level that is not guided from the level before it (issue 14643)",
        )


def _network(seed: int) -> Any:
    import diffusers

    blocks = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    sizes = {"block_out_channels": (WIDTH,), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = diffusers.UNet2DConditionModel(
            sample_size=WIDTH, in_channels=1, out_channels=1, cross_attention_dim=6, mid_block_type=None, **blocks, **sizes
        )
    return network.double().eval().requires_grad_(False)


def _pipeline(seed: int, draw: torch.Generator) -> Iterator[Case]:
    """Yield a text pipeline at γ < 1, against DDIM by hand."""
    import diffusers

    network, process = _network(seed), diffusers.DDIMScheduler(clip_sample=False, steps_offset=1)
    process.set_timesteps(STEPS)
    prompt, empty = (8 * torch.randn((1, 5, 6), generator=draw, dtype=torch.float64) for _ in range(2))
    start = torch.randn((TRIALS, 1, WIDTH, WIDTH), generator=draw, dtype=torch.float64)

    def formula(scale: float) -> Tensor:
        z = start
        for time in process.timesteps:
            noises = [network(z, time, encoder_hidden_states=text.expand(TRIALS, -1, -1)).sample for text in (prompt, empty)]
            z = process.step(_guide(*noises, scale), time, z, eta=0.0).prev_sample
        return z

    def peer(scale: float) -> Tensor:
        parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
        pipeline = diffusers.StableDiffusionPipeline(**parts, unet=network, scheduler=process, requires_safety_checker=False)
        pipeline.set_progress_bar_config(disable=True)
        texts = {"prompt_embeds": prompt, "negative_prompt_embeds": empty, "num_images_per_prompt": TRIALS}
        size = {"height": 8 * WIDTH, "width": 8 * WIDTH, "num_inference_steps": STEPS, "output_type": "latent"}
        return pipeline(**texts, **size, latents=start, guidance_scale=scale).images

    def ours(scale: float) -> Tensor:
        score, sigmas = diffusion.from_diffusers(network, process), diffusion.noise_levels(process)
        branches = (diffusion.conditioned(score, {"encoder_hidden_states": text}) for text in (prompt, empty))
        scaled = start * (1 + sigmas[0] ** 2).sqrt() / sigmas[0]
        field = diffusion.LogLinear.guidance(*branches, scale)
        return diffusion.sample(field, start.shape, sigmas, step=diffusion.euler, draw=lambda _: scaled).x

    for scale in (2.0, 0.5, 0.0):
        yield _case(
            f"text pipeline at γ = {scale:g}",
            formula,
            lambda scale=scale: peer(scale),
            lambda scale=scale: ours(scale),
            "StableDiffusionPipeline turns guidance on above 1, as its documentation says, so that every γ ≤ 1 gives the law of γ = 1",
            scale=scale,
        )


SOURCE = Source(
    "diffusers",
    f"{version('diffusers')}, guiders and `guidance_scale` of pipelines",
    "https://huggingface.co/docs/diffusers/api/modular_diffusers/guiders",
    claims,
    "its documentation and the papers that it names",
    package="diffusers",
)
