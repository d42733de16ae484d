"""Draws from the joint law of text: the law is the guided one, and the texts come from all runs."""

from types import SimpleNamespace

import pytest
import torch
from small import build

import arguide
from analysis.text import tokens
from analysis.text.joint_draws import Acceptance, Ladders, Particles, sampler
from analysis.toys import Table


def law(**options):
    model = build("llama")
    model.generation_config.eos_token_id = [2, 9]
    loaded = SimpleNamespace(model=model, negative=None, tokenizer=SimpleNamespace(pad_token_id=0, eos_token_id=2))
    encoded = tokens.Encoded([5, 6, 7], [20], 1.5)
    return tokens.law(loaded, encoded, max_new_tokens=4, plausibility=0.1, **options)


def test_a_power_is_an_inverse_temperature():
    """Guidance to the power β is temperature 1/β of the same branches."""
    ending = law(cap="force", temperature=1 / 2)
    assert (ending.cap, ending.tokens, ending.length) == ("force", (2, 9), 4)
    prompts = {"input_ids": torch.tensor([[5, 6, 7]]), "negative_prompt_ids": torch.tensor([[20]])}
    own = arguide.continuation(ending.model.model, **prompts, guidance_scale=1.5, plausibility=0.1)
    plain, power = own.start(1), ending.start(1)
    torch.testing.assert_close(power.log_probs, (2 * plain.log_probs).log_softmax(-1))
    assert (power.log_probs == -torch.inf).any()  # implausible words
    assert law().cap == "truncate"


def test_texts_are_drawn_from_all_runs():
    """A run of two particles has two texts."""
    texts, _ = Particles(particles=2, repeats=2).draw(law(), 1.5, 40, 4, torch.Generator().manual_seed(0))
    assert 2 < len({tuple(row) for row in texts.tolist()}) <= 4


@pytest.mark.parametrize("settings", [Particles(2000, 2), Ladders(800, 24)], ids=["particles", "ladders"])
def test_texts_follow_the_joint_law(make_joint, settings):
    """Within five standard errors of as many exact draws; texts of the sequential law are far from it."""
    table, n = Table(make_joint(1, (2, 3, 3))), 2000
    guided = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 4.0)
    exact = table.joint_guided(1, 4.0)
    drawn, diagnosis = settings.draw(guided, 4.0, n, 2, torch.Generator().manual_seed(0))
    plain = arguide.sample(guided, n, 2, generator=torch.Generator().manual_seed(0)).tokens
    assert distance(drawn, exact.probabilities) < 5
    assert distance(plain, exact.probabilities) > 10
    assert abs(diagnosis.log_evidence - float(exact.log_normalizer)) < 0.05


def test_every_ladder_gives_one_text():
    texts, found = Ladders(particles=2, sweeps=4).draw(law(), 1.5, 5, 4, torch.Generator().manual_seed(0))
    assert (len(texts), len(found.tokens), len(found.ratios)) == (5, 5, 4)


def test_a_sampler_keeps_its_own_settings():
    given = {"particles": None, "repeats": 3, "sweeps": 7, "power": 1.0, "cap": "force"}
    assert sampler(None, coherent=False, **given) == Particles(64, 3, 1.0, "force")
    assert sampler(None, coherent=False) == Particles(64, 4, 1.0, "truncate")
    assert sampler("ladder", coherent=False, **given) == Ladders(8, 7, 1.0, "force")
    assert isinstance(sampler(None, coherent=False, **given | {"power": 2.9}), Particles)
    assert sampler(None, coherent=False, **given | {"power": 3.0}) == Ladders(8, 7, 3.0, "force")
    assert sampler(None, coherent=True, **given | {"particles": 5}) == Acceptance(5, 1.0, "force")
    assert sampler("particles", coherent=True, **given).particles == 64


def distance(texts, law):
    """Return the largest difference of a text's share from its probability, in standard errors of an exact draw."""
    shares = torch.bincount(texts @ torch.tensor([3, 1]), minlength=9) / len(texts)
    return float(((shares - law.flatten()) / (law.flatten() * (1 - law.flatten()) / len(texts)).sqrt()).abs().max())
