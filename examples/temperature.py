"""Lower the temperature of each factor, or that of the whole text."""

import torch

import analysis

joint = torch.tensor([[0.40, 0.00], [0.12, 0.12], [0.18, 0.18]], dtype=torch.float64)[None]  # p(x_1, x_2), one label
table = analysis.Table(joint)

print(" τ     whole text, p(x)^{1/τ} / Z        each factor")
for temperature in (1.0, 0.5, 0.2):
    exact = table.joint_guided(0, 1.0, temperature=temperature).probabilities
    factors = table.sequential_guided(0, 1.0, temperature=temperature).probabilities
    print(f"{temperature:4}", *(f"   {law.flatten().numpy().round(2)}" for law in (exact, factors)))
