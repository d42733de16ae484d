"""A pipeline of `transformers` takes a guided model as it takes the model itself, and says nothing."""

import logging
import warnings

import pytest
import torch
import transformers
from small import build, letters

from arguide import Condition, guided

TOKENIZER = letters()
NEGATIVE = torch.tensor([[20, 21]])
GUIDANCE = {
    "unguided": {},
    "scale": {"guidance_scale": 2.0},
    "negative prompt": {"guidance_scale": 2.0, "negative_prompt_ids": NEGATIVE},
    "condition": {"guidance_scale": 2.0, "conditions": [Condition(-0.5, NEGATIVE)]},
    "schedule": {"guidance_scale": lambda t: 1.0 + t},
}


@pytest.fixture(params=["llama", "gpt2", "mamba"])
def model(models, request):
    return models(request.param)


@pytest.fixture
def log():
    """What the loggers of `transformers` say, which hand nothing to the root logger."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("transformers").addHandler(handler)
    yield messages
    logging.getLogger("transformers").removeHandler(handler)


def pipe(model, **options):
    return transformers.pipeline("text-generation", model=model, tokenizer=TOKENIZER, **options)


@pytest.mark.parametrize("kind", GUIDANCE)
def test_a_pipeline_writes_what_generate_writes_and_says_what_it_says_of_the_model(model, kind, log):
    view, given = guided(model), {"max_new_tokens": 5, "do_sample": False} | GUIDANCE[kind]
    pipe(model)("hello", max_new_tokens=5, do_sample=False)
    own = [*log]  # of missing kernels, for instance
    log.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = pipe(view)("hello", return_tensors=True, **given)
    ids = TOKENIZER("hello", return_tensors="pt").input_ids
    assert found["generated_token_ids"] == view.generate(ids, **given)[0].tolist()
    assert [message for message in log if message not in own] == []


def test_guidance_may_be_given_when_the_pipeline_is_made(model):
    given = GUIDANCE["negative prompt"] | {"max_new_tokens": 5, "do_sample": False}
    (once,) = pipe(guided(model), **given)("hello", return_tensors=True)
    (called,) = pipe(guided(model))("hello", return_tensors=True, **given)
    (plain,) = pipe(model)("hello", return_tensors=True, max_new_tokens=5, do_sample=False)
    assert once == called != plain


def test_a_batch_of_prompts_is_written_as_each_alone(models):
    view = pipe(guided(models("llama")))
    given = GUIDANCE["negative prompt"] | {"max_new_tokens": 5, "do_sample": False}
    prompts = ["hello", "youthere"]
    assert view(prompts, batch_size=2, **given) == [view(prompt, **given) for prompt in prompts]


def test_samples_are_drawn(models):
    given = {"guidance_scale": 2.0, "max_new_tokens": 5, "do_sample": True, "num_return_sequences": 3}
    assert len(pipe(guided(models("llama")))("hello", **given)) == 3


def test_a_model_that_a_pipeline_does_not_know_would_be_reported(log):
    class Unknown(type(build("llama"))):
        pass

    model = build("llama")
    model.__class__ = Unknown
    pipe(model)
    assert any("is not supported" in message for message in log)


def test_the_class_of_a_view_has_the_name_of_its_model_and_says_what_it_is(model):
    view = guided(model)
    assert type(view).__name__ == type(model).__name__
    assert type(view).__qualname__ == f"Guided{type(model).__name__}"
