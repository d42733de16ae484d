"""Every mode of `generate`, on every architecture, against the row-by-row reference."""

import pytest
import torch
from reference import EOS, Reference, padded, reference
from small import CONFIGS, RELEASE, build, letters, within
from transformers import CompileConfig

from arguide import guided

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14], [5, 9, 8, 31]]
NEGATIVES = [[20, 21], [22, 23, 24, 25, 26, 27, 28, 29, 30], [33]]
SCALE = 1.7

EVERYWHERE = {
    "greedy": {},
    "sampling": {"do_sample": True, "top_p": 0.9, "temperature": 0.8},
    "several samples": {"do_sample": True, "num_return_sequences": 2},
    "beams": {"num_beams": 2, "num_return_sequences": 2},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
}
PROCESSED = {
    "repetition penalty": {"repetition_penalty": 1.4},
    "min-p": {"do_sample": True, "min_p": 0.1},
    "top-k": {"do_sample": True, "top_k": 4},
    "no repeated bigrams": {"no_repeat_ngram_size": 2},
    "least length": {"min_new_tokens": 9, "eos_token_id": list(range(30))},
    "several ends": {"eos_token_id": list(range(2, 30, 3))},
    "allowed prefixes": {"prefix_allowed_tokens_fn": lambda row, ids: list(range(int(ids[-1]) % 3, 60, 3))},
    "sampled beams": {"num_beams": 3, "do_sample": True},
    "beams that end": {"num_beams": 3, "eos_token_id": list(range(2, 30, 3)), "length_penalty": 0.5, "early_stopping": True},
    "chunks": {"prefill_chunk_size": 2},
}
OURS = ("cache_implementation", "use_cache", "prefill_chunk_size")


def both(model, prompts, negatives, scale=SCALE, tokens=9, seed=0, **mode):
    """Generate with the reference and with the view; return both."""
    given, mode = padded(prompts).given, {"max_new_tokens": tokens} | mode
    plain = {key: value for key, value in mode.items() if key not in OURS}
    torch.manual_seed(seed)
    expected = reference(model, prompts, negatives, scale).generate(**given, use_cache=False, **plain)
    if negatives is not None:
        negative = padded(negatives)
        mode |= {"negative_prompt_ids": negative.ids, "negative_prompt_attention_mask": negative.mask}
    torch.manual_seed(seed)
    return expected, guided(model).generate(**given, guidance_scale=scale, **mode)


@pytest.mark.parametrize("negatives", [NEGATIVES, None], ids=["negatives", "last token"])
@pytest.mark.parametrize("mode", EVERYWHERE)
@pytest.mark.parametrize("name", CONFIGS)
def test_agrees_with_the_reference(models, name, mode, negatives):
    expected, ours = both(models(name), PROMPTS, negatives, **EVERYWHERE[mode])
    assert ours.tolist() == expected.tolist()


@pytest.mark.parametrize("mode", ["greedy", "sampling", "static cache"])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "mamba"])
def test_agrees_with_transformers_where_that_is_right(models, name, mode):
    """One prompt, one negative, nothing padded."""
    if (name, mode) == ("bloom", "static cache") and (5, 16) <= RELEASE < (5, 21):
        pytest.skip("on this release bloom fails with a static cache, with guidance and without")
    options = EVERYWHERE[mode] | {"guidance_scale": SCALE, "max_new_tokens": 9}
    given = {"input_ids": torch.tensor(PROMPTS[:1]), "negative_prompt_ids": torch.tensor(NEGATIVES[1:2])}
    model = models(name)  # before the seed, for building a model draws from it
    torch.manual_seed(0)
    peer = model.generate(**given, **options)
    torch.manual_seed(0)
    assert guided(model).generate(**given, **options).tolist() == peer.tolist()


