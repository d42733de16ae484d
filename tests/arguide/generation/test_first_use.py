"""The mistakes of a first use are refused in one line that says what to try."""

import pytest
import torch
import transformers
from bad_calls import advised, refused
from small import build, letters

import arguide
from arguide import Condition, continuation, guided, score

PLAIN, TOKENIZER = build("llama"), letters()
MODEL = guided(PLAIN)
INPUTS = TOKENIZER("hello", return_tensors="pt")
IDS, OTHER = INPUTS.input_ids, TOKENIZER("bad", return_tensors="pt").input_ids
TEXT_TRY = "try tokenizer(text"
WRONG_IDS = {
    "text": ("hello", TEXT_TRY),
    "texts": (["hello", "you"], TEXT_TRY),
    "tokenizer output": (INPUTS, "try inputs.input_ids"),
    "list": ([[1, 2]], "try torch.tensor"),
    "one axis": (IDS[0], "try ids[None]"),
    "floats": (IDS.float(), "integers"),
    "outside": (IDS + 1000, "from 0 to 59"),
}


def generate(*ids, **given):
    return MODEL.generate(*ids or (IDS,), max_new_tokens=2, **{"guidance_scale": 2.0} | given)


TAKES_IDS = {
    "input_ids": [
        lambda ids: MODEL.generate(input_ids=ids, guidance_scale=2.0, max_new_tokens=2),
        lambda ids: continuation(PLAIN, ids, guidance_scale=2.0),
        lambda ids: score(PLAIN, ids, IDS),
        lambda ids: generate(conditions=[Condition(0.5, ids)]),
    ],
    "text_ids": [lambda ids: score(PLAIN, IDS, ids)],
    "negative_prompt_ids": [
        lambda ids: generate(negative_prompt_ids=ids),
        lambda ids: continuation(PLAIN, IDS, guidance_scale=2.0, negative_prompt_ids=ids),
        lambda ids: arguide.Guidance(2.0, ids) and generate(guidance=arguide.Guidance(2.0, ids)),
    ],
}


@pytest.mark.parametrize("kind", WRONG_IDS)
@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in TAKES_IDS.items() for call in calls])
def test_what_is_no_tensor_of_token_ids_is_refused_with_the_remedy(name, call, kind):
    ids, hint = WRONG_IDS[kind]
    advised(lambda: call(ids), name, hint)


@pytest.mark.parametrize("scale", [None, 2.0])
def test_the_output_of_a_tokenizer_is_unpacked(scale):
    advised(lambda: generate(INPUTS, guidance_scale=scale), "inputs", "try model.generate(**inputs)")
    advised(lambda: generate(dict(INPUTS), guidance_scale=scale), "inputs", "try model.generate(**inputs)")
    advised(lambda: generate("hello", guidance_scale=scale), "inputs", TEXT_TRY)
    assert MODEL.generate(**INPUTS, guidance_scale=scale, max_new_tokens=2).shape == (1, 7)


@pytest.mark.parametrize("scale", ["2", torch.ones(3), torch.ones(1, 2), lambda _: "2", lambda _: None])
def test_a_scale_of_another_type_or_shape_is_refused(scale):
    advised(lambda: generate(guidance_scale=scale), "guidance_scale", "try guidance_scale=2.0")
    advised(lambda: continuation(PLAIN, IDS, guidance_scale=scale).start(1), "guidance_scale", "try guidance_scale=2.0")


PIPELINE = transformers.pipeline("text-generation", model=PLAIN, tokenizer=TOKENIZER)
LOAD = "try AutoModelForCausalLM.from_pretrained(name)"
NO_MODEL = {"gpt2": LOAD, TOKENIZER: LOAD, transformers.AutoModelForCausalLM: LOAD, PIPELINE: "try its attribute model"}


@pytest.mark.parametrize(("wrong", "hint"), NO_MODEL.items(), ids=["name", "tokenizer", "class", "pipeline"])
def test_what_is_no_model_is_refused(wrong, hint):
    advised(lambda: guided(wrong), "model must be", hint)
    advised(lambda: continuation(wrong, IDS), "model must be", hint)
    advised(lambda: score(wrong, IDS, IDS), "model must be", hint)
    advised(lambda: generate(negative_model=wrong), "negative_model must be", hint)
    advised(lambda: Condition(0.5, IDS, model=wrong), "model must be", hint)


@pytest.mark.parametrize("model", [PLAIN, MODEL], ids=["plain", "guided"])
def test_a_sampler_of_laws_refuses_a_language_model_and_names_what_takes_it(model):
    for call in (
        lambda: arguide.sample(model, 2, 2),
        lambda: arguide.sample_joint(model, 2, 2),
        lambda: arguide.sample_joints(model, 2, 2, 2),
        lambda: arguide.sample_metropolis(model, 2, 2, 1),
        lambda: arguide.repeat_joint(model, 2, 2),
        lambda: arguide.sample_accepted(model, 0, 2.0, 2, 2),
        lambda: arguide.LogLinear.guidance(model, model, 2.0),
        lambda: arguide.check_law(model),
    ):
        advised(call, "model", "generate(…)", "arguide.continuation(model, input_ids, …)")


def test_a_misnamed_argument_is_refused_with_its_name():
    for name in ("scale", "gamma", "cfg_scale"):
        advised(lambda name=name: generate(**{name: 2.0}), name, "try guidance_scale")
        advised(lambda name=name: continuation(PLAIN, IDS, **{name: 2.0}), name, "try guidance_scale")
    advised(lambda: generate(negative_prompt="bad"), "negative_prompt", "try negative_prompt_ids=tokenizer")
    advised(lambda: score(PLAIN, IDS, IDS, weight=2.0), "weight", "try help(arguide.Guidance)")


def test_arguments_of_another_type_are_refused():
    advised(lambda: MODEL.generate(IDS, 2.0), "generation_config", "try guidance_scale=2.0")
    advised(lambda: generate(guidance={"guidance_scale": 2.0}), "guidance", "try guidance_scale=2.0")
    advised(lambda: generate(conditions=Condition(0.5, OTHER)), "conditions", "try conditions=[arguide.Condition(")
    advised(lambda: generate(conditions=["bad"]), "conditions", "try conditions=[arguide.Condition(")
    advised(lambda: Condition(OTHER), "scale", "try Condition(0.5, ids)")
    advised(lambda: Condition("0.5", OTHER), "scale", "try Condition(0.5, ids)")
    advised(lambda: score(PLAIN, IDS, IDS.expand(2, -1)), "text_ids", "input_ids.expand(n, -1)")
    refused(lambda: generate(attention_mask=torch.ones(1, 3)), "attention_mask")
    refused(lambda: generate(negative_prompt_ids=OTHER, negative_prompt_attention_mask=[[1, 1, 1]]), "mask")
    refused(lambda: continuation(PLAIN, IDS, max_new_tokens="3"), "max_new_tokens")


def test_a_scale_that_forward_would_ignore_is_refused():
    advised(lambda: MODEL(IDS, guidance_scale=2.0), "guidance_scale", "try model.generate(…)")
    assert MODEL(IDS).logits.shape == (1, 5, 60)


def test_the_class_of_guided_models_makes_none():
    advised(lambda: arguide.GuidedLM(PLAIN), "GuidedLM", "try arguide.guided(model)")
