"""Samples: pooling of runs, draws by weight, one draw per population."""

import math
from types import SimpleNamespace

import pytest
import torch

from analysis import Table
from arguide import Ending, JointSample, LogLinear, pooled, sample_joint
from arguide.smc.populations import convergence, one_each


def guided(table, label, scale):
    return LogLinear.guidance(table.autoregressive(label), table.autoregressive(), scale)


def test_pooled_runs_weigh_by_their_evidence(make_joint):
    model = guided(Table(make_joint(9, (2, 3, 2, 3))), 0, 2.5)
    runs = [sample_joint(model, n, 3, generator=torch.Generator().manual_seed(n)) for n in (10, 30)]
    whole = pooled(runs)
    mass = whole.log_weights.exp()
    ratio = (runs[0].log_evidence - runs[1].log_evidence).exp() * 10 / 30
    assert (mass[:10].sum() / mass[10:].sum()).item() == pytest.approx(ratio.item())
    mean = (10 * runs[0].log_evidence.exp() + 30 * runs[1].log_evidence.exp()) / 40
    assert whole.log_evidence.exp().item() == pytest.approx(mean.item())
    assert whole.tokens.shape == whole.log_target.shape == (40, 3)
    assert whole.evidences.tolist() == []  # no move was made by all of them


def test_pooled_runs_tell_the_error_of_their_mean(make_joint):
    """Equal runs have the standard error of a mean; runs that agree have none, whatever their sizes."""
    model = guided(Table(make_joint(9, (2, 3, 2, 3))), 0, 2.5)
    runs = [sample_joint(model, 10, 3, generator=torch.Generator().manual_seed(s)) for s in range(3)]
    ratios = torch.stack([run.log_evidence for run in runs]).exp().numpy()
    error = pooled(runs).std_error.item()
    assert error == pytest.approx(ratios.std(ddof=1) / math.sqrt(3) / ratios.mean())
    more = sample_joint(model, 30, 3)._replace(log_evidence=runs[0].log_evidence)
    assert pooled([runs[0], more]).std_error.item() == pytest.approx(0, abs=1e-9)


def test_pooled_runs_of_different_lengths_keep_their_own_columns(make_joint):
    model = Ending(guided(Table(make_joint(9, (2, 3, 3, 3))), 0, 2.5), (2,), 3)
    short, long = (sample_joint(model, 2, 3, draw=lambda law, v=v: torch.full((len(law),), v)) for v in (2, 0))
    whole = pooled([short, long])
    assert whole.tokens.tolist() == [[2, 2, 2]] * 2 + [[0, 0, 0]] * 2
    for name in ("log_target", "log_normalizer"):
        rows = getattr(whole, name)
        assert torch.equal(rows[:2, :1], getattr(short, name))
        assert (rows[:2, 1:] == 0).all()
        assert torch.equal(rows[2:], getattr(long, name))


def test_drawing_from_particles_is_by_weight():
    weights = torch.tensor([0.1, 0.0, 0.9])
    nothing = torch.empty(0)
    result = JointSample(torch.arange(3)[:, None], weights.log(), *[nothing] * 7)
    drawn = result.draw(2000, torch.Generator().manual_seed(0)).flatten().bincount(minlength=3) / 2000
    assert drawn[1] == 0
    assert drawn[2].item() == pytest.approx(0.9, abs=0.04)  # six standard errors


def test_convergence_is_a_mean_over_targets():
    def of(log_evidence, ess, ancestors):
        return SimpleNamespace(
            log_evidence=torch.tensor(log_evidence), ess=torch.tensor(ess), ancestors=ancestors, log_weights=torch.zeros(8)
        )

    runs = [of(0.0, [8.0, 4.0, 8.0], 8), of(math.log(3), [8.0, 8.0], 4), of(1.0, [2.0], 2), of(1.0, [8.0], 2)]
    assert convergence(runs, 2)._asdict() == pytest.approx(
        {
            "ess_share": (4 + 8 + 2 + 8) / 32,
            "ancestors": 16 / 32,
            "log_z": (math.log(2) + 1) / 2,
            "log_z_apart": math.log(3) / 2,
            "left": 0.5 / 2,  # 1 and 3 have the mean 2 and the variance 2
        }
    )


def test_one_each_draws_by_weight_from_every_population():
    log_weights = torch.tensor([0.0, math.log(3), -math.inf])
    tokens = [torch.tensor([[g, 0], [g, 1], [g, 2]]) for g in range(4000)]
    runs = [SimpleNamespace(log_weights=log_weights, x=x) for x in tokens]
    drawn = one_each(runs, torch.Generator().manual_seed(0))
    assert drawn[:, 0].tolist() == list(range(4000))
    assert drawn[:, 1].max() == 1
    assert abs(float(drawn[:, 1].double().mean()) - 0.75) < 5 * (0.75 * 0.25 / 4000) ** 0.5
