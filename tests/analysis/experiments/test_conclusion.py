"""The conclusion of a run: its numbers are the run's, and data that say the opposite change its sentences."""

from types import SimpleNamespace

import pandas as pd
import pytest

from analysis.experiments import EXPERIMENTS, conclusion, correction, family_tables, text, whole_texts
from analysis.experiments.base import Experiment, Settings
from analysis.frames import Chapter, Verdict, tidy
from analysis.text import loading


def factors(kl=0.149, tv=0.201, error=1e-14):
    case = {"law": "coupled", "scale": 3.0, "length": 5, "coupling": 1.0}
    values = {"kl_sequential_joint": kl, "tv": tv, "identity_error": error}
    other = case | {"scale": 1.0, "quantity": "identity_error", "value": error / 9}
    return tidy([*(case | {"quantity": name, "value": value} for name, value in values.items()), other])


@pytest.mark.parametrize(
    ("changed", "says", "lacks"),
    [
        ({}, ("is not guiding the whole sequence", "0.20 (0.149 nats)", "exactly the product", "1e-14"), ("against",)),
        ({"kl": 0.3, "tv": 0.4}, ("0.40 (0.300 nats)",), ("0.149",)),
        ({"kl": 0.0, "tv": 0.0}, ("gives the law of guiding the whole sequence", "against the claim"), ("is not guiding",)),
        ({"error": 0.1}, ("not the product of the local normalizers", "wrong by 1e-01"), ("exactly",)),
    ],
)
def test_the_gap(changed, says, lacks):
    told = conclusion.gap(factors(**changed))
    assert all(part in told for part in says), told
    assert not any(part in told for part in lacks), told


def variance(drawn, error):
    case = {"law": correction.PAIR, "scale": correction.SCALE, "quantity": "variance"}
    tilt = case | {"how": "exact", "family": "joint", "value": 0.667}
    return tidy([tilt, case | {"how": "drawn", "family": correction.ODE, "value": drawn, "std_error": error}])


@pytest.mark.parametrize(
    ("drawn", "error", "says"),
    [
        (0.507, 0.006, "Guided diffusion does not draw the joint law"),
        (0.660, 0.006, "Guided diffusion comes near the joint law"),
        (0.6, 0.1, "is not decided"),
    ],
)
def test_diffusion(drawn, error, says):
    told = conclusion.diffusion(variance(drawn, error))
    assert says in told
    assert f"{drawn:.3f} ± {2 * error:.3f}, where the joint tilt has 0.667" in told


def distances(weighted, error=0.001):
    values = dict.fromkeys((*family_tables.DRAWN.values(), *family_tables.REACHING), 0.2)
    values |= {family_tables.WEIGHTED: weighted, family_tables.EXACT: 0.068}
    case = {"law": family_tables.TABLE, "quantity": "tv", "scale": 3.0, "length": 4, "std_error": error, "freedom": 9.0}
    return tidy(case | {"family": name, "value": value} for name, value in values.items())


@pytest.mark.parametrize(
    ("weighted", "error", "says"),
    [
        (0.075, 0.001, "The difference can be corrected"),
        (0.15, 0.001, "Weights do not remove the difference"),
        (0.08, 0.05, "is not decided"),
        (0.01, 0.001, "is not decided"),  # nearer than exact draws, which no sampler of the joint law is
    ],
)
def test_the_correction(weighted, error, says):
    told = conclusion.corrected(distances(weighted, error))
    assert says in told
    assert f"{weighted:.3f} ± " in told
    assert "4 tokens" in told


def texts_of(pooled, mixture):
    case = {"law": "texts", "quantity": "kl_sequential_joint", "scale": 10.0, "order": 5, "length": 9, "labels": 3}
    rows = [case | {"family": whole_texts.POOLED, "value": pooled}]
    if mixture is not None:
        rows.append(case | {"family": whole_texts.MIXTURE, "value": mixture, "std_error": 0.1, "freedom": 1e6})
    return tidy(rows)


