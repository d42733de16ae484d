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
# # Coherent pairs: the joint law at every scale
#
# Guidance needs two laws, p(x|y) and p(x). If p(x) is the mixture Σ_k π_k p(x|k), Bayes' rule bounds their ratio:
# p(x|y)/p(x) = p(y|x)/π_y ≤ 1/π_y. Then the joint law p(x) (p(x|y)/p(x))^γ can be drawn exactly, whatever γ. Two models that
# are learned apart, or one whose labels are dropped, satisfy no such bound. This notebook goes from one table to texts.

# %%
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

import arguide
from analysis.learning import learners
from analysis.learning.datasets import Source, read_texts
from analysis.study import coherent, samplers
from analysis.text import loading
from analysis.toys.example_tables import coupled_table

loading.silence()
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## One table
#
# A table p(y, x_1, …, x_6) is coherent by construction. `arguide.Mixture` is p(x) as an autoregressive model; its state holds the
# posterior of the labels, so the conditional model is read once. Guided by it, sampling is sequential guidance as ever.

# %%
table = coupled_table(6)
mixture = arguide.Mixture([table.autoregressive(k) for k in range(len(table.labels))], table.log_prior())
sequential = mixture.guidance(1, 5.0)
print("Bayes' bound on log p(x|y)/p(x):", round(-float(table.log_prior()[1]), 3), "nats")
print("its largest value in the table: ", round(float((table.log_probs(1) - table.log_probs()).max()), 3), "nats")

# %% [markdown]
# The joint law by acceptance: draw x ~ p(x|y), keep it with probability p(y|x)^(γ−1). The share A that is kept gives log Z, and it
# bounds how far the joint law is from the conditional one: KL ≤ −log A.

# %%
rows = []
for scale in (1.5, 3.0, 5.0, 10.0):
    found = arguide.sample_accepted(mixture, 1, scale, 4000, 6, generator=generator)
    log_p, log_z = table.log_joint({1: scale, None: 1 - scale})
    log_q, _ = table.log_sequential({1: scale, None: 1 - scale})
    rows.append(
        {
            "γ": scale,
            "A": float(found.log_acceptance.exp()),
            "log Ẑ": float(found.log_evidence),
            "error": float(found.std_error),
            "log Z": float(log_z),
            "KL(joint‖p(x|y))": float((log_p.exp() * (log_p - table.log_probs(1))).nansum()),
            "≤ −log A": float(found.most_kl),
            "KL(sequential‖joint)": float((log_q.exp() * (log_q - log_p)).nansum()),
        }
    )
pd.DataFrame(rows).set_index("γ").round(3)

# %% [markdown]
# The estimates agree with the exact values. The joint law stays near p(x|y), within the bound; the sequential one does not.
#
# ## An incoherent pair
#
# Now give every sequence of p(x) an error of its own, as a learned unconditional model has, and leave p(x|y) as it is. The ratio
# passes the bound, and at large γ the joint law follows the errors: it keeps about half as many sequences, and less likely ones.

# %%
noise = torch.rand(table.shape, generator=generator, dtype=torch.float64) ** 8
learned = table.log_probs().exp() * (0.2 + noise / noise.mean())
learned = (learned / learned.sum()).log()
cond = table.log_probs(1)
rows = []
for scale in (1.0, 1.5, 3.0, 5.0, 10.0):
    row = {"γ": scale}
    for name, uncond in (("coherent", table.log_probs()), ("learned", learned)):
        law = (scale * cond + (1 - scale) * uncond).flatten().log_softmax(0).exp()
        row |= {f"{name}: sequences with 95 % of the mass": int((law.sort(descending=True).values.cumsum(0) < 0.95).sum()) + 1}
        row |= {f"{name}: mean log p(x|y)": float((law * cond.flatten()).sum())}
    rows.append(row)
print("largest log p(x|y)/p(x) of the learned pair:", round(float((cond - learned).max()), 2), "nats")
pd.DataFrame(rows).set_index("γ").round(2)

# %% [markdown]
# ## Names
#
# The same with a language model that learns the names of several languages with dropped labels. Set `ARGUIDE_NAMES` to a file with
# the columns `text` and `label` to use real ones; otherwise three made-up languages are spelled here.

# %%
SYLLABLES = {
    "north": ["ska", "rik", "vin", "hol", "gard", "sen"],
    "south": ["la", "ri", "no", "ve", "ska", "ta"],
    "east": ["chi", "no", "ha", "ta", "mu", "ri"],
}


def made_up(folder):
    rng = np.random.default_rng(0)
    rows = [
        {"text": "".join(rng.choice(parts, rng.integers(2, 4))).capitalize(), "label": label}
        for label, parts in SYLLABLES.items()
        for _ in range(800)
    ]
    path = Path(folder) / "names.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


with TemporaryDirectory() as folder:
    data = read_texts(Source(os.environ.get("ARGUIDE_NAMES") or made_up(folder), "text", most=8))
recipe, size = learners.usual("lm", data)
learner = learners.new("lm", data, size, seed=0)
learners.train(learner, data, recipe, seed=0)
learner.model.eval()
found = coherent.incoherent_texts(learner, 64, generator)
print(f"log p(x|y)/p(x) of the learned pair: up to {found.largest:.1f} nats, Bayes allows {found.bound:.1f}")
print(f"above the bound: {found.beyond.value:.0%} of the conditional draws")
print(f"KL(mixture ‖ learned p(x)) = {found.mixture_learned}, KL(learned p(x) ‖ mixture) = {found.learned_mixture}")

# %% [markdown]
# ## Texts side by side
#
# The plain law guides by the learned p(x), the coherent one by the mixture; both token by token. The joint law is exact. Plain
# guidance leaves the language as γ grows, and writes names that stop early or hold a capital letter inside; coherent guidance
# sharpens; the joint law hardly moves from p(x|y), so that most of its names are the same at every γ.

# %%
SCALES = (1.0, 3.0, 10.0)
drawn = {}
for scale in SCALES:
    drawn |= {(name, scale): each for name, each in samplers.autoregressive(learner, scale, 6, generator)}
    drawn |= {(name, scale): each for name, each in coherent.autoregressive(learner, scale, 6, generator)}
for scale, name, each in coherent.accepted(learner, SCALES, 6, generator):
    drawn[name, scale] = each

families = (samplers.SEQUENTIAL, coherent.COHERENT, coherent.ACCEPTED)
pd.DataFrame(
    {
        (f"γ = {scale:g}", family): [", ".join(drawn[family, scale].rows[6 * k : 6 * k + 4]) for k in range(len(data.names))]
        for scale in SCALES
        for family in families
    },
    index=data.names,
).T

# %% [markdown]
# ## How far apart are the laws?
#
# KL(sequential ‖ joint) = log Z − E[Σ log Z_t], with log Z from acceptance: exact up to the errors of two means. It grows with γ, by
# nats, though the joint law stays within −log A of p(x|y). `arguide study` asks what that is worth at equal accuracy.

# %%
rows = []
for scale in SCALES[1:]:
    (_, plain), *_ = coherent.autoregressive(learner, scale, 200, generator)
    ((_, _, joint),) = coherent.accepted(learner, [scale], 200, generator)
    rows.append(
        {
            "γ": scale,
            "A": joint.diagnostics["acceptance"],
            "KL(joint‖p(x|y)) ≤": joint.diagnostics["kl bound"],
            "KL(sequential‖joint)": joint.diagnostics["log_z"] - plain.diagnostics["log_path"],
        }
    )
pd.DataFrame(rows).set_index("γ").round(2)
