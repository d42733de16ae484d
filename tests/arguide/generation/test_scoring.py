"""Log-probabilities of given texts, against loops over the plain formula, and against generation."""

import itertools

import pytest
import torch
from reference import padded, plain
from small import CONFIGS, build

import arguide
from arguide import Condition, schedules

PROMPTS, NEGATIVES = [[5, 6, 7, 8, 9], [12, 13], [5]], [[20, 21], [22, 23, 24], [9]]
TEXTS = [[30, 31, 32, 33], [40], [34, 35, 36]]


def texts():
    width = max(map(len, TEXTS))
    ids = torch.tensor([text + [0] * (width - len(text)) for text in TEXTS])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in TEXTS])
    return ids, mask


def given():
    prompts, negatives = padded(PROMPTS), padded(NEGATIVES)
    ids, mask = texts()
    return {
        "input_ids": prompts.ids,
        "attention_mask": prompts.mask,
        "text_ids": ids,
        "text_mask": mask,
        "negative_prompt_ids": negatives.ids,
        "negative_prompt_attention_mask": negatives.mask,
    }


def by_hand(branches, text):
    """Σ_t log p̃ and Σ_t log Z_t of one text; branches are (text before, weight or schedule, model)."""
    joint = normalizers = 0.0
    for t, token in enumerate(text):
        row = sum((w(t) if callable(w) else w) * plain(model, before, text[:t]) for before, w, model in branches)
        joint, normalizers = joint + row[token], normalizers + row.logsumexp(-1)
    return float(joint), float(normalizers)


@pytest.mark.parametrize("name", CONFIGS)
def test_both_laws_of_given_texts(models, name):
    model = models(name)
    scores = arguide.score(model, guidance_scale=2.0, **given())
    for i, text in enumerate(TEXTS):
        joint, normalizers = by_hand([(PROMPTS[i], 2.0, model), (NEGATIVES[i], -1.0, model)], text)
        assert scores.joint[i] == pytest.approx(joint, abs=2e-4)
        assert scores.log_normalizers[i].sum() == pytest.approx(normalizers, abs=2e-4)
        assert scores.sequential[i] == pytest.approx(joint - normalizers, abs=2e-4)
        assert scores.branches[0, i] == pytest.approx(by_hand([(PROMPTS[i], 1.0, model)], text)[0], abs=2e-4)
    assert (scores.log_normalizers[1, 1:] == 0).all()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("prompt", "text"), [(60, 5), (64, 1), (2, 63)])
def test_the_last_token_of_a_text_takes_no_room(models, name, prompt, text):
    """A context of 64 tokens gives the law of the 65th."""
    torch.manual_seed(0)
    before, after = torch.randint(3, 60, (prompt,)).tolist(), torch.randint(3, 60, (text,)).tolist()
    scores = arguide.score(models(name), torch.tensor([before]), torch.tensor([after]), guidance_scale=2.0)
    branches = [(before, 2.0, models(name)), (before[-1:], -1.0, models(name))]
    assert scores.joint[0] == pytest.approx(by_hand(branches, after)[0], abs=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_row_has_the_room_of_its_own(models, name):
    """The longest prompt and the longest text together would not fit, nor would either with the longest negative."""
    torch.manual_seed(0)
    sizes = [(60, 58, 5), (50, 2, 13), (3, 1, 62)]
    before, away, after = ([torch.randint(3, 60, (size,)).tolist() for size in each] for each in zip(*sizes, strict=True))
    prompts, negatives, width = padded(before), padded(away), max(map(len, after))
    scores = arguide.score(
        models(name),
        prompts.ids,
        torch.tensor([text + [0] * (width - len(text)) for text in after]),
        attention_mask=prompts.mask,
        text_mask=torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in after]),
        negative_prompt_ids=negatives.ids,
        negative_prompt_attention_mask=negatives.mask,
        guidance_scale=2.0,
    )
    for i, text in enumerate(after):
        joint, normalizers = by_hand([(before[i], 2.0, models(name)), (away[i], -1.0, models(name))], text)
        assert scores.joint[i] == pytest.approx(joint, abs=2e-3)
        assert scores.sequential[i] == pytest.approx(joint - normalizers, abs=2e-3)


