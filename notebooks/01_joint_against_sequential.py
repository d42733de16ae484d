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
sns.set_theme(style="ticks", rc={"figure.dpi": 72})

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
# They differ: the sequential law gives the word 11 more, and 00 and 01 less. The factor between them is Π Z_t / Z and nothing
# else: log s − log s′ = Σ_t log Z_t − log Z. It depends on the first bit alone, since Z_1 and Z do not depend on any.

# %%
factors = analysis.scale_factors(table, 1, 3.0)
print("log s − log s′    ", (factors.log_joint - factors.log_sequential).flatten().numpy().round(6))
print("Σ log Z_t − log Z ", (factors.log_path - factors.log_normalizer).flatten().numpy().round(6))

# %% [markdown]
# ## Longer sequences
#
# The first chapter of the report, drawn here. Above: the two factors of every sequence, which would be on the diagonal if the
# laws agreed, and the distance between the laws. Below: where the gap grows, and three kinds of tables that have none.

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
exact = torch.multinomial(log_p.exp().flatten(), 20_000, replacement=True, generator=generator)
laws = {
    "sequential": distances.empirical((plain.tokens * place).sum(1), 3**6),
    "weighted": distances.empirical((weighted.tokens * place).sum(1), 3**6, weighted.log_weights),
    "exact draws": distances.empirical(exact, 3**6),
}
for name, law in laws.items():
    print(f"TV to the joint law, {name:11}: {distances.tv(law, log_p.flatten()):.3f}")
print(f"log Ẑ = {weighted.log_evidence:.3f}, exact log Z = {log_z:.3f}")

# %% [markdown]
# Weighted and resampled on the way, the samples are about twice as far from the joint law as the same number of exact draws.
# Without weights almost half of the mass is elsewhere.

# %% [markdown]
# ## The other wing
#
# A table whose cells are points, here in R^3, has exact diffusion scores. Diffusion guides one noise level at a time, so it is
# sequential too; its local normalizers have a closed form, and the same driver corrects it.

# %%
table = coupled_table(3, size=2)
points = table.mixture()
score = diffusion.LogLinear.guidance(diffusion.conditioned(points.score, 1), diffusion.conditioned(points.score), 3.0)
grid = diffusion.geometric(120, 0.08, 30.0)
log_p, log_z = table.log_joint({None: -2.0, 1: 3.0})

ode = diffusion.sample(score, (10_000, 3), grid, generator=generator).x
corrected = diffusion.sample_joint(score, (10_000, 3), grid, generator=generator)
exact = torch.multinomial(log_p.exp().flatten(), 10_000, replacement=True, generator=generator)
laws = {
    "ODE": distances.empirical(points.nearest(ode), 8),
    "Feynman–Kac": distances.empirical(points.nearest(corrected.x), 8, corrected.log_weights),
    "exact draws": distances.empirical(exact, 8),
}
for name, law in laws.items():
    print(f"TV to the joint law, {name:11}: {distances.tv(law, log_p.flatten()):.3f}")
print(f"log Ẑ = {corrected.log_evidence:.3f}, exact log Z = {log_z:.3f}")
