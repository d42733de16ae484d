"""Models that accelerate has placed, and quantised weights: guidance is that of the reference on the same model."""

import copy

import pytest
import torch
from reference import padded, reference
from small import build
from torch import nn
from transformers import LlamaForCausalLM

from arguide import guided

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14]]
NEGATIVES = [[20, 21], [22, 23, 24, 25, 26, 27]]
SCALE = 1.7


def check(model):
    """Compare guided tokens with those of the reference, which calls the model itself, without a cache."""
    prompt, negative = padded(PROMPTS), padded(NEGATIVES)
    given = {"max_new_tokens": 8, "do_sample": False, "output_scores": True, "return_dict_in_generate": True}
    expected = reference(model, PROMPTS, NEGATIVES, SCALE).generate(**prompt.given, use_cache=False, **given)
    ours = guided(model).generate(
        **prompt.given,
        guidance_scale=SCALE,
        negative_prompt_ids=negative.ids,
        negative_prompt_attention_mask=negative.mask,
        **given,
    )
    assert ours.sequences.tolist() == expected.sequences.tolist()
    return torch.stack(ours.scores)


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_a_model_that_accelerate_places_is_guided(tmp_path, place):
    """On the cpu, and with a layer that hooks load from the disk for every pass."""
    pytest.importorskip("accelerate")
    model = build("llama")
    plain = check(model)
    model.save_pretrained(tmp_path / "model")
    places = {"": "cpu"}
    if place == "disk":
        places = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
        places |= {f"model.layers.{i}": "disk" if i == 0 else "cpu" for i in range(model.config.num_hidden_layers)}
    placed = LlamaForCausalLM.from_pretrained(tmp_path / "model", device_map=places, offload_folder=tmp_path / "disk")
    if place == "disk":
        assert next(placed.model.layers[0].parameters()).device.type == "meta"  # its weights are not in memory
    torch.testing.assert_close(check(placed), plain, atol=1e-5, rtol=0)


class Int8(nn.Linear):
    """A product with weights of eight bits, as packages for quantisation make them: a subclass with a forward of its own."""

    def __init__(self, full):
        super().__init__(full.in_features, full.out_features, bias=False)
        self.step = full.weight.abs().amax(1, keepdim=True) / 127
        self.weight = nn.Parameter((full.weight / self.step).round().to(torch.int8), requires_grad=False)

    def forward(self, x):
        return x @ (self.weight * self.step).T


@pytest.mark.parametrize("kind", ["int8", "bfloat16"])
def test_small_weights_are_guided(kind):
    model = build("llama")
    plain = check(copy.deepcopy(model))
    if kind == "bfloat16":
        model = model.to(torch.bfloat16)
    for layer in model.model.layers if kind == "int8" else ():
        for name in ("gate_proj", "up_proj", "down_proj"):
            setattr(layer.mlp, name, Int8(getattr(layer.mlp, name)))
    assert not torch.allclose(check(model), plain, atol=1e-4)  # the small weights were used
