"""Continuations of prompts: the laws that scoring tells, through every resampling, and the joint law by enumeration."""

import math
from itertools import product

import pytest
import torch
from reference import padded
from small import CONFIGS, build
from transformers import DynamicCache

import arguide
from arguide import continuation, guided, sample_joint, sample_metropolis
from arguide.text.reading import Reading
from arguide.text.seam import CACHE

PROMPT, NEGATIVE = [5, 6, 7, 8, 5, 6, 7, 8], [20, 21, 22]
GIVEN = {"guidance_scale": 2.0, "negative_prompt_ids": torch.tensor([NEGATIVE])}
ALL = [name for name in CONFIGS if name != "recurrent_gemma"]


def drawn(model, n=6, length=7, seed=0, given=GIVEN, prompt=PROMPT, **options):
    law = continuation(model, torch.tensor([prompt]), **given)
    generator = torch.Generator().manual_seed(seed)
    options = {"threshold": 1.0, "resample": arguide.multinomial, **options}
    return sample_joint(law, n, length, generator=generator, **options)


def compare(model, result, given=GIVEN, prompt=PROMPT):
    """Hold what the particles tell of their tokens against a scoring of these tokens."""
    n = len(result.tokens)
    scores = arguide.score(model, torch.tensor([prompt] * n), result.tokens, **given)
    torch.testing.assert_close(result.log_target.sum(1), scores.joint, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(result.log_normalizer, scores.log_normalizers, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_particles_know_their_own_tokens_through_every_resampling(models, name):
    result = drawn(models(name))
    assert result.ancestors < 6  # so there was something to reorder
    compare(models(name), result)


def test_the_comparison_fails_when_caches_are_not_reordered(models, monkeypatch):
    monkeypatch.setattr(Reading, "reorder_cache", lambda self, rows: None)
    with pytest.raises(AssertionError):
        compare(models("llama"), drawn(models("llama")))


def test_encoder_decoders_too(t5, bart):
    for model in (t5, bart):
        compare(model, drawn(model))


def test_the_unconditional_branch_reads_the_last_token_by_default(models):
    given = {"guidance_scale": 1.6}
    compare(models("gpt2"), drawn(models("gpt2"), given=given), given)


def test_further_conditions_a_second_model_and_a_schedule(models):
    given = {
        "guidance_scale": lambda t: 1.2 + 0.1 * t,
        "negative_model": build("llama", seed=1),
        "conditions": [arguide.Condition(0.4, torch.tensor([[30, 31]]))],
    }
    compare(models("llama"), drawn(models("llama"), given=given), given)


def test_temperature_divides_the_weights(models):
    """p(x)^2, power sampling: twice the log-probability of the plain model, normalised anew at every token."""
    model, given = models("llama"), {"temperature": 0.5}
    result = drawn(model, given=given)
    plain = arguide.score(model, torch.tensor([PROMPT] * 6), result.tokens, guidance_scale=1.0)
    torch.testing.assert_close(result.log_target.sum(1), 2 * plain.joint, atol=2e-4, rtol=1e-4)
    assert result.log_normalizer.max() < 0


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_a_selected_state_is_that_of_its_own_rows(models, name):
    """Every branch's law too, now and after another token."""
    law = continuation(models(name), torch.tensor([PROMPT]), **GIVEN)
    words = torch.tensor([30, 31, 32])
    state, own = law.append(law.start(3), words), law.append(law.start(3), words[[2, 0, 0]])
    state = law.select(state, torch.tensor([2, 0, 0]))
    for _ in range(2):
        for found, wanted in zip((*state.laws, *state[2:4]), (*own.laws, *own[2:4]), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
        state, own = (law.append(each, words) for each in (state, own))


def test_implausible_words_are_left_out_of_the_law(models):
    plain, cut = (
        continuation(models("llama"), torch.tensor([PROMPT]), **GIVEN, plausibility=alpha).start(1) for alpha in (0.0, 0.3)
    )
    kept = plain.laws[0].exp() >= 0.3 * plain.laws[0].exp().amax()
    assert 1 < kept.sum() < 60
    left = plain.log_probs.masked_fill(~kept, -math.inf)
    torch.testing.assert_close(cut.log_probs, left.log_softmax(-1))
    torch.testing.assert_close(cut.log_normalizer, plain.log_normalizer + left.logsumexp(-1))


def test_smoothing_mixes_every_branch_with_the_uniform_law(models):
    """The guided law is that of (1 − ε) p + ε/V in place of p, its normalizer too."""
    model, share = models("llama"), 0.3
    states = [continuation(model, torch.tensor([PROMPT]), **GIVEN, smoothing=each).start(1) for each in (0.0, share)]
    plain, smooth = (torch.stack([law.double().exp() for law in state.laws]) for state in states)
    torch.testing.assert_close(smooth, (1 - share) * plain + share / plain.shape[-1], atol=1e-6, rtol=0)
    guided_law = 2 * smooth[0].log() - smooth[1].log()
    torch.testing.assert_close(states[1].log_probs.double(), guided_law.log_softmax(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(states[1].log_normalizer.double(), guided_law.logsumexp(-1), atol=1e-5, rtol=0)
    assert not torch.allclose(states[0].log_normalizer, states[1].log_normalizer, atol=1e-3)


WORDS, LENGTH = 5, 4


@pytest.fixture(scope="module")
def enumerated():
    """A model of five words, and its joint and sequential laws of all texts of four, row by row."""
    model = build("llama", vocab_size=WORDS, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    model.generation_config.eos_token_id = None
    texts = torch.tensor(list(product(range(WORDS), repeat=LENGTH)))
    total, normalizers = 0.0, 0.0
    with torch.no_grad():
        laws = []
        for prompt in ([1, 2, 3], [4]):
            ids = torch.cat([torch.tensor([prompt] * len(texts)), texts], 1)
            laws.append(model(ids).logits[:, len(prompt) - 1 : -1].double().log_softmax(-1))
    guided_logits = 2.5 * laws[0] - 1.5 * laws[1]
    total = guided_logits.gather(-1, texts[..., None]).sum((1, 2))
    normalizers = guided_logits.logsumexp(-1).sum(1)
    return model, texts, total, normalizers


def frequencies(tokens, weights=None):
    index = (tokens * WORDS ** torch.arange(LENGTH - 1, -1, -1)).sum(1)
    weights = torch.full((len(tokens),), 1 / len(tokens), dtype=torch.float64) if weights is None else weights.double()
    return torch.zeros(WORDS**LENGTH, dtype=torch.float64).index_add(0, index, weights)


def distance(law, exact, n):
    """Σ (f − p)² / (p (1 − p) / n) over coarse cells, the first two words: about 25 for n exact draws, deviating by 7."""
    f, p = (each.reshape(WORDS**2, -1).sum(1) for each in (law, exact))
    return float(((f - p) ** 2 / (p * (1 - p) / n)).sum())


def test_three_methods_draw_the_enumerated_joint_law(enumerated):
    """χ² with some 25 degrees of freedom: above 80 with probability 1e-7; the sequential law is far beyond."""
    model, _, total, normalizers = enumerated
    joint, sequential = total.softmax(0), (total - normalizers).exp()
    law = continuation(model, torch.tensor([[1, 2, 3]]), guidance_scale=2.5, negative_prompt_ids=torch.tensor([[4]]))
    generator = torch.Generator().manual_seed(0)
    runs = [sample_joint(law, 500, LENGTH, generator=generator) for _ in range(8)]
    particles = sum(frequencies(run.tokens, run.log_weights.exp()) for run in runs) / len(runs)
    effective = sum(float(run.ess[-1]) for run in runs)
    chains = sample_metropolis(law, 1000, LENGTH, 12, generator=generator)
    one = sample_joint(law, 4000, LENGTH, generator=generator, threshold=0.0)
    importance = frequencies(one.draw(1000, generator))
    assert distance(particles, joint, effective) < 80
    assert distance(frequencies(chains.tokens), joint, 1000) < 80
    assert distance(importance, joint, 1000 / (1 + 1000 / float(one.ess[-1]))) < 80
    plain = frequencies(arguide.sample(law, 1000, LENGTH, generator=generator).tokens)
    assert distance(plain, sequential, 1000) < 80 < distance(plain, joint, 1000)


def test_the_evidence_is_unbiased_for_the_enumerated_one(enumerated):
    """Mean of Ẑ/Z over 40 runs within six of its standard errors; Ẑ without the weights of the first token is not."""
    model, _, total, _ = enumerated
    law = continuation(model, torch.tensor([[1, 2, 3]]), guidance_scale=2.5, negative_prompt_ids=torch.tensor([[4]]))
    generator = torch.Generator().manual_seed(1)
    runs = [sample_joint(law, 200, LENGTH, generator=generator, threshold=0.8) for _ in range(40)]
    ratios = torch.stack([(run.log_evidence.double() - total.logsumexp(0)).exp() for run in runs])
    error = float(ratios.std() / math.sqrt(40))
    assert error < 0.03
    assert abs(float(ratios.mean()) - 1) < 6 * error
    forgotten = torch.stack([(run.log_evidence - run.evidences[0] - total.logsumexp(0)).exp() for run in runs])
    assert abs(float(forgotten.mean()) - 1) > 6 * error


def test_texts_end_at_the_models_end_token(models):
    model = build("llama", eos_token_id=7)
    model.generation_config.eos_token_id = 7
    with torch.no_grad():
        model.lm_head.weight[7] += model.model.norm.weight.sign() * 0.02
    law = continuation(model, torch.tensor([PROMPT]), **GIVEN, max_new_tokens=9, cap="force")
    result = sample_joint(law, 200, 9, generator=torch.Generator().manual_seed(0))
    rows = result.tokens[result.log_weights > -math.inf]
    ended = (rows == 7).int().argmax(1)
    assert (rows == 7).any(1).all()
    for row, at in zip(rows, ended.tolist(), strict=True):
        assert (row[at:] == 7).all()
    n, size = len(rows), result.tokens.shape[1]
    mask = (torch.arange(size) <= ended[:, None]).long()
    scores = arguide.score(model, torch.tensor([PROMPT] * n), rows, text_mask=mask, **GIVEN)
    torch.testing.assert_close(result.log_target[result.log_weights > -math.inf].sum(1), scores.joint, atol=2e-4, rtol=1e-4)
    assert len(set(ended.tolist())) > 2


def test_the_same_seed_gives_the_same_texts_and_no_seed_others(models):
    law = continuation(models("llama"), torch.tensor([PROMPT]), **GIVEN)
    one, two, other = (
        sample_joint(law, 20, 6, generator=generator)
        for generator in (torch.Generator().manual_seed(3), torch.Generator().manual_seed(3), None)
    )
    assert one.tokens.tolist() == two.tokens.tolist()
    assert one.log_evidence == two.log_evidence
    assert other.tokens.tolist() != one.tokens.tolist() != sample_joint(law, 20, 6).tokens.tolist()


def test_a_guided_view_serves_as_the_model(models):
    assert drawn(guided(models("llama"))).tokens.tolist() == drawn(models("llama")).tokens.tolist()


def test_texts_may_fill_the_context(models):
    """Absolute positions: one token too many would be an index out of range."""
    given = GIVEN | {"eos_token_id": 2, "max_new_tokens": 65 - len(PROMPT)}
    law = continuation(models("gpt2"), torch.tensor([PROMPT]), **given)
    assert sample_joint(law, 3, 65 - len(PROMPT)).tokens.shape[0] == 3
    with pytest.raises(ValueError, match="context of 64"):
        continuation(models("gpt2"), torch.tensor([PROMPT]), **given | {"max_new_tokens": 66 - len(PROMPT)})


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        ("one prompt", {"input_ids": padded([PROMPT, [4, 5]]).ids}),
        ("context of 64", {"max_new_tokens": 64, "eos_token_id": 2}),
        ("temperature must be positive", {"temperature": 0.0}),
        ("guidance_scale must be given", {"guidance_scale": None}),
        ("smoothing must be in", {"smoothing": 1.0}),
        ("cap must be", {"max_new_tokens": 3, "eos_token_id": 2, "cap": "stop"}),
        ("nothing to force", {"max_new_tokens": 3, "eos_token_id": (), "cap": "force"}),
    ],
)
def test_what_has_no_joint_law_is_refused(models, message, wrong):
    with pytest.raises(ValueError, match=message):
        continuation(models("llama"), **{"input_ids": torch.tensor([PROMPT])} | GIVEN | wrong)


def test_an_improper_tilt_is_refused_by_name(models):
    other = build("llama", seed=1)
    handle = other.lm_head.register_forward_hook(lambda _, __, out: out.index_fill(2, torch.tensor([9]), -torch.inf))
    law = continuation(models("llama"), torch.tensor([PROMPT]), guidance_scale=1.5, negative_model=other)
    with pytest.raises(ValueError, match="improper tilt"):
        sample_joint(law, 4, 3)
    handle.remove()


@pytest.mark.slow
def test_five_of_twelve_words_of_a_real_model_follow_the_enumerated_law(data):
    """All 248,832 texts; where every word stands, by three methods, in standard errors. Sequential draws are far off."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(data / "stories260K")
    tokenizer = AutoTokenizer.from_pretrained(data / "stories260K")
    ids = tokenizer("Lily had a big dog named Max.", return_tensors="pt").input_ids
    words = tokenizer.convert_tokens_to_ids(["▁st", "n", "ir", "s", "▁said", "ked", "▁to", "a", "▁and", "▁her", "x", "b"])
    away = torch.full((model.config.vocab_size,), -math.inf)
    away[words] = 0.0
    model.lm_head.register_forward_hook(lambda module, given, logits: logits + away)
    length, size = 5, len(words)
    cond, uncond = (every(model, prompt, words, length) for prompt in (ids, ids[:, :1]))
    steps = [1.5 * c - 0.5 * u for c, u in zip(cond, uncond, strict=True)]
    joint, sequential = torch.zeros(2, 1, dtype=torch.float64)
    for step in steps:
        joint = (joint[:, None] + step).flatten()
        sequential = (sequential[:, None] + step.log_softmax(-1)).flatten()
    log_z, exact = joint.logsumexp(0), placed(joint.softmax(0), length, size)
    assert (sequential.exp() * (sequential - joint + log_z)).sum() > 0.2

    law = continuation(model, ids, guidance_scale=1.5, negative_prompt_ids=ids[:, :1])
    generator = torch.Generator().manual_seed(0)

    def seen(tokens, weights):
        """Weighted frequencies of every word at every place, [T, 12]."""
        hits = tokens[..., None] == torch.tensor(words)
        return (weights[:, None, None] * hits).sum(0)

    def worst(found, error):
        return float(((found - exact).abs() / error)[exact > 0.02].max())

    for threshold, n in ((0.5, 600), (0.0, 1500)):
        runs = [sample_joint(law, n, length, generator=generator, threshold=threshold) for _ in range(10)]
        ratios = torch.stack([(run.log_evidence.double() - log_z).exp() for run in runs])
        assert abs(float(ratios.mean()) - 1) < 6 * float(ratios.std()) / 10**0.5
        cells = [ratio * seen(run.tokens, run.log_weights.double().exp()) for ratio, run in zip(ratios, runs, strict=True)]
        found = torch.stack(cells)
        assert worst(found.mean(0), found.std(0) / 10**0.5) < 6
    chains = sample_metropolis(law, 200, length, 30, generator=generator)
    drawn = arguide.sample(law, 1500, length, generator=generator)
    off = {}
    for tokens in (chains.tokens, drawn.tokens):
        n = len(tokens)
        off[n] = worst(seen(tokens, torch.full((n,), 1 / n, dtype=torch.float64)), (exact * (1 - exact) / n).sqrt())
    assert off[200] < 6
    assert off[1500] > 8


def every(model, prompt, words, length):
    """Log-probs of each of the words after every prefix of them, [12^t, 12] for t = 0, …, T − 1, in float64."""
    cache = DynamicCache()
    with torch.no_grad():
        rows = [model(prompt, **{CACHE: cache}).logits[:, -1, words].double().log_softmax(-1)]
        for _ in range(length - 1):
            cache.batch_repeat_interleave(len(words))
            prefix = torch.tensor(words).repeat(len(rows[-1]))[:, None]
            rows.append(model(prefix, **{CACHE: cache}).logits[:, -1, words].double().log_softmax(-1))
    return rows


def placed(law, length, size):
    """Probability of every word at every place of a law of all texts, [T, 12]."""
    table = law.reshape([size] * length)
    return torch.stack([table.sum([s for s in range(length) if s != t]) for t in range(length)])


def test_two_words_of_a_real_model_follow_the_enumerated_law(data):
    """All 262,144 pairs; the evidence from a proposal that misses no token by far, so that no rare weight is left unseen."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(data / "stories260K")
    ids = AutoTokenizer.from_pretrained(data / "stories260K")("Lily had a big dog named Max.", return_tensors="pt").input_ids
    words, laws = model.config.vocab_size, []
    with torch.no_grad():
        for before in (ids, ids[:, :1]):
            rows = torch.cat([before.expand(words, -1), torch.arange(words)[:, None]], 1)
            laws.append(model(rows, logits_to_keep=2).logits.double().log_softmax(-1))
    first, second = (2.0 * laws[0] - laws[1]).unbind(1)
    total = first[0][:, None] + second
    joint, log_z = total.flatten().softmax(0).reshape(total.shape).sum(1), total.logsumexp((0, 1))
    law = continuation(model, ids, guidance_scale=2.0, negative_prompt_ids=ids[:, :1])
    generator = torch.Generator().manual_seed(0)
    runs = [sample_joint(law, 1000, 2, generator=generator, transform=arguide.defensive(0.1)) for _ in range(9)]
    ratios = torch.stack([(run.log_evidence.double() - log_z).exp() for run in runs])
    assert abs(float(ratios.mean()) - 1) < 6 * float(ratios.std()) / 3
    assert abs(float((ratios.log() + log_z - first[0].logsumexp(0)).exp().mean()) - 1) > 0.5  # the first normalizer alone
    seen = sum(torch.zeros(words).index_add(0, run.tokens[:, 0], run.log_weights.exp()) for run in runs) / 9
    chains = sample_metropolis(law, 1000, 2, 5, generator=generator)

    def worst(frequencies, n):
        """The largest error of the likeliest eight first words, in standard errors."""
        likeliest = joint.topk(8).indices
        p, f = joint[likeliest], frequencies[likeliest]
        return float(((f - p).abs() / (p * (1 - p) / n).sqrt()).max())

    assert worst(seen, 4000) < 6
    assert worst(chains.tokens[:, 0].bincount(minlength=words) / 1000, 1000) < 6
    sequential = torch.multinomial(first[0].softmax(0), 20_000, replacement=True, generator=generator)
    assert worst(sequential.bincount(minlength=words) / 20_000, 20_000) > 6
