"""Coherent guidance of text: the mixture with its posterior, in every mode, against Bayes' rule applied anew to whole texts."""

import pytest
import torch
from reference import Coherent, coherent, padded, plain
from small import CONFIGS, build, within

from arguide import Condition, guided, schedules
from arguide.coherent.posterior import Posterior
from arguide.text.reading import Reading

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14], [5, 9, 8, 31]]
NEGATIVES = [[20, 21], [22, 23, 24, 25, 26, 27, 28, 29, 30], [33]]
MORE = [[40, 41], [42], [43, 44, 45]]
SCALE, PRIOR = 2.5, 0.2
MODES = {
    "greedy": {},
    "sampling": {"do_sample": True, "top_p": 0.9, "temperature": 0.8},
    "several samples": {"do_sample": True, "num_return_sequences": 2},
    "beams": {"num_beams": 2, "num_return_sequences": 2},
    "static cache": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
    "beams without a cache": {"num_beams": 3, "use_cache": False},
    "sampled beams that end": {"num_beams": 3, "do_sample": True, "eos_token_id": list(range(2, 30, 3))},
    "several ends": {"eos_token_id": list(range(2, 30, 3))},
    "chunks": {"prefill_chunk_size": 2},
    "repetition penalty": {"repetition_penalty": 1.4},
}
OURS = ("cache_implementation", "use_cache", "prefill_chunk_size", "prompt_lookup_num_tokens")


def mixture(model, more=True, prompts=PROMPTS, negatives=NEGATIVES):
    """Return what the reference and the view need: branches per prompt, and settings."""
    third = [(MORE[i], 0.3, model) for i in range(len(prompts))] if more else []
    rows = [
        [(prompt, PRIOR, model), (negatives[i], 1 - PRIOR - 0.3 * more, model), *third[i : i + 1]]
        for i, prompt in enumerate(prompts)
    ]
    negative, other = padded(negatives), padded(MORE[: len(prompts)])
    given = {"negative_prompt_ids": negative.ids, "negative_prompt_attention_mask": negative.mask, "guidance_prior": PRIOR}
    return rows, given | (
        {"conditions": [Condition(input_ids=other.ids, attention_mask=other.mask, prior=0.3)]} if more else {}
    )


def both(model, *, scale=SCALE, more=True, tokens=9, seed=0, prompts=PROMPTS, **mode):
    """Generate with the reference and with the view; return both."""
    mode = {"max_new_tokens": tokens} | mode
    rows, given = mixture(model, more, prompts, NEGATIVES[: len(prompts)])
    ids = padded(prompts)
    keys = {tuple(row): (scale, branches) for row, branches in zip(ids.ids.tolist(), rows, strict=True)}
    own = {key: value for key, value in mode.items() if key not in OURS}
    torch.manual_seed(seed)
    expected = Coherent(keys, model.generation_config).generate(**ids.given, use_cache=False, **own)
    torch.manual_seed(seed)
    return expected, guided(model).generate(**ids.given, guidance_scale=scale, **given, **mode)


@pytest.mark.parametrize("more", [False, True], ids=["two prompts", "three prompts"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_every_mode_agrees_with_the_reference(models, name, mode, more):
    expected, ours = both(models(name), more=more, **MODES[mode])
    assert ours.tolist() == expected.tolist()


@pytest.mark.parametrize("mode", ["sampling", "beams", "static cache"])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ("llama", "gpt2")])
def test_every_architecture_agrees_with_the_reference(models, name, mode):
    expected, ours = both(models(name), tokens=6, **MODES[mode])
    assert ours.tolist() == expected.tolist()


@pytest.mark.parametrize("mode", ["greedy", "beams", "no cache"])
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_encoder_decoders_agree_with_the_reference(request, name, mode):
    model = request.getfixturevalue(name)
    rows, given = mixture(model)
    width = max(map(len, PROMPTS))
    ids = torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in PROMPTS])
    options = MODES[mode] | {"max_new_tokens": 8}
    ours = guided(model).generate(ids, attention_mask=(ids != 0).long(), guidance_scale=SCALE, **given, **options)
    keys = {(40 + i,): (SCALE, branches) for i, branches in enumerate(rows)}
    options.pop("use_cache", None)
    first = torch.tensor(list(keys))
    lm = Coherent(keys, model.generation_config)
    expected = lm.generate(first, use_cache=False, pad_token_id=0, eos_token_id=1, **options)
    assert ours[:, 1:].tolist() == expected[:, 1:].tolist()


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "mamba"])
@pytest.mark.parametrize("drafts", ["lookup", "another", "itself"])
def test_rejected_drafts_leave_the_posterior(models, name, drafts):
    prompts = [[5, 6, 7, 8, 5, 6, 7, 8, 5, 6]]
    mode = {"assistant_model": models(name) if drafts == "itself" else build(name, seed=1)}
    if drafts == "lookup":
        mode = {"prompt_lookup_num_tokens": 4}
    if drafts != "lookup" and name in ("mistral", "gemma3"):
        pytest.skip("assistants with sliding windows are the subject of test_modes")
    expected, _ = both(models(name), prompts=prompts, tokens=20)
    _, given = mixture(models(name), prompts=prompts, negatives=NEGATIVES[:1])
    ours = guided(models(name)).generate(torch.tensor(prompts), guidance_scale=SCALE, max_new_tokens=20, **given, **mode)
    assert within(ours, expected).tolist() == expected.tolist()


