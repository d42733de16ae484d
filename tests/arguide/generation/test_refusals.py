"""Arguments, models and modes that cannot be guided are refused in one line that says why."""

import math

import pytest
import torch
from reference import padded
from small import REFUSED, build
from transformers import AutoConfig, AutoModelForCausalLM

from arguide import Condition, continuation, guided, score
from arguide.text.seam import CACHE

PROMPTS = [[5, 6, 7, 8, 9], [12, 13]]
EIGHT = torch.tensor([[5, 6, 7, 8, 5, 6, 7, 8]])
EDGE = {"guidance_scale": 1.7, "negative_prompt_ids": torch.tensor([[20, 21, 22]]), "max_new_tokens": 9}
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


WRONG = {
    "guidance_scale must be given": {"negative_prompt_ids": torch.tensor([[1]])},
    "finite": {"guidance_scale": math.nan},
    "one for each of the 2": {"guidance_scale": torch.tensor([1.0, 2.0, 3.0])},
    "one for each of the 2 prompts, or one for all": {
        "guidance_scale": 2.0,
        "negative_prompt_ids": torch.ones(3, 2, dtype=torch.long),
    },
    "at least one token": {
        "guidance_scale": 2.0,
        "negative_prompt_ids": torch.ones(2, 2, dtype=torch.long),
        "negative_prompt_attention_mask": torch.tensor([[0, 0], [1, 1]]),
    },
    "the mask of a prompt": {
        "guidance_scale": 2.0,
        "negative_prompt_ids": torch.ones(2, 2, dtype=torch.long),
        "negative_prompt_attention_mask": torch.ones(2, 3, dtype=torch.long),
    },
    "beam_law": {"guidance_scale": 2.0, "beam_law": "global"},
    "temperature": {"guidance_scale": 2.0, "branch_temperature": 0.0},
    "plausibility": {"guidance_scale": 2.0, "plausibility": 1.5},
    "smoothing": {"guidance_scale": 2.0, "smoothing": 1.0},
    "exceed its model's context": {"guidance_scale": 2.0, "negative_prompt_ids": torch.ones(1, 60, dtype=torch.long)},
    "cache": {"guidance_scale": 2.0, "cache_implementation": "offloaded"},
    "hidden states": {"guidance_scale": 2.0, "output_hidden_states": True, "return_dict_in_generate": True},
    "inputs must be text alone": {"guidance_scale": 2.0, "token_type_ids": torch.ones(2, 5, dtype=torch.long)},
    "not used by the model": {"guidance_scale": 2.0, "negativ_model": 1},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_is_refused_with_a_reason(models, message):
    with pytest.raises(ValueError, match=message):
        guided(models("gpt2")).generate(**padded(PROMPTS).given, max_new_tokens=8, **WRONG[message])


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_keep_their_state_to_themselves_are_refused(name):
    config = AutoConfig.for_model(name, **REFUSED[name])
    model = AutoModelForCausalLM.from_config(config).eval()
    given = {"guidance_scale": 2.0, "negative_prompt_ids": torch.tensor([[9, 8]]), "max_new_tokens": 2, "pad_token_id": 0}
    with pytest.raises(ValueError, match="model must keep its state in a cache"):
        guided(model).generate(torch.tensor([PROMPTS[0]]), **given)


def test_a_model_without_a_cache_has_no_continuations():
    config = AutoConfig.for_model("openai-gpt", vocab_size=60, n_embd=8, n_layer=1, n_head=1)
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ValueError, match="model must keep its state in a cache"):
        continuation(model, PROMPT, guidance_scale=2.0)


def test_a_static_cache_is_refused_where_it_is_not_known_to_be_right():
    """GPT-Neo's local attention takes the cache's length for the text's."""
    config = AutoConfig.for_model(
        "gpt_neo", vocab_size=60, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ValueError, match="static cache"):
        guided(model).generate(torch.tensor([PROMPTS[0]]), guidance_scale=2.0, cache_implementation="static", max_new_tokens=2)


def test_a_cache_of_the_caller_is_refused(models):
    from transformers import DynamicCache

    given = {"guidance_scale": 2.0, "max_new_tokens": 2, CACHE: DynamicCache()}
    with pytest.raises(ValueError, match=f"leave out {CACHE}"):
        guided(models("llama")).generate(torch.tensor([PROMPTS[0]]), **given)


def test_models_with_different_vocabularies_are_refused(models):
    with pytest.raises(ValueError, match="one vocabulary, 60 tokens as in LlamaForCausalLM, got 61 in GPT2LMHeadModel"):
        guided(models("llama")).generate(
            torch.tensor([PROMPTS[0]]), guidance_scale=2.0, negative_model=build("gpt2", vocab_size=61), max_new_tokens=2
        )


def test_a_second_model_needs_room_for_the_prompt_too(models):
    small = build("gpt2", n_positions=8)
    with pytest.raises(ValueError, match="5 tokens of branch 2 and 5 new ones exceed its model's context of 8"):
        guided(models("llama")).generate(torch.tensor([PROMPTS[0]]), guidance_scale=2.0, negative_model=small, max_new_tokens=5)


def test_an_encoder_decoder_is_not_mixed_with_a_decoder(models, t5):
    with pytest.raises(ValueError, match="encoder-decoders"):
        guided(models("llama")).generate(torch.tensor([PROMPTS[0]]), guidance_scale=2.0, negative_model=t5, max_new_tokens=2)


def test_only_models_that_generate_can_be_guided():
    with pytest.raises(ValueError, match="must be a transformers model"):
        guided(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        ("leave out position_ids", {"position_ids": torch.arange(8)[None] + 3}),
        ("renormalize_logits", {"num_beams": 2, "beam_law": "joint", "renormalize_logits": True}),
        ("ids must be given", {"negative_prompt_ids": None, "negative_prompt_attention_mask": torch.ones(1, 3)}),
        ("one for each of the 1 prompts", {"guidance_scale": lambda t: torch.tensor([1.0, 2.0])}),
        ("token ids", {"negative_prompt_ids": torch.tensor([20, 21, 22])}),
        ("input_ids of a condition must be given", {"conditions": [Condition(0.5, attention_mask=torch.ones(1, 3))]}),
        ("two for", {"branch_temperature": (1.0, 1.0, 1.0)}),
        ("two for", {"branch_temperature": [1.0, 2.0]}),
    ],
)
def test_what_would_be_misread_is_refused(models, message, wrong):
    with pytest.raises(ValueError, match=message):
        guided(models("llama")).generate(EIGHT, **EDGE | wrong)
