"""One settings object: every law that can be drawn can be scored, and the three functions take the same keywords."""

import inspect
import math
import typing
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch
from small import build

import arguide
from arguide import Condition, Guidance, GuidedLM, continuation, guided, schedules, score
from arguide.text.generation import with_settings
from arguide.text.settings import Settings

PROMPT, NEGATIVE = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[20, 21, 22]])
PLAIN = {"guidance_scale": 2.0, "negative_prompt_ids": NEGATIVE}
NAMES = [field.name for field in fields(Guidance)]


@pytest.fixture(scope="module")
def other():
    return build("gpt2", seed=1)


@pytest.fixture(scope="module")
def forbidding():
    """A model that gives probability 0 to half of the vocabulary."""
    model = build("gpt2", seed=2)
    model.lm_head.register_forward_hook(lambda _, __, out: out.index_fill(-1, torch.arange(30), -math.inf))
    return model


SETTINGS = {
    "no scale": {"guidance_scale": None, "negative_prompt_ids": None},
    "schedule": {"guidance_scale": schedules.ramp(0.0, 3.0, 4)},
    "default negative": {"negative_prompt_ids": None},
    "padded negative": {"negative_prompt_attention_mask": torch.tensor([[0, 1, 1]])},
    "negative model": {"negative_model": "other"},
    "conditions": {"conditions": [Condition(0.7, torch.tensor([[30, 31]])), Condition(-0.4, temperature=0.6)]},
    "branch temperature": {"branch_temperature": (0.7, 1.6)},
    "temperature": {"temperature": 0.5},
    "plausibility": {"plausibility": 0.3},
    "smoothing": {"smoothing": 0.2},
    "floor": {"negative_model": "forbidding", "negative_prompt_ids": None, "floor": -20.0},
    "prior": {"guidance_prior": 0.2, "conditions": [Condition(input_ids=torch.tensor([[30, 31]]), prior=0.3)]},
    "prior of a model": {
        "guidance_prior": 0.2,
        "negative_model": "other",
        "branch_temperature": (0.7, 1.6),
        "plausibility": 0.1,
    },
    "all": {"branch_temperature": 1.2, "temperature": 0.8, "plausibility": 0.1, "smoothing": 0.1, "floor": -30.0},
}


