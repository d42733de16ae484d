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
# # Joint against sequential guidance
#
# Guidance sharpens p(x | y) to p(x)^(1−γ) p(x | y)^γ. An autoregressive model can only do that to one factor p(x_t | x_<t, y)
# at a time. Is that the same? On a distribution small enough to write down, we can see.

# %%
import seaborn as sns
import torch
from matplotlib import pyplot as plt

import analysis
import arguide
import diffusion
from analysis.experiments import scale_factors
from analysis.experiments.base import Settings
from analysis.figures.style import draw
from analysis.metrics import distances
from analysis.toys.example_tables import coupled_table

torch.set_num_threads(1)
sns.set_theme(style="ticks")

# %% [markdown]
# ## Two bits
#
# Class 1 gives the words 00, 01, 10, 11 the probabilities .1 .2 .3 .4, class 0 the same in reverse, and both are equally likely.

# %%
joint = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64).reshape(2, 2, 2) / 2
table = analysis.Table(joint)
p, log_z = table.joint_guided(1, 3.0)
q, log_z_t = table.sequential_guided(1, 3.0)
print("joint     ", p.flatten().numpy().round(6))
print("sequential", q.flatten().numpy().round(6))

# %% [markdown]
# They differ, by the factor Π Z_t / Z and nothing else: log s − log s′ = Σ_t log Z_t − log Z.

# %%
factors = analysis.scale_factors(table, 1, 3.0)
print("log s − log s′    ", (factors.log_joint - factors.log_sequential).flatten().numpy().round(6))
print("Σ log Z_t − log Z ", (factors.log_path - factors.log_normalizer).flatten().numpy().round(6))

# %% [markdown]
# ## Longer sequences
#
# The first chapter of the report, drawn here: the two factors of every sequence, and the distance between the laws.

# %%
chapter = scale_factors.EXPERIMENT
frame = chapter.run(Settings(quick=True), lambda items: items)
for plot in chapter.plots:
    draw(plot, frame)
    plt.show()
print(chapter.verdict(frame).verdict)

# %% [markdown]
# ## The correction
#
# A sequentially guided sample whose weight is Π Z_t is a properly weighted sample of the joint law. The sampler below is the one
# that language models use; here it steps on a table of 3^6 cells, so that we can check.

# %%
table = coupled_table(6)
model = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 5.0)
generator = torch.Generator().manual_seed(0)
log_p, log_z = table.log_joint({None: -4.0, 1: 5.0})
place = 3 ** torch.arange(5, -1, -1)

plain = arguide.sample(model, 20_000, 6, generator=generator)
weighted = arguide.sample_joint(model, 20_000, 6, generator=generator)
cells = (plain.tokens * place).sum(1), (weighted.tokens * place).sum(1)
print(f"TV to the joint law, sequential: {distances.tv(distances.empirical(cells[0], 3**6), log_p.flatten()):.3f}")
print(
    f"TV to the joint law, weighted:   {distances.tv(distances.empirical(cells[1], 3**6, weighted.log_weights), log_p.flatten()):.3f}"
)
print(f"log Ẑ = {weighted.log_evidence:.3f}, exact log Z = {log_z:.3f}")

# %% [markdown]
# ## The other wing
#
# The same table, its cells placed as points in R^6, has exact diffusion scores. Diffusion guides one noise level at a time, so it
# is sequential too; its local normalizers have a closed form, and the same driver corrects it.

# %%
table = coupled_table(3, size=2)
points = table.mixture()
score = diffusion.LogLinear.guidance(diffusion.conditioned(points.score, 1), diffusion.conditioned(points.score), 3.0)
grid = diffusion.geometric(250, 0.08, 30.0)
log_p, log_z = table.log_joint({None: -2.0, 1: 3.0})

ode = diffusion.sample(score, (4000, 3), grid, generator=generator).x
corrected = diffusion.sample_joint(score, (4000, 3), grid, generator=generator)
law = distances.empirical(points.nearest(corrected.x), 8, corrected.log_weights)
print(f"TV to the joint law, ODE:          {distances.tv(distances.empirical(points.nearest(ode), 8), log_p.flatten()):.3f}")
print(f"TV to the joint law, Feynman–Kac:  {distances.tv(law, log_p.flatten()):.3f}")
print(f"log Ẑ = {corrected.log_evidence:.3f}, exact log Z = {log_z:.3f}")
