"""Whether a verdict is earned: runs that agree are consistent, and each kind of disagreement is named."""

import math

import pytest
import torch

from analysis import Table
from arguide import LogLinear, diagnose, only, over_runs, repeat_joint, sample_joint, sample_metropolis
from arguide.smc.samples import effective_sample_size


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


def test_runs_and_chains_that_agree_are_consistent(runs, chains):
    diagnosis = diagnose(runs, chains)
    assert diagnosis.consistent
    assert diagnosis.agreement < 4
    assert diagnosis.verdict.startswith("no disagreement found: log Ẑ agrees")
    assert "particles and chains agree" in diagnosis.verdict
    ratios = torch.stack([run.log_evidence for run in runs]).exp()
    assert diagnosis.log_evidence == pytest.approx(ratios.mean().log().item())
    assert diagnosis.std_error == pytest.approx((ratios.std() / ratios.mean() / 2).item())
    assert diagnose(runs).agreement is None


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("differs by", {"log_evidence": torch.tensor(5.0, dtype=torch.float64)}),
        ("effective sample size falls to 1.5%", {"ess": torch.tensor([200.0, 3.0, 200.0])}),
        ("only 1 distinct ancestor remains", {"ancestors": 1}),
    ],
)
def test_each_way_to_be_wrong_is_named(runs, words, wrong):
    diagnosis = diagnose([*runs[:3], runs[3]._replace(**wrong)])
    assert not diagnosis.consistent
    assert diagnosis.verdict.startswith("not converged")
    assert words in diagnosis.verdict


def test_a_sample_of_another_law_differs_from_the_chains(model, runs, chains):
    """Particles whose weights were dropped agree among themselves, and not with the chains."""
    even = torch.full((20_000,), -1.0).log_softmax(0)
    drawn = [sample_joint(model, 20_000, 3, threshold=0.0, generator=torch.Generator().manual_seed(s)) for s in range(4)]
    flat = [run._replace(log_weights=even.double(), log_evidence=runs[0].log_evidence) for run in drawn]
    many = sample_metropolis(model, 20_000, 3, 20, generator=torch.Generator().manual_seed(1))
    assert diagnose(drawn, many).consistent
    assert "particles and chains differ" in diagnose(flat, many).verdict


def test_either_mean_alone_can_disagree(runs, chains):
    for name in ("log_target", "log_normalizer"):
        assert "particles and chains differ" in diagnose(runs, chains._replace(**{name: getattr(chains, name) + 1})).verdict


def test_the_probe_that_finds_most_counts(runs):
    log_evidence = diagnose(runs).log_evidence
    probes = [runs[0]._replace(log_evidence=torch.tensor(log_evidence + more).double()) for more in (2.0, -1.0)]
    diagnosis = diagnose(runs, probes=probes)
    assert diagnosis.missed == pytest.approx(2.0)
    assert not diagnosis.consistent
    assert "log Ẑ is 2 nats larger with another proposal" in diagnosis.verdict


def test_probes_that_find_what_the_runs_find_count_as_further_runs(runs):
    """The two groups have one mean and one spread, so pooling them halves the variance of log Ẑ."""
    ratios = torch.stack([run.log_evidence for run in runs]).exp()
    diagnosis = diagnose(runs, probes=runs)
    assert diagnosis.log_evidence == pytest.approx(float(ratios.mean().log()))
    assert diagnosis.std_error == pytest.approx(float(ratios.std() / ratios.mean()) / math.sqrt(2 * len(runs)))


def test_chains_start_where_the_particles_stand_by_weight(model):
    """Without a step they are those texts: the joint law's, not the proposal's."""
    options = {"steps": 0, "chains": 4000, "probes": 0, "threshold": 0.0, "generator": torch.Generator().manual_seed(0)}
    assert repeat_joint(model, 4000, 3, repeats=2, **options)[1].agreement < 4


def test_without_anything_to_weigh_there_is_nothing_to_doubt(make_joint):
    table = Table(make_joint(9, (2, 3, 2, 3)))
    plain = LogLinear.guidance(table.autoregressive(0), table.autoregressive(), 1.0)
    diagnosis = diagnose([sample_joint(plain, 50, 3) for _ in range(2)], sample_metropolis(plain, 50, 3, 2))
    assert diagnosis.spread < 1e-12
    assert diagnosis.agreement < 4


def test_a_run_alone_says_nothing(runs):
    with pytest.raises(ValueError, match="two at least"):
        diagnose(runs[:1])


def test_nan_is_no_agreement(runs):
    diagnosis = diagnose([*runs[:3], runs[3]._replace(log_evidence=torch.tensor(float("nan"), dtype=torch.float64))])
    assert not diagnosis.consistent
    assert effective_sample_size(torch.zeros(3)).item() == pytest.approx(3)


def test_runs_count_by_their_evidence():
    mean, error = over_runs([1.0, 5.0], [0.0, math.log(3)])
    assert mean == pytest.approx(4.0)
    assert error == pytest.approx(math.sqrt((9 / 16 + 9 / 16) * 2))
    assert over_runs([1.0, 5.0], [2.0, 2.0]) == pytest.approx((3.0, 2.0))
    assert over_runs([1.0, 9.0, 5.0], [0.0, -math.inf, math.log(3)])[0] == pytest.approx(4.0)  # a run without any weight


def test_what_every_run_misses_is_found_by_a_probe():
    """After a word of 1e-7 log Z_t is 18: runs agree to the last digit, chains with them, and log Ẑ is wrong by 2.4 nats."""
    rare, far = 1e-7, 1e-4
    first, even = torch.tensor([0.6, 0.4 - rare, rare]).double(), torch.tensor([[0.5, 0.5]] * 2).double()
    cond, uncond = (
        Table((first[:, None] * torch.cat([even, torch.tensor([[1 - e, e]]).double()]))[None].numpy()).autoregressive()
        for e in (far, 1 - far)
    )
    law = LogLinear.guidance(cond, uncond, 3.0)
    generator = torch.Generator().manual_seed(0)
    runs, diagnosis = repeat_joint(law, 200, 2, generator=generator)
    assert diagnosis.spread > 0.5
    assert max(abs(float(run.log_evidence)) for run in runs) < 1e-3
    assert diagnosis.missed > 1
    assert diagnosis.log_evidence > 0.7  # the probes count
    assert diagnosis.log_evidence == pytest.approx(math.log(11), abs=1.0)
    assert not diagnosis.consistent
    assert "with another proposal" in diagnosis.verdict
    assert diagnose(runs).consistent
    mild = LogLinear.guidance(cond, uncond, 0.5)
    assert repeat_joint(mild, 200, 2, generator=generator)[1].consistent


def test_a_transform_holds_for_runs_chains_and_probes(model):
    generator = torch.Generator().manual_seed(0)
    runs, diagnosis = repeat_joint(model, 400, 3, transform=only([0, 1]), steps=20, chains=400, generator=generator)
    assert all((run.tokens < 2).all() for run in runs)
    assert diagnosis.consistent
    assert diagnosis.missed < 0.2
