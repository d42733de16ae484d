"""What is said of texts in practice: by hand on texts whose laws are known, and with its error."""

import math

import pytest
import torch
from small import build, letters

from analysis.metrics import text_samples

PROMPT, NEGATIVE = torch.tensor([[5, 6, 7]]), torch.tensor([[20]])


@pytest.fixture(scope="module")
def case():
    model = build("llama")
    model.generation_config.eos_token_id = 2
    return text_samples.Case(model, letters(), PROMPT, NEGATIVE, ("zz",))


def by_hand(case, text, prompt):
    """Σ log p of a text up to its end, token by token."""
    ids = torch.cat([prompt[0], text])[None]
    with torch.no_grad():
        law = case.model(ids).logits[0].double().log_softmax(-1)
    size = text.tolist().index(2) + 1 if 2 in text.tolist() else len(text)
    at = prompt.shape[1] - 1
    return sum(float(law[at + t, text[t]]) for t in range(size)), size


def test_what_is_measured_of_texts_is_what_it_says(case):
    tokens = torch.tensor([[30, 31, 2, 2], [40, 41, 42, 43], [9, 2, 2, 2]])
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    groups = [text_samples.Group(tokens, weights, 0.0), text_samples.Group(tokens, weights, 0.0)]
    told = {name: value for name, value, _ in text_samples.measures(case, groups, 5, torch.Generator().manual_seed(0))}
    cond, uncond = (torch.tensor([by_hand(case, row, prompt) for row in tokens]) for prompt in (PROMPT, NEGATIVE))
    assert told["adherence"] == pytest.approx(float(weights @ (cond[:, 0] - uncond[:, 0]).double()), abs=1e-4)
    for name, sums in (("conditional", cond), ("unconditional", uncond)):
        loss = -float(weights @ sums[:, 0].double()) / float(weights @ sums[:, 1].double())
        assert told[f"perplexity, {name}"] == pytest.approx(math.exp(loss), rel=1e-4)


def test_words_are_told_by_weight_and_runs_by_evidence(case):
    """Texts of one word each, "k" and "l" ("c" ends them); the second run counts three times as much as the first."""
    case = case._replace(words=("K",))
    k, end = 10, 2
    one = text_samples.Group(torch.tensor([[k, end], [k + 1, end]]), torch.tensor([1.0, 0.0], dtype=torch.float64), 0.0)
    two = one._replace(weights=one.weights.flip(0), log_evidence=math.log(3))
    told = {name: rest for name, *rest in text_samples.measures(case, [one, two], 9, torch.Generator().manual_seed(0))}
    assert told["keyword rate"] == pytest.approx([1 / 4, math.sqrt((0.25 * 0.75) ** 2 * 2 * 2)])
    assert told["distinct words"] == pytest.approx([1.0, 0.0])  # a particle of weight 0 is never read
    losses = torch.tensor([-by_hand(case, row, PROMPT)[0] / 2 for row in one.tokens], dtype=torch.float64)
    mean = float(losses @ torch.tensor([0.25, 0.75], dtype=torch.float64))
    error = float(losses.diff().abs()) * 0.25 * 0.75 * 2
    assert told["perplexity, conditional"] == pytest.approx([math.exp(mean), math.exp(mean) * error], rel=1e-4)


def test_both_laws_are_measured_with_the_spread_of_their_runs(case):
    generator = torch.Generator().manual_seed(0)
    groups, diagnosis = text_samples.joint(case, 1.5, 32, 6, generator)
    joint = {name: (value, error) for name, value, error in text_samples.measures(case, groups, 8, generator)}
    plain = text_samples.sequential(case, 1.5, 32, 6, generator)
    sequential = {name: (value, error) for name, value, error in text_samples.measures(case, plain, 8, generator)}
    assert diagnosis.log_evidence > 0
    assert all(error > 0 for name, (_, error) in (joint | sequential).items() if name != "keyword rate")
    assert joint["adherence"][0] > sequential["adherence"][0]  # at one γ the joint law tilts further
