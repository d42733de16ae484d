"""The guided view shares the model's parameters, is saved as the model, and leaves the model as it was."""

import torch
from reference import padded
from small import build
from transformers import AutoModelForCausalLM

from arguide import guided

PROMPTS = [[5, 6, 7, 8, 9], [12, 13]]


def test_the_view_shares_parameters_and_leaves_the_model_as_it_was(models):
    model = build("gpt2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    keys = set(model.__dict__)
    view = guided(model)
    view.generate(torch.tensor([PROMPTS[0]]), guidance_scale=2.0, max_new_tokens=3, cache_implementation="static")
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert set(model.__dict__) == keys
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(ours is theirs for ours, theirs in zip(view.parameters(), model.parameters(), strict=True))
    assert isinstance(view, type(model))
    assert guided(view) is view
    prompt = padded(PROMPTS).given
    assert view.generate(**prompt, max_new_tokens=5).tolist() == model.generate(**prompt, max_new_tokens=5).tolist()
    assert torch.equal(view(torch.tensor([PROMPTS[0]])).logits, model(torch.tensor([PROMPTS[0]])).logits)


def test_the_view_is_saved_as_the_model(models, tmp_path):
    guided(models("gpt2")).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "GPT2LMHeadModel"
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), models("gpt2").parameters(), strict=True))
