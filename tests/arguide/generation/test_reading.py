"""What branches have read: rows take it along, and masks grow with the text."""

import pytest
import torch
from reference import padded
from transformers import DynamicCache, EncoderDecoderCache

from arguide import guided
from arguide.text.prompts import Prompt, first_tokens
from arguide.text.reading import ModelCache, Reading

PROMPT, NEGATIVE = [5, 6, 7, 8, 5, 6, 7, 8], [20, 21, 22]
GIVEN = {"guidance_scale": 1.7, "negative_prompt_ids": torch.tensor([NEGATIVE]), "max_new_tokens": 9}
PROMPTS, TOKENS = [PROMPT, [12, 13], [14, 15, 16]], torch.tensor([[30], [31], [32]])


def test_masks_grow_with_the_text(models, monkeypatch):
    """Beyond the room that they have at first."""
    prompts = padded([PROMPT, [12, 13]])
    want = guided(models("llama")).generate(**prompts.given, **GIVEN)
    monkeypatch.setattr("arguide.text.reading.ROOM", 2)
    assert guided(models("llama")).generate(**prompts.given, **GIVEN).tolist() == want.tolist()


@pytest.mark.parametrize("prompt", [PROMPT, [12, 13]])
def test_a_static_cache_has_room_for_the_longest_prompt_and_the_text(models, monkeypatch, prompt):
    rooms, of = [], Reading.of
    monkeypatch.setattr(Reading, "of", lambda *given, length, **more: rooms.append(length) or of(*given, length=length, **more))
    guided(models("llama")).generate(torch.tensor([prompt]), **GIVEN, cache_implementation="static")
    assert rooms == [max(len(prompt), len(NEGATIVE)) + GIVEN["max_new_tokens"] - 1]


@pytest.mark.parametrize("name", ["gpt2", "llama", "mamba", "t5", "bart"])
def test_rows_take_along_what_they_have_read(models, request, name):
    """Rows of unequal prompts reordered half way continue as if they had been in that order from the start."""
    encodes = name in ("t5", "bart")
    model = request.getfixturevalue(name) if encodes else models(name)
    prompts = Prompt.of(padded(PROMPTS).ids, padded(PROMPTS).mask, right=encodes)

    def continued(order, late):
        cache = DynamicCache(config=model.config)
        cache = EncoderDecoderCache(cache, DynamicCache()) if encodes else cache
        reading = Reading([ModelCache(model, [0], cache)])
        reading.read([prompts if late else prompts.select(order)], first_tokens(model, 3))
        if late:
            reading.reorder_cache(order)
        reading.extend(TOKENS)
        return reading.extend(TOKENS + 3)[0]

    order = torch.tensor([2, 0, 0])
    torch.testing.assert_close(continued(order, True), continued(order, False), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(continued(order, False), continued(torch.arange(3), True), atol=1e-3)
