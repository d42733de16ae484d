"""What guided generation is held against: one row at a time, the whole text anew at every token, no cache, no padding.

`Reference` is a model that `generate` accepts, so that beams, processors and stopping are transformers' own; its logits come
from the plain formula.
"""

import functools
import math
from types import SimpleNamespace

import torch
from transformers import GenerationMixin, LlamaConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

WORDS = 60
PAD, BOS, EOS = 0, 1, 2


class Reference(PreTrainedModel, GenerationMixin):
    """γ log p_c + (1 − γ) log p_u and its like, by hand.

    rows: what to do with a prompt, by its padded tokens: a list of (tokens that stand before the text, weight, model).
    """

    config_class = LlamaConfig
    main_input_name = "input_ids"

    def __init__(self, rows, generation_config):
        super().__init__(LlamaConfig(vocab_size=WORDS, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.rows, self.width = rows, len(next(iter(rows)))
        self.generation_config = generation_config

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(self, input_ids, attention_mask=None, **kwargs):
        logits = [self.logits(tuple(row[: self.width]), row[self.width :]) for row in input_ids.tolist()]
        return CausalLMOutputWithPast(logits=torch.stack(logits)[:, None])

    def logits(self, prompt, text):
        total = 0
        for before, weight, model in self.rows[prompt]:
            weight = weight(len(text)) if callable(weight) else weight
            total = total + weight * plain(model, before, text)
        return total


class Coherent(Reference):
    """γ log p_c + (1 − γ) log Σ_k ρ_k p_k by hand, with Bayes' rule applied anew to the whole text.

    rows: what to do with a prompt, by its padded tokens: γ, and a list of (tokens before the text, π, model), the prompt first.
    """

    def logits(self, prompt, text):
        return coherent(*self.rows[prompt], text)[0]


def coherent(scale, branches, text):
    """Return the guided logits after a text, and log ρ before each of its tokens and after it."""
    log_posteriors = [[math.log(prior) if prior else -math.inf for _, prior, _ in branches]]
    for t in range(len(text) + 1):
        laws = [plain(model, before, text[:t]).double() for before, _, model in branches]
        mixture = sum(math.exp(rho) * each.exp() for rho, each in zip(log_posteriors[-1], laws, strict=True)).log()
        if t < len(text):
            joint = [rho + float(each[text[t]]) for rho, each in zip(log_posteriors[-1], laws, strict=True)]
            total = math.log(sum(map(math.exp, joint)))
            log_posteriors.append([each - total for each in joint])
    gamma = scale(len(text)) if callable(scale) else scale
    return (gamma * laws[0] + (1 - gamma) * mixture).float(), log_posteriors


def plain(model, before, text):
    """Log-probs of the token after `text`, given what stands before it; a model whose weights stay reads a text once."""
    return read(model, tuple(before), tuple(text))


@functools.lru_cache(2**15)
@torch.no_grad()
def read(model, before, text):
    """Log-probs after a text, by one unpadded pass over everything."""
    if model.config.is_encoder_decoder:
        given = {"input_ids": torch.tensor([before]), "decoder_input_ids": torch.tensor([[PAD, *text]])}
    else:
        given = {"input_ids": torch.tensor([[*before, *text]])}
    return model(**given, use_cache=False).logits[0, -1].float().log_softmax(-1)


def padded(prompts):
    """Left-pad lists of tokens; return input_ids and attention_mask as a tokenizer does."""
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return SimpleNamespace(ids=ids, mask=mask, given={"input_ids": ids, "attention_mask": mask})


def reference(model, prompts, negatives, scale):
    """The reference for prompts and negatives, lists of tokens; negatives None for each prompt's last token."""
    ids = padded(prompts).ids.tolist()
    rows = {}
    for i, prompt in enumerate(prompts):
        gamma = scale[i] if isinstance(scale, list) else scale
        negative = prompt[-1:] if negatives is None else negatives[i]
        rest = (lambda t: 1 - gamma(t)) if callable(gamma) else 1 - gamma  # noqa: B023
        rows[tuple(ids[i])] = [(prompt, gamma, model), (negative, rest, model)]
    return Reference(rows, model.generation_config)
