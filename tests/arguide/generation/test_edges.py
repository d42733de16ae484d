"""Combinations at the edge of what can be guided: right, or refused with a reason."""

import pytest
import torch
from reference import padded
from small import build
from transformers import AutoConfig, AutoModelForCausalLM

import arguide
from arguide import guided
from arguide.text.seam import CACHE

PROMPT, NEGATIVE = [5, 6, 7, 8, 5, 6, 7, 8], [20, 21, 22]
GIVEN = {"guidance_scale": 1.7, "negative_prompt_ids": torch.tensor([NEGATIVE]), "max_new_tokens": 9}


@pytest.fixture(scope="module")
def lfm2():
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "block_ff_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model("lfm2", **sizes, num_key_value_heads=2, layer_types=["conv", "full_attention"])
    return AutoModelForCausalLM.from_config(config).eval()


def test_drafts_are_refused_where_a_recurrent_state_cannot_be_taken_back(models, lfm2):
    draft = GIVEN | {"prompt_lookup_num_tokens": 3, "pad_token_id": 0}
    with pytest.raises(ValueError, match="drafts cannot be removed"):
        guided(models("llama")).generate(torch.tensor([PROMPT]), **draft, negative_model=models("mamba"))
    with pytest.raises(ValueError, match="drafts cannot be removed"):
        guided(lfm2).generate(torch.tensor([PROMPT]), **draft)


@pytest.mark.parametrize("name", ["mamba", "llama", "gemma3"])
def test_chunks_change_nothing(models, name):
    view, prompts = guided(models(name)), padded([PROMPT, [12, 13]])
    want = view.generate(**prompts.given, **GIVEN)
    assert view.generate(**prompts.given, **GIVEN, prefill_chunk_size=2).tolist() == want.tolist()


def test_an_encoder_is_not_skipped(t5):
    embeds = t5.get_input_embeddings()(torch.tensor([PROMPT])).detach()
    with pytest.raises(ValueError, match="input_ids must be given"):
        guided(t5).generate(inputs_embeds=embeds, **GIVEN)


def test_what_is_encoded_needs_a_negative_of_its_own(t5):
    encoded = t5.get_encoder()(torch.tensor([PROMPT]), return_dict=True)
    with pytest.raises(ValueError, match="pass negative_prompt_ids"):
        guided(t5).generate(encoder_outputs=encoded, guidance_scale=1.7, max_new_tokens=3)
    want = guided(t5).generate(torch.tensor([PROMPT]), **GIVEN)
    assert guided(t5).generate(encoder_outputs=encoded, **GIVEN).tolist() == want.tolist()


@pytest.mark.parametrize("mode", [{}, {"use_cache": False}])
def test_a_forward_wrapped_on_the_instance_is_still_guided(mode):
    """As hooks for several devices wrap it, and users who compile it."""
    model, calls = build("llama"), []
    want = guided(build("llama")).generate(torch.tensor([PROMPT]), **GIVEN)
    inner = model.forward
    model.forward = lambda *args, **kwargs: calls.append(1) or inner(*args, **kwargs)
    view = guided(model)
    assert view.generate(torch.tensor([PROMPT]), **GIVEN, **mode).tolist() == want.tolist()
    assert calls
    calls.clear()
    view(torch.tensor([PROMPT]))
    assert calls == [1]


def test_a_model_that_was_compiled_in_place_is_read_compiled():
    """As `model.compile()` does it."""
    model, calls = build("llama"), []
    want = guided(build("llama")).generate(torch.tensor([PROMPT]), guidance_scale=1.7, max_new_tokens=4)
    model._compiled_call_impl = lambda *args, **kwargs: calls.append(1) or model._call_impl(*args, **kwargs)
    ours = guided(model).generate(torch.tensor([PROMPT]), guidance_scale=1.7, max_new_tokens=4)
    assert ours.tolist() == want.tolist()
    assert len(calls) >= 4


def test_embeddings_are_not_lent_to_another_model(models):
    model, other = models("llama"), build("llama", seed=1)
    embeds = {"inputs_embeds": model.get_input_embeddings()(torch.tensor([PROMPT])).detach(), "max_new_tokens": 3}
    with pytest.raises(ValueError, match="other models cannot read inputs_embeds"):
        guided(model).generate(**embeds, guidance_scale=1.5, negative_model=other)
    own = {"negative_model": other, "negative_prompt_ids": GIVEN["negative_prompt_ids"]}
    want = guided(model).generate(torch.tensor([PROMPT]), guidance_scale=1.5, **own, max_new_tokens=3)
    assert guided(model).generate(**embeds, guidance_scale=1.5, **own).tolist() == want[:, len(PROMPT) :].tolist()


