"""The rows on transformers and diffusers: what they say of the installed releases, of mended ones, and of a wrong arguide."""

import logging
import warnings

import pytest
import torch
import transformers
from transformers import LogitsProcessor

import arguide
import diffusion
from analysis.experiments.published import claims as claims_module
from analysis.experiments.published import run
from analysis.experiments.published.claims import DIFFERS, REPRODUCED
from analysis.experiments.published.papers import powers
from analysis.experiments.published.peers import cases as peers
from analysis.experiments.published.peers import diffusers_guiders, transformers_guidance

MODES = {
    "greedy decoding": REPRODUCED,
    "three samples per prompt, top-k of 1": DIFFERS,
    "recurrent state (Mamba)": DIFFERS,
    "encoder–decoder (T5)": DIFFERS,
    "prompt-lookup decoding": DIFFERS,
    "left-padded negatives, absolute positions (GPT-2)": DIFFERS,
    "beam search over all beginnings": DIFFERS,
    "inputs_embeds without a negative prompt": DIFFERS,
    "the second text of one processor": DIFFERS,
    "tokens of probability 0": DIFFERS,
}
GUIDERS = {
    "plain guidance at γ = 4": REPRODUCED,
    "adaptive projected guidance with η = 0": DIFFERS,
    "adaptive projected guidance by default, ‖c − u‖ over its threshold of 15": DIFFERS,
    "skip-layer guidance at γ = 1": DIFFERS,
    "perturbed-attention guidance at γ = 1": DIFFERS,
    "smoothed-energy guidance at γ = 1": DIFFERS,
    "magnitude-aware guidance (MAMBO-G) of images": DIFFERS,
    "tangential guidance at γ = 4": REPRODUCED,
    "frequency-decoupled guidance, first level at γ = 1": DIFFERS,
    "frequency-decoupled guidance, second level at γ = 1": DIFFERS,
    "text pipeline at γ = 2": REPRODUCED,
    "text pipeline at γ = 0.5: no guidance, as documented": REPRODUCED,
    "text pipeline at γ = 0: no guidance, as documented": REPRODUCED,
}
RAISES = {
    "three samples per prompt, top-k of 1": "RuntimeError: ",
    "encoder–decoder (T5)": "ValueError: ",
    "inputs_embeds without a negative prompt": "RuntimeError: ",
    "magnitude-aware guidance (MAMBO-G) of images": "RuntimeError: ",
    "frequency-decoupled guidance, first level at γ = 1": "UnboundLocalError: ",
    "frequency-decoupled guidance, second level at γ = 1": "RuntimeError: ",
}
NEARLY = "the guider at 1 + 10⁻⁶"
WITNESSES = {
    "skip-layer guidance at γ = 1": NEARLY,
    "perturbed-attention guidance at γ = 1": NEARLY,
    "smoothed-energy guidance at γ = 1": NEARLY,
    "magnitude-aware guidance (MAMBO-G) of images": "the guider on flat samples",
    "frequency-decoupled guidance, first level at γ = 1": NEARLY,
    "frequency-decoupled guidance, second level at γ = 1": NEARLY,
}
OTHERS = {
    "tangential guidance at γ = 4": "γ − 1",
    "text pipeline at γ = 0.5: no guidance, as documented": "u + γ Δ",
    "text pipeline at γ = 0: no guidance, as documented": "u + γ Δ",
}


def turner(where, verdict):
    """Return the rule of the control: a witness for a peer that is wrong, another law for one that is right."""
    witness = WITNESSES.get(where, "arguide")
    return witness if verdict == DIFFERS else OTHERS.get(where, f"γ − 1 ({witness}: 1)")


def rows(module, seed=0):
    return {claim.where: claim for claim in module.claims(seed)}


@pytest.fixture(scope="module")
def modes():
    return rows(transformers_guidance)


@pytest.fixture(scope="module")
def guiders():
    pytest.importorskip("diffusers")
    return rows(diffusers_guiders)


def check(claim, verdict):
    """Check that a witness or a wrong law turns the verdict, and that a row that differs says why."""
    assert (claim.verdict, claim.turned, claim.rule) == (verdict, True, turner(claim.where, verdict))
    assert claim.control == (verdict == DIFFERS)
    assert claim.note or verdict == REPRODUCED
    error = RAISES.get(claim.where)
    assert ("it raises an error, which counts as 0" in claim.claim) == (error is not None)
    assert f"it raises {error}" in claim.note if error else "raises" not in claim.note
    assert ("kornia" in claim.note) == claim.where.startswith("frequency")


@pytest.mark.parametrize("where", MODES)
def test_a_mode_of_transformers(modes, where):
    assert list(modes) == list(MODES)
    check(modes[where], MODES[where])


@pytest.mark.parametrize("where", GUIDERS)
def test_a_guider_of_diffusers(guiders, where):
    assert list(guiders) == list(GUIDERS)
    check(guiders[where], GUIDERS[where])