@pytest.mark.parametrize("mode", PROCESSED)
@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
def test_processors_come_after_guidance_as_in_the_reference(models, name, mode):
    expected, ours = both(models(name), PROMPTS, NEGATIVES, **PROCESSED[mode])
    assert ours.tolist() == expected.tolist()


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "mamba"])
def test_prompt_lookup_is_greedy(models, name):
    prompt = [5, 6, 7, 8, 5, 6, 7, 8, 5, 6]
    expected, _ = both(models(name), [prompt], [[9, 8]], tokens=20)
    given = {"guidance_scale": SCALE, "negative_prompt_ids": torch.tensor([[9, 8]]), "max_new_tokens": 20}
    ours = guided(models(name)).generate(torch.tensor([prompt]), **given, prompt_lookup_num_tokens=4)
    assert within(ours, expected).tolist() == expected.tolist()


def test_right_drafts_save_passes(models):
    """Drafts looked up in a prompt that holds its own continuation are right: fewer passes, the same text."""
    model, passes = models("llama"), []
    view, given = guided(model), {"guidance_scale": SCALE, "negative_prompt_ids": torch.tensor([[9, 8]])}
    text = view.generate(torch.tensor([[5, 6, 7]]), **given, max_new_tokens=15)
    prompt = torch.cat([text, text[:, :4]], 1)
    handle = model.lm_head.register_forward_pre_hook(lambda *_: passes.append(1))
    greedy = view.generate(prompt, **given, max_new_tokens=12, prefix_allowed_tokens_fn=copying(text[0].tolist()))
    alone = len(passes)
    passes.clear()
    lookup = {"prompt_lookup_num_tokens": 4, "max_matching_ngram_size": 2}
    drafted = view.generate(prompt, **given, **lookup, max_new_tokens=12, prefix_allowed_tokens_fn=copying(text[0].tolist()))
    handle.remove()
    assert within(drafted, greedy).tolist() == greedy.tolist()
    assert len(passes) < alone / 2


def copying(text):
    """Allow only what follows in `text`."""
    return lambda row, ids: [text[(len(ids) - len(text)) % len(text)]]


def skip_where_windows_break_assistants(model, given):
    """Skip where a release cannot take drafts of another model back from a sliding window, with guidance and without."""
    try:
        model.generate(**given, assistant_model=build(model.config.model_type.removesuffix("_text"), seed=1))
    except (ValueError, RuntimeError) as error:
        pytest.skip(f"transformers fails here itself: {error}")


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "gemma3"])
@pytest.mark.parametrize("assistant", ["another", "itself"])
def test_assisted_decoding_is_greedy(models, name, assistant):
    helper = build(name, seed=1) if assistant == "another" else models(name)
    view, prompt = guided(models(name)), padded([PROMPTS[0]])
    given = {"guidance_scale": SCALE, "negative_prompt_ids": torch.tensor([NEGATIVES[1]]), "max_new_tokens": 20}
    expected = view.generate(**prompt.given, **given)
    if RELEASE < (5, 20):
        skip_where_windows_break_assistants(models(name), prompt.given | {"max_new_tokens": 20})
    ours = view.generate(**prompt.given, **given, assistant_model=helper)
    assert within(ours, expected).tolist() == expected.tolist()


def test_streaming_hands_out_every_token(models):
    class Streamer:
        def __init__(self):
            self.tokens, self.ended = [], False

        def put(self, tokens):
            self.tokens += tokens.flatten().tolist()

        def end(self):
            self.ended = True

    streamer, view = Streamer(), guided(models("llama"))
    out = view.generate(torch.tensor([PROMPTS[0]]), guidance_scale=SCALE, max_new_tokens=8, streamer=streamer)
    assert streamer.ended
    assert streamer.tokens == out[0].tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precisions_are_combined_in_float32(dtype):
    model = build("llama").to(dtype)
    expected, ours = both(model, PROMPTS[:1], NEGATIVES[:1], output_scores=True, return_dict_in_generate=True)
    assert ours.sequences.tolist() == expected.sequences.tolist()
    assert ours.scores[0].dtype == torch.float32
    laws = torch.stack(ours.branch_scores)
    assert laws.logsumexp(-1).abs().max() < 1e-5  # in half precision sums are off by 1e-3
    want = SCALE * laws[:, 0] + (1 - SCALE) * laws[:, 1]
    torch.testing.assert_close(torch.stack(ours.scores), want, atol=1e-4, rtol=0)


