"""Draws from the joint law of text: the law is the guided one, and the texts come from all runs."""

from types import SimpleNamespace

import torch
from small import build

import arguide
from analysis.text import tokens
from analysis.text.completions import Joint


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


def test_texts_come_from_all_runs_by_evidence():
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
