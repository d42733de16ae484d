"""Completions of prompts: tokens, templates, seeds and batches, against the library itself."""

import pytest
import torch
import transformers
from command import completions
from tiny import save, tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

import arguide

COMMAND = ("generate",)
FEW = ("--max-new-tokens", 6)
CHAT = "{% for m in messages %}<s>[{{ m['role'] }}] {{ m['content'] }}{% endfor %}{% if add_generation_prompt %} ->{% endif %}"


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "chat", chat=CHAT)


@pytest.fixture(scope="module")
def mute(tmp_path_factory):
    """A model whose tokenizer has no beginning-of-text token."""
    return save(tmp_path_factory.mktemp("models") / "mute", bos=False)


def directly(folder, ids, new=6, negative=None, **options):
    """What the library makes of tokens, greedily, as text."""
    view = arguide.guided(AutoModelForCausalLM.from_pretrained(folder))
    given = {} if negative is None else {"negative_prompt_ids": torch.tensor([negative])}
    options = {"guidance_scale": 1.5, "do_sample": False, "max_new_tokens": new} | given | options
    out = view.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), **options)
    return AutoTokenizer.from_pretrained(folder).decode(out[0, len(ids) :], skip_special_tokens=True)


def test_greedy_text_is_that_of_the_library(run, model):
    words = AutoTokenizer.from_pretrained(model)
    for options, given in (
        ((), {}),
        (("--scale", 0), {"guidance_scale": 0.0}),
        (("--scale", 1), {"guidance_scale": 1.0}),
        (("--scale", 3, "--negative", "bad"), {"guidance_scale": 3.0, "negative": words("bad").input_ids}),
        (("--plausibility", 0.5), {"plausibility": 0.5}),
    ):
        expected = directly(model, words("a dog").input_ids, **given)
        assert completions(run, model, "--prompt", "a dog", "--greedy", *FEW, *options) == [expected]


def test_the_seed_decides_a_completion(run, model):
    first, again, other = (run(model, "--prompt", "a dog", *FEW, "--seed", seed) for seed in (3, 3, 4))
    assert first == again
    assert first[0] == 0
    assert first[2] == ""
    assert first[1].strip()
    assert first[1] != other[1]


