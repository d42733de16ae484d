"""Networks of diffusers as scores and back, on small random ones in float64, with its schedulers and a pipeline as oracles."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from analysis.toys.mixture import GaussianMixture
from diffusion import (
    Denoiser,
    LogLinear,
    conditioned,
    edm,
    euler,
    from_diffusers,
    geometric,
    noise_levels,
    predictions,
    sample,
    sample_joint,
)

pytestmark = pytest.mark.filterwarnings("ignore")
diffusers = pytest.importorskip("diffusers")

KINDS = ["epsilon", "v_prediction", "sample"]
SHAPE = (3, 1, 8, 8)


def scheduler(kind="epsilon", name="DDIMScheduler", **options):
    return getattr(diffusers, name)(num_train_timesteps=1000, prediction_type=kind, clip_sample=False, **options)


def unet(**options):
    torch.manual_seed(0)
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    return diffusers.UNet2DModel(**sizes, **blocks, **options).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def network():
    return unet()


@pytest.fixture(scope="module")
def labelled():
    """A network of two classes and of none, whose label is 2."""
    return unet(num_class_embeds=3)


@pytest.fixture(scope="module")
def texts():
    torch.manual_seed(1)
    blocks = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    sizes = {"sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 4}
    model = diffusers.UNet2DConditionModel(
        **sizes, **blocks, block_out_channels=(8,), cross_attention_dim=6, attention_head_dim=4, mid_block_type=None
    )
    return model.double().eval().requires_grad_(False)


@pytest.fixture
def start():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def level(process, time):
    """Return σ_t from ᾱ_t, the definition."""
    alpha_bar = process.alphas_cumprod[time].double()
    return ((1 - alpha_bar) / alpha_bar).sqrt()


# ------------------------------------------------------------------------------------------------------ networks as scores


@pytest.mark.parametrize("time", [20, 400, 980])
@pytest.mark.parametrize("kind", KINDS)
def test_the_denoised_sample_is_that_of_the_scheduler_for_every_prediction_type(network, start, kind, time):
    process = scheduler(kind)
    process.set_timesteps(50)
    sigma = level(process, time)
    z = start / (1 + sigma**2).sqrt()
    expected = process.step(network(z, time).sample, time, z).pred_original_sample
    clean = predictions.denoised.of(from_diffusers(network, process)(start, sigma), start, sigma)
    torch.testing.assert_close(clean, expected, rtol=1e-5, atol=1e-5)
    other = from_diffusers(network, scheduler(KINDS[KINDS.index(kind) - 1]))(start, sigma)
    assert (predictions.denoised.of(other, start, sigma) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("time", [20, 400, 980])
def test_networks_that_predict_the_same_sample_in_three_ways_are_one_score(network, start, time):
    """The noise and the velocity of one denoised sample, by their definitions."""
    alpha_bars = scheduler().alphas_cumprod.double()

    def clean_of(z, time):
        return network(z, time).sample

    def noise_of(z, time):
        a = alpha_bars[int(time.round())]
        return (z - a.sqrt() * clean_of(z, time)) / (1 - a).sqrt()

    def velocity_of(z, time):
        a = alpha_bars[int(time.round())]
        return a.sqrt() * noise_of(z, time) - (1 - a).sqrt() * clean_of(z, time)

    def wrapped(function):
        model = lambda z, time: SimpleNamespace(sample=function(z, time))  # noqa: E731
        model.dtype = torch.float64
        return model

    sigma = level(scheduler(), time)
    one, *others = [
        from_diffusers(wrapped(function), scheduler(kind))(start, sigma)
        for kind, function in (("sample", clean_of), ("epsilon", noise_of), ("v_prediction", velocity_of))
    ]
    for other in others:
        torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_eulers_ode_on_the_schedulers_grid_is_ddim(network, start, kind):
    process = scheduler(kind)
    process.set_timesteps(10)
    sigmas = noise_levels(process)
    assert sigmas.shape == (11,)
    x = sigmas[0] * start
    ours = sample(from_diffusers(network, process), SHAPE, sigmas, step=euler, draw=lambda like: start).x
    z = x / (1 + sigmas[0] ** 2).sqrt()
    for time in process.timesteps:
        z = process.step(network(z, time).sample, time, z, eta=0.0).prev_sample
    torch.testing.assert_close(ours, z, rtol=1e-4, atol=1e-4)
    elsewhere = edm(10, float(sigmas[-2]), float(sigmas[0]))
    off = sample(from_diffusers(network, process), SHAPE, elsewhere, step=euler, draw=lambda like: start).x
    assert (off - z).abs().max() > 0.01


def test_time_is_linear_in_log_sigma_between_levels_and_stays_at_the_ends_beyond_them(start):
    asked = []

    def model(z, time):
        asked.append(float(time))
        return SimpleNamespace(sample=z)

    process = scheduler()
    score = from_diffusers(model, process)
    for time in (0, 7, 500, 999):
        score(start, level(process, time))
        assert asked.pop() == pytest.approx(time, abs=1e-4)
    score(start, (level(process, 41) * level(process, 42)).sqrt())
    assert asked.pop() == pytest.approx(41.5, abs=1e-4)
    score(start, level(process, 0) / 10)
    score(start, level(process, 999) * 10)
    assert asked == [0, 999]


def test_a_networks_dtype_is_its_own_business(start):
    network, process = unet().float(), scheduler()
    score = from_diffusers(network, process)
    wide, narrow = score(start, torch.tensor(1.3).double()), score(start.float(), torch.tensor(1.3))
    assert (wide.dtype, narrow.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(wide.float(), narrow, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------------- labels


def test_labels_are_the_inputs_of_the_network_and_one_row_serves_all(texts, start):
    process, sigma = scheduler(), torch.tensor(1.3).double()
    prompts = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    score = from_diffusers(texts, process)
    batch = score(start, sigma, {"encoder_hidden_states": prompts})
    for i in range(3):
        alone = score(start, sigma, {"encoder_hidden_states": prompts[i : i + 1]})
        torch.testing.assert_close(alone[i], batch[i], rtol=1e-9, atol=1e-9)
    assert (alone[0] - batch[0]).abs().max() > 1e-3


def test_inputs_within_inputs_are_repeated_too(start):
    def model(z, time, *, encoder_hidden_states, added_cond_kwargs):
        assert added_cond_kwargs["text_embeds"].shape == (3, 6)
        return (encoder_hidden_states.mean() * z,)

    label = {"encoder_hidden_states": torch.ones(1, 5, 6), "added_cond_kwargs": {"text_embeds": torch.ones(1, 6)}}
    assert from_diffusers(model, scheduler())(start, torch.tensor(1.0), label).shape == SHAPE


@pytest.mark.parametrize("label", [1, "a cat", torch.ones(3)])
def test_a_label_that_is_no_mapping_is_refused(network, start, label):
    with pytest.raises(ValueError, match="mapping of inputs"):
        from_diffusers(network, scheduler())(start, torch.tensor(1.0), label)


# ----------------------------------------------------------------------------------------------- guided, joint, in a pipeline


def guided(labelled, process, scale):
    score = from_diffusers(labelled, process)
    cond, none = ({"class_labels": torch.tensor([label])} for label in (0, 2))
    return LogLinear.guidance(conditioned(score, cond), conditioned(score, none), scale)


def test_the_corrected_sampler_runs_on_a_network(labelled):
    process = scheduler("v_prediction")
    model = guided(labelled, process, 3.0)
    sigmas = geometric(15, 0.05, float(level(process, 999)))
    result = sample_joint(model, (16, 1, 8, 8), sigmas, generator=torch.Generator().manual_seed(0))
    assert result.x.shape == (16, 1, 8, 8)
    assert result.x.isfinite().all()
    assert result.log_weights.isfinite().all()
    assert result.log_evidence.isfinite()
    assert result.log_weights.std() > 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_guided_ddim_of_a_pipeline_is_eulers_guided_ode(labelled, kind):
    """A pipeline calls the guided score as its network; what its scheduler returned last is compared before it is clamped."""
    process, states = scheduler(kind), []
    model = guided(labelled, process, 2.0)
    pipeline = diffusers.DDIMPipeline(unet=Denoiser(model, process, like=labelled), scheduler=process)
    pipeline.set_progress_bar_config(disable=True)
    step = pipeline.scheduler.step
    pipeline.scheduler.step = lambda *args, **options: states.append(step(*args, **options)) or states[-1]
    images = pipeline(batch_size=3, generator=torch.Generator().manual_seed(5), num_inference_steps=8, output_type="np").images
    assert images.shape == (3, 8, 8, 1)

    process.set_timesteps(8)
    sigmas = noise_levels(process)
    z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x = sample(model, SHAPE, sigmas, step=euler, draw=lambda like: z * (1 + sigmas[0] ** 2).sqrt() / sigmas[0]).x
    torch.testing.assert_close(states[-1].prev_sample, x, rtol=1e-4, atol=1e-4)
    plain = guided(labelled, process, 1.0)
    x = sample(plain, SHAPE, sigmas, step=euler, draw=lambda like: z * (1 + sigmas[0] ** 2).sqrt() / sigmas[0]).x
    assert (states[-1].prev_sample - x).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_text_pipeline_that_guides_and_one_whose_network_is_guided_draw_the_same(texts, kind):
    process = scheduler(kind, set_alpha_to_one=True)
    generator = torch.Generator().manual_seed(6)
    prompt, empty, z = (torch.randn(s, generator=generator).double() for s in ((1, 5, 6), (1, 5, 6), (2, 1, 8, 8)))

    def draw(network, scale):
        parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
        pipeline = diffusers.StableDiffusionPipeline(**parts, unet=network, scheduler=process, requires_safety_checker=False)
        pipeline.set_progress_bar_config(disable=True)
        embeds = {"prompt_embeds": prompt, "negative_prompt_embeds": empty, "num_images_per_prompt": 2}
        size = {"height": 64, "width": 64, "num_inference_steps": 6, "output_type": "latent"}
        return pipeline(**embeds, **size, latents=z, guidance_scale=scale).images

    theirs = draw(texts, 3.0)
    score = from_diffusers(texts, process)
    cond, uncond = (conditioned(score, {"encoder_hidden_states": states}) for states in (prompt, empty))
    model = LogLinear.guidance(cond, uncond, 3.0)
    torch.testing.assert_close(draw(Denoiser(model, process, like=texts), 1.0), theirs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(draw(Denoiser(score, process, like=texts, labelled=True), 3.0), theirs, rtol=1e-4, atol=1e-4)
    assert (draw(texts, 1.0) - theirs).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_that_of_the_network_alone(dtype):
    """A half network's prediction, through a score and back, is its own up to rounding, at the largest σ too."""
    network, process = unet().to(dtype), scheduler()
    there = Denoiser(from_diffusers(network, process), process, like=network)
    z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)).to(dtype)
    for time in (5, 500, 999):
        output = there(z, time).sample
        assert output.dtype == there.dtype == dtype
        torch.testing.assert_close(output, network(z, time).sample, rtol=0.05, atol=0.02)


