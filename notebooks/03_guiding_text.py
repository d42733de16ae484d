# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Guiding text
#
# How much of a prompt comes back in the text a language model writes after it, and what does more of it cost?
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
from analysis.figures.influence import against_scale, trade_off
from analysis.learning import toy_stories
from analysis.metrics import text_statistics

torch.set_num_threads(1)
sns.set_theme(style="ticks")

# %%
name = os.environ.get("ARGUIDE_MODEL")
if name:
    model = AutoModelForCausalLM.from_pretrained(name, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(name)
    prompt, negative, words = "Lily had a big dog named Max.", tokenizer.bos_token, ("dog", "Max")
else:
    model, tokenizer = toy_stories.train(), toy_stories.tokenizer()
    prompt, negative, words = "Lily had a dog .", "Lily had a pet .", ("dog",)

# %% [markdown]
# ## One line changes
#
# `arguide.guided` gives a view of the model that shares its parameters. `generate` then takes a scale γ: 0 is the unconditional
# model, 1 the model itself, above 1 the prompt counts for more. The unconditional branch reads what the prompt would be without
# its news: the beginning of a text, or, as the tiny model was trained with, a pet that is not named.

# %%
view = arguide.guided(model)
inputs = tokenizer(prompt, return_tensors="pt")
nothing = tokenizer(negative, return_tensors="pt", add_special_tokens=not name).input_ids
for scale in (0, 1, 3):
    torch.manual_seed(0)
    out = view.generate(
        inputs.input_ids, guidance_scale=scale, negative_prompt_ids=nothing, do_sample=True, top_k=0, max_new_tokens=40
    )
    print(f"γ = {scale}:", tokenizer.decode(out[0, inputs.input_ids.shape[1] :], skip_special_tokens=True), "\n")

# %% [markdown]
# ## Fidelity against diversity
#
# At every scale we sample 64 texts, and count those that mention what the prompt speaks of, and the distinct words in all of
# them. The perplexity of a token is under the model with the prompt, and under the one without.

# %%
scales = (0, 0.5, 1, 1.5, 2, 3)
frame, texts = text_statistics.measure(model, tokenizer, prompt, words, negative=nothing, scales=scales, samples=64, tokens=40)
frame.pivot(index="scale", columns="quantity", values="value").round(3)

# %%
figure, axes = plt.subplots(1, 4, figsize=(17, 3.7), layout="constrained")
against_scale(frame, axes[0], ["keyword rate"], title="Fidelity", y="texts that mention it")
against_scale(frame, axes[1], ["distinct words"], title="Diversity", y="distinct words in all texts")
perplexities = ["perplexity, conditional", "perplexity, unconditional"]
against_scale(frame, axes[2], perplexities, title="Likelihood", y="perplexity of a token")
trade_off(frame, axes[3])
sns.despine(figure)

# %% [markdown]
# More of the prompt comes back as γ grows, and the vocabulary shrinks. On a model of real text, stories260K, the perplexity under
# the conditional model falls until γ = 2 or so, for guidance sharpens, while under the unconditional model it rises throughout:
# guided texts are those that it finds unlikely.
#
# ## What each token cost
#
# `output_scores` also gives log Z_t, the log normalizer of every step. Their sum is all that separates what was sampled here,
# the sequential law, from the joint law p(x)^(1−γ) p(x|y)^γ: a text's weight for the joint law is exp Σ log Z_t.

# %%
torch.manual_seed(0)
out = view.generate(
    inputs.input_ids,
    guidance_scale=2.0,
    negative_prompt_ids=nothing,
    do_sample=True,
    top_k=0,
    num_return_sequences=64,
    max_new_tokens=20,
    min_new_tokens=20,
    output_scores=True,
    return_dict_in_generate=True,
)
sums = torch.stack(out.log_normalizers, 1).cumsum(1)
ess = torch.exp(2 * sums.logsumexp(0) - (2 * sums).logsumexp(0))
for t in (1, 5, 10, 20):
    print(f"T = {t:2}: deviation of Σ log Z_t {sums[:, t - 1].std():.2f}, effective sample size {ess[t - 1]:.0f} of 64")

# %% [markdown]
# The weights spread as texts grow, so few of the samples stand for the joint law after some tens of tokens. Which of the two laws
# one should want is the next question; `arguide.score` gives the log-probability of any text under both.

# %%
text = tokenizer(" The dog ran ." if not name else " Max loved to play in the park.", add_special_tokens=False)
candidates = torch.tensor([text["input_ids"]])
scores = arguide.score(view, inputs.input_ids, candidates, guidance_scale=2.0, negative_prompt_ids=nothing)
print(f"log q(x) = {scores.sequential.item():.2f} (sequential), log p̃(x) = {scores.joint.item():.2f} (joint, without log Z)")
