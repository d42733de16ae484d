"""Schedules, further conditions, second models, temperatures, cut-offs: against the plain formula."""

import math

import pytest
import torch
from reference import Reference, padded, plain, reference
from small import build

from arguide import Condition, Guidance, guided, schedules
from arguide.text.combination import Combination
from arguide.text.settings import Weights

PROMPTS, NEGATIVES = [[5, 6, 7, 8, 9], [12, 13]], [[20, 21], [22, 23, 24]]


def given(**more):
    negative = padded(NEGATIVES)
    return (
        padded(PROMPTS).given
        | {
            "negative_prompt_ids": negative.ids,
            "negative_prompt_attention_mask": negative.mask,
            "max_new_tokens": 9,
        }
        | more
    )


def by_hand(model, rows):
    """Generate greedily from rows of (text before, weight, model)."""
    prompts = padded(PROMPTS)
    keys = {tuple(ids): row for ids, row in zip(prompts.ids.tolist(), rows, strict=True)}
    return Reference(keys, model.generation_config).generate(**prompts.given, use_cache=False, max_new_tokens=9)


@pytest.mark.parametrize(
    "schedule",
    [lambda _: 2.0, schedules.interval(3.0, 2, 5), schedules.ramp(0.0, 3.0, 6), lambda t: 1.5 if t % 2 else -0.5],
    ids=["constant", "interval", "ramp", "any function"],
)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_scale_may_follow_the_position(models, name, schedule):
    want = reference(models(name), PROMPTS, NEGATIVES, schedule)
    want = want.generate(**padded(PROMPTS).given, use_cache=False, max_new_tokens=9)
    assert guided(models(name)).generate(**given(guidance_scale=schedule)).tolist() == want.tolist()


def test_a_schedule_holds_for_drafts_too(models):
    view, schedule = guided(models("llama")), schedules.ramp(0.0, 4.0, 12)
    prompt = {"guidance_scale": schedule, "negative_prompt_ids": torch.tensor([[9, 8]]), "max_new_tokens": 16}
    greedy = view.generate(torch.tensor([PROMPTS[0]]), **prompt)
    assert view.generate(torch.tensor([PROMPTS[0]]), **prompt, assistant_model=models("llama")).tolist() == greedy.tolist()


def test_a_scale_may_differ_by_prompt(models):
    want = reference(models("llama"), PROMPTS, NEGATIVES, [3.0, 0.5])
    want = want.generate(**padded(PROMPTS).given, use_cache=False, max_new_tokens=9)
    ours = guided(models("llama")).generate(**given(guidance_scale=torch.tensor([3.0, 0.5])))
    assert ours.tolist() == want.tolist()


def test_a_scale_by_prompt_follows_beams_and_samples(models):
    view, scale = guided(models("llama")), torch.tensor([3.0, 0.5])
    together = view.generate(**given(guidance_scale=scale, num_beams=3, num_return_sequences=3))
    for i, prompt in enumerate(PROMPTS):
        alone = view.generate(
            torch.tensor([prompt]),
            guidance_scale=float(scale[i]),
            negative_prompt_ids=torch.tensor([NEGATIVES[i]]),
            num_beams=3,
            num_return_sequences=3,
            max_new_tokens=9,
        )
        assert together[3 * i : 3 * i + 3, -9:].tolist() == alone[:, -9:].tolist()


def test_further_conditions_add_their_difference_to_the_unconditional(models):
    model, more = models("llama"), [[30, 31], [32]]
    other = padded(more)
    conditions = [Condition(0.7, other.ids, other.mask), Condition(-0.4, torch.tensor([[40, 41, 42]]))]
    rows = [
        [
            (PROMPTS[i], 1.5, model),
            (NEGATIVES[i], 1 - 1.5 - 0.7 + 0.4, model),
            (more[i], 0.7, model),
            ([40, 41, 42], -0.4, model),
        ]
        for i in range(2)
    ]
    ours = guided(model).generate(**given(guidance_scale=1.5, conditions=conditions))
    assert ours.tolist() == by_hand(model, rows).tolist()


def test_a_second_model_may_read_the_unconditional_branch(models):
    """Contrastive decoding: the weaker model reads the same prompt."""
    model, amateur = models("llama"), build("gpt2", seed=1)
    rows = [[(prompt, 2.0, model), (prompt, -1.0, amateur)] for prompt in PROMPTS]
    prompts = padded(PROMPTS).given
    ours = guided(model).generate(**prompts, guidance_scale=2.0, negative_model=amateur, max_new_tokens=9)
    assert ours.tolist() == by_hand(model, rows).tolist()


