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
# # The joint law of text
#
# Guiding every token is not guiding the text. What a language model writes under guidance follows Π_t p̃(x_t | x_<t) / Z_t(x_<t);
# the law that guidance is defined by, p(x)^(1−γ) p(x|y)^γ / Z, lacks the local normalizers Z_t. Weighted by Π_t Z_t, guided texts
# stand for that joint law, and resampling on the way keeps enough of them.
#
# Set ARGUIDE_MODEL to a local folder or the name of a causal language model on the hub to run this on it. Without, a tiny model
# is trained here, on stories of pets in a made-up language of thirty words.

# %%
import os

import matplotlib.pyplot as plt
import seaborn as sns
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import arguide
from analysis.learning import toy_stories

torch.set_num_threads(1)
sns.set_theme(style="ticks", rc={"figure.dpi": 72})

# %%
name = os.environ.get("ARGUIDE_MODEL")
if name:
    model = AutoModelForCausalLM.from_pretrained(name, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(name)
    prompt, negative = "Lily had a big dog named Max.", tokenizer.bos_token
else:
    model, tokenizer = toy_stories.train(), toy_stories.tokenizer()
    prompt, negative = "Lily had a dog .", "Lily had a pet ."
ids = tokenizer(prompt, return_tensors="pt").input_ids
rest = tokenizer(negative, return_tensors="pt", add_special_tokens=not name).input_ids
generator = torch.Generator().manual_seed(0)
LENGTH = 16


def law(scale, **more):
    return arguide.continuation(model, ids, guidance_scale=scale, negative_prompt_ids=rest, max_new_tokens=LENGTH, **more)


# %% [markdown]
# ## Particles
#
# `arguide.continuation` is the law of what follows a prompt; `arguide.sample_joint` draws weighted texts from its joint law.
# Weights never tell what was missed, so `arguide.repeat_joint` repeats a run, compares it with chains that start at its texts and
# move by another route, Metropolis–Hastings on their endings, and probes with wider proposals for what all of them miss. The
# verdict is "no disagreement found" or names the disagreements; it proves nothing, and its rate of errors is in benchmarks/README.md.
# At γ = 3 a run of 96 particles is not enough, and the verdict says so.

# %%
for scale in (1.5, 2.0, 3.0):
    runs, diagnosis = arguide.repeat_joint(law(scale), 96, LENGTH, generator=generator)
    pool = arguide.pooled(runs)
    print(f"γ = {scale}: log Z = {diagnosis.log_evidence:.2f} ± {2 * diagnosis.std_error:.2f}; {diagnosis.verdict}")
    print("  ", tokenizer.decode(pool.draw(1, generator)[0], skip_special_tokens=True), "\n")

# %% [markdown]
# ## How far apart the two laws are
#
# KL(sequential ‖ joint) = log Z − E[Σ_t log Z_t] over sequential samples. Both terms are at hand for every length. Tokens below
# 3 % of the likeliest one's probability are cut off here; the last chapter says why.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
steps = range(1, LENGTH + 1)
for scale, colour in ((1.25, "#56B4E9"), (1.5, "#E69F00"), (2.0, "#0072B2")):
    plain = arguide.continuation(model, ids, guidance_scale=scale, negative_prompt_ids=rest, plausibility=0.03)
    runs = [arguide.sample_joint(plain, 512, LENGTH, generator=generator) for _ in range(4)]
    log_z = torch.stack([run.evidences for run in runs]).double()
    drawn = arguide.sample(plain, 512, LENGTH, generator=generator).log_normalizer.double().cumsum(1)
    gap = log_z.exp().mean(0).log() - drawn.mean(0)
    error = 2 * (log_z.std(0) ** 2 / 4 + drawn.std(0) ** 2 / 512).sqrt()
    left.plot(steps, gap, color=colour, label=f"γ = {scale:g}")
    left.fill_between(steps, gap - error, gap + error, color=colour, alpha=0.15, lw=0)
    right.plot(steps, (2 * drawn.logsumexp(0) - (2 * drawn).logsumexp(0)).exp() / 512, color=colour)
    print(f"γ = {scale:<4g} {gap[-1]:.2f} ± {error[-1]:.2f} nats after {LENGTH} tokens")
left.set(title="The gap grows with the text", xlabel="tokens", ylabel="KL(sequential ‖ joint), nats")
right.set(title="Effective samples fall", xlabel="tokens", ylabel="ESS / n", ylim=(0, 1.05))
left.legend(frameon=False)
sns.despine(figure)

# %% [markdown]
# A sentence of this language has five words, and the second is the pet: after every pet the gap has grown.
#
# ## Power sampling
#
# Temperature is the same story with one model: p(x)^β over texts is not p(x_t|x_<t)^β at every token. Of all laws of texts, p^β / Z
# has the largest β E[log p] + entropy, which is log Z; the law token by token misses it by KL(sequential ‖ joint).

# %%
beta = 2.0
power = arguide.continuation(model, ids, temperature=1 / beta, max_new_tokens=LENGTH)
runs, diagnosis = arguide.repeat_joint(power, 256, LENGTH, generator=generator)
low = arguide.sample(power, 512, LENGTH, generator=generator)
drawn = {"p(x)^β / Z": arguide.pooled(runs).draw(512, generator), "token by token": low.tokens}
mean = {kind: arguide.score(model, ids.expand(512, -1), texts).joint.mean() for kind, texts in drawn.items()}
sequential = (low.log_normalizer - low.log_target).sum(1).mean()
entropy = {"p(x)^β / Z": diagnosis.log_evidence - beta * mean["p(x)^β / Z"], "token by token": sequential}
for kind, texts in drawn.items():
    sums = f"E log p(x) = {mean[kind]:.2f}, entropy {entropy[kind]:.2f}, sum {beta * mean[kind] + entropy[kind]:.2f} nats"
    print(f"{kind:15} {sums}:", tokenizer.decode(texts[0], skip_special_tokens=True))
print(diagnosis.verdict)

# %% [markdown]
# The texts of the joint law are a little less likely, and there are many more of them: their entropy is 0.8 nats larger.
#
# ## A safety
#
# As γ grows the joint law moves to texts that the unconditional model finds all but impossible: there p(x)^(1−γ) has no bound.
# Then no number of particles that one has time for finds them all, and log Z differs from run to run. Sequential guidance never
# leaves what the conditional model writes, for every step is normalised. A plausibility cut-off, tokens of p_c(v) ≥ α max p_c
# alone, takes these texts out of the joint law too, and the runs agree.

# %%
for alpha in (0.0, 0.1):
    runs, diagnosis = arguide.repeat_joint(law(3.0, plausibility=alpha), 96, LENGTH, generator=generator)
    print(f"α = {alpha:g}:", diagnosis.verdict)
    print("  ", tokenizer.decode(arguide.pooled(runs).draw(1, generator)[0], skip_special_tokens=True))
