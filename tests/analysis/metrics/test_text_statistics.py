"""A prompt's influence on text: the measures by hand, and the effect itself on models that have learned."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from reference import plain
from small import build, letters

from analysis.figures.influence import against_scale, trade_off
from analysis.learning import toy_stories
from analysis.metrics import text_statistics


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
    rate, error = text_statistics._rate(["A dog.", "Dogs", "no", "the DOG"], ("dog",))
    assert rate == 0.5
    assert error == pytest.approx(0.25)


def test_perplexities_are_of_the_tokens_up_to_the_end(measured):
    model, tokenizer, negative, *_ = measured
    view = text_statistics.arguide.guided(model)
    ids, end = torch.tensor([tokenizer.encode("fgh")]), model.generation_config.eos_token_id
    new = torch.tensor([[5, 6, end, 9], [7, 8, 9, 10]])
    found = text_statistics._perplexities(view, ids, negative, new, tokenizer)
    for (name, perplexity, error), before in zip(found, (ids[0].tolist(), negative[0].tolist()), strict=True):
        losses = [-plain(model, before, row[:t])[row[t]] for row in ([5, 6, end], [7, 8, 9, 10]) for t in range(len(row))]
        assert perplexity == pytest.approx(float(torch.stack(losses).mean().exp()), rel=1e-3)
        assert name.startswith("perplexity, ")
        assert error > 0


def test_a_seed_makes_the_same_texts_and_leaves_the_global_generator(measured):
    model, tokenizer, negative, frame, texts = measured
    before = torch.random.get_rng_state()
    given = {"negative": negative, "scales": (0, 2), "samples": 7, "tokens": 5}
    again, same = text_statistics.measure(model, tokenizer, "fgh", ("d", "Eg"), **given)
    _, other = text_statistics.measure(model, tokenizer, "fgh", ("d", "Eg"), **given, seed=1)
    pd.testing.assert_frame_equal(frame, again)
    assert texts == same != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_unconditional_branch_begins_a_text_by_default():
    tokenizer = letters()
    tokenizer.bos_token = None
    with pytest.raises(ValueError, match="beginning-of-text"):
        text_statistics.measure(build("llama"), tokenizer, "fgh", ("d",), scales=(1,))


def test_figures_draw_what_the_frame_holds(measured):
    frame = measured[3]
    _, axes = plt.subplots(1, 2)
    against_scale(frame, axes[0], ["keyword rate"], title="Fidelity", y="rate")
    trade_off(frame, axes[1])
    assert axes[0].lines[0].get_xdata().tolist() == [0, 2]
    assert axes[0].lines[0].get_ydata().tolist() == [value(frame, scale, "keyword rate") for scale in (0, 2)]
    assert [text.get_text() for text in axes[1].texts] == ["0", "2"]
    plt.close("all")


def test_stories_name_their_pet_and_mostly_keep_to_it():
    texts = toy_stories.write(300, seed=3)
    assert texts == toy_stories.write(300, seed=3) != toy_stories.write(300, seed=4)
    tokens = toy_stories.tokenizer()
    assert all(tokens.pad_token_id not in row for row in tokens(texts)["input_ids"])  # which stands for unknown words too
    named = [text.split()[3] for text in texts]
    assert 25 < named.count("pet") < 80
    rates = [
        later.count(pet) / later.count("The")
        for text, pet in zip(texts, named, strict=True)
        if (later := text[text.index(".") :]) and pet != "pet"
    ]
    assert 0.55 < sum(rates) / len(rates) < 0.8


def test_training_is_repeatable_and_learns():
    model, again = toy_stories.train(3), toy_stories.train(3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    steps = []
    trained = toy_stories.train(30, track=lambda some: (steps.append(step) or step for step in some))
    batch = toy_stories._batch(toy_stories.tokenizer(), toy_stories.write(50, seed=9))
    assert steps == list(range(30))
    assert trained(**batch).loss < model(**batch).loss - 0.3


def test_a_pretrained_model_follows_its_prompt_more_as_the_scale_grows(data):
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
