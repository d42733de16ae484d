"""Completions of the joint law: which law is drawn from, and from which particles."""

from types import SimpleNamespace

import torch
from small import build

import arguide
from analysis.joint import Joint


def law(**options):
    loaded = SimpleNamespace(model=build("llama"))
    guidance = arguide.Guidance(guidance_scale=1.5, negative_prompt_ids=torch.tensor([[20]]), plausibility=0.1)
    return Joint(**options).law(loaded, [5, 6, 7], guidance, max_new_tokens=4, stops=[2, 9])


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


def test_texts_are_drawn_from_all_runs_by_their_evidence():
    joint = Joint(particles=40, repeats=2)
    ending = law()
    texts, diagnosis = joint.draw(ending, 20, 4, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    runs, told = arguide.repeat_joint(ending, 40, 4, repeats=2, twist=arguide.particles.ahead, generator=generator)
    assert torch.equal(texts, arguide.pooled(runs).draw(20, generator))
    assert diagnosis == told
    of = [{tuple(row) for row in run.tokens.tolist()} for run in runs]
    for one, other in (of, of[::-1]):
        assert {tuple(row) for row in texts.tolist()} & (one - other)
