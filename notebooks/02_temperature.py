# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Temperature: the exercise left to the reader
#
# Lowering the temperature of every next-token law is not lowering the temperature of the sequence's law. The ratio of the two is
# Π Z_t / Z again, with Z_t = Σ p(x_t | x_<t)^(1/τ): temperature is guidance with one model.

# %%
import seaborn as sns
import torch
from matplotlib import pyplot as plt

import arguide
from analysis.experiments import temperature
from analysis.experiments.base import Settings
from analysis.figures.style import draw
from analysis.metrics import distances
from analysis.toys import GaussianSequence, gaussian
from analysis.toys import temperature as weights
from analysis.toys.example_tables import coupled_table

torch.set_num_threads(1)
sns.set_theme(style="ticks", rc={"figure.dpi": 72})

# %%
table = coupled_table(5)
for tau in (0.3, 0.5, 1.0, 2.0):
    log_p, _ = table.log_joint(weights(tau))
    log_q, _ = table.log_sequential(weights(tau))
    entropies = f"entropy {distances.entropy(log_p):.3f} joint, {distances.entropy(log_q):.3f} sequential"
    print(f"τ = {tau}: KL(sequential ‖ joint) {distances.kl(log_q, log_p):.4f} nats, {entropies}")

# %% [markdown]
# At τ = 1 the laws agree, and below it the joint one has the lower entropy. The source notes that the two agree when the x_t are independent. They also agree for every Gaussian sequence, dependent as it
# is, because there Z_t does not depend on the prefix.

# %%
law = GaussianSequence(5).law()
cold = gaussian.tilt([law], [2.0]).law, gaussian.sequential_tilt([law], [2.0]).law
print(f"W2 between the two laws at τ = ½: {float(gaussian.w2(*cold)):.0e}, which is rounding")

# %% [markdown]
# ## Power sampling
#
# The joint law p(x)^β can be sampled: draw at temperature 1/β, weigh by Π Z_t.

# %%
model = arguide.LogLinear.temperature(table.autoregressive(), 0.5)
drawn = arguide.sample_joint(model, 20_000, 5, generator=torch.Generator().manual_seed(0))
log_p, log_z = table.log_joint(weights(0.5))
cells = (drawn.tokens * 3 ** torch.arange(4, -1, -1)).sum(1)
found = distances.empirical(cells, 3**5, drawn.log_weights)
print(f"TV to p²: {distances.tv(found, log_p.flatten()):.3f}; log Ẑ = {drawn.log_evidence:.3f}, exact {log_z:.3f}")

# %% [markdown]
# ## In diffusion
#
# Multiplying the score by β is not sampling p^β: the ODE then shrinks N(0, 1) to a point, whatever β > 1. The second chapter of
# the report compares all ways in both wings, by the β of equal likelihood that each of them reaches.

# %%
chapter = temperature.EXPERIMENT
frame = chapter.run(Settings(quick=True), lambda items: items)
for plot in chapter.plots:
    draw(plot, frame)
    plt.show()
print(chapter.verdict(frame).verdict)
