"""What transformers' own guidance gets wrong, each shown to fail there and to hold here."""

import math

import pytest
import torch
from reference import padded, plain, reference
from transformers import LogitsProcessor, LogitsProcessorList, UnbatchedClassifierFreeGuidanceLogitsProcessor

from arguide import guided

PROMPT, NEGATIVE, SCALE = [5, 6, 7, 8, 9], [20, 21, 22], 2.5
GIVEN = {"guidance_scale": SCALE, "negative_prompt_ids": torch.tensor([NEGATIVE])}


def expected(model, **mode):
    return reference(model, [PROMPT], [NEGATIVE], SCALE).generate(torch.tensor([PROMPT]), use_cache=False, **mode).tolist()


class Uncached(LogitsProcessor):
    """Guidance where transformers puts it, after the log-softmax of beam search, but computed anew for every row."""

    def __init__(self, model):
        self.model = model

    def __call__(self, input_ids, scores):
        texts = [row[len(PROMPT) :] for row in input_ids.tolist()]
        rest = torch.stack([plain(self.model, NEGATIVE, text) for text in texts])
        return SCALE * scores.log_softmax(-1) + (1 - SCALE) * rest


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_beams_reorder_the_unconditional_branch_too(models, name):
    model, mode = models(name), {"num_beams": 4, "max_new_tokens": 12}
    joint = model.generate(torch.tensor([PROMPT]), logits_processor=LogitsProcessorList([Uncached(model)]), **mode).tolist()
    beams = GIVEN | {"negative_prompt_ids": torch.tensor([NEGATIVE] * 4)}  # it does not expand them itself
    peer = model.generate(torch.tensor([PROMPT]), **beams, **mode).tolist()
    view = guided(model)
    assert view.generate(torch.tensor([PROMPT]), **GIVEN, **mode, beam_law="joint").tolist() == joint
    assert view.generate(torch.tensor([PROMPT]), **GIVEN, **mode).tolist() == expected(model, **mode)
    assert peer != joint


def test_the_two_laws_of_beams_differ(models):
    view, mode = guided(models("llama")), {"num_beams": 4, "max_new_tokens": 12}
    joint, sequential = (
        view.generate(torch.tensor([PROMPT]), **GIVEN, **mode, beam_law=law) for law in ("joint", "sequential")
    )
    assert joint.tolist() != sequential.tolist()


@pytest.mark.parametrize("mode", [{"do_sample": True, "num_return_sequences": 3}, {"num_beams": 3}])
def test_negatives_follow_several_samples_and_beams(models, mode):
    """Ours against the reference is in test_modes."""
    given = {"negative_prompt_ids": padded([NEGATIVE, [9]]).ids, "guidance_scale": SCALE, "max_new_tokens": 4}
    prompts = padded([PROMPT, [12, 13]])
    with pytest.raises(RuntimeError):
        models("llama").generate(**prompts.given, **given, **mode)
    assert len(guided(models("llama")).generate(**prompts.given, **given, **mode)) == 2 * mode.get("num_return_sequences", 1)


def test_padded_negatives_have_the_positions_of_their_tokens(models):
    prompts, negatives = padded([PROMPT, [12, 13]]), padded([[9], NEGATIVE])
    given = {
        "guidance_scale": SCALE,
        "negative_prompt_ids": negatives.ids,
        "negative_prompt_attention_mask": negatives.mask,
        "max_new_tokens": 10,
    }
    want = reference(models("gpt2"), [PROMPT, [12, 13]], [[9], NEGATIVE], SCALE)
    want = want.generate(**prompts.given, use_cache=False, max_new_tokens=10).tolist()
    assert models("gpt2").generate(**prompts.given, **given).tolist() != want
    assert guided(models("gpt2")).generate(**prompts.given, **given).tolist() == want


def test_drafts_are_verified_in_every_branch(models):
    model = models("llama")
    prompt = torch.tensor([[5, 6, 7, 8, 5, 6, 7, 8, 5, 6]])
    mode = {"max_new_tokens": 20, "prompt_lookup_num_tokens": 4}
    greedy = guided(model).generate(prompt, **GIVEN, max_new_tokens=20).tolist()
    assert guided(model).generate(prompt, **GIVEN, **mode).tolist() == greedy
    try:
        peer = model.generate(prompt, **GIVEN, **mode).tolist()
    except (RuntimeError, ValueError, IndexError):
        peer = None
    assert peer != greedy


