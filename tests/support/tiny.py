"""Folders of tiny models and tokenizers of bytes, as a command finds them."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<s>", "</s>")
CONTEXT = 48


def tokenizer(*, bos=True, ends=True, reverse=False):
    """Bytes as tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), reverse=reverse)
    raw = Tokenizer(models.BPE({token: i for i, token in enumerate((*SPECIAL, *alphabet))}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    if bos:
        raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"pad_token": "<pad>"} | ({"eos_token": "</s>"} if ends else {}) | ({"bos_token": "<s>"} if bos else {})
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)


def save(folder, seed=0, chat=None, *, ends=True, context=CONTEXT, **options):
    """Save a tiny model with its tokenizer."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    names = {"bos_token_id": 1, "eos_token_id": 2 if ends else None, "pad_token_id": 0}
    config = LlamaConfig(vocab_size=259, max_position_embeddings=context, initializer_range=0.4, **sizes, **names)
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = names["eos_token_id"]
    model.save_pretrained(folder)
    words = tokenizer(ends=ends, **options)
    words.chat_template = chat
    words.save_pretrained(folder)
    return folder
