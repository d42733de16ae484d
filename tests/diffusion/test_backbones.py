"""Networks on vectors and on images: their inputs and embeddings, and that a U-Net learns."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from arguide.training import Recipe, fit
from diffusion.networks import MLP, UNET, Classifier, Denoiser
from diffusion.networks.backbones import UNet
from diffusion.training import denoising_loss

SHAPES = [[1, 8, 8], [1, 5, 7], [3, 4, 4], [1, 17, 20]]


def build(shape, network=UNET, width=8):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Denoiser(shape, 2, 0.7, width, 1, network)


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_unet_takes_any_image_of_four_pixels_a_side(shape):
    x = noise(3, *shape)
    with torch.no_grad():
        found = build(shape)(x, torch.tensor(0.5), torch.tensor([0, 1, 2]))
    assert found.shape == x.shape
    assert found.isfinite().all()


def test_a_unet_halves_twice_from_sixteen_pixels_on():
    assert [len(UNet(shape, 2, 8, 1).down) for shape in SHAPES] == [2, 2, 2, 3]


@pytest.mark.parametrize("shape", [[64], [8, 8], [1, 3, 8]])
def test_what_a_unet_cannot_take_is_refused(shape):
    with pytest.raises(ValueError, match="at least 4 pixels per side"):
        build(shape)


def test_another_network_is_refused():
    with pytest.raises(ValueError, match="network must be mlp or unet, got 'transformer'"):
        build([1, 8, 8], "transformer")


@pytest.mark.parametrize("network", [MLP, UNET])
def test_preconditioning_holds_whatever_the_network(network):
    """Without noise D is x, with much of it D is of the data's size."""
    model, x = build([1, 5, 6], network), noise(4, 1, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(model(x, torch.tensor(1e-3)), x, atol=1e-2, rtol=0)
        assert model(1e4 * x, torch.tensor(1e4)).abs().max() < 20


@pytest.mark.parametrize("sigma", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("network", [MLP, UNET])
def test_the_network_reads_and_aims_at_unit_variance(network, sigma):
    """Of 21,000 numbers of the data's variance 0.7², within six standard errors; the aim is where D is exact."""
    data, read, out = 0.7 * noise(700, 1, 5, 6), [], []
    x = data + sigma * torch.randn(data.shape, generator=torch.Generator().manual_seed(1))
    model = build([1, 5, 6], network)
    model.backbone.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    model.backbone.register_forward_hook(lambda _, given, found: torch.full_like(found, out[-1]))
    denoised = []
    for value in (0.0, 1.0):
        out.append(value)
        with torch.no_grad():
            denoised.append(model(x, torch.tensor(sigma)))
    aim = (data - denoised[0]) / (denoised[1] - denoised[0])
    assert read[0].std() == pytest.approx(1.0, abs=0.03)
    assert aim.std() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("network", [MLP, UNET])
def test_one_embedding_for_all_rows_equals_one_per_row(network):
    model, x = build([1, 5, 6], network), noise(4, 1, 5, 6)
    with torch.no_grad():
        once = model(x, torch.tensor(0.3), 1)
        torch.testing.assert_close(once, model(x, torch.full((4,), 0.3), torch.ones(4, dtype=torch.long)))
        torch.testing.assert_close(once[2:3], model(x[2:3], torch.tensor(0.3), 1))
        for other in (model(x, torch.tensor(0.4), 1), model(x, torch.tensor(0.3), 0), model(x, torch.tensor(0.3))):
            assert not torch.allclose(once, other)


def test_a_unet_is_saved_and_read_back(tmp_path):
    model, x = build([1, 5, 7]), noise(2, 1, 5, 7)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["network"] == UNET
    with torch.no_grad():
        assert torch.equal(Denoiser.from_pretrained(tmp_path)(x, torch.tensor(0.4)), model(x, torch.tensor(0.4)))


def test_a_unet_learns_images_by_their_label():
    """Two bars, upright and lying: far below the loss of a network that knows the mean of each label only without noise."""
    bars = -torch.ones(2, 1, 6, 6)
    bars[0, 0, :, 2:4], bars[1, 0, 2:4] = 1.0, 1.0
    labels = torch.arange(64) % 2
    model = build([1, 6, 6])
    recipe = Recipe(120, batch=32, rate=1e-2)
    losses = fit(
        model, bars[labels], labels, 2, lambda *given: denoising_loss(model, *given), recipe, generator=torch.Generator()
    )
    assert sum(losses[-10:]) < 0.25 * sum(losses[:10])
    with torch.no_grad():
        sigma = torch.tensor(3.0)
        near = [(model(bars + sigma * noise(2, 1, 6, 6), sigma, label) - bars[label]).abs().mean() for label in (0, 1)]
    assert max(near) < 0.3


EARLIER = {"backbone": "trunk", "embed": "tell", "modulations": "told", "modulation": "told", "shortcut": "past"}


@pytest.mark.parametrize(("kind", "own"), [(Denoiser, {"network": "mlp"}), (Denoiser, {"network": "unet"}), (Classifier, {})])
def test_files_of_earlier_versions_load(tmp_path, kind, own):
    """Parameters have new names; a file with the old ones gives the same network."""
    model = kind([1, 8, 8], 3, width=16, depth=2, **own)
    model.save_pretrained(tmp_path)
    parameters = load_file(tmp_path / "model.safetensors")
    for new, old in EARLIER.items():
        parameters = {name.replace(f"{new}.", f"{old}."): value for name, value in parameters.items()}
    save_file(parameters, tmp_path / "model.safetensors")
    x, sigma = torch.ones(2, 1, 8, 8), torch.tensor(0.4)
    assert torch.equal(kind.from_pretrained(tmp_path)(x, sigma), model(x, sigma))


def test_a_file_without_a_parameter_is_refused(tmp_path):
    Denoiser([3], 2, width=8, depth=1).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if name != "backbone.last.bias"}, path)
    with pytest.raises(RuntimeError, match=r"last\.bias"):
        Denoiser.from_pretrained(tmp_path)


@pytest.mark.parametrize("width", [5, 8])
def test_a_unet_may_have_any_width(width):
    with torch.no_grad():
        assert build([1, 8, 8], width=width)(noise(2, 1, 8, 8), torch.tensor(0.5), 1).shape == (2, 1, 8, 8)


def test_a_classifier_of_clean_data_reads_no_noise_level():
    """At any noise level it is the classifier of noised data at its least level."""
    clean, noised = (Classifier([2], 3, width=8, depth=1, noised=flag) for flag in (False, True))
    clean.load_state_dict(noised.state_dict())
    x = noise(4, 2)
    with torch.no_grad():
        assert torch.equal(clean(x, torch.tensor(5.0)), noised(x, torch.tensor(1e-3)))
        assert not torch.equal(clean(x, torch.tensor(5.0)), noised(x, torch.tensor(5.0)))