def test_padding_may_stand_on_the_right_of_negatives(models):
    view, prompt = guided(models("gpt2")), padded(PROMPTS)
    left, width = padded(NEGATIVES), max(map(len, NEGATIVES))
    ids = torch.tensor([negative + [0] * (width - len(negative)) for negative in NEGATIVES])
    mask = torch.tensor([[1] * len(negative) + [0] * (width - len(negative)) for negative in NEGATIVES])
    given = {"guidance_scale": SCALE, "max_new_tokens": 8}
    expected = view.generate(**prompt.given, negative_prompt_ids=left.ids, negative_prompt_attention_mask=left.mask, **given)
    ours = view.generate(**prompt.given, negative_prompt_ids=ids, negative_prompt_attention_mask=mask, **given)
    assert ours.tolist() == expected.tolist()


def test_one_negative_serves_all_prompts(models):
    view, prompt = guided(models("llama")), padded(PROMPTS)
    given = {"guidance_scale": SCALE, "max_new_tokens": 8}
    expected = view.generate(**prompt.given, negative_prompt_ids=torch.tensor([[20, 21]] * 3), **given)
    assert view.generate(**prompt.given, negative_prompt_ids=torch.tensor([[20, 21]]), **given).tolist() == expected.tolist()


def test_a_scale_of_one_is_the_model_and_reads_nothing_else(models):
    model = models("llama")
    view, rows = guided(model), []
    handle = view.unguided.model.layers[0].register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    prompt, negative = padded(PROMPTS), padded(NEGATIVES)
    expected = model.generate(**prompt.given, max_new_tokens=8, repetition_penalty=1.3)
    rows.clear()
    ours = view.generate(
        **prompt.given, guidance_scale=1, negative_prompt_ids=negative.ids, max_new_tokens=8, repetition_penalty=1.3
    )
    handle.remove()
    assert ours.tolist() == expected.tolist()
    assert set(rows) == {3}


@pytest.mark.parametrize("configured", [False, True])
@pytest.mark.parametrize("mode", [{}, {"do_sample": True}, {"num_beams": 2}, {"prompt_lookup_num_tokens": 2}])
def test_a_scale_of_one_has_scores_of_its_branch(models, mode, configured):
    """Scores have one shape at all scales, except for the number of branches; the text and its scores are the model's."""
    model, prompt = models("llama"), torch.tensor([PROMPTS[0]])
    view, asked = guided(model), {"output_scores": True, "return_dict_in_generate": True}
    mode = mode | {"max_new_tokens": 5, "min_new_tokens": 5}
    torch.manual_seed(0)
    want = model.generate(prompt, repetition_penalty=1.3, **mode, **asked, output_logits=True)
    torch.manual_seed(0)
    if configured:
        config = type(model.generation_config)(**asked, guidance_scale=1.0, repetition_penalty=1.3)
        ours = view.generate(prompt, config, **mode)
    else:
        ours = view.generate(prompt, guidance_scale=1.0, repetition_penalty=1.3, **mode, **asked)
    assert ours.sequences.tolist() == want.sequences.tolist()
    torch.testing.assert_close(ours.scores, want.scores)
    assert ours.logits is None
    assert "logits" not in ours
    assert all((log_normalizer == 0).all() for log_normalizer in ours.log_normalizers)
    torch.testing.assert_close(torch.stack(ours.branch_scores)[:, 0], torch.stack(want.logits).log_softmax(-1))
    other = view.generate(prompt, guidance_scale=1.5, **mode, **asked)
    assert {row.shape for row in ours.log_normalizers} == {row.shape for row in other.log_normalizers}
    assert {row.shape[1:] for row in ours.branch_scores} == {row.shape[1:] for row in other.branch_scores}
    assert len(ours.scores) == len(ours.log_normalizers) == len(ours.branch_scores)
    assert view.generate(prompt, guidance_scale=1.0, **mode, **asked, output_logits=True).logits is not None
    assert "branch_scores" not in view.generate(prompt, **mode, **asked)


