import math

import numpy as np
import pytest
import torch

import arguide
from arguide.transforms import identity

INF = math.inf


@pytest.fixture(scope="module")
def laws():
    logits = 2 * torch.randn((50, 12), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    logits[::7, 3:6] = -INF
    return logits.log_softmax(-1)


def kept_by_hand(p, order, mass):
    """Return the law kept by adding tokens in `order` until they hold `mass`."""
    kept, total = np.zeros_like(p), 0.0
    for token in order:
        if total >= mass:
            break
        kept[token] = p[token]
        total += p[token]
    return kept / kept.sum()


@pytest.mark.parametrize("k", [1, 3, 11, 12, 40])
def test_top_k_keeps_the_k_likeliest(laws, k):
    for law, p in zip(arguide.top_k(k)(laws).exp().numpy(), laws.exp().numpy(), strict=True):
        kept = np.where(np.isin(np.arange(12), np.argsort(-p)[:k]), p, 0)
        np.testing.assert_allclose(law, kept / kept.sum(), atol=1e-12)


@pytest.mark.parametrize("mass", [0.01, 0.5, 0.9, 1.0])
def test_the_nucleus_is_the_smallest_set_of_likeliest_tokens(laws, mass):
    for law, p in zip(arguide.nucleus(mass)(laws).exp().numpy(), laws.exp().numpy(), strict=True):
        np.testing.assert_allclose(law, kept_by_hand(p, np.argsort(-p), mass), atol=1e-12)


@pytest.mark.parametrize("mass", [0.01, 0.5, 0.9, 1.0])
def test_typical_keeps_the_tokens_nearest_the_entropy(laws, mass):
    for law, p in zip(arguide.typical(mass)(laws).exp().numpy(), laws.exp().numpy(), strict=True):
        positive = p[p > 0]
        entropy = -(positive * np.log(positive)).sum()
        surprise = np.array([abs(-math.log(q) - entropy) if q > 0 else INF for q in p])
        np.testing.assert_allclose(law, kept_by_hand(p, np.argsort(surprise), mass), atol=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs", "value"),
    [("top_k", "TopKLogitsWarper", 4), ("nucleus", "TopPLogitsWarper", 0.8), ("typical", "TypicalLogitsWarper", 0.7)],
)
def test_truncations_are_those_of_transformers(laws, ours, theirs, value):
    from transformers.generation import logits_process

    dense = laws[[i for i in range(50) if i % 7]]  # transformers' typical warper gives NaN on zeros
    expected = getattr(logits_process, theirs)(value)(None, dense.clone()).softmax(-1)
    torch.testing.assert_close(getattr(arguide, ours)(value)(dense).exp(), expected, rtol=0, atol=1e-12)


def test_temperature_is_a_power_of_the_law(laws):
    powers = laws.exp().numpy() ** (1 / 0.6)
    np.testing.assert_allclose(arguide.temperature(0.6)(laws).exp().numpy(), powers / powers.sum(-1, keepdims=True), atol=1e-12)


def test_compose_applies_the_first_first(laws):
    cold, cut = arguide.temperature(0.3), arguide.nucleus(0.8)
    assert torch.equal(arguide.compose(cold, cut)(laws), cut(cold(laws)))
    assert not torch.equal(arguide.compose(cold, cut)(laws), arguide.compose(cut, cold)(laws))
    assert arguide.compose()(laws) is laws
    assert identity(laws) is laws


@pytest.mark.parametrize("make", [lambda: arguide.top_k(3), lambda: arguide.nucleus(0.6), lambda: arguide.typical(0.6)])
def test_truncated_laws_are_normalised_and_never_nan(laws, make):
    cut = make()(laws)
    assert not cut.isnan().any()
    torch.testing.assert_close(cut.logsumexp(-1), torch.zeros(50, dtype=torch.float64), rtol=0, atol=1e-12)
    rows = torch.stack([make()(law) for law in laws])
    torch.testing.assert_close(cut, rows)


@pytest.mark.parametrize("make", [arguide.nucleus, arguide.typical])
def test_a_mass_of_one_drops_no_possible_token_of_a_large_float32_vocabulary(make):
    law = (3 * torch.randn((2, 50_000), generator=torch.Generator().manual_seed(0))).log_softmax(-1)
    assert make(1.0)(law).isfinite().all()


def test_ties_with_the_kth_token_stay():
    law = torch.tensor([0.4, 0.2, 0.2, 0.2], dtype=torch.float64).log()
    torch.testing.assert_close(arguide.top_k(2)(law).exp(), law.exp())


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (arguide.top_k, 0),
        (arguide.nucleus, 0.0),
        (arguide.nucleus, 1.1),
        (arguide.nucleus, math.nan),
        (arguide.typical, -1.0),
        (arguide.temperature, 0.0),
        (arguide.temperature, INF),
        (arguide.temperature, math.nan),
    ],
)
def test_settings_out_of_range_raise(make, value):
    with pytest.raises(ValueError, match="must"):
        make(value)


def test_only_keeps_the_tokens_it_is_given(laws):
    p = laws.exp().numpy()[1]
    kept = np.where(np.isin(np.arange(12), [2, 7, 8]), p, 0)
    np.testing.assert_allclose(arguide.only([2, 7, 8])(laws)[1].exp().numpy(), kept / kept.sum(), atol=1e-12)
    with pytest.raises(ValueError, match="at least one token"):
        arguide.only([])


def test_a_defensive_mixture_gives_every_possible_token_its_share(laws):
    for law, p in zip(arguide.defensive(0.1)(laws).exp().numpy(), laws.exp().numpy(), strict=True):
        np.testing.assert_allclose(law, np.where(p > 0, 0.9 * p + 0.1 / (p > 0).sum(), 0), atol=1e-12)
    assert arguide.defensive(0.0)(laws) is laws
    with pytest.raises(ValueError, match="share"):
        arguide.defensive(1.0)