@pytest.fixture(params=SETTINGS)
def settings(request):
    given = SETTINGS[request.param]
    named = {name: request.getfixturevalue(value) for name, value in given.items() if isinstance(value, str)}
    return PLAIN | given | named


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_scores_are_the_log_probs_that_a_draw_had(models, settings, name):
    """Scored under other settings they are not."""
    model, guidance = models(name), Guidance(**settings)
    drawn = arguide.sample(continuation(model, PROMPT, guidance=guidance), 5, 6, generator=torch.Generator().manual_seed(0))
    scores = score(model, PROMPT.expand(5, -1), drawn.tokens, guidance=guidance)
    torch.testing.assert_close(scores.joint, drawn.log_target.sum(1), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(scores.sequential, drawn.log_proposal.sum(1), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(scores.log_normalizers, drawn.log_normalizer, atol=2e-4, rtol=1e-4)
    wrong = score(model, PROMPT.expand(5, -1), drawn.tokens, **PLAIN)
    assert (wrong.sequential - drawn.log_proposal.sum(1)).abs().max() > 0.01


def test_scores_are_the_log_probs_of_generate(models, settings):
    model, guidance = models("llama"), Guidance(**settings)
    asked = {"do_sample": True, "top_k": 0, "max_new_tokens": 5, "num_return_sequences": 3, "eos_token_id": None}
    torch.manual_seed(0)
    out = guided(model).generate(PROMPT, guidance=guidance, output_scores=True, return_dict_in_generate=True, **asked)
    text = out.sequences[:, PROMPT.shape[1] :]
    laws = torch.stack(out.scores, 1).log_softmax(-1)
    drawn = laws.gather(-1, text[..., None]).sum((1, 2))
    scores = score(model, PROMPT.expand(3, -1), text, guidance=guidance)
    torch.testing.assert_close(scores.sequential, drawn, atol=2e-4, rtol=1e-4)


def test_a_text_with_an_implausible_token_has_probability_0(models):
    law = continuation(models("llama"), PROMPT, **PLAIN, plausibility=0.3).start(1).log_probs[0]
    texts = torch.stack([law.argmax(), law.argmin()])[:, None]
    scores = score(models("llama"), PROMPT.expand(2, -1), texts, **PLAIN, plausibility=0.3)
    assert scores.sequential.isfinite().tolist() == scores.joint.isfinite().tolist() == [True, False]


def test_keywords_replace_the_fields_of_the_object(models):
    model, settings = models("llama"), Guidance(**PLAIN, smoothing=0.2)
    changed = replace(settings, guidance_scale=3.0)
    text = torch.tensor([[30, 31, 32]])
    want = score(model, PROMPT, text, guidance=changed).joint
    assert score(model, PROMPT, text, guidance=settings, guidance_scale=3.0).joint == want
    assert score(model, PROMPT, text, **PLAIN | {"guidance_scale": 3.0}, smoothing=0.2).joint == want
    assert score(model, PROMPT, text, guidance=settings).joint != want
    starts = [continuation(model, PROMPT, guidance=settings, **given).start(1) for given in ({"guidance_scale": 3.0}, {})]
    assert torch.equal(starts[0].log_probs, continuation(model, PROMPT, guidance=changed).start(1).log_probs)
    assert not torch.equal(starts[0].log_probs, starts[1].log_probs)
    texts = [
        guided(model).generate(PROMPT, max_new_tokens=8, **given).tolist()
        for given in ({"guidance": changed}, {"guidance": settings, "guidance_scale": 3.0}, {"guidance": settings})
    ]
    assert texts[0] == texts[1] != texts[2]


def test_the_temperature_of_the_object_precedes_that_of_transformers(models):
    """Dividing the weights, it scales log Z_t; the keyword of `generate` acts on the guided logits after it."""
    asked = {"do_sample": True, "top_k": 0, "max_new_tokens": 1, "output_scores": True, "return_dict_in_generate": True}
    view, plain = guided(models("llama")), Guidance(**PLAIN)
    colder = view.generate(PROMPT, guidance=replace(plain, temperature=0.5), temperature=2.0, **asked)
    both = view.generate(PROMPT, guidance=plain, **asked)
    torch.testing.assert_close(colder.scores[0], both.scores[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(colder.log_normalizers[0], (2 * both.scores[0]).logsumexp(-1), atol=1e-4, rtol=1e-4)


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        Guidance().smoothing = 0.1


def test_the_keywords_are_the_fields():
    assert typing.get_type_hints(Settings) == typing.get_type_hints(Guidance)


@pytest.mark.parametrize(("function", "hidden"), [(score, set()), (continuation, set()), (GuidedLM.generate, {"temperature"})])
def test_signatures_spell_the_keywords_out(function, hidden):
    """`temperature` of `generate` is that of transformers."""
    shown = inspect.signature(function).parameters
    assert set(NAMES) - set(shown) == hidden
    assert all(shown[field.name].default == field.default for field in fields(Guidance) if field.name not in hidden)
    assert "settings" not in shown


@pytest.mark.parametrize("call", [score, continuation])
def test_an_unknown_keyword_is_refused(models, call):
    with pytest.raises(TypeError, match="negativ_model"):
        call(models("llama"), *[PROMPT] * (2 if call is score else 1), negativ_model=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.0),
        ("temperature", math.inf),
        ("plausibility", 1.5),
        ("plausibility", -0.1),
        ("smoothing", 1.0),
        ("smoothing", math.nan),
        ("floor", -math.inf),
        ("branch_temperature", (1.0, -1.0)),
        ("branch_temperature", "warm"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{'temperature' if name == 'branch_temperature' else name} must be ") as error:
        Guidance(**{name: value})
    assert "\n" not in str(error.value)


def test_the_temperature_of_a_condition_is_checked():
    with pytest.raises(ValueError, match="temperature must be positive"):
        Guidance(guidance_scale=2.0, conditions=[Condition(0.5, temperature=0.0)])


def test_a_misnamed_setting_is_refused_with_its_name():
    with pytest.raises(TypeError, match=r"^unknown argument gamma; try guidance_scale$"):
        with_settings(None, {"gamma": 2.0})
    with pytest.raises(TypeError, match=r"^unknown argument nonsense; try help\(arguide.Guidance\)$"):
        with_settings(None, {"nonsense": 2.0})
