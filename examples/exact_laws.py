"""Guide each factor, or guide the whole text: two different laws, and what lies between them.

The first word says nothing about the label, but after "A" the second one does. Replace the table with your own joint law.
"""

import torch

import analysis
import arguide

joint = torch.tensor([[[0.225, 0.025], [0.125, 0.125]], [[0.025, 0.225], [0.125, 0.125]]], dtype=torch.float64)
table = analysis.Table(joint)  # p(y, x_1, x_2)
label, scale = 1, 3.0

exact, log_z = table.joint_guided(label, scale)  # p(x)^(1−γ) p(x|y)^γ / Z
sequential, _ = table.sequential_guided(label, scale)  # the same of every factor, each divided by its own Z_t
_, _, log_path, _ = analysis.scale_factors(table, label, scale)  # Σ_t log Z_t

print("p(x|y)     ", table.log_probs(label).exp().flatten().numpy().round(3))
print("sequential ", sequential.flatten().numpy().round(3))
print("joint      ", exact.flatten().numpy().round(3))
print("Π Z_t / Z  ", (log_path - log_z).exp().flatten().numpy().round(3), "= joint / sequential")

pair = arguide.LogLinear.guidance(table.autoregressive(label), table.autoregressive(), scale)
drawn = arguide.sample_joint(pair, 20_000, 2, generator=torch.Generator().manual_seed(0))
estimate, half = float(drawn.log_evidence), 1.96 * float(drawn.std_error)
print(f"log Z: {float(log_z):.4f} exactly, {estimate:.4f} ± {half:.4f} by weighted samples")
