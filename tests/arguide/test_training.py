"""Conditioning dropout, and a loop that goes on after a kill to the same result."""

import math

import pytest
import torch
from torch import nn

from arguide import files
from arguide.training import Recipe, drop, fit


class Coins(nn.Module):
    """log p(x | y) of one of three values: a table of logits, a row a label and one for none."""

    def __init__(self, labels=2):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(labels + 1, 3))

    def loss(self, rows, labels, generator):
        return -self.logits[labels].log_softmax(-1).gather(1, rows[:, None]).mean()


def coins(n=4000, seed=0):
    """Draw labels, four of five of them 0, and values; return them with p(x|y), [2, 3]."""
    law = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, generator=generator) < 0.2).long()
    return torch.multinomial(law[labels], 1, generator=generator)[:, 0], labels, law


def train(model, recipe, seed=0, data=None, loss=None, **options):
    rows, labels, _ = data or coins()
    return fit(model, rows, labels, 2, loss or model.loss, recipe, generator=torch.Generator().manual_seed(seed), **options)


def test_a_share_of_the_labels_is_dropped():
    labels = torch.arange(20_000) % 5
    dropped = drop(labels, 9, 0.2, torch.Generator().manual_seed(0))
    share = float((dropped == 9).double().mean())
    assert share == pytest.approx(0.2, abs=6 * (0.16 / 20_000) ** 0.5)
    assert torch.equal(dropped[dropped != 9], labels[dropped != 9])
    assert torch.equal(drop(labels, 9, 0.0), labels)
    assert (drop(labels, 9, 1.0) == 9).all()


def test_one_network_learns_the_conditional_and_the_unconditional_law():
    """Drawn evenly over the labels, p(x) is the even mixture; without dropout the null label learns nothing."""
    _, _, law = coins()
    recipe = Recipe(600, batch=256, rate=0.05, dropout=0.2, decay=0.0, average=0.98)
    for dropout, learned in ((0.2, True), (0.0, False)):
        model = Coins()
        train(model, Recipe(**{**recipe.__dict__, "dropout": dropout}))
        found = model.logits.detach().softmax(-1)
        torch.testing.assert_close(found[:2], law, atol=0.03, rtol=0)
        assert bool((found[2] - law.mean(0)).abs().max() < 0.03) is learned
    model = Coins()
    train(model, Recipe(**{**recipe.__dict__, "balanced": False}))
    torch.testing.assert_close(model.logits.detach().softmax(-1)[2], 0.8 * law[0] + 0.2 * law[1], atol=0.03, rtol=0)


def test_a_model_trains_in_training_mode_and_is_left_in_evaluation_mode():
    model, modes = Coins().eval(), []
    train(model, Recipe(3, batch=4), loss=lambda *given: modes.append(model.training) or model.loss(*given))
    assert modes == [True] * 3
    assert not model.training


def test_dropout_may_begin_late():
    seen = []

    def loss(rows, labels, generator):
        seen.append(bool((labels == 2).any()))
        return model.loss(rows, labels, generator)

    model = Coins()
    train(model, Recipe(50, batch=200, dropout=0.5, dropout_from=0.8), loss=loss)
    assert seen == [False] * 40 + [True] * 10


def test_the_rate_rises_over_a_twentieth_and_falls_by_a_cosine():
    recipe = Recipe(100, rate=0.4)
    rates = [recipe.rate_at(step) for step in range(100)]
    assert rates[:4] == pytest.approx([0.08, 0.16, 0.24, 0.32])
    assert rates[50] == pytest.approx(0.2)
    assert rates[75] == pytest.approx(0.2 * (1 - 0.5**0.5))
    assert 0 < rates[-1] < 1e-3 < max(rates) < 0.4


def test_rows_are_drawn_evenly_within_their_label():
    """6,400 draws over 50 rows of one label and 10 of another: each within six standard errors of 64, or of 320."""
    data, labels, model = torch.arange(60), (torch.arange(60) >= 50).long(), Coins()
    seen = []

    def loss(rows, labels, generator):
        seen.append(rows)
        return model.loss(rows % 3, labels, generator)

    train(model, Recipe(100, batch=64), data=(data, labels, None), loss=loss)
    counts = torch.cat(seen).bincount(minlength=60)
    assert (counts[:50] - 64).abs().max() < 6 * 8
    assert (counts[50:] - 320).abs().max() < 6 * 18