@pytest.mark.parametrize("mode", [{}, {"num_beams": 3}, {"cache_implementation": "static"}, {"use_cache": False}])
def test_expert_and_anti_expert_in_every_mode(models, mode):
    """DExperts: base + α (expert − anti-expert), three models and no unconditional branch."""
    model, expert, anti = models("llama"), build("gpt2", seed=1), build("mistral", seed=2)
    conditions = [Condition(0.8, model=expert), Condition(-0.8, model=anti)]
    rows = {
        tuple(ids): [(prompt, 1.0, model), (prompt, 0.8, expert), (prompt, -0.8, anti)]
        for ids, prompt in zip(padded(PROMPTS).ids.tolist(), PROMPTS, strict=True)
    }
    beams = {"num_beams": mode.get("num_beams", 1)}
    want = Reference(rows, model.generation_config).generate(
        **padded(PROMPTS).given, use_cache=False, max_new_tokens=9, **beams
    )
    ours = guided(model).generate(**padded(PROMPTS).given, guidance_scale=1.0, conditions=conditions, max_new_tokens=9, **mode)
    assert ours.tolist() == want.tolist()


def test_a_single_branch_may_be_another_models(models):
    other, prompt = build("gpt2", seed=1), torch.tensor([PROMPTS[0]])
    ours = guided(models("llama")).generate(
        prompt, guidance_scale=0.0, conditions=[Condition(1.0, model=other)], max_new_tokens=9
    )
    assert ours.tolist() == other.generate(prompt, max_new_tokens=9).tolist()


def test_implausible_tokens_are_left_out(models):
    model, amateur, alpha = models("llama"), build("gpt2", seed=1), 0.3
    prompt = torch.tensor([PROMPTS[0]])
    scores = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 6}
    out = guided(model).generate(prompt, guidance_scale=3.0, negative_model=amateur, plausibility=alpha, **scores)
    for t, row in enumerate(out.scores):
        text = out.sequences[0, : len(PROMPTS[0]) + t].tolist()
        cond, rest = plain(model, text, []), plain(amateur, text, [])
        allowed = cond >= math.log(alpha) + cond.max()
        want = torch.where(allowed, 3.0 * cond - 2.0 * rest, -math.inf)
        torch.testing.assert_close(row[0], want, atol=1e-4, rtol=1e-4)
        assert 0 < allowed.sum() < len(allowed)


def test_every_branch_is_smoothed(models):
    model, share = models("llama"), 0.2
    prompt = torch.tensor([PROMPTS[0]])
    scores = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 3}
    for scale, weights in ((2.0, (2.0, -1.0)), (1.0, (1.0,))):  # at γ = 1 too, where the model would run by itself
        out = guided(model).generate(prompt, guidance_scale=scale, smoothing=share, **scores)
        for t, row in enumerate(out.scores):
            text = out.sequences[0, : len(PROMPTS[0]) + t].tolist()
            laws = [plain(model, read, []).exp() for read in (text, text[len(PROMPTS[0]) - 1 :])]
            want = sum(w * ((1 - share) * law + share / len(law)).log() for w, law in zip(weights, laws, strict=False))
            torch.testing.assert_close(row[0], want, atol=1e-4, rtol=1e-4)


def test_branches_have_temperatures_of_their_own(models):
    model = models("llama")
    scores = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 3}
    out = guided(model).generate(
        torch.tensor([PROMPTS[0]]),
        guidance_scale=2.0,
        negative_prompt_ids=torch.tensor([NEGATIVES[0]]),
        branch_temperature=(0.5, 2.0),
        **scores,
    )
    cond = (plain(model, PROMPTS[0], []) / 0.5).log_softmax(-1)
    rest = (plain(model, NEGATIVES[0], []) / 2.0).log_softmax(-1)
    torch.testing.assert_close(out.scores[0][0], 2 * cond - rest, atol=1e-4, rtol=1e-4)


