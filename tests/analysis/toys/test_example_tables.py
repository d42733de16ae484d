"""Example distributions have the shapes that their descriptions promise."""

import math

import pytest
import torch

from analysis.toys import example_tables


def test_without_coupling_every_token_has_the_same_law():
    table = example_tables.coupled_table(3, coupling=0.0)
    for label in (0, 1):
        p = table.log_probs(label).exp()
        for t in range(3):
            torch.testing.assert_close(p.sum(tuple(s for s in range(3) if s != t)), p.sum((1, 2)))
        torch.testing.assert_close(p, torch.einsum("i,j,k->ijk", *[p.sum((1, 2))] * 3))


def test_the_gaussians_of_a_branch_fill_it_without_overlap():
    """One standard deviation along the branch is half the way from a Gaussian to the next."""
    toy = example_tables.trees(depth=1, pieces=3)
    gaps = toy.means[1:3] - toy.means[:2]
    along = toy.variances[:2, -1] - 2e-4
    torch.testing.assert_close(along.sqrt(), gaps.norm(dim=1) / 2)


def test_a_branch_splits_to_both_sides():
    toy = example_tables.trees(depth=2, pieces=1)
    trunk, *branches = toy.means[:3]
    start = torch.tensor([-0.8, -0.3], dtype=torch.float64)
    turns = [
        math.atan2(*reversed((branch - trunk).tolist())) - math.atan2(*reversed((trunk - start).tolist()))
        for branch in branches
    ]
    assert min(turns) < 0 < max(turns)


@pytest.mark.parametrize("length", [2, 3])
def test_the_two_laws_agree_on_special_tables(length):
    for name, table in example_tables.special_tables(length).items():
        joint, sequential = table.joint_guided(1, 3.0).probabilities, table.sequential_guided(1, 3.0).probabilities
        assert joint.shape == (3,) * length
        torch.testing.assert_close(joint, sequential, msg=name)
        assert abs(joint - table.log_probs(1).exp()).max() > 0.03