@pytest.mark.parametrize("scale", [torch.tensor([1.7]), [1.7, 1.7], lambda t: torch.tensor([1.7])])
def test_a_scale_may_be_a_list_or_have_one_element(models, scale):
    prompts = torch.tensor([PROMPT, PROMPT[::-1]])
    want = guided(models("llama")).generate(prompts, **GIVEN)
    assert guided(models("llama")).generate(prompts, **GIVEN | {"guidance_scale": scale}).tolist() == want.tolist()


def test_what_a_guided_call_has_read_is_not_handed_on(models):
    view = guided(models("llama"))
    out = view.generate(torch.tensor([PROMPT]), **GIVEN, return_dict_in_generate=True)
    with pytest.raises(ValueError, match="cannot be continued"):
        view.generate(out.sequences, **{CACHE: out[CACHE]}, max_new_tokens=2)


def test_logits_that_the_caller_asked_to_keep_do_not_shift_the_scores(models):
    view, scores = guided(models("llama")), {"output_scores": True, "return_dict_in_generate": True}
    want = view.generate(torch.tensor([PROMPT]), **GIVEN, **scores)
    out = view.generate(torch.tensor([PROMPT]), **GIVEN, **scores, logits_to_keep=3)
    torch.testing.assert_close(torch.stack(out.branch_scores), torch.stack(want.branch_scores))


def test_weights_laid_out_in_inference_mode_can_still_be_trained():
    model = build("gpt2")
    with torch.inference_mode():
        guided(model).generate(torch.tensor([PROMPT]), **GIVEN)
    model(torch.tensor([PROMPT]), labels=torch.tensor([PROMPT])).loss.backward()
    assert model.transformer.h[0].mlp.c_fc.weight.grad is not None


def test_padding_of_a_text_is_not_scored(models):
    """After a text's last token a branch may find every other token impossible, which would be an improper tilt."""
    model, other = models("llama"), build("gpt2", seed=1)
    prompts, text, mask = torch.tensor([PROMPT]), torch.tensor([[30, 31, 0]]), torch.tensor([[1, 1, 0]])
    given = {"guidance_scale": 1.5, "negative_model": other}
    alone = arguide.score(model, prompts, text[:, :2], **given)
    handle = other.lm_head.register_forward_hook(
        lambda _, __, out: out.index_fill(1, torch.tensor([2]), -torch.inf) if out.shape[1] == 4 else out
    )
    both = arguide.score(model, prompts, text, text_mask=mask, **given)
    handle.remove()
    torch.testing.assert_close(both.joint, alone.joint, atol=1e-4, rtol=1e-4)


def test_a_score_needs_room_too(models):
    with pytest.raises(ValueError, match="exceed its model's context of 64"):
        arguide.score(
            models("gpt2"),
            torch.tensor([PROMPT]),
            torch.tensor([[30, 31]]),
            guidance_scale=2.0,
            negative_prompt_ids=torch.ones(1, 64, dtype=torch.long),
        )


def test_a_guided_view_may_be_the_assistant_of_another(models):
    want = guided(models("llama")).generate(torch.tensor([PROMPT]), **GIVEN)
    ours = guided(models("llama")).generate(torch.tensor([PROMPT]), **GIVEN, assistant_model=guided(models("gpt2")))
    assert ours.tolist() == want.tolist()


def test_a_padding_token_that_is_meant_is_read(models):
    """Two rows of the same tokens, in one of which the first is padding."""
    ids, mask = torch.tensor([[0, 5, 6], [0, 5, 6]]), torch.tensor([[0, 1, 1], [1, 1, 1]])
    together = guided(models("llama")).generate(ids, attention_mask=mask, **GIVEN)
    alone = [
        guided(models("llama")).generate(row, attention_mask=torch.ones_like(row), **GIVEN) for row in (ids[:1, 1:], ids[1:])
    ]
    assert together[0, -9:].tolist() == alone[0][0, -9:].tolist()
    assert together[1, -9:].tolist() == alone[1][0, -9:].tolist()
    assert together[0].tolist() != together[1].tolist()