class Mended(LogitsProcessor):
    """Guidance without a cache: both branches are read anew for every row, without padding."""

    def __init__(self, guidance_scale, model, unconditional_ids=None, unconditional_attention_mask=None, use_cache=True):
        self.scale, self.model, self.ids, self.mask = guidance_scale, model, unconditional_ids, unconditional_attention_mask
        self.width = float("inf")

    def __call__(self, input_ids, scores):
        self.width = min(self.width, input_ids.shape[1])
        before = input_ids[:, self.width - 1 : self.width] if self.ids is None else self.ids
        before = before.repeat_interleave(len(input_ids) // len(before), 0)
        if self.model.config.is_encoder_decoder:
            logits = self.model(input_ids=before, decoder_input_ids=input_ids, use_cache=False).logits[:, -1]
        else:
            texts = torch.cat([before, input_ids[:, self.width :]], 1)
            starts = [0] if self.mask is None else self.mask.argmax(1).tolist()
            parts = [part[:, start:] for part, start in zip(texts.chunk(len(starts)), starts, strict=True)]
            logits = torch.cat([self.model(part, use_cache=False).logits[:, -1] for part in parts])
        cond = scores.log_softmax(-1)
        guided = self.scale * cond + (1 - self.scale) * logits.log_softmax(-1)
        return guided.masked_fill(cond == -torch.inf, -torch.inf)


def test_mended_transformers_is_seen(monkeypatch):
    """All but embeddings, for which no processor knows a token to begin with."""
    name = "UnbatchedClassifierFreeGuidanceLogitsProcessor"
    for module in (transformers.generation.utils, transformers_guidance):
        monkeypatch.setattr(module, name, Mended)
    found = rows(transformers_guidance)
    wrong = [where for where, claim in found.items() if claim.verdict != REPRODUCED]
    assert wrong == ["inputs_embeds without a negative prompt"]
    assert all(claim.rule == "γ − 1 (arguide: 1)" for claim in found.values() if claim.verdict == REPRODUCED)
    assert all(claim.turned for claim in found.values())


def mend(monkeypatch):
    """Replace the errors of the guiders."""
    import diffusers
    from diffusers.guiders import (
        adaptive_projected_guidance,
        frequency_decoupled_guidance,
        magnitude_aware_guidance,
    )

    def projected(cond, uncond, scale, momentum, eta, threshold, *_):
        return diffusion.projected(scale, parallel=eta, threshold=threshold)(cond, uncond, torch.tensor(1.0))

    def mambo(cond, uncond, scale, alpha, _):
        ratio = (cond - uncond).flatten(1).norm(dim=1) / uncond.flatten(1).norm(dim=1)
        return diffusion.guide(cond, uncond, 1 + (scale - 1) * (-alpha * ratio).exp())

    for where, name, right in (
        (adaptive_projected_guidance, "normalized_guidance", projected),
        (magnitude_aware_guidance, "mambo_guidance", mambo),
        (frequency_decoupled_guidance.FrequencyDecoupledGuidance, "_is_fdg_enabled_for_level", lambda *_: True),
        (diffusers.guiders.SkipLayerGuidance, "_is_cfg_enabled", lambda self: True),
        (diffusers.guiders.PerturbedAttentionGuidance, "_is_cfg_enabled", lambda self: True),
        (diffusers.guiders.SmoothedEnergyGuidance, "_is_cfg_enabled", lambda self: True),
    ):
        monkeypatch.setattr(where, name, right)


def test_mended_diffusers_is_seen(monkeypatch, guiders):
    mend(monkeypatch)
    found = rows(diffusers_guiders)
    assert {claim.verdict for claim in found.values()} == {REPRODUCED}
    assert all(claim.turned and claim.rule == turner(where, REPRODUCED) for where, claim in found.items())
    assert not any("takes" in claim.note or "raises" in claim.note for claim in found.values())


def test_what_is_right_in_diffusers_may_turn_wrong(monkeypatch, guiders):
    """Guiders that guide plainly, and a pipeline that guides at γ ≤ 1."""
    import diffusers
    from diffusers.guiders import tangential_classifier_free_guidance

    def plain(cond, uncond, scale, _):
        return diffusion.guide(cond, uncond, scale)

    monkeypatch.setattr(tangential_classifier_free_guidance, "normalized_guidance", plain)
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "do_classifier_free_guidance", property(lambda self: True))
    found = rows(diffusers_guiders)
    assert [where for where in OTHERS if found[where].verdict == DIFFERS] == list(OTHERS)
    assert not any(found[where].turned for where in OTHERS)


