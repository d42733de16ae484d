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
# # Guiding text
#
# How much of a prompt comes back in the text a language model writes after it, and what does more of it cost?
#
# Set ARGUIDE_MODEL to a local folder or the name of a causal language model on the hub to run this on it. Without, a tiny model
# is trained here, on stories of pets in a made-up language of thirty words.

# %%
import os

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import arguide
from analysis.figures.text import against_scale
from analysis.learning import toy_stories
from analysis.metrics import text_statistics
from analysis.metrics.text_statistics import words_of

torch.set_num_threads(1)
sns.set_theme(style="ticks", rc={"figure.dpi": 72})

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
# model, 1 the model itself, above 1 the prompt has more influence. The unconditional branch reads what the prompt would be without
# its news: the beginning of a text, or, as the tiny model was trained with, a pet that is not named. All three texts below use
# the same random numbers.

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
# At every scale we sample 64 texts. How often does a text mention what the prompt speaks of, and how many different words does
# it have? The perplexity of a token is under the model with the prompt, and under the one without.

# %%
scales = (0, 0.5, 1, 1.5, 2, 3, 5)
frame, texts = text_statistics.measure(model, tokenizer, prompt, words, negative=nothing, scales=scales, samples=64, tokens=40)
mentions = {s: pd.Series([sum(word in map(str.lower, words) for word in words_of(text)) for text in texts[s]]) for s in scales}
different = {s: pd.Series([len(set(words_of(text))) for text in texts[s]]) for s in scales}
counted = pd.DataFrame(
    [
        {"scale": s, "quantity": quantity, "value": counts[s].mean(), "std_error": counts[s].std() / 8}
        for quantity, counts in {"mentions": mentions, "different words": different}.items()
        for s in scales
    ]
)
frame = pd.concat([counted, frame[frame["quantity"].str.startswith("perplexity")]])
frame.pivot(index="scale", columns="quantity", values="value").round(2)

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 3.3), layout="constrained")
against_scale(frame, axes[0], ["mentions"], title="Fidelity rises", y="mentions in a text")
against_scale(frame, axes[1], ["different words"], title="Diversity falls", y="different words in a text")
perplexities = ["perplexity, conditional", "perplexity, unconditional"]
against_scale(frame, axes[2], perplexities, title="Texts become predictable", y="perplexity of a token")
sns.despine(figure)

# %% [markdown]
# More of the prompt comes back as γ grows, and less of anything else: a text of the tiny model mentions a dog 0.8 times at γ = 0,
# 3.5 times at γ = 1 and 5.3 times at γ = 5, with two different words fewer. Texts become predictable for both models, because
# one pet in all sentences is easy to predict. On a model of real text, stories260K, the perplexity under the conditional model
# falls until γ = 2 or so, while under the unconditional model it rises throughout: it finds guided texts unlikely.
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
# one should want is the next question; `arguide.score` gives the log-probability of any text under both, the joint one without
# log Z, which is the same for all texts. A text that begins with a cat has a large log Z_t later, because the next pet is less
# certain there. The sequential law divides by it: it gives the second text 4.6 nats less than the first, the joint law 3.7.

# %%
real = "Max loved to play. He ran.", "The cat loved to play. He ran."
for text in real if name else ("The dog ran . The dog sang .", "The cat ran . The dog sang ."):
    ids = torch.tensor([tokenizer(" " + text, add_special_tokens=False)["input_ids"]])
    scores = arguide.score(view, inputs.input_ids, ids, guidance_scale=2.0, negative_prompt_ids=nothing)
    print(f"{text:30} log q(x) = {scores.sequential.item():.2f} (sequential), log p̃(x) = {scores.joint.item():.2f} (joint)")
