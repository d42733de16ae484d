"""A score that is not finite is reported at the step where it was, the last one included."""

import pytest
import torch

from diffusion import sample
from diffusion.sampling import euler

GRID = torch.tensor([4.0, 2.0, 1.0, 0.0], dtype=torch.float64)


@pytest.mark.parametrize("level", GRID[:-1].tolist())
def test_the_step_that_spoils_the_samples_is_named(level):
    def score(x, sigma):
        return torch.full_like(x, torch.nan) if sigma == level else -x / (1 + sigma**2)

    with pytest.raises(ValueError, match=f"in the step from sigma {level:g};"):
        sample(score, (3, 1), GRID, step=euler, generator=torch.Generator().manual_seed(0))
