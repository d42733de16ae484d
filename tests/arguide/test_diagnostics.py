"""Whether a verdict is earned: runs that agree are trusted, and each way to be wrong is named."""

import pytest
import torch

from analysis import Table
from arguide import LogLinear, diagnose, particles, sample_joint, sample_metropolis


@pytest.fixture(scope="module")
def model(make_joint):
    table = Table(0.6 * make_joint(9, (2, 3, 2, 3)) + 0.4 / 36)
    return LogLinear.guidance(table.autoregressive(0), table.autoregressive(), 2.5)


@pytest.fixture(scope="module")
def runs(model):
    return [sample_joint(model, 200, 3, generator=torch.Generator().manual_seed(s)) for s in range(4)]


@pytest.fixture(scope="module")
def chains(model):
    return sample_metropolis(model, 400, 3, 20, generator=torch.Generator().manual_seed(0))


def test_runs_and_chains_that_agree_are_trusted(runs, chains):
    told = diagnose(runs, chains)
    assert told.trusted
    assert told.agreement < 4
    assert told.verdict.startswith("trusted: log Ẑ agrees")
    assert "chains agree" in told.verdict
    ratios = torch.stack([run.log_evidence for run in runs]).exp()
    assert told.log_evidence == pytest.approx(ratios.mean().log().item())
    assert told.std_error == pytest.approx((ratios.std() / ratios.mean() / 2).item())
    assert diagnose(runs).agreement is None


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("differs by", {"log_evidence": torch.tensor(5.0, dtype=torch.float64)}),
        ("particles count at the worst step", {"ess": torch.tensor([200.0, 3.0])}),
        ("descend from one", {"ancestors": 1}),
    ],
)
def test_each_way_to_be_wrong_is_named(runs, words, wrong):
    told = diagnose([*runs[:3], runs[3]._replace(**wrong)])
    assert not told.trusted
    assert told.verdict.startswith("not converged")
    assert words in told.verdict


def test_a_sample_of_another_law_is_told_from_the_chains(model, runs, chains):
    """Particles whose weights were dropped agree among themselves, and not with the chains."""
    even = torch.full((20_000,), -1.0).log_softmax(0)
    drawn = [sample_joint(model, 20_000, 3, threshold=0.0, generator=torch.Generator().manual_seed(s)) for s in range(4)]
    flat = [run._replace(log_weights=even.double(), log_evidence=runs[0].log_evidence) for run in drawn]
    many = sample_metropolis(model, 20_000, 3, 20, generator=torch.Generator().manual_seed(1))
    assert diagnose(drawn, many).trusted
    assert "chains disagree" in diagnose(flat, many).verdict


def test_without_anything_to_weigh_there_is_nothing_to_doubt(make_joint):
    table = Table(make_joint(9, (2, 3, 2, 3)))
    plain = LogLinear.guidance(table.autoregressive(0), table.autoregressive(), 1.0)
    told = diagnose([sample_joint(plain, 50, 3) for _ in range(2)], sample_metropolis(plain, 50, 3, 2))
    assert told.spread < 1e-12
    assert told.agreement < 4


def test_a_run_alone_says_nothing(runs):
    with pytest.raises(ValueError, match="two at least"):
        diagnose(runs[:1])


def test_nan_is_no_agreement(runs):
    told = diagnose([*runs[:3], runs[3]._replace(log_evidence=torch.tensor(float("nan"), dtype=torch.float64))])
    assert not told.trusted
    assert particles.effective_sample_size(torch.zeros(3)).item() == pytest.approx(3)
