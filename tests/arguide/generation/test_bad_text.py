"""Tokens outside the vocabulary and scales that are no numbers are refused in one line."""

import pytest
import torch

from arguide import Condition, continuation, guided, score

PROMPT = torch.tensor([[5, 6, 7]])
OUTSIDE = [torch.tensor([[5, -1]]), torch.tensor([[5, 60]]), torch.tensor([[2**40, 5]])]


def refused(call, name):
    with pytest.raises(ValueError, match=f"{name} must be ") as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ids", OUTSIDE)
def test_tokens_outside_the_vocabulary_are_refused(models, ids):
    model = models("llama")
    given = {"guidance_scale": 2.0, "max_new_tokens": 3}
    refused(lambda: score(model, PROMPT, ids, guidance_scale=2.0), "text_ids")
    refused(lambda: score(model, ids, PROMPT, guidance_scale=2.0), "input_ids")
    refused(lambda: continuation(model, ids, guidance_scale=2.0), "input_ids")
    refused(lambda: guided(model).generate(PROMPT, **given, negative_prompt_ids=ids), "negative_prompt_ids")
    refused(lambda: guided(model).generate(PROMPT, **given, conditions=[Condition(0.5, ids)]), "input_ids of a condition")


@pytest.mark.parametrize("scale", ["a", "2", {}, [1.0, 2.0], object()])
def test_a_scale_that_is_no_number_is_refused(models, scale):
    with pytest.raises(ValueError, match="scale must be a number, or one for each of the 1 prompts"):
        guided(models("llama")).generate(PROMPT, guidance_scale=scale, max_new_tokens=2)
