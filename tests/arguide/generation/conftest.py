import pytest
import torch
import transformers
from reference import PAD, WORDS
from small import build


@pytest.fixture(scope="session")
def models():
    built = {}

    def get(name, **changes):
        key = (name, *sorted(changes.items()))
        if key not in built:
            built[key] = build(name, **changes)
        return built[key]

    return get


@pytest.fixture(scope="session")
def t5():
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=WORDS,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        initializer_factor=2.0,
        decoder_start_token_id=PAD,
    )
    return transformers.T5ForConditionalGeneration(config).eval()


@pytest.fixture(scope="session")
def bart():
    """An encoder-decoder with absolute positions."""
    torch.manual_seed(0)
    config = transformers.BartConfig(
        vocab_size=WORDS,
        d_model=32,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        max_position_embeddings=64,
        init_std=0.12,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=PAD,
        forced_eos_token_id=None,
    )
    return transformers.BartForConditionalGeneration(config).eval()