def test_the_global_generator_is_unchanged(run, model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run(model, "--prompt", "a dog", *FEW)
    assert torch.equal(before, torch.get_rng_state())


def test_a_batch_equals_its_prompts(run, model):
    prompts = ["a", "longer prompt", "mid"]
    options = [option for prompt in prompts for option in ("--prompt", prompt)]
    together = completions(run, model, *options, "--greedy", *FEW)
    assert together == [completions(run, model, "--prompt", p, "--greedy", *FEW)[0] for p in prompts]


def test_a_completion_keeps_its_first_space(run, data):
    first = completions(run, data / "stories260K", "--prompt", "Lily had", "--greedy", *FEW)[0]
    assert first.startswith(" ")


def test_a_real_model_continues_a_story(run, data):
    code, out, err = run(data / "stories260K", "--prompt", "Once upon", "--negative", "", "--scale", 2, "--max-new-tokens", 20)
    assert (code, err) == (0, "")
    assert len(out.split()) > 5


def test_chat_templates_are_optional(run, chatty):
    words = AutoTokenizer.from_pretrained(chatty)
    rendered = words("<s>[user] hi ->", add_special_tokens=False).input_ids
    away = words("<s>[user] no ->", add_special_tokens=False).input_ids
    arguments = (chatty, "--prompt", "hi", "--greedy", *FEW)
    assert rendered[:2].count(1) == 1
    assert completions(run, *arguments) == [directly(chatty, rendered)]
    assert completions(run, *arguments, "--negative", "no") == [directly(chatty, rendered, negative=away)]
    assert completions(run, *arguments, "--no-chat") == [directly(chatty, words("hi").input_ids)]


def test_system_prompts_stand_before_both_branches(run, chatty):
    """Without --negative the unconditional branch reads the same message after its own system prompt."""
    words = AutoTokenizer.from_pretrained(chatty)

    def ids(*messages):
        return words("".join(f"<s>[{message}" for message in messages) + " ->", add_special_tokens=False).input_ids

    own, arguments = ids("system] be", "user] hi"), (chatty, "--prompt", "hi", "--greedy", *FEW)
    for options, negative in (
        ((), None),
        (("--negative", "no"), ids("system] be", "user] no")),
        (("--negative-system", "not"), ids("system] not", "user] hi")),
        (("--negative-system", "not", "--negative", "no"), ids("system] not", "user] no")),
        (("--negative-system", ""), ids("user] hi")),
    ):
        expected = directly(chatty, own, negative=negative)
        assert completions(run, *arguments, "--system", "be", *options) == [expected], options
    assert completions(run, *arguments, "--negative-system", "not", "--scale", 1) == [
        directly(chatty, ids("user] hi"), guidance_scale=1.0)
    ]


def test_a_prior_accepts_a_negative_system_prompt(run, fails, chatty):
    arguments = (chatty, "--prompt", "hi", "--prior", 0.5, *FEW)
    assert run(*arguments, "--negative-system", "not")[0] == 0
    assert "--prior needs a negative" in fails(*arguments, "--system", "be")


@pytest.mark.parametrize("option", ["--system", "--negative-system"])
def test_a_system_prompt_needs_a_template(fails, model, chatty, option):
    assert "need a tokenizer with a chat template" in fails(model, "--prompt", "hi", option, "be")
    assert "need the chat template; leave them out" in fails(chatty, "--prompt", "hi", option, "be", "--no-chat")


def test_a_template_error_is_one_line(fails, tmp_path):
    folder = save(tmp_path / "strict", chat="{{ raise_exception('no users here') }}")
    said = fails(folder, "--prompt", "hi")
    assert "no users here" in said
    assert "try --no-chat" in said
    assert "try without a system prompt" in fails(folder, "--prompt", "hi", "--system", "be")


def test_an_empty_text_is_the_first_token(run, model):
    ids = AutoTokenizer.from_pretrained(model)("a dog").input_ids
    assert completions(run, model, "--prompt", "a dog", "--negative", "", "--greedy", *FEW) == [
        directly(model, ids, negative=[1])
    ]
    assert completions(run, model, "--prompt", "", "--greedy", *FEW) == [directly(model, [1])]
    assert completions(run, model, "--prompt", "<s>a dog", "--greedy", *FEW) == [directly(model, ids)]


def test_an_empty_text_needs_a_first_token(run, fails, mute):
    assert "the negative is empty" in fails(mute, "--prompt", "a", "--negative", "")
    assert "the prompt 2 is empty" in fails(mute, "--prompt", "a", "--prompt", "", *FEW)
    assert run(mute, "--prompt", "a", *FEW)[0] == 0


def test_a_second_model_is_the_unconditional_branch(run, fails, model, tmp_path):
    other = save(tmp_path / "other", seed=1)
    ids = AutoTokenizer.from_pretrained(model)("a dog").input_ids
    expected = directly(model, ids, negative_model=AutoModelForCausalLM.from_pretrained(other))
    arguments = (model, "--prompt", "a dog", "--greedy", *FEW)
    assert completions(run, *arguments, "--negative-model", other) == [expected]
    backwards = save(tmp_path / "backwards", reverse=True)
    assert "number their tokens differently" in fails(*arguments, "--negative-model", backwards)


def test_encoder_decoders_generate(run, tmp_path, fails):
    sizes = {"vocab_size": 259, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0, eos_token_id=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    tokenizer(bos=False).save_pretrained(tmp_path / "t5")
    records = completions(run, tmp_path / "t5", "--prompt", "a dog", "--prompt", "b", "--negative", "bad", *FEW)
    assert len(records) == 2