def drafted(model, **mode):
    """Generate with prompt lookup, and return the posteriors that were recorded."""
    rows, given = mixture(model, prompts=[[5, 6, 7, 8] * 3], negatives=NEGATIVES[:1])
    asked = {"output_scores": True, "return_dict_in_generate": True, "max_new_tokens": 16}
    asked["eos_token_id"] = model.config.vocab_size - 1  # transformers 5.5 looks prompts up for models with an end token alone
    out = guided(model).generate(torch.tensor([rows[0][0][0]]), guidance_scale=SCALE, **given, **asked, **mode)
    text = out.sequences[0, 12:].tolist()[: len(out.scores)]
    return torch.stack(out.log_posteriors)[:, 0].double(), torch.tensor(coherent(SCALE, rows[0], text)[1][:-1]).double()


@pytest.mark.parametrize("mode", [{}, {"prompt_lookup_num_tokens": 4}, {"use_cache": False}], ids=str)
def test_the_posterior_is_that_of_the_emitted_text(models, mode):
    ours, expected = drafted(models("llama"), **mode)
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("owner", "method", "wrong", "mode"),
    [
        (Posterior, "crop", lambda self, tokens: None, {"prompt_lookup_num_tokens": 4}),
        (Reading, "reorder_cache", lambda self, rows: [each.select(rows) for each in self.caches], MODES["beams"]),
    ],
    ids=["not cropped", "not reordered"],
)
def test_a_posterior_that_does_not_follow_its_rows_is_noticed(models, monkeypatch, owner, method, wrong, mode):
    """The same comparison passes with the right method."""
    prompts = [[5, 6, 7, 8] * 3] if "prompt_lookup_num_tokens" in mode else PROMPTS

    def differs():
        return any(
            within(*reversed(both(models(name), prompts=prompts, tokens=14, **mode))).tolist()
            != both(models(name), prompts=prompts, tokens=14, **mode)[0].tolist()
            for name in ("llama", "gpt2")
        )

    assert not differs()
    monkeypatch.setattr(owner, method, wrong)
    assert differs()


def test_a_posterior_that_stays_at_the_prior_is_noticed(models, monkeypatch):
    monkeypatch.setattr(
        "arguide.coherent.posterior.Posterior._after", lambda self, log_posterior, ended, *_: (log_posterior, ended)
    )
    expected, ours = both(models("llama"), tokens=14)
    assert ours.tolist() != expected.tolist()


@pytest.mark.parametrize("schedule", [schedules.interval(3.0, 2, 5), schedules.ramp(0.0, 3.0, 6)], ids=["interval", "ramp"])
def test_a_scale_may_follow_the_position(models, schedule):
    expected, ours = both(models("llama"), scale=schedule)
    assert ours.tolist() == expected.tolist()


def test_a_scale_of_one_is_the_model_and_of_zero_the_mixture(models):
    model, prompt = models("llama"), padded(PROMPTS)
    _, given = mixture(model)
    alone = model.generate(**prompt.given, max_new_tokens=9)
    assert guided(model).generate(**prompt.given, guidance_scale=1.0, max_new_tokens=9, **given).tolist() == alone.tolist()
    expected, ours = both(model, scale=0.0)
    assert ours.tolist() == expected.tolist()


def test_a_prior_of_one_is_no_guidance_and_a_tiny_one_is_plain_guidance(models):
    view, prompt = guided(models("llama")), padded(PROMPTS)
    _, given = mixture(models("llama"), more=False)
    given |= {"guidance_scale": SCALE, "max_new_tokens": 9}
    plain_text = view.generate(**prompt.given, **given | {"guidance_prior": None})
    assert view.generate(**prompt.given, **given | {"guidance_prior": 1e-200}).tolist() == plain_text.tolist()
    alone = models("llama").generate(**prompt.given, max_new_tokens=9)
    assert view.generate(**prompt.given, **given | {"guidance_prior": 1.0}).tolist() == alone.tolist() != plain_text.tolist()


