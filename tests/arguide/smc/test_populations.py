"""Statistics of log-weights: means over groups."""

import math

import pytest
import torch

from arguide.smc.populations import weight_spread


def test_groups_count_alike_in_every_statistic():
    even, uneven = torch.zeros(4), torch.tensor([0.0, 0.0, 2 * math.log(2), 2 * math.log(2)])
    found = weight_spread(torch.stack([even, uneven]).double())
    assert found.ess_share == pytest.approx((1 + 100 / 34 / 4) / 2)
    assert found.log_path == pytest.approx(math.log(2) / 2)
    assert found.log_path_spread == pytest.approx(2 * math.log(2) / math.sqrt(3) / 2)