def test_conditions_have_temperatures_of_their_own(models):
    model, (cond, rest, more) = models("llama"), (PROMPTS[0], NEGATIVES[0], [30, 31])
    out = guided(model).generate(
        torch.tensor([cond]),
        guidance_scale=2.0,
        negative_prompt_ids=torch.tensor([rest]),
        conditions=[Condition(0.7, torch.tensor([more]), temperature=0.4), Condition(-0.3, temperature=1.8)],
        max_new_tokens=1,
        return_dict_in_generate=True,
        output_scores=True,
    )
    law = {tau: (plain(model, read, []) / tau).log_softmax(-1) for read, tau in ((cond, 1.0), (cond, 1.8), (more, 0.4))}
    want = 2 * law[1.0] - 1.4 * plain(model, rest, []) + 0.7 * law[0.4] - 0.3 * law[1.8]
    torch.testing.assert_close(out.scores[0][0], want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", [{}, {"num_return_sequences": 2, "do_sample": True}, {"prompt_lookup_num_tokens": 3}])
def test_scores_come_with_both_branches_and_their_normalizers(models, mode):
    model = models("llama")
    prompt, negative = [5, 6, 7, 5, 6, 7, 5, 6], NEGATIVES[0]
    out = guided(model).generate(
        torch.tensor([prompt]),
        guidance_scale=2.0,
        negative_prompt_ids=torch.tensor([negative]),
        max_new_tokens=8,
        return_dict_in_generate=True,
        output_scores=True,
        **mode,
    )
    new = out.sequences[:, len(prompt) :]
    assert len(out.log_normalizers) == len(out.branch_scores) == new.shape[1]
    for i, row in enumerate(new.tolist()):
        for t in range(len(row)):
            cond, rest = plain(model, prompt, row[:t]), plain(model, negative, row[:t])
            torch.testing.assert_close(out.branch_scores[t][:, i], torch.stack([cond, rest]), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(out.log_normalizers[t][i], (2 * cond - rest).logsumexp(-1), atol=1e-4, rtol=1e-4)


def test_accepted_drafts_have_scores_too(models):
    """At a scale near 1 the model itself drafts well, so that one pass brings several tokens."""
    model, passes, prompt = models("llama"), [], [5, 6, 7, 8]
    handle = model.lm_head.register_forward_pre_hook(lambda _, read: passes.append(read[0].shape[0]))
    out = guided(model).generate(
        torch.tensor([prompt]),
        guidance_scale=1.02,
        negative_prompt_ids=torch.tensor([[9, 8, 7]]),
        max_new_tokens=16,
        assistant_model=model,
        return_dict_in_generate=True,
        output_scores=True,
    )
    handle.remove()
    text = out.sequences[0, len(prompt) :].tolist()
    assert passes.count(2) < len(text) - 3
    assert len(out.log_normalizers) == len(out.scores) == len(text)
    for t in range(len(text)):
        cond, rest = plain(model, prompt, text[:t]), plain(model, [9, 8, 7], text[:t])
        torch.testing.assert_close(out.branch_scores[t][:, 0], torch.stack([cond, rest]), atol=1e-4, rtol=1e-4)


def test_an_improper_tilt_raises_or_is_floored(models):
    """A token that only the unconditional branch finds impossible."""
    model, other = models("llama"), build("gpt2", seed=1)
    other.lm_head.register_forward_hook(lambda _, __, out: out.index_fill(-1, torch.arange(30), -math.inf))
    view, prompt = guided(model), torch.tensor([PROMPTS[0]])
    mode = {"guidance_scale": 2.0, "negative_model": other, "max_new_tokens": 3}
    with pytest.raises(ValueError, match="improper tilt"):
        view.generate(prompt, **mode)
    out = view.generate(prompt, **mode, floor=-30.0, return_dict_in_generate=True, output_scores=True)
    assert out.scores[0].isfinite().all()
    assert (view.generate(prompt, **mode | {"guidance_scale": 0.5})[0, 5:] >= 30).all()


def test_the_scale_may_stand_in_the_config(models):
    view, config = guided(models("llama")), models("llama").generation_config
    before = config.to_dict()
    want = view.generate(**given(guidance_scale=2.0))
    own = type(config)(**{**config.to_dict(), "guidance_scale": 2.0, "max_new_tokens": 9})
    options = given()
    options.pop("max_new_tokens")
    assert view.generate(generation_config=own, **options).tolist() == want.tolist()
    view.generation_config.guidance_scale = 2.0
    assert view.generate(**given()).tolist() == want.tolist()
    assert own.guidance_scale == 2.0
    assert models("llama").generation_config.to_dict() == before


def test_weights_reach_a_device_that_lacks_double_precision(monkeypatch):
    """A tensor that says it is there, and moves that are only recorded."""

    class Elsewhere(torch.Tensor):
        device = torch.device("mps")

    moved, to = [], torch.Tensor.to

    def move(tensor, where):
        return to(tensor, where) if isinstance(where, torch.dtype) else moved.append((tensor.dtype, where)) or tensor

    monkeypatch.setattr(torch.Tensor, "to", move)
    rows = torch.tensor([1, 0, 1]).as_subclass(Elsewhere)
    weights = Weights.of([torch.tensor([1.0, 2.0])], 2).over(0, 1, rows)
    assert [each.as_subclass(torch.Tensor).tolist() for each in weights] == [[[2.0], [1.0], [2.0]], [[-1.0], [0.0], [-1.0]]]
    assert moved == [(torch.float32, rows.device)] * 2


def test_a_scale_of_one_element_is_a_number(models):
    model, rows = models("llama"), []
    handle = model.model.layers[0].register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    guided(model).generate(torch.tensor([PROMPTS[0]]), guidance_scale=torch.tensor(1.0), max_new_tokens=3)
    handle.remove()
    assert set(rows) == {1}


@pytest.mark.parametrize("scale", [1.1, [1.1, 2.3]])
def test_a_scale_is_read_in_double_precision(scale):
    given = torch.tensor(scale, dtype=torch.float64)
    weights = Weights.of([scale], 2).over(0, 1, torch.arange(2))
    for found, exact in zip(weights, (given, 1 - given), strict=True):
        assert torch.as_tensor(found, dtype=torch.float64).flatten().tolist() == exact.flatten().tolist()


def test_a_model_that_checks_its_own_prompts_is_not_checked_again(models):
    """Texts beyond the context are left to `transformers`, with guidance as without."""
    combination = Combination.of(models("llama"), Guidance(guidance_scale=2.0), rows=1)
    combination.check_room(5, 70, models("llama"))
    with pytest.raises(ValueError, match="exceed its model's context of 64"):
        combination.check_room(5, 70)