def test_all_raw_laws_are_returned(models):
    """With branch temperatures and smoothing, the laws and their posterior are those that the mixture has."""
    model, prompt = models("llama"), torch.tensor(PROMPTS[:1])
    _, given = mixture(model, prompts=PROMPTS[:1], negatives=NEGATIVES[:1])
    own = {"branch_temperature": (0.7, 1.4), "smoothing": 0.1, "eos_token_id": None, "temperature": 0.5, "do_sample": True}
    asked = {"output_scores": True, "return_dict_in_generate": True, "max_new_tokens": 5, "top_k": 3}
    torch.manual_seed(0)
    out = guided(model).generate(prompt, guidance_scale=SCALE, **given, **own, **asked)
    text = out.sequences[0, prompt.shape[1] :].tolist()
    log_posterior = torch.tensor([PRIOR, 0.5, 0.3]).double().log()
    for t, token in enumerate(text):
        laws = [plain(model, before, text[:t]).double() for before in (PROMPTS[0], NEGATIVES[0], MORE[0])]
        laws = [(law / tau).softmax(-1) for law, tau in zip(laws, (0.7, 1.4, 1.0), strict=True)]
        laws = torch.stack([(0.9 * law + 0.1 / len(law)).log() for law in laws])
        torch.testing.assert_close(out.branch_scores[t][:, 0].double(), laws, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(out.log_posteriors[t][0].double(), log_posterior, atol=1e-4, rtol=1e-4)
        log_posterior = (log_posterior + laws[:, token]).log_softmax(-1)


@pytest.mark.parametrize("ends", [7, [7, 9], torch.tensor([7, 9]), None], ids=str)
def test_the_posterior_stops_at_the_tokens_that_end_a_text(models, ends):
    """Drawn rows end at different positions; after the end of a row its posterior is that of the ended text."""
    _, given = mixture(models("llama"), prompts=PROMPTS[:1], negatives=NEGATIVES[:1])
    asked = {"output_scores": True, "return_dict_in_generate": True, "do_sample": True, "num_return_sequences": 40}
    torch.manual_seed(0)
    view = guided(models("llama"))
    out = view.generate(
        torch.tensor(PROMPTS[:1]), guidance_scale=1.5, max_new_tokens=25, eos_token_id=ends, pad_token_id=0, **given, **asked
    )
    text, log_posterior = out.sequences[:, 7:], torch.stack(out.log_posteriors, 1)
    over = torch.isin(text, torch.as_tensor([] if ends is None else ends)).cumsum(1)[:, :-1] > 0
    still = (log_posterior[:, 2:] == log_posterior[:, 1:-1]).all(-1)[over[:, :-1]]
    assert still.all()
    assert (ends is None) == (len(still) == 0)


def test_one_pass_reads_all_branches(models):
    model, rows = models("llama"), []
    handle = model.model.layers[0].register_forward_pre_hook(lambda _, given: rows.append(tuple(given[0].shape[:2])))
    _, given = mixture(model, prompts=PROMPTS[:1], negatives=NEGATIVES[:1])
    guided(model).generate(torch.tensor(PROMPTS[:1]), guidance_scale=SCALE, max_new_tokens=4, eos_token_id=None, **given)
    handle.remove()
    assert rows[-3:] == [(3, 1)] * 3


def test_streaming_hands_out_the_same_text(models):
    class Streamer:
        def __init__(self):
            self.tokens = []

        def put(self, tokens):
            self.tokens += tokens.flatten().tolist()

        def end(self):
            pass

    streamer = Streamer()
    _, given = mixture(models("llama"), prompts=PROMPTS[:1], negatives=NEGATIVES[:1])
    prompt = {"input_ids": torch.tensor(PROMPTS[:1]), "guidance_scale": SCALE, "max_new_tokens": 9}
    expected, _ = both(models("llama"), prompts=PROMPTS[:1])
    assert guided(models("llama")).generate(**prompt, **given, streamer=streamer).tolist() == expected.tolist()
    assert streamer.tokens == expected[0].tolist()


REFUSED = {
    "guidance_prior must be in": [{"guidance_prior": each} for each in (0.0, -0.1, 1.1, float("nan"), "a")],
    "prior must be in": [{"conditions": [{"prior": each}]} for each in (-0.1, 1.5)],
    "priors must be of sum at most 1": [{"conditions": [{"prior": 0.5}, {"prior": 0.4}]}],
    "either a scale or a prior": [{"conditions": [{"prior": 0.5, "scale": 1.0}]}, {"conditions": [{}]}],
    "without scales beside a guidance_prior": [
        {"conditions": [{"scale": 0.5}]},
        {"conditions": [{"prior": 0.1}, {"scale": 1}]},
    ],
    "guidance_prior must be given": [{"guidance_prior": None, "conditions": [{"prior": 0.1}]}],
    "needs negative_prompt_ids or a negative_model": [{"negative_prompt_ids": None}],
    "guidance_scale must be given": [{"guidance_scale": None}],
}


@pytest.mark.parametrize(("message", "wrong"), [(message, wrong) for message in REFUSED for wrong in REFUSED[message]])
def test_priors_that_do_not_fit_are_refused_in_one_line(models, message, wrong):
    given = {"guidance_scale": 2.0, "guidance_prior": 0.2, "negative_prompt_ids": torch.tensor([[20, 21]])}

    def call():
        own = [Condition(**each) for each in wrong.get("conditions", ())]
        guided(models("llama")).generate(torch.tensor(PROMPTS[:1]), max_new_tokens=2, **given | wrong | {"conditions": own})

    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
