"""Statistics of texts: by hand on small models, and on a model that has learned."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from reference import plain
from small import build, letters

import arguide
from analysis.figures.text import against_scale
from analysis.metrics import text_statistics

PROMPT, NEGATIVE = torch.tensor([[5, 6, 7]]), torch.tensor([[20]])


@pytest.fixture(scope="module")
def measured():
    model, tokenizer = build("llama"), letters()
    negative = torch.tensor([tokenizer.encode("zy")])
    given = {"negative": negative, "scales": (0, 2), "samples": 7, "tokens": 5}
    return model, tokenizer, negative, *text_statistics.measure(model, tokenizer, "fgh", ("d", "Eg"), **given)


def value(frame, scale, quantity, column="value"):
    return float(frame[(frame.scale == scale) & (frame.quantity == quantity)][column].iloc[0])


def test_words_are_counted(measured):
    _, _, _, frame, texts = measured
    texts = {scale: [text.lower() for text in some] for scale, some in texts.items()}
    for scale, some in texts.items():
        assert len(some) == 7
        assert value(frame, scale, "distinct words") == len({word for text in some for word in text_statistics.words_of(text)})
        rate = sum(bool({"d", "eg"} & set(text_statistics.words_of(text))) for text in some) / 7
        assert value(frame, scale, "keyword rate") == rate


def test_words_are_letters_in_any_case():
    assert text_statistics.words_of("Max's dog, MAX 2 dogs") == ["max", "s", "dog", "max", "dogs"]
    case = text_statistics.Case(None, None, None, None, ("doG",))
    assert case.mentions(["A dog.", "Dogs", "no", "the DOG"]).tolist() == [1, 0, 0, 1]


def test_a_keyword_rate_has_a_binomial_error(measured):
    frame = measured[3]
    for scale in (0, 2):
        rate = value(frame, scale, "keyword rate")
        assert value(frame, scale, "keyword rate", "std_error") == pytest.approx((rate * (1 - rate) / 7) ** 0.5)


def test_perplexities_are_of_the_tokens_up_to_the_end(measured):
    model, tokenizer, negative, *_ = measured
    ids, end = torch.tensor([tokenizer.encode("fgh")]), model.generation_config.eos_token_id
    new = torch.tensor([[5, 6, end, 9], [7, 8, 9, 10]])
    case = text_statistics.Case(arguide.guided(model), tokenizer, ids, negative, ())
    log_probs, sizes = case.score(new, [end])
    assert sizes.tolist() == [3, 4]
    for of_model, before in zip(log_probs, (ids[0].tolist(), negative[0].tolist()), strict=True):
        found, error = text_statistics.perplexity(of_model, sizes)
        losses = [-plain(model, before, row[:t])[row[t]] for row in ([5, 6, end], [7, 8, 9, 10]) for t in range(len(row))]
        assert found == pytest.approx(float(torch.stack(losses).mean().exp()), rel=1e-3)
        assert error > 0


def test_the_error_of_a_perplexity_is_the_spread_of_repeated_samples():
    """2,000 samples of 40 texts; the control is the error of texts whose numbers of tokens are ignored."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 9, (2000, 40), generator=generator).double()
    log_probs = -sizes * (1 + 0.3 * torch.randn(2000, 40, generator=generator, dtype=torch.float64))
    found = torch.tensor([text_statistics.perplexity(*pair) for pair in zip(log_probs, sizes, strict=True)])
    assert float(found[:, 1].mean()) == pytest.approx(float(found[:, 0].std()), rel=0.1)
    wrong = [text_statistics.perplexity(row, torch.full((40,), 4.5))[1] for row in log_probs]
    assert sum(wrong) / len(wrong) > 1.5 * float(found[:, 0].std())


def test_a_seed_fixes_the_texts_and_no_global_state(measured):
    model, tokenizer, negative, frame, texts = measured
    before = torch.random.get_rng_state()
    given = {"negative": negative, "scales": (0, 2), "samples": 7, "tokens": 5}
    again, same = text_statistics.measure(model, tokenizer, "fgh", ("d", "Eg"), **given)
    _, other = text_statistics.measure(model, tokenizer, "fgh", ("d", "Eg"), **given, seed=1)
    pd.testing.assert_frame_equal(frame, again)
    assert texts == same != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_tokenizer_without_a_beginning_needs_a_negative_prompt():
    tokenizer = letters()
    tokenizer.bos_token = None
    with pytest.raises(ValueError, match="beginning-of-text"):
        text_statistics.measure(build("llama"), tokenizer, "fgh", ("d",), scales=(1,))


def test_figures_draw_what_the_frame_holds(measured):
    frame = measured[3]
    ax = against_scale(frame, plt.subplots()[1], ["keyword rate"], title="Fidelity", y="rate")
    assert ax.lines[0].get_xdata().tolist() == [0, 2]
    assert ax.lines[0].get_ydata().tolist() == [value(frame, scale, "keyword rate") for scale in (0, 2)]
    plt.close("all")