def test_a_scale_of_zero_reads_the_unconditional_branch_alone(models):
    model = models("llama")
    view, rows = guided(model), []
    prompt, negative = padded(PROMPTS), padded(NEGATIVES)
    alone = model.generate(**negative.given, max_new_tokens=8)[:, negative.ids.shape[1] :]
    handle = model.model.layers[0].register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    given = {"negative_prompt_ids": negative.ids, "negative_prompt_attention_mask": negative.mask}
    ours = view.generate(**prompt.given, guidance_scale=0, max_new_tokens=8, **given)
    handle.remove()
    assert ours[:, prompt.ids.shape[1] :].tolist() == alone.tolist()
    assert ours[:, : prompt.ids.shape[1]].tolist() == prompt.ids.tolist()
    assert set(rows) == {3}


def test_equal_rows_are_read_once(models):
    """Three samples of two prompts with one negative: two rows and one row at first, then twelve."""
    model = models("llama")
    rows = []
    handle = model.model.layers[0].register_forward_pre_hook(lambda _, given: rows.append(tuple(given[0].shape[:2])))
    given = {"negative_prompt_ids": torch.tensor([[20, 21]]), "guidance_scale": SCALE, "do_sample": True}
    guided(model).generate(**padded(PROMPTS[:2]).given, **given, num_return_sequences=3, max_new_tokens=3)
    handle.remove()
    assert rows == [(2, 7), (1, 2), (12, 1), (12, 1)]


@pytest.mark.parametrize("dims", ["embeddings", "embeddings and ids"])
def test_prompts_may_be_embeddings(models, dims):
    model = models("llama")
    prompt = torch.tensor([PROMPTS[0]])
    given = {"inputs_embeds": model.get_input_embeddings()(prompt).detach()}
    if dims == "embeddings and ids":
        given["input_ids"] = prompt
    expected, _ = both(model, PROMPTS[:1], None)
    ours = guided(model).generate(**given, guidance_scale=SCALE, max_new_tokens=9)
    assert ours[0, -9:].tolist() == expected[0, -9:].tolist()


def test_without_a_prompt_it_starts_at_the_beginning_of_text(models):
    ours = guided(models("llama")).generate(guidance_scale=SCALE, negative_prompt_ids=torch.tensor([[9, 8]]), max_new_tokens=5)
    expected = guided(models("llama")).generate(
        torch.tensor([[1]]), guidance_scale=SCALE, negative_prompt_ids=torch.tensor([[9, 8]]), max_new_tokens=5
    )
    assert ours.tolist() == expected.tolist()


def test_padding_is_found_by_the_pad_token(models):
    """Without a mask, as transformers infers it."""
    prompt = padded(PROMPTS)
    given = {"guidance_scale": SCALE, "max_new_tokens": 6}
    view = guided(models("gpt2"))
    assert view.generate(prompt.ids, **given).tolist() == view.generate(**prompt.given, **given).tolist()


@pytest.mark.parametrize("mode", ["greedy", "sampling", "several samples", "beams", "static cache", "no cache"])
@pytest.mark.parametrize("negatives", [NEGATIVES, None], ids=["negatives", "last token"])
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_an_encoder_decoder_is_guided_by_what_its_encoder_reads(request, name, mode, negatives):
    model = request.getfixturevalue(name)
    options = EVERYWHERE[mode] | {"max_new_tokens": 8}
    width = max(map(len, PROMPTS))
    ids = torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in PROMPTS])
    given = (
        {"guidance_scale": SCALE}
        if negatives is None
        else {"guidance_scale": SCALE, "negative_prompt_ids": padded(negatives).ids}
    )
    if negatives is not None:
        given["negative_prompt_attention_mask"] = padded(negatives).mask
    torch.manual_seed(0)
    ours = guided(model).generate(ids, attention_mask=(ids != 0).long(), **given, **options)
    options.pop("use_cache", None)
    singles = []
    for i, prompt in enumerate(PROMPTS):
        negative = prompt[-1:] if negatives is None else negatives[i]
        singles.append([(prompt, SCALE, model), (negative, 1 - SCALE, model)])
    torch.manual_seed(0)
    expected = decoded(model, singles, options)
    assert ours.tolist() == expected.tolist()