# ------------------------------------------------------------------------------------------------------ scores as networks


@pytest.fixture
def mixture():
    means, variances = torch.tensor([[1.0, -0.5], [-1.0, 0.3]]), torch.tensor([0.05, 0.2])
    return GaussianMixture(means, variances, torch.tensor([0.4, 0.6]))


@pytest.mark.parametrize("time", [3, 400, 980, 41.25])
@pytest.mark.parametrize("kind", KINDS)
def test_a_score_as_a_network_as_a_score_is_the_score(mixture, kind, time):
    process = scheduler(kind)
    low, high = level(process, int(time)), level(process, int(time) + 1)
    sigma = low * (high / low) ** (time % 1)
    x = sigma * torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    back = from_diffusers(Denoiser(conditioned(mixture.score, 0), process, like=torch.nn.Linear(1, 1).double()), process)
    expected = mixture.score(x, sigma, 0)
    torch.testing.assert_close(back(x, sigma), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", [20, 400, 980])
def test_the_scheduler_reads_the_denoised_sample_of_a_score(mixture, kind, time):
    process = scheduler(kind)
    process.set_timesteps(50)
    sigma = level(process, time)
    x = (1 + sigma) * torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z, network = x / (1 + sigma**2).sqrt(), Denoiser(conditioned(mixture.score, 0), process)
    for output in (network(z, time).sample, network(z, torch.full((5,), time), return_dict=False)[0]):
        clean = process.step(output, time, z).pred_original_sample
        torch.testing.assert_close(clean, x + sigma**2 * mixture.score(x, sigma, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_schedulers_of_diffusers_draw_the_data_of_a_score(mixture, name):
    """Twenty-five steps of its own solvers find both modes of the mixture in the right shares."""
    process = (
        getattr(diffusers, name)(num_train_timesteps=1000, timestep_spacing="linspace")
        if name != "DDIMScheduler"
        else (scheduler())
    )
    process.set_timesteps(25)
    network = Denoiser(conditioned(mixture.score), process)
    n = 2000
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * process.init_noise_sigma
    for time in process.timesteps:
        z = process.step(network(process.scale_model_input(z, time), time).sample, time, z).prev_sample
    share = (mixture.log_class_probability(z)[:, 0].exp()).mean()
    assert float(share) == pytest.approx(0.4, abs=5 * (0.24 / n) ** 0.5)


def test_inputs_that_are_given_become_the_label_of_a_score(start):
    seen = []

    def score(x, sigma, label=None):
        seen.append(label)
        return -x / (1 + sigma**2)

    network = Denoiser(score, scheduler(), labelled=True)
    network(start, 10, encoder_hidden_states="text", cross_attention_kwargs=None)
    network(start, 10, encoder_hidden_states=None)
    Denoiser(score, scheduler())(start, 10, encoder_hidden_states="text")
    assert seen == [{"encoder_hidden_states": "text"}, None, None]


def test_samples_with_a_timestep_each_are_refused(mixture):
    network = Denoiser(conditioned(mixture.score), scheduler())
    with pytest.raises(ValueError, match="one timestep"):
        network(torch.zeros(2, 2), torch.tensor([3, 4]))


# ---------------------------------------------------------------------------------------------------------- what does not fit


@pytest.mark.parametrize("use", [lambda s: from_diffusers(None, s), lambda s: Denoiser(None, s), noise_levels])
def test_a_scheduler_of_another_frame_is_refused_by_name(use):
    for name in ("FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler"):
        with pytest.raises(ValueError, match=f"must have alphas_cumprod, got {name}"):
            use(getattr(diffusers, name)())
    with pytest.raises(ValueError, match="timestep_type"):
        use(diffusers.EulerDiscreteScheduler(timestep_type="continuous"))


@pytest.mark.parametrize("use", [lambda s: from_diffusers(None, s), lambda s: Denoiser(None, s)])
def test_another_prediction_type_is_refused(use):
    process = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    with pytest.raises(ValueError, match="prediction_type must be one of epsilon, v_prediction, sample, got 'flow_prediction'"):
        use(process)


def test_timesteps_between_levels_and_pure_noise_are_refused():
    between = diffusers.EulerDiscreteScheduler(use_karras_sigmas=True)
    between.set_timesteps(7)
    with pytest.raises(ValueError, match="steps of training"):
        noise_levels(between)
    pure = scheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    pure.set_timesteps(10)
    with pytest.raises(ValueError, match="below the last"):
        noise_levels(pure)


def test_a_network_without_its_infinite_level_is_read(network, start):
    process = scheduler("v_prediction", rescale_betas_zero_snr=True)
    assert from_diffusers(network, process)(start, torch.tensor(50.0).double()).isfinite().all()


def test_a_network_that_predicts_its_variance_too_is_refused(start):
    model = lambda z, time: SimpleNamespace(sample=torch.cat([z, z], 1))  # noqa: E731
    with pytest.raises(ValueError, match="output of the network"):
        from_diffusers(model, scheduler())(start, torch.tensor(1.0))


def test_importing_diffusion_does_not_import_diffusers():
    script = (
        "import sys, diffusion; [getattr(diffusion, name) for name in diffusion.__all__]; print('diffusers' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
