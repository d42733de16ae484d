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