@pytest.mark.parametrize("ends", [1, [1, 0]], ids=["pad is no end", "pad ends texts too"])
def test_an_encoder_finds_padding_as_transformers_does(t5, ends):
    ids = torch.tensor([PROMPTS[1] + [0, 0], PROMPTS[0][:5]])
    mask = torch.ones_like(ids) if ends != 1 else (ids != 0).long()
    given = {"guidance_scale": SCALE, "negative_prompt_ids": torch.tensor([[20, 21]]), "max_new_tokens": 8}
    expected = guided(t5).generate(ids, attention_mask=mask, eos_token_id=ends, **given)
    assert guided(t5).generate(ids, eos_token_id=ends, **given).tolist() == expected.tolist()
    other = guided(t5).generate(ids, attention_mask=1 - mask + (ids != 0).long(), eos_token_id=ends, **given)
    assert other.tolist() != expected.tolist()


def decoded(model, rows, options):
    """The reference on decoder texts: a first, distinct token stands for the prompt that the encoder has read."""
    keys = {(40 + i,): row for i, row in enumerate(rows)}
    lm = Reference(keys, model.generation_config)
    out = lm.generate(torch.tensor(list(keys)), use_cache=False, pad_token_id=0, eos_token_id=1, **options)
    return torch.cat([torch.zeros_like(out[:, :1]), out[:, 1:]], 1)


def test_the_text_ends_at_a_stop_string(models):
    view = guided(models("llama"))
    given = {"guidance_scale": SCALE, "max_new_tokens": 12}
    free = view.generate(torch.tensor([PROMPTS[0]]), **given)[0].tolist()
    tokenizer = letters()
    word = tokenizer.decode(free[-5:-3])
    stopped = view.generate(torch.tensor([PROMPTS[0]]), **given, stop_strings=[word], tokenizer=tokenizer)[0].tolist()
    assert stopped == free[:-3]


def test_the_end_of_one_row_leaves_the_others(models):
    expected, ours = both(models("gpt2"), PROMPTS, NEGATIVES, tokens=15, eos_token_id=list(range(10, 40)), pad_token_id=EOS)
    assert ours.tolist() == expected.tolist()


def test_a_step_over_static_caches_may_be_compiled(models):
    """Once, though prompts and negatives are longer the second time; the backend that compiles nothing is the quick one."""
    view, graphs = guided(build("llama")), []
    config = CompileConfig(backend=lambda graph, _: graphs.append(graph) or graph.forward, mode=None)
    config._compile_all_devices = True
    mode = {"cache_implementation": "static", "compile_config": config, "max_new_tokens": 9}
    for prompts, negatives in ((PROMPTS[1:], NEGATIVES[1:]), (PROMPTS[:2], NEGATIVES[:2])):
        negative = padded(negatives)
        ours = view.generate(
            **padded(prompts).given,
            guidance_scale=SCALE,
            negative_prompt_ids=negative.ids,
            negative_prompt_attention_mask=negative.mask,
            **mode,
        )
        expected, _ = both(models("llama"), prompts, negatives)
        assert ours.tolist() == expected.tolist()
    assert graphs
    graphs.clear()
    view.generate(torch.tensor(PROMPTS[:1]), guidance_scale=SCALE, **mode | {"cache_implementation": None, "max_new_tokens": 3})
    assert not graphs  # a cache that grows is not compiled