def test_what_is_kept_is_the_exponential_average():
    last, kept, path = Coins(), Coins(), []
    recipe = Recipe(8, batch=16, rate=0.1)
    train(last, recipe)
    options = {"track": lambda steps: (path.append(kept.logits.detach().clone()) or step for step in steps)}
    train(kept, Recipe(**recipe.__dict__ | {"average": 0.1}), **options)
    mean = path[0]
    for weights in (*path[1:], last.logits.detach()):
        mean = 0.1 * mean + 0.9 * weights
    torch.testing.assert_close(kept.logits.detach(), mean)


def test_weights_decay_by_the_rate_times_the_decay():
    model, recipe = Coins(), Recipe(5, batch=4, rate=0.2, decay=0.7)
    torch.nn.init.ones_(model.logits)
    train(model, recipe, loss=lambda *_: 0 * model.logits.sum())
    expected = math.prod(1 - 0.7 * recipe.rate_at(step) for step in range(5))
    assert model.logits.detach().flatten().tolist() == pytest.approx([expected] * 9)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_killed_training_goes_on_to_the_same_result(tmp_path, average):
    recipe = Recipe(60, batch=32, rate=0.03, average=average)

    def killed(steps):
        for step in steps:
            if step == 47:
                raise KeyboardInterrupt
            yield step

    whole, parts = Coins(), Coins()
    losses = train(whole, recipe)
    options = {"checkpoint": tmp_path / "checkpoint.pt", "every": 10}
    with pytest.raises(KeyboardInterrupt):
        train(parts, recipe, track=killed, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    parts = Coins()
    begun = []
    again = train(parts, recipe, seed=99, track=lambda steps: begun.append(steps) or steps, **options)
    assert begun == [range(40, 60)]
    assert torch.equal(parts.logits, whole.logits)
    assert again == losses
    other = Coins()
    train(other, recipe, seed=1)
    assert not torch.equal(other.logits, whole.logits)


def test_a_checkpoint_outlives_a_kill_while_the_next_one_is_written(tmp_path, monkeypatch):
    recipe, options = Recipe(40, batch=8, rate=0.03), {"checkpoint": tmp_path / "checkpoint.pt", "every": 10}
    whole, parts, again, seal, sealed = Coins(), Coins(), Coins(), files.seal, []

    def killed(path):
        sealed.append(path)
        if len(sealed) == 2:
            raise KeyboardInterrupt
        seal(path)

    monkeypatch.setattr(files, "seal", killed)
    with pytest.raises(KeyboardInterrupt):
        train(parts, recipe, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert train(again, recipe, seed=99, **options)[:10] == train(whole, recipe)[:10]
    assert torch.equal(again.logits, whole.logits)


def test_a_corrupted_checkpoint_is_refused_by_name(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint.pt is no checkpoint of this training; delete it"):
        train(Coins(), Recipe(5), checkpoint=path)
    train(Coins(), Recipe(20, batch=4), checkpoint=path.with_name("other.pt"), every=10)
    whole = path.with_name("other.pt").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"checkpoint.pt is no checkpoint"):
        train(Coins(), Recipe(20), checkpoint=path)
    with pytest.raises(ValueError, match=r"other.pt is no checkpoint"):
        train(Coins(labels=3), Recipe(20), checkpoint=path.with_name("other.pt"))


def test_a_loss_that_is_not_finite_stops_the_training():
    model = Coins()
    with pytest.raises(ValueError, match="loss at step 1 must be finite, got nan; lower the learning rate"):
        train(model, Recipe(5), loss=lambda *_: model.logits.sum() * torch.nan)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"dropout": 1.2}, "dropout"), ({"dropout_from": -1.0}, "dropout_from"), ({"rate": 0.0}, "rate"), ({"batch": 0}, "batch")],
)
def test_a_recipe_out_of_range_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        Recipe(10, **wrong)
