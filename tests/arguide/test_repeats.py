"""Repeats of the joint law: what a probe draws evenly, texts of one token, and the seed."""

import pytest
import torch

from analysis import Table
from arguide import LogLinear, repeat_joint
from arguide.repeats import PROBES, probing

SURE = torch.tensor([1.0, 1e-300], dtype=torch.float64).log()


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model(make_joint):
    def of(*shape):
        table = Table(make_joint(4, (2, *shape)))
        return LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 2.0), table.joint_guided(1, 2.0)

    return of


@pytest.mark.parametrize("length", [1, 2, 5, 40])
def test_half_of_the_probes_draw_one_token_per_text_evenly_and_half_a_tenth(length):
    """Of two tokens, one of which never comes, it comes in half of the even draws; a text of one token keeps a half."""
    even = [2 * float(probing(length, number).transform(SURE)[1].exp()) for number in range(PROBES)]
    assert even[1::2] == pytest.approx([0.1] * 3)
    assert [share * length for share in even[::2]] == pytest.approx([0.5 if length == 1 else 1.0] * 3)


def test_texts_of_one_token_are_probed_too(model):
    law, exact = model(3)
    runs, diagnosis = repeat_joint(law, 500, 1, generator=seeded(0))
    assert len(runs) == 4
    assert diagnosis.consistent
    assert diagnosis.log_evidence == pytest.approx(float(exact.log_normalizer), abs=0.05)


def test_a_seed_fixes_the_runs_the_probes_and_the_chains(model):
    law, _ = model(3, 2, 3)
    (runs, diagnosis), (again, same), (others, _) = (repeat_joint(law, 50, 3, generator=seeded(seed)) for seed in (5, 5, 6))
    assert diagnosis == same
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(runs, again, strict=True))
    assert not all(torch.equal(a.tokens, b.tokens) for a, b in zip(runs, others, strict=True))
    assert not torch.equal(runs[0].tokens, runs[1].tokens)


@pytest.mark.parametrize(("block", "expected"), [(None, 12 + 12 + 6 + 6 + 4 + 3), (4, 6 * 3)])
def test_later_probes_may_resample_after_more_tokens_unless_a_block_is_given(model, block, expected):
    law, _ = model(*[2] * 12)

    def decisions(probes):
        """Return how often runs and probes of 12 tokens look at their weights, and at the twist, before they move."""
        twists = []

        def twist(state):
            twists.append(torch.zeros(len(state.x)))
            return twists[-1]

        repeat_joint(law, 8, 12, repeats=2, probes=probes, chains=2, steps=0, block=block, twist=twist, generator=seeded(0))
        return len(twists)

    assert decisions(PROBES) - decisions(0) == expected
