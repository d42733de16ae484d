"""Small random models of every architecture, with weights large enough for errors to show."""

import inspect
import string

import torch
import transformers
from reference import BOS, EOS, PAD, WORDS
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.12,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
}
SMALL_GPT2 = SIZES | {"n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(**{k: v for k, v in SMALL_GPT2.items() if k not in NOT_GPT2}),
    "llama": lambda: transformers.LlamaConfig(**SIZES),
    "mistral": lambda: transformers.MistralConfig(**SIZES, sliding_window=5),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SIZES),
    "opt": lambda: transformers.OPTConfig(**{**SIZES, "ffn_dim": 48, "init_std": 0.12, "word_embed_proj_dim": 32}),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES),
    "gemma": lambda: transformers.GemmaConfig(**SIZES, head_dim=8),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **SIZES, head_dim=8, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
    ),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, head_dim=8),
    "phi3": lambda: transformers.Phi3Config(**SIZES),
    "bloom": lambda: transformers.BloomConfig(
        vocab_size=WORDS,
        hidden_size=32,
        n_layer=2,
        n_head=4,
        initializer_range=0.12,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    ),
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=2,
        state_size=8,
        initializer_range=0.5,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    ),
}
REFUSED = {
    "recurrent_gemma": {**SIZES, "num_key_value_heads": 1, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 4},
    "rwkv": {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
    "xlnet": {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
}
NOT_GPT2 = {
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
}
RELEASE = tuple(int(part) for part in transformers.__version__.split(".")[:2])
# Drafts of older releases pass the cap by some tokens, with guidance and without.
OVERSHOOTS = "tokens_budget" not in inspect.getsource(transformers.GenerationMixin._assisted_decoding)
ATTENTION = [name for name in CONFIGS if name != "mamba"]


def build(name, seed=0, **changes):
    torch.manual_seed(seed)
    config = CONFIGS[name]()
    for key, value in changes.items():
        setattr(config, key, value)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # biases and norms start at constants, which would hide errors of position
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def letters():
    """A tokenizer of one token a letter."""
    alphabet = string.ascii_letters + string.digits[:8]
    raw = Tokenizer(WordLevel({letter: i for i, letter in enumerate(alphabet)}, unk_token="a"))
    raw.pre_tokenizer, raw.decoder = Split("", "isolated"), Fuse()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="a", bos_token="b", eos_token="c")


def within(tokens, expected):
    """Return what drafts have written, [1, L], up to the length of what is expected where the release does not stop there."""
    return tokens[:, : expected.shape[1]] if OVERSHOOTS else tokens