@pytest.fixture(scope="module")
def case():
    model = build("llama")
    model.generation_config.eos_token_id = 2
    return text_statistics.Case(model, letters(), PROMPT, NEGATIVE, ("zz",))


def by_hand(case, text, prompt):
    """Σ log p of a text up to its end, token by token."""
    ids = torch.cat([prompt[0], text])[None]
    with torch.no_grad():
        law = case.model(ids).logits[0].double().log_softmax(-1)
    size = text.tolist().index(2) + 1 if 2 in text.tolist() else len(text)
    at = prompt.shape[1] - 1
    return sum(float(law[at + t, text[t]]) for t in range(size)), size


def test_group_measures_are_weighted_means_of_log_probs(case):
    tokens = torch.tensor([[30, 31, 2, 2], [40, 41, 42, 43], [9, 2, 2, 2]])
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    groups = [text_statistics.Group(tokens, weights, 0.0), text_statistics.Group(tokens, weights, 0.0)]
    found = {name: value for name, value, _ in text_statistics.measures(case, groups, 5, torch.Generator().manual_seed(0))}
    cond, uncond = (torch.tensor([by_hand(case, row, prompt) for row in tokens]) for prompt in (PROMPT, NEGATIVE))
    assert found["adherence"] == pytest.approx(float(weights @ (cond[:, 0] - uncond[:, 0]).double()), abs=1e-4)
    for name, sums in (("conditional", cond), ("unconditional", uncond)):
        loss = -float(weights @ sums[:, 0].double()) / float(weights @ sums[:, 1].double())
        assert found[f"perplexity, {name}"] == pytest.approx(math.exp(loss), rel=1e-4)


def test_texts_are_averaged_by_weight_and_runs_by_evidence(case):
    """Texts of one word each, "k" and "l" ("c" ends them); the second run counts three times as much as the first."""
    case = case._replace(words=("K",))
    k, end = 10, 2
    one = text_statistics.Group(torch.tensor([[k, end], [k + 1, end]]), torch.tensor([1.0, 0.0], dtype=torch.float64), 0.0)
    two = one._replace(weights=one.weights.flip(0), log_evidence=math.log(3))
    found = {name: rest for name, *rest in text_statistics.measures(case, [one, two], 9, torch.Generator().manual_seed(0))}
    assert found["keyword rate"] == pytest.approx([1 / 4, math.sqrt((0.25 * 0.75) ** 2 * 2 * 2)])
    assert found["distinct words"] == pytest.approx([1.0, 0.0])  # a particle of weight 0 is never drawn
    losses = torch.tensor([-by_hand(case, row, PROMPT)[0] / 2 for row in one.tokens], dtype=torch.float64)
    mean = float(losses @ torch.tensor([0.25, 0.75], dtype=torch.float64))
    error = float(losses.diff().abs()) * 0.25 * 0.75 * 2
    assert found["perplexity, conditional"] == pytest.approx([math.exp(mean), math.exp(mean) * error], rel=1e-4)


def test_at_one_scale_the_joint_law_adheres_more(case):
    generator = torch.Generator().manual_seed(0)
    groups, diagnosis = text_statistics.joint(case, 1.5, 32, 6, generator)
    joint = {name: (value, error) for name, value, error in text_statistics.measures(case, groups, 8, generator)}
    plain = text_statistics.sequential(case, 1.5, 32, 6, generator)
    sequential = {name: (value, error) for name, value, error in text_statistics.measures(case, plain, 8, generator)}
    assert diagnosis.log_evidence > 0
    assert {group.log_evidence for group in plain} == {0.0}
    assert all(error > 0 for name, (_, error) in (joint | sequential).items() if name != "keyword rate")
    assert joint["adherence"][0] > sequential["adherence"][0]  # at one γ the joint law tilts further


def test_runs_of_the_joint_law_look_ahead_when_they_resample(case, monkeypatch):
    given = {}
    monkeypatch.setattr(arguide, "repeat_joint", lambda *_, **options: given.update(options) or ([], None))
    text_statistics.joint(case, 1.5, 8, 6, torch.Generator())
    assert given["twist"] is arguide.particles.ahead


def test_a_pretrained_model_adheres_more_at_larger_scales(data):
    """Rates near .1, .7 and 1 are expected; with 64 texts their standard error is below .06."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = data / "stories260K"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    given = {"scales": (0, 1, 2), "samples": 64, "tokens": 40}
    frame, _ = text_statistics.measure(model, tokenizer, "Lily had a big dog named Max.", ("dog", "Max"), **given)
    rates = [value(frame, scale, "keyword rate") for scale in (0, 1, 2)]
    assert rates[0] < 0.35 < rates[1] < 0.9 < rates[2]
    words = [value(frame, scale, "distinct words") for scale in (0, 1, 2)]
    assert words[2] < words[1]