def test_a_witness_may_be_wrong(monkeypatch, guiders):
    """A scale of exactly 1 for the control, and a norm that fails for flat samples too."""
    from diffusers.guiders import magnitude_aware_guidance

    monkeypatch.setattr(diffusers_guiders, "NEAR", 1.0)
    monkeypatch.setattr(magnitude_aware_guidance, "mambo_guidance", lambda cond, *_: cond)
    found = rows(diffusers_guiders)
    assert [(found[where].verdict, found[where].turned) for where in WITNESSES] == [(DIFFERS, False)] * len(WITNESSES)


def test_a_wrong_arguide_turns_nothing(monkeypatch, guiders):
    """Text as transformers guides it, and differences projected halfway."""
    right = diffusion.projected
    monkeypatch.setattr(arguide, "guided", lambda model: model)
    monkeypatch.setattr(diffusion, "projected", lambda scale, **options: right(scale, **options | {"parallel": 0.5}))
    draw = torch.Generator().manual_seed(0)
    prompts, negatives = (torch.randint(1, 40, (peers.TRIALS, length), generator=draw) for length in (6, 3))
    model = transformers_guidance._built(transformers_guidance.MODELS["gpt2"](), 0)
    cond, uncond = (torch.randn(diffusers_guiders.SHAPE, generator=draw) for _ in range(2))
    padded, projected = transformers_guidance._padded(model, prompts, negatives), diffusers_guiders._projected
    cases = [padded, projected("", 2 * cond, 2 * uncond), projected("", cond, uncond, eta=0.0)]
    assert [(claim.verdict, claim.turned, claim.rule) for claim in peers.judged(cases)] == [(DIFFERS, False, "arguide")] * 3


def test_the_reference_at_scale_one_is_the_model():
    draw = torch.Generator().manual_seed(0)
    prompts, negatives = (torch.randint(1, 40, (peers.TRIALS, length), generator=draw) for length in (6, 3))
    for name in ("llama", "gpt2", "mamba", "t5"):
        model = transformers_guidance._built(transformers_guidance.MODELS[name](), 0)
        with peers._quiet():
            text = model.generate(prompts, max_new_tokens=transformers_guidance.TOKENS)[:, -transformers_guidance.TOKENS :]
        assert transformers_guidance.greedy(model, prompts, negatives, 1.0).equal(text)
        assert not transformers_guidance.greedy(model, prompts, negatives, 3.0).equal(text)


ONES = torch.ones(peers.TRIALS, 2)


def case(peer):
    return peers.Case("a use", ONES, 2 * ONES, peer, lambda: ONES, "A defect")


def test_what_a_peer_raises_is_a_note():
    def peer():
        raise KeyError("no such\nthing")

    (claim,) = peers.judged([case(peer)])
    assert (claim.ours, claim.control, claim.verdict) == (0, 1, DIFFERS)
    assert claim.note.startswith("A defect; it raises KeyError: ")
    assert claim.claim == f"share of {peers.TRIALS} texts that are right; it raises an error, which counts as 0"
    assert "\n" not in claim.note


@pytest.mark.parametrize(
    ("found", "share"),
    [
        (ONES, 1.0),
        (ONES + 1e-3 * torch.eye(8)[:, :2], 0.75),
        (torch.full_like(ONES, torch.nan), 0.0),
        (torch.full_like(ONES, torch.inf), 0.0),
        (ONES[:, :1], 0.0),
    ],
)
def test_the_share_of_right_trials(found, share):
    (claim,) = peers.judged([case(lambda: found)])
    assert claim.ours == share
    assert claim.verdict == (REPRODUCED if share == 1 else DIFFERS)
    assert claim.turned


def test_peers_are_silent(capfd, caplog):
    def peer():
        warnings.warn("loud", stacklevel=1)
        logging.getLogger("transformers").error("loud")
        logging.getLogger("elsewhere").error("loud")
        return ONES

    before = logging.root.manager.disable
    list(peers.judged([case(peer)]))
    assert (capfd.readouterr(), caplog.records, logging.root.manager.disable) == (("", ""), [], before)


class TestWithoutDiffusers:
    @pytest.fixture(autouse=True)
    def missing(self, monkeypatch):
        monkeypatch.setattr(claims_module, "find_spec", lambda name: None)

    def test_its_source_has_no_claims(self):
        assert list(diffusers_guiders.claims(0)) == []

    def test_asking_for_it_says_how_to_install_it(self, fails):
        assert "pip install 'arguide[diffusers]'" in fails("published", "--only", "diffusers")

    def test_the_other_sources_are_shown(self, run_command, monkeypatch):
        monkeypatch.setattr(run, "SOURCES", (diffusers_guiders.SOURCE, powers.SOURCES[0]))
        code, out, err = run_command("published", "--jobs", "1")
        assert (code, powers.SOURCES[0].title in out, diffusers_guiders.SOURCE.title in out) == (0, True, False)
        assert "diffusers is left out: diffusers is not installed; try pip install 'arguide[diffusers]'" in err


@pytest.fixture
def run_command(request):
    return request.getfixturevalue("run")