def test_the_state_of_a_state_space_model_is_kept_in_every_branch(models):
    model, mode = models("mamba"), {"max_new_tokens": 12}
    assert guided(model).generate(torch.tensor([PROMPT]), **GIVEN, **mode).tolist() == expected(model, **mode)
    assert model.generate(torch.tensor([PROMPT]), **GIVEN, **mode).tolist() != expected(model, **mode)


def test_encoder_decoders_are_guided(t5):
    """Ours against the reference is in test_modes."""
    with pytest.raises(ValueError, match=r"exactly one of input_ids|decoder_input_ids"):
        t5.generate(torch.tensor([PROMPT]), **GIVEN, max_new_tokens=3)
    assert guided(t5).generate(torch.tensor([PROMPT]), **GIVEN, max_new_tokens=3).shape == (1, 4)


def test_embeddings_have_a_last_token(models):
    """Ours against the reference is in test_modes."""
    model = models("llama")
    embeds = model.get_input_embeddings()(torch.tensor([PROMPT])).detach()
    with pytest.raises((RuntimeError, IndexError, ValueError)):
        model.generate(inputs_embeds=embeds, guidance_scale=SCALE, max_new_tokens=3)
    assert guided(model).generate(inputs_embeds=embeds, guidance_scale=SCALE, max_new_tokens=3).shape == (1, 3)


def test_a_token_impossible_in_both_branches_stays_impossible(models):
    """A model that gives −∞ to tokens it never writes."""
    model = models("llama")
    forbidden = model.lm_head.register_forward_hook(lambda _, __, out: out.index_fill(-1, torch.arange(30), -math.inf))
    scores = {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 4}
    peer = model.generate(torch.tensor([PROMPT]), **GIVEN, **scores)
    ours = guided(model).generate(torch.tensor([PROMPT]), **GIVEN, **scores)
    forbidden.remove()
    assert peer.scores[0].isnan().any()
    assert not torch.stack(ours.scores).isnan().any()
    assert (torch.stack(ours.scores)[..., :30] == -math.inf).all()
    assert (ours.sequences[0, len(PROMPT) :] >= 30).all()


def test_a_second_call_starts_anew(models):
    model, mode = models("llama"), {"max_new_tokens": 10}
    processor = UnbatchedClassifierFreeGuidanceLogitsProcessor(SCALE, model, unconditional_ids=torch.tensor([NEGATIVE]))
    peer = [model.generate(torch.tensor([PROMPT]), logits_processor=LogitsProcessorList([processor]), **mode) for _ in range(2)]
    view = guided(model)
    ours = [view.generate(torch.tensor([PROMPT]), **GIVEN, **mode) for _ in range(2)]
    assert peer[0].tolist() != peer[1].tolist()
    assert ours[0].tolist() == ours[1].tolist() == peer[0].tolist()


def test_continuous_batching_is_refused(models):
    with pytest.raises(ValueError, match="continuous batching"):
        guided(models("llama")).generate(torch.tensor([PROMPT]), **GIVEN, cache_implementation="paged", max_new_tokens=2)


def test_a_token_costs_one_pass(models):
    model, passes = models("llama"), []
    handle = model.lm_head.register_forward_pre_hook(lambda _, given: passes.append(tuple(given[0].shape[:2])))
    model.generate(torch.tensor([PROMPT]), **GIVEN, max_new_tokens=6)
    peer = len(passes)
    passes.clear()
    guided(model).generate(torch.tensor([PROMPT]), **GIVEN, max_new_tokens=6)
    handle.remove()
    assert peer == 12
    assert passes == [(1, 1), (1, 1), *[(2, 1)] * 5]  # each prompt once, and the logits of its last token alone


@pytest.mark.parametrize("law", ["joint", "sequential"])
def test_processors_of_beams_see_the_law_that_beams_maximise(models, law):
    """A repetition penalty acts on log p̃ of the joint law, which is not normalised, and on log p of the sequential one."""
    seen = []

    class Record(LogitsProcessor):
        def __call__(self, input_ids, scores):
            seen.append(scores[0])
            return scores

    given = GIVEN | {"max_new_tokens": 1, "num_beams": 3, "beam_law": law, "logits_processor": LogitsProcessorList([Record()])}
    for penalty in (1.0, 1.5):
        guided(models("llama")).generate(torch.tensor([PROMPT]), **given, repetition_penalty=penalty)
    scores, penalised = seen
    assert (scores.logsumexp(-1).abs() < 1e-5) == (law == "sequential")
    repeated = scores[PROMPT]
    want = scores.index_put((torch.tensor(PROMPT),), torch.where(repeated < 0, repeated * 1.5, repeated / 1.5))
    torch.testing.assert_close(penalised, want)