@pytest.mark.parametrize(("prompt", "negative", "message"), [(62, 5, "branch 1"), (5, 62, "branch 2")])
def test_a_row_without_room_is_refused(models, prompt, negative, message):
    ones = torch.ones(2, 64, dtype=torch.long)
    mask = torch.ones(2, 4, dtype=torch.long)
    given = {"text_mask": mask, "guidance_scale": 2.0, "negative_prompt_ids": ones[:, :negative]}
    with pytest.raises(ValueError, match=f"62 tokens of {message} and 4 new ones exceed its model's context of 64"):
        arguide.score(models("gpt2"), ones[:, :prompt], ones[:, :4], **given)
    mask[:, 3] = 0
    arguide.score(models("gpt2"), ones[:, :prompt], ones[:, :4], **given)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_an_encoder_decoder_is_scored_from_its_start_token(request, name):
    model = request.getfixturevalue(name)
    width = max(map(len, PROMPTS))
    ids = torch.tensor([prompt + [0] * (width - len(prompt)) for prompt in PROMPTS])
    text, mask = texts()
    scores = arguide.score(
        model,
        ids,
        text,
        attention_mask=(ids != 0).long(),
        text_mask=mask,
        guidance_scale=2.0,
        negative_prompt_ids=torch.tensor([[9]]),
    )
    for i, words in enumerate(TEXTS):
        joint, normalizers = by_hand([(PROMPTS[i], 2.0, model), ([9], -1.0, model)], words)
        assert scores.joint[i] == pytest.approx(joint, abs=2e-4)
        assert scores.sequential[i] == pytest.approx(joint - normalizers, abs=2e-4)


def test_schedules_conditions_and_second_models_are_scored_too(models):
    model, other, ramp = models("llama"), build("gpt2", seed=1), schedules.ramp(0.0, 3.0, 3)
    conditions = [Condition(0.5, torch.tensor([[41, 42]])), Condition(-0.5, model=other)]
    scores = arguide.score(model, guidance_scale=ramp, conditions=conditions, **given())
    for i, text in enumerate(TEXTS):
        branches = [(PROMPTS[i], ramp, model), (NEGATIVES[i], lambda t: 1 - ramp(t), model)]
        branches += [([41, 42], 0.5, model), (PROMPTS[i], -0.5, other)]
        joint, normalizers = by_hand(branches, text)
        assert scores.joint[i] == pytest.approx(joint, abs=2e-4)
        assert scores.sequential[i] == pytest.approx(joint - normalizers, abs=2e-4)


def test_sequential_probabilities_of_all_texts_sum_to_one_and_joint_ones_do_not():
    model = build("llama", vocab_size=4, pad_token_id=0, eos_token_id=None)
    every = torch.tensor(list(itertools.product(range(4), repeat=3)))
    prompts = torch.tensor([[1, 2, 3]]).expand(len(every), -1)
    scores = arguide.score(model, prompts, every, guidance_scale=3.0)
    assert scores.sequential.exp().sum() == pytest.approx(1.0, abs=1e-4)
    assert abs(scores.joint.exp().sum() - 1) > 0.01


def test_a_scale_of_one_scores_the_model_under_both_laws(models):
    scores = arguide.score(models("llama"), guidance_scale=1.0, **given())
    torch.testing.assert_close(scores.sequential, scores.joint)
    for i, text in enumerate(TEXTS):
        assert scores.joint[i] == pytest.approx(by_hand([(PROMPTS[i], 1.0, models("llama"))], text)[0], abs=2e-4)


def test_what_generation_reports_is_what_scoring_says(models):
    view = arguide.guided(models("llama"))
    prompt = torch.tensor([PROMPTS[0]])
    out = view.generate(
        prompt, guidance_scale=2.0, max_new_tokens=6, do_sample=True, return_dict_in_generate=True, output_scores=True
    )
    text = out.sequences[:, prompt.shape[1] :]
    scores = arguide.score(view, prompt, text, guidance_scale=2.0)
    chosen = [row[0, token] for row, token in zip(out.scores, text[0], strict=True)]
    torch.testing.assert_close(torch.stack(out.log_normalizers, 1), scores.log_normalizers, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.joint[0], torch.stack(chosen).sum(), atol=1e-4, rtol=1e-4)


def test_greedy_marks_the_text_of_greedy_decoding(models):
    view, prompt = arguide.guided(models("gpt2")), torch.tensor([PROMPTS[0]] * 2)
    text = view.generate(prompt[:1], guidance_scale=2.0, max_new_tokens=5)[:, 5:]
    other = text.clone()
    other[0, 3] = (other[0, 3] + 1) % 60
    texts, mask = torch.cat([text, other]), torch.ones(2, 5, dtype=torch.long)
    assert arguide.score(view, prompt, texts, guidance_scale=2.0).greedy.tolist() == [True, False]
    mask[1, 3:] = 0  # what differs is padding
    assert arguide.score(view, prompt, texts, text_mask=mask, guidance_scale=2.0).greedy.tolist() == [True, True]


@pytest.mark.parametrize(
    ("text", "mask", "message"),
    [
        (torch.ones(2, 0, dtype=torch.long), None, "at least one token"),
        (torch.ones(3, 2, dtype=torch.long), None, "shape"),
        (torch.ones(2, 2, dtype=torch.long), torch.tensor([[0, 1], [1, 1]]), "at least one token"),
        (torch.ones(2, 3, dtype=torch.long), torch.tensor([[1, 0, 1], [1, 1, 1]]), "on the right"),
    ],
)
def test_texts_that_do_not_fit_are_refused(models, text, mask, message):
    with pytest.raises(ValueError, match=message):
        arguide.score(models("llama"), torch.ones(2, 3, dtype=torch.long), text, text_mask=mask, guidance_scale=2.0)
