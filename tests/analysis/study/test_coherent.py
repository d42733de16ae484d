"""Coherent guidance of learned models, against every sequence of a small vocabulary: models of four pixels."""

import itertools
import math

import pytest
import torch

import arguide
from analysis.learning import label_models, learners
from analysis.learning.datasets import Data
from analysis.study import coherent, samplers
from analysis.study.coherent import ACCEPTED, COHERENT, PATHS, SCORES
from arguide.smc.acceptance import Accepted
from arguide.training import Recipe

K, T, GREY = 3, 4, 3


@pytest.fixture(scope="module")
def pixels():
    """Return a model of 2 × 2 images of three grey levels with three labels, which the last pixel tells from the first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_models, "LEVELS", GREY)
        generator = torch.Generator().manual_seed(0)
        tokens, labels = torch.randint(GREY, (600, T), generator=generator), torch.arange(600) % K
        copied = torch.rand(600, generator=generator) < 0.7
        tokens[copied, 3] = ((tokens[:, 0] + labels) % GREY)[copied]
        tokens[:, 1] = torch.where(torch.rand(600, generator=generator) < 0.3, labels, tokens[:, 1])
        x = (tokens - 1.0).reshape(-1, 1, 2, 2)
        data = Data(x, labels, ("a", "b", "c"), x, labels)
        learner = learners.new("pixels", data, learners.Size(32, 1), seed=1)
        learners.train(learner, data, Recipe(500, batch=64, rate=4e-3, dropout=0.3), seed=0)
        learner.model.eval()
        yield learner


@pytest.fixture(scope="module")
def logs(pixels):
    """Return log p(x|k) of every sequence and label, no label last, [81, K + 1], by one plain pass each."""
    every = torch.tensor(list(itertools.product(range(GREY), repeat=T)))
    columns = []
    for k in range(K + 1):
        tokens = torch.cat([pixels.controls[k].expand(len(every), 1), every], 1)
        with torch.no_grad():
            law = pixels.model(tokens).logits[:, :-1, :GREY].log_softmax(-1)
        columns.append(law.gather(-1, every[..., None]).sum((1, 2)))
    return every, torch.stack(columns, 1).double()


def joint(logs, label, scale):
    """Return log of p(x) (p(x|y)/p(x))^γ, unnormalised, [81], with the mixture of a uniform prior as p(x)."""
    mixture = logs[:, :K].logsumexp(1) - math.log(K)
    return mixture + scale * (logs[:, label] - mixture)


def test_likelihoods_are_those_of_one_plain_pass(pixels, logs):
    every, expected = logs
    for k in range(K + 1):
        found = coherent.log_likelihood(pixels, every, torch.full((len(every),), k))
        torch.testing.assert_close(found.double(), expected[:, k], atol=1e-4, rtol=0)


def test_every_row_is_guided_by_its_own_label(pixels, logs):
    every, expected = logs
    labels = torch.tensor([2, 0, 1])
    law = coherent.law(pixels, labels, 3.0)
    state = law.append(law.start(3), torch.tensor([1, 1, 1]))
    for row, label in enumerate(labels.tolist()):
        begin = lambda *x: (every[:, : len(x)] == torch.tensor(x)).all(1)  # noqa: E731
        mass = lambda *x: expected[begin(*x), :K].logsumexp(0)  # noqa: B023, E731
        conditionals = torch.stack([mass(1, v) - mass(1) for v in range(GREY)])
        posterior = mass(1).log_softmax(0)
        mixture = (conditionals + posterior).logsumexp(1)
        guided = (3 * conditionals[:, label] - 2 * mixture).log_softmax(0)
        torch.testing.assert_close(state.log_probs[row, :GREY].double(), guided, atol=1e-4, rtol=0)
    assert (state.log_probs[0] - state.log_probs[1]).abs().nan_to_num(0).max() > 0.05


def test_acceptance_and_divergence_are_those_of_all_sequences(pixels, logs):
    """Within 5 standard errors; the plain unconditional law in the place of the mixture is further away."""
    _, expected = logs
    generator, scale, n = torch.Generator().manual_seed(0), 3.0, 2000
    ((_, _, accepted),) = coherent.accepted(pixels, [scale], n, generator)
    log_z = torch.stack([joint(expected, y, scale).logsumexp(0) for y in range(K)])
    assert accepted.diagnostics["log_z"] == pytest.approx(float(log_z.mean()), abs=0.03)
    acceptance = (log_z - (scale - 1) * math.log(K)).exp()
    assert accepted.diagnostics["acceptance"] == pytest.approx(float(acceptance.mean()), abs=0.02)
    assert accepted.diagnostics["kl bound"] == pytest.approx(-float(acceptance.log().mean()), abs=0.03)
    (_, drawn), *_ = coherent.autoregressive(pixels, scale, n, generator)
    tokens = pixels.encode(drawn.rows)
    rows = (tokens * torch.tensor([27, 9, 3, 1])).sum(1)
    exact = torch.stack([joint(expected, int(y), scale)[i] for y, i in zip(drawn.labels, rows, strict=True)])
    # log q = log p̃ − Σ log Z_t, so Σ log Z_t of a sample has mean E[log p̃] + the entropy of q, and KL = log Z − its mean
    kl = accepted.diagnostics["log_z"] - drawn.diagnostics["log_path"]
    own = torch.bincount(rows + 81 * drawn.labels, minlength=81 * K).double().view(K, 81) / n
    entropy = -torch.special.xlogy(own, own).sum(1).mean()
    assert kl == pytest.approx(float(log_z.mean() - exact.mean() - entropy), abs=0.1)
    assert kl > 0.05
    shares = torch.bincount((pixels.encode(accepted.rows) * torch.tensor([27, 9, 3, 1])).sum(1)[:n], minlength=81) / n
    law = (joint(expected, 0, scale) - log_z[0]).exp()
    assert ((shares - law).abs() < 5 * (law / n).sqrt() + 3 / n).all()
    wrong = (3 * expected[:, 0] - 2 * expected[:, K]).softmax(0)
    assert ((shares - wrong).abs() > 5 * (wrong / n).sqrt() + 3 / n).any()


def test_incoherence_is_that_of_all_sequences(pixels, logs):
    _, expected = logs
    found = coherent.incoherent_texts(pixels, 1000, torch.Generator().manual_seed(0))
    mixture = expected[:, :K].logsumexp(1) - math.log(K)
    forward = float((mixture.exp() * (mixture - expected[:, K])).sum())
    backward = float((expected[:, K].exp() * (expected[:, K] - mixture)).sum())
    beyond = float((expected[:, :K].exp() * (expected[:, :K] - expected[:, K:] > math.log(K))).sum() / K)
    assert abs(found.mixture_learned.value - forward) < 4 * found.mixture_learned.std_error + 1e-4
    assert abs(found.learned_mixture.value - backward) < 4 * found.learned_mixture.std_error + 1e-4
    assert abs(found.beyond.value - beyond) < 4 * found.beyond.std_error + 1e-9
    assert forward > 0.05


@pytest.fixture
def denoiser(monkeypatch):
    """Return an untrained denoiser of 2 × 2 images with three labels, whose scores differ clearly."""
    monkeypatch.setattr(samplers, "STEPS", 6)
    x = torch.randn(16, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    data = Data(x, torch.arange(16) % K, ("a", "b", "c"), x, torch.arange(16) % K)
    found = learners.new("denoiser", data, learners.Size(16, 1), seed=0)
    with torch.no_grad():
        found.backbone.embed.label.weight.mul_(6)
        for parameter in found.backbone.parameters():
            parameter.mul_(1.5)
    return found.eval()


def test_paths_of_equal_labels_have_no_incoherence_and_no_gain(denoiser):
    generator = torch.Generator().manual_seed(0)
    assert coherent.incoherent_images(denoiser, 20, generator).mixture_learned.value > 1e-3
    with torch.no_grad():
        denoiser.backbone.embed.label.weight[:] = denoiser.backbone.embed.label.weight[0]
    found = coherent.incoherent_images(denoiser, 4, generator)
    assert abs(found.mixture_learned.value) + abs(found.learned_mixture.value) < 1e-3
    found = {(family, scale): each for scale, family, each in coherent.accepted_images(denoiser, [1.0, 3.0], 4, generator)}
    assert found[PATHS, 3.0].diagnostics["acceptance"] == pytest.approx(K**-2.0, rel=1e-3)
    assert found[PATHS, 3.0].diagnostics["log_z"] == pytest.approx(0.0, abs=1e-3)


def test_every_sampler_draws_its_labels(denoiser, pixels):
    generator = torch.Generator().manual_seed(0)
    drawn = dict(coherent.denoising(denoiser, 2.0, 5, generator))
    assert set(drawn[SCORES].diagnostics) == {"ess_share", "log_path", "log_path_spread", "posterior", "outside"}
    for each in (*drawn.values(), dict(coherent.autoregressive(pixels, 2.0, 5, generator))[COHERENT]):
        assert each.rows.shape == (15, 1, 2, 2)
        assert each.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    scales = [0.5, 1.0, 3.0]
    for found, family in ((coherent.accepted(pixels, scales, 5, generator), ACCEPTED),
                          (coherent.accepted_images(denoiser, scales, 5, generator), PATHS)):  # fmt: skip
        rows = list(found)
        assert [(scale, name) for scale, name, _ in rows] == [(scale, family) for scale in scales]
        assert all(each.rows.shape == (15, 1, 2, 2) for _, _, each in rows)


def test_at_1_coherent_and_plain_diffusion_are_one_law(denoiser):
    found = [dict(coherent.denoising(denoiser, 1.0, 3, torch.Generator().manual_seed(2))) for _ in range(2)]
    images = [each.rows for each in found[0].values()]
    again = [each.rows for each in found[1].values()]
    assert all(map(torch.equal, images, again))
    assert not torch.equal(images[0], images[1])  # noise of their own
    assert found[0][SCORES].diagnostics["log_path"] == pytest.approx(0.0, abs=1e-3)


def test_scales_of_too_low_acceptance_are_left_out_for_all_labels():
    """A pilot at γ = 1 leaves out γ = 9, whose A is 2⁻⁸; γ = 5 is left out when label 1 turns out not to accept there."""
    tried = []

    def draw(label, scales):
        tried.append((label, scales[-1]))
        if label == 1 and scales[-1] > 3:
            raise arguide.LowAcceptanceError("A is too low")
        log = torch.zeros(())
        return [Accepted(torch.full((2,), label), torch.full((2,), 0.5).log(), 4, log, log, log) for _ in scales]

    found = list(coherent._per_scale([5.0, 1.0, 3.0, 9.0], 2, draw))
    assert [scale for scale, _, _ in found] == [1.0, 3.0]
    assert tried == [(0, 1.0), (1, 1.0), (0, 5.0), (1, 5.0), (0, 3.0), (1, 3.0)]
    assert found[1][2].tolist() == [0, 0, 1, 1]
    assert list(coherent._per_scale([5.0], 2, draw)) == []