@pytest.mark.parametrize(
    ("pooled", "mixture", "says"),
    [
        (720.0, 7.65, "Much of the difference comes from an incoherent p(x): on whole texts of n-gram models of order 5"),
        (720.0, 7.65, "720 nats apart at γ = 10 where p(x) is a model of its own, and 7.65 (± 0.2) where it is the mixture"),
        (8.0, 7.65, "Little of the difference comes from an incoherent p(x)"),
        (8.0, None, "are not compared at γ = 10"),
    ],
)
def test_the_mixture(pooled, mixture, says):
    assert says in conclusion.coherent(texts_of(pooled, mixture))


def digits(gap, effect):
    case = {"law": "digits", "scale": 3.0, "length": 10, "label": "7"}
    values = {"kl_sequential_joint": gap, "kl_joint_conditional": effect}
    return tidy(case | {"quantity": name, "value": value} for name, value in values.items())


def stories(joint, sequential, error=0.1, consistent=1.0, scale=2.0):
    rows = []
    for family, value in (("joint", joint), ("sequential", sequential)):
        case = {"law": "a prompt", "family": family, "scale": scale, "length": 24, "model": "a model", "freedom": 3.0}
        rows += [case | {"quantity": "adherence", "value": value, "std_error": error}]
        rows += [case | {"quantity": "perplexity, conditional", "value": 2.0, "std_error": 0.01}]
    return tidy([*rows, rows[0] | {"quantity": "consistent", "value": consistent, "std_error": 0.0}])


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"joint": 9.0, "sequential": 2.0}, "it is a difference: joint minus sequential adherence is +7.000 ± "),
        ({"joint": 2.0, "sequential": 2.0, "error": 0.01}, "it is no difference that would matter"),
        ({"joint": 2.5, "sequential": 2.0, "error": 2.0}, "it is not decided"),
        ({"joint": 9.0, "sequential": 2.0, "consistent": 0.0}, "converged at no γ above 1"),
    ],
)
def test_practice(texts, says):
    told = conclusion.practice(digits(0.44, 0.2), stories(**texts))
    assert says in told
    assert "10 pixels of real digits" in told
    assert "0.44 nats apart at γ = 3, more than what joint guidance changes (0.20 nats)" in told
    assert "less than what joint guidance changes" in conclusion.practice(digits(0.1, 0.2), stories(**texts))


def test_practice_is_that_of_the_largest_scale_that_converged():
    texts = pd.concat([stories(3.0, 2.0, scale=1.5), stories(9.0, 2.0), stories(5.0, 1.0, consistent=0.0, scale=3.0)])
    scale, change = text.adherence(texts)
    assert (scale, change.mean) == (2.0, pytest.approx(7.0))
    assert text.source(texts) == "a model, 1 prompts, 24 tokens"


def test_a_model_without_a_beginning_of_text_has_no_unconditional_branch(monkeypatch):
    loaded = SimpleNamespace(tokenizer=SimpleNamespace(bos_token_id=None))
    monkeypatch.setattr(loading, "silence", lambda: None)
    monkeypatch.setattr(loading.Choice, "load", lambda *_: loaded)
    with pytest.raises(ValueError, match="tokenizer of the model must have a beginning-of-text token"):
        list(text._cases(Settings(model="some/model")))


def chapters(quick=False, **frames):
    fake = {"title": "T", "claim": "c", "verdict": lambda frame: Verdict("m", "n", "v"), "plots": (), "run": None}
    return [Chapter(Experiment(name=name, **fake), frame, False, quick) for name, frame in frames.items()]


def test_a_run_concludes_from_the_chapters_that_it_has():
    found = conclusion.conclude(chapters(scale_factors=factors(), families=distances(0.075)))
    assert found == [conclusion.gap(factors()), conclusion.corrected(distances(0.075))]
    assert conclusion.conclude(chapters(quick=True, scale_factors=factors())) == []


def test_a_full_run_has_five_sentences_at_most():
    names = {each.name for each in EXPERIMENTS}
    assert {"scale_factors", "correction", "families", "whole_texts", "real_data", "text"} <= names
    every = chapters(
        scale_factors=factors(),
        correction=variance(0.507, 0.006),
        families=distances(0.075),
        whole_texts=texts_of(720.0, 7.65),
        real_data=digits(0.44, 0.2),
        text=stories(9.0, 2.0),
    )
    assert len(conclusion.conclude(every)) == 5
