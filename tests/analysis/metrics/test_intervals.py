"""The interval of a measured gap: Student's t of R − 1 degrees of freedom for R runs, n − 1 for n texts, joined by Welch."""

import numpy as np
import pytest
import torch
from scipy.stats import t as student

import arguide
from analysis import Table
from analysis.metrics import gap_estimates


@pytest.mark.parametrize(("samples", "repeats"), [(3, 6), (40, 2)])
def test_the_gap_has_welchs_interval_of_its_runs_and_texts(make_joint, samples, repeats):
    table = Table(make_joint(4, (2, 2, 3)))
    cond, uncond = table.autoregressive(0), table.autoregressive()
    plan = gap_estimates.Plan(samples, 400, repeats)
    law = arguide.LogLinear.guidance(cond, uncond, 3.0)
    found = gap_estimates.measure(law, uncond, 2, plan, generator=torch.Generator().manual_seed(0))
    last = found.lengths.iloc[-1]
    of_runs, of_texts = last["log_z_std_error"] ** 2, last["log_path_std_error"] ** 2
    freedom = (of_runs + of_texts) ** 2 / (of_runs**2 / (repeats - 1) + of_texts**2 / (samples - 1))
    half = student.ppf(0.975, freedom) * np.sqrt(of_runs + of_texts)
    assert last["kl"] == pytest.approx(last["log_z"] - last["log_path"])
    assert [last["kl_low"], last["kl_high"]] == pytest.approx([last["kl"] - half, last["kl"] + half])
