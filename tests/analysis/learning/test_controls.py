"""Control tokens: every label has one of its own, whatever texts and labels say, before and after a model is saved."""

import json
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from analysis.learning import datasets, label_models, learners
from analysis.text import completions, tokens
from analysis.text.loading import Loaded
from arguide.training import Recipe

SPECIAL = (
    "any",
    "<any>",
    "<<any>>",
    "end",
    "<end>",
    "pad",
    "<pad>",
    "?",
    "",
    " ",
    "<",
    ">",
    "b",
    "<b>",
    "é",
    "e\u0301",
    "▁",
    "a ",
)
NAMES = st.lists(
    st.sampled_from(SPECIAL) | st.text(st.characters(codec="utf-8"), max_size=5), min_size=2, max_size=6, unique=True
)


def learner_of(names, texts):
    labels = torch.arange(len(texts)) % len(names)
    return learners.new("lm", datasets.Data(texts, labels, tuple(names), texts[:2], labels[:2]), learners.Size(8, 1), seed=0)


def prompts(model, tokenizer, names):
    """Return the tokens that `arguide generate` makes of every label's prompt, and of no label's."""
    texts = [*map(label_models.control, names), label_models.ANY]
    requests = [tokens.Request(text, None, 1.0) for text in texts]
    return [each.prompt for each in completions.Sampling().encode(Loaded(model, tokenizer), requests)]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(names=NAMES, long=st.booleans())
@example(names=["b", "i"], long=True)
@example(names=["any", "<any>", "<<any>>"], long=False)
def test_every_label_keeps_its_own_token_when_saved(names, long):
    """The texts hold what stands for every label, so often that a tokenizer learns it as a piece."""
    controls = [*map(label_models.control, names), label_models.ANY, label_models.PAD, label_models.END]
    assert len(set(controls)) == len(names) + 3
    texts = [f"{token} {token}x" + " and so on, for long" * long for token in (*controls, *names, *names)] * 4
    learner = learner_of(names, texts)
    expected = [[token] for token in learner.controls.tolist()]
    assert len({*learner.controls.tolist(), *learner.drawn}) == len(expected) + len(learner.drawn)
    assert prompts(learner.model, learner.tokenizer, names) == expected
    tokens = learner.encode(texts)
    assert not torch.isin(tokens, learner.controls).any()
    assert ((tokens == learner.end).sum(1) <= 1).all()
    with tempfile.TemporaryDirectory() as folder:
        learner.save(Path(folder))
        again = label_models.Causal.load(Path(folder))
        read = AutoTokenizer.from_pretrained(folder)
    assert again.labels == tuple(names)
    assert prompts(again.model, read, names) == expected == [[again.prompt(i).item()] for i in (*range(len(names)), None)]
    assert torch.equal(again.encode(texts), tokens)


def test_control_tokens_inside_texts_are_text():
    texts = ["<b> bold", "<i> thin <any>", "<end> <pad>", "< b>", "<b><b>"] * 8
    learner = learner_of(("b", "i"), texts)
    tokens = learner.encode(texts)
    assert learner.decode(tokens.masked_fill(tokens < 0, learner.end)) == texts
    assert (tokens[:, :-1] == learner.end).sum() == (tokens[:, 1:] == label_models.IGNORED).any(1).sum()


def test_a_prompt_draws_texts_of_its_label():
    """The texts of both labels hold what stands for one of them."""
    texts = ["aaaa <b>bold</b> bbbb aaaa", "xxxx <b>bold</b> yyyy xxxx"] * 16
    rows = datasets.Data(texts, torch.arange(32) % 2, ("b", "i"), texts[:4], torch.arange(4) % 2)
    learner = learners.new("lm", rows, learners.Size(16, 1), seed=0)
    learners.train(learner, rows, Recipe(60, batch=16, rate=2e-2))
    sampling = completions.Sampling(greedy=True, max_new_tokens=12)
    loaded = Loaded(learner.model, learner.tokenizer)
    requests = [tokens.Request(label_models.control(name), None, 1.0) for name in rows.names]
    written = [record["completion"] for record in completions.records(loaded, requests, sampling, 2)]
    assert ["aaaa" in text for text in written] == [True, False], written
    assert ["xxxx" in text for text in written] == [False, True], written


def test_shared_control_tokens_are_refused(tmp_path):
    learner = learner_of(("b", "i"), ["some text"] * 20)
    learner.save(tmp_path)
    told = json.loads((tmp_path / "labels.json").read_text())
    (tmp_path / "labels.json").write_text(json.dumps(told | {"words": told["words"] + 1}))
    with pytest.raises(ValueError, match="token of its own for every label"):
        label_models.Causal.load(tmp_path)


def test_labels_called_any_and_end_keep_texts_apart():
    texts = ["<end> good <any>", "<pad> fine", "short", "a longer text than the others"] * 12
    rows = datasets.Data(texts, torch.arange(48) % 2, ("any", "end"), texts[:4], torch.arange(4) % 2)
    learner = learners.new("lm", rows, learners.Size(16, 1), seed=0)
    assert len(set(learner.controls.tolist())) == 3
    assert learner.tokenizer.convert_tokens_to_ids(["<<any>>", "<<end>>", "<any>"]) == learner.controls.tolist()
    tokens = learner.encode(texts[:3])
    assert learner.decode(tokens.masked_fill(tokens < 0, learner.end)) == texts[:3]
    assert ((tokens == learner.end).sum(1) == 1).all()
    assert not torch.isin(tokens, learner.controls).any()
    cut = learner.encode(["a longer text than the others" * 9])
    assert cut.shape[1] == learner.length
    assert not (cut == learner.end).any()
