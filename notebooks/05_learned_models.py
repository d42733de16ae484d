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
# # Both wings on real data
#
# The argument is exact on toys. Here both wings learn the same 1,797 handwritten digits: a model of pixels, one after another, and
# a denoiser. Each learns the conditional and the unconditional law in one, since a share of its labels is dropped. Then both are
# guided, and a classifier that has seen neither says what came out.
#
# This is a short version, a minute or two on one core; `arguide study --data digits` is the long one, with intervals over seeds.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from analysis.figures.style import curve, look
from analysis.learning import learners
from analysis.learning.datasets import DIGITS, Source, read_images
from analysis.learning.evaluator import Evaluator
from analysis.study import coherent, samplers
from analysis.text import loading

loading.silence()
torch.set_num_threads(1)
sns.set_theme(style="ticks", rc={"figure.dpi": 72})

data = read_images(Source(DIGITS, "image"))
evaluator = Evaluator(data)
f"{len(data.labels)} digits to learn from, {len(data.held_labels)} held out; the classifier is right on {evaluator.accuracy:.1%} of those"

# %% [markdown]
# ## One recipe
#
# `arguide.training.fit` trains whatever has a loss; 15 % of the labels are dropped. `arguide train` does the same from the command
# line, with checkpoints.


# %%
def trained(kind, share):
    recipe, size = learners.usual(kind, data)
    recipe = replace(recipe, steps=round(share * recipe.steps))
    learner = learners.new(kind, data, size, seed=0)
    return learner, learners.train(learner, data, recipe)


(pixels, pixel_losses), (denoiser, denoiser_losses) = trained("pixels", 0.5), trained("denoiser", 0.5)
pixels.model.eval()

fig, axes = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained")
for ax, losses, name in zip(axes, (pixel_losses, denoiser_losses), ("nats per pixel", "weighted error"), strict=True):
    smooth = pd.Series(losses).rolling(20, center=True, min_periods=1).mean()
    ax.plot(losses, color="#cccccc", lw=0.6)
    ax.plot(smooth, color="#0072b2")
    ax.set(xlabel="step", ylabel=name)
axes[0].set_title("pixels, one after another", fontsize=10)
axes[1].set_title("denoiser", fontsize=10)
sns.despine(fig)

# %% [markdown]
# ## Guided samples against γ
#
# One sample per digit, the first that came. γ = 0 knows nothing of the digit that was asked for; at γ = 1 most are right, and
# diffusion's digits become clearer up to γ = 3.

# %%
SCALES, EACH = (0.0, 1.0, 1.5, 3.0), 12
generator = torch.Generator().manual_seed(0)
drawn = {
    (family, scale): result
    for scale in SCALES
    for family, result in (
        *samplers.autoregressive(pixels, scale, EACH, generator),
        *coherent.autoregressive(pixels, scale, EACH, generator),
        *samplers.denoising(denoiser, scale, EACH, generator),
    )
}


def grid(family):
    framed = [[np.pad(-image[0].numpy(), 1, constant_values=0.8) for image in drawn[family, s].rows[::EACH]] for s in SCALES]
    return np.vstack([np.hstack(row) for row in framed])


shown = (samplers.SEQUENTIAL, coherent.COHERENT, samplers.ODE, samplers.CORRECTED)
fig, axes = plt.subplots(2, 2, figsize=(9, 4.4), layout="constrained")
for ax, family in zip(axes.flat, shown, strict=True):
    ax.imshow(grid(family), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    ax.set_title(family, fontsize=10)
    ax.set_yticks([10 * i + 4.5 for i in range(len(SCALES))], [f"γ = {scale:g}" for scale in SCALES])
    ax.set_xticks([10 * i + 4.5 for i in range(10)], range(10))
    ax.tick_params(length=0)

# %% [markdown]
# ## Adherence against diversity
#
# How many samples are read as the digit that was asked for, and how far apart samples of one digit are, in units of real ones.

# %%
measured = pd.DataFrame(
    [
        {"family": family, "γ": scale, "accuracy": found["accuracy"], "spread": found["spread"]}
        for (family, scale), result in drawn.items()
        for found in [evaluator.measures(result.rows, result.labels)]
    ]
)
fig, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for family, rows in measured.groupby("family", sort=False):
    for ax, quantity in zip(axes, ("accuracy", "spread"), strict=True):
        colour, marker = look(family)
        curve(ax, rows["γ"], rows[quantity], colour=colour, marker=marker, name=family)
        ax.set(xlabel="scale γ", ylabel=quantity)
axes[0].set_title("Adherence rises", fontsize=10)
axes[1].set_title("Diversity falls", fontsize=10)
axes[1].legend(fontsize=8, frameon=False, bbox_to_anchor=(1, 1))
sns.despine(fig)
measured.pivot(index="family", columns="γ", values="accuracy").round(2)

# %% [markdown]
# Accuracy rises with γ and the spread within a digit falls, in both wings. The laws of one wing differ less from each other than
# the wings do, except coherent guidance, which at γ = 3 keeps the most diversity and has the lowest accuracy.
#
# ## What lies between the two laws
#
# Σ log Z along a sample's own path is all that separates sequential from joint guidance, in both wings. Where it is the same for
# every sample the two laws are one; its spread says how unequal the weights of the joint law are. Two independent runs of particles
# that disagree on log Z by more than half a nat have not found the joint law: what they draw then is not to be trusted. Here that
# is diffusion from γ = 1.5 on, after so short a training and with few particles; the study says where more of them help.

# %%
rows = [{"family": name, "γ": scale} | each.diagnostics for (name, scale), each in drawn.items() if each.diagnostics]
pd.DataFrame(rows).pivot_table(index="γ", columns="family", values=["log_path_spread", "log_z_apart"]).round(2)
