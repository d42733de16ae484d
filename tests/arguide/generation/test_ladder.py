"""Ladders of language models: states that are resumed from cropped caches, and log Z of enumerated laws."""

import math
from itertools import product

import pytest
import torch
from small import build

import arguide
from arguide import continuation, sample_ladder
from arguide.models import _after, resumed
from arguide.text.reading import Reading

PROMPT, NEGATIVE, LENGTH = [5, 6, 7, 8], [20, 21, 22], 6
GIVEN = {"guidance_scale": 2.0, "negative_prompt_ids": torch.tensor([NEGATIVE])}
CUTS = (3, 5, 2, 2, 0, 1, 4)


def resumed_states(law, n=4):
    """Yield states that are resumed at each cut after other texts were read, and states that read the same tokens at once."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 19, (n, LENGTH), generator=generator)
    state, kept = None, 0
    for cut in CUTS:
        state = resumed(law, state, tokens[:, :cut], kept)
        yield state, _after(law, tokens[:, :cut])
        other, reading = torch.randint(3, 19, (n, LENGTH), generator=generator), state
        for token in other[:, cut : LENGTH - 1].unbind(1):
            reading = law.append(reading, token)
        moved = torch.rand(n, generator=generator) < 0.5
        tokens = torch.cat([tokens[:, :cut], torch.where(moved[:, None], other, tokens)[:, cut:]], 1)
        kept = cut


def worst(law):
    pairs = [(a.log_probs.exp() - b.log_probs.exp()).abs().max() for a, b in resumed_states(law)]
    return float(max(pairs))


@pytest.fixture(params=["llama", "gpt2", "mistral", "mamba", "t5"])
def resuming(request, models):
    return request.getfixturevalue("t5") if request.param == "t5" else models(request.param)


def test_a_resumed_state_is_that_of_the_prefix(resuming):
    assert worst(continuation(resuming, torch.tensor([PROMPT]), **GIVEN)) < 1e-5


def test_a_posterior_is_resumed_too(models):
    given = {"guidance_prior": 0.3, "negative_prompt_ids": torch.tensor([NEGATIVE])}
    assert worst(continuation(models("llama"), torch.tensor([PROMPT]), **given)) < 1e-5


def test_caches_that_are_not_cropped_are_noticed(models, monkeypatch):
    monkeypatch.setattr(Reading, "crop", lambda self, length: None)
    assert worst(continuation(models("llama"), torch.tensor([PROMPT]), **GIVEN)) > 1e-3


def test_a_resumed_state_reads_only_what_is_new(models):
    """One pass per cut, of the tokens after those that are kept, and of the last one at least."""
    model, passes = models("llama"), []
    law = continuation(model, torch.tensor([PROMPT]), **GIVEN)
    tokens = torch.randint(3, 19, (4, LENGTH), generator=torch.Generator().manual_seed(0))
    state = resumed(law, None, tokens[:, :5], 0)
    read = model.get_input_embeddings().register_forward_hook(lambda _, given, out: passes.append(given[0].shape[1]))
    for cut, kept in ((3, 3), (5, 3), (2, 2)):
        state = resumed(law, state, tokens[:, :cut], kept)
    read.remove()
    assert passes == [1, 2, 1]


WORDS, FOUR = 5, 4


def test_log_z_is_that_of_the_enumerated_law():
    """5 words, 625 texts, γ = 2.5 and β = 3: 6 standard errors, of Student's law with 29 degrees, a false failure in 1e-6."""
    model = build("llama", vocab_size=WORDS, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    model.generation_config.eos_token_id = None
    texts = torch.tensor(list(product(range(WORDS), repeat=FOUR)))
    laws = []
    with torch.no_grad():
        for prompt in ([1, 2, 3], [4]):
            ids = torch.cat([torch.tensor([prompt] * len(texts)), texts], 1)
            laws.append(model(ids).logits[:, len(prompt) - 1 : -1].double().log_softmax(-1))
    total = (2.5 * laws[0] - 1.5 * laws[1]).gather(-1, texts[..., None]).sum((1, 2))
    law = continuation(model, torch.tensor([[1, 2, 3]]), guidance_scale=2.5, negative_prompt_ids=torch.tensor([[4]]))
    options = {"levels": 3, "sweeps": 40, "burn_in": 16}
    ladder = sample_ladder(law, 30, FOUR, **options, generator=torch.Generator().manual_seed(0))
    exact = float(total.logsumexp(0))
    assert abs(float(ladder.log_evidence) - exact) < 6 * float(ladder.std_error) < 0.6
    power = continuation(model, torch.tensor([[1, 2, 3]]), temperature=1 / 3)
    ladder = sample_ladder(power, 30, FOUR, **options, generator=torch.Generator().manual_seed(0))
    exact = float((3 * laws[0].gather(-1, texts[..., None]).sum((1, 2))).logsumexp(0))
    assert abs(float(ladder.log_evidence) - exact) < 6 * float(ladder.std_error) < 0.6


def test_texts_end_at_the_models_end_token():
    model = build("llama", eos_token_id=7)
    model.generation_config.eos_token_id = 7
    law = continuation(model, torch.tensor([PROMPT]), **GIVEN, max_new_tokens=5, cap="force")
    ladder = sample_ladder(law, 8, 5, levels=3, sweeps=4, burn_in=8, generator=torch.Generator().manual_seed(0))
    assert (ladder.tokens == 7).any(1).all()
    scored = arguide.sampling.retrace(law, ladder.tokens)
    torch.testing.assert_close(ladder.log_target.sum(1), scored.log_target.sum(1).double(), atol=1e-4, rtol=1e-4)
    assert math.isfinite(float(ladder.log_evidence))
