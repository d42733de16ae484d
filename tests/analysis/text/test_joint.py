"""Completions of the joint law: which law is drawn from, and from which particles."""

from types import SimpleNamespace

import torch
from small import build

import arguide
from analysis.text.joint import Joint
from analysis.toys import Table


def law(**options):
    model = build("llama")
    loaded = SimpleNamespace(model=model, negative=None)
    return Joint(**options).law(loaded, [5, 6, 7], [20], 1.5, max_new_tokens=4, stops=[2, 9], plausibility=0.1)


def test_the_law_is_the_one_that_is_asked_for():
    """Guidance to the power β is temperature 1/β of the same branches."""
    ending = law(cap="force", power=2.0)
    assert (ending.cap, ending.tokens, ending.length) == ("force", (2, 9), 4)
    prompts = {"input_ids": torch.tensor([[5, 6, 7]]), "negative_prompt_ids": torch.tensor([[20]])}
    own = arguide.continuation(ending.model.model, **prompts, guidance_scale=1.5, plausibility=0.1)
    plain, power = own.start(1), ending.start(1)
    torch.testing.assert_close(power.log_probs, (2 * plain.log_probs).log_softmax(-1))
    assert (power.log_probs == -torch.inf).any()  # implausible words
    assert law().cap == "truncate"


def test_texts_are_drawn_from_all_runs():
    """A run of two particles has two texts."""
    texts, _ = Joint(particles=2, repeats=4).draw(law(), 40, 4, torch.Generator().manual_seed(0))
    assert 2 < len({tuple(row) for row in texts.tolist()}) <= 8


def test_texts_follow_the_joint_law(make_joint):
    """Within five standard errors of as many exact draws; texts of the sequential law are far from it."""
    table, n = Table(make_joint(1, (2, 3, 3))), 4000
    guided = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 4.0)
    exact = table.joint_guided(1, 4.0)
    drawn, diagnosis = Joint(particles=n, repeats=2).draw(guided, n, 2, torch.Generator().manual_seed(0))
    plain = arguide.sample(guided, n, 2, generator=torch.Generator().manual_seed(0)).tokens
    assert distance(drawn, exact.probabilities) < 5
    assert distance(plain, exact.probabilities) > 15
    assert abs(diagnosis.log_evidence - float(exact.log_normalizer)) < 0.05


def distance(texts, law):
    """Return the largest difference of a text's share from its probability, in standard errors of an exact draw."""
    shares = torch.bincount(texts @ torch.tensor([3, 1]), minlength=9) / len(texts)
    return float(((shares - law.flatten()) / (law.flatten() * (1 - law.flatten()) / len(texts)).sqrt()).abs().max())
