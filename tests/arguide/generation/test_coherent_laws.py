"""Coherent laws of text by enumeration: what `continuation`, `score`, `generate` and acceptance draw, and the bound on r."""

import itertools
import math

import pytest
import torch
from reference import coherent, padded
from small import CONFIGS, build

import arguide
from arguide import Condition, continuation, guided, sample_accepted, score
from arguide.coherent.posterior import Posterior

PROMPT, NEGATIVE, MORE = [1, 2, 3], [4, 0], [3, 3, 1, 0]
WORDS, LENGTH, SCALE = 5, 4, 2.5
PRIORS = {"two prompts": (0.2, 0.8), "three prompts": (0.2, 0.5, 0.3)}


def settings(priors, prompts=((PROMPT,), (NEGATIVE,), (MORE,))):
    """Return the settings of a mixture; its prompts are the same for all rows, or one per row."""
    own = [{"input_ids": padded(rows).ids, "attention_mask": padded(rows).mask} for rows in map(list, prompts[1:])]
    further = [Condition(**each, prior=prior) for each, prior in zip(own[1:], priors[2:], strict=False)]
    given = {"guidance_prior": priors[0], "conditions": further, "negative_prompt_ids": own[0]["input_ids"]}
    return given | {"negative_prompt_attention_mask": own[0]["attention_mask"]}


def law(model, priors, **more):
    return continuation(model, torch.tensor([PROMPT]), **settings(priors), **more)


class Enumerated:
    """The coherent laws of all texts, from the probabilities of whole prefixes: Bayes' rule once per prefix, no recursion."""

    def __init__(self, texts, laws, priors, scale):
        """texts [N, T]; laws: K tensors [N, T, V] of log p_k of each next token."""
        own = torch.stack([law.gather(-1, texts[..., None]).squeeze(-1) for law in laws], -1)  # [N, T, K]
        prior = torch.tensor(priors, dtype=torch.float64).log()
        before = prior + torch.cat([torch.zeros_like(own[:, :1]), own.cumsum(1)[:, :-1]], 1)
        mixture = torch.stack([row + before[..., k, None] for k, row in enumerate(laws)]).logsumexp(0)
        mixture = mixture - before.logsumexp(-1, keepdim=True)
        steps = scale * laws[0] + (1 - scale) * mixture
        self.posterior = (prior + own.sum(1)).log_softmax(-1)
        self.conditional, self.unconditional = own.sum(1)[:, 0], (prior + own.sum(1)).logsumexp(-1)
        self.normalizers = steps.logsumexp(-1)
        target = scale * self.conditional + (1 - scale) * self.unconditional
        self.joint, self.log_z, self.target = target.softmax(0), target.logsumexp(0), target
        self.sequential = (steps.log_softmax(-1).gather(-1, texts[..., None]).squeeze(-1)).sum(1).exp()


@pytest.fixture(scope="module")
def model():
    small = build("llama", vocab_size=WORDS, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    small.generation_config.eos_token_id = None
    return small


@pytest.fixture(scope="module", params=PRIORS)
def case(request, model):
    """Priors, all texts of four words, and their enumerated laws."""
    texts = torch.tensor(list(itertools.product(range(WORDS), repeat=LENGTH)))
    priors, laws = PRIORS[request.param], []
    with torch.no_grad():
        for prompt in (PROMPT, NEGATIVE, MORE)[: len(priors)]:
            ids = torch.cat([torch.tensor([prompt] * len(texts)), texts], 1)
            laws.append(model(ids).logits[:, len(prompt) - 1 : -1].double().log_softmax(-1))
    return priors, texts, Enumerated(texts, laws, priors, SCALE)


def test_scores_are_the_enumerated_laws(model, case):
    priors, texts, exact = case
    scores = score(model, torch.tensor([PROMPT] * len(texts)), texts, guidance_scale=SCALE, **settings(priors))
    torch.testing.assert_close(scores.sequential.double(), exact.sequential.log(), atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(scores.joint.double(), exact.target, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(scores.log_normalizers.double(), exact.normalizers, atol=2e-4, rtol=1e-4)
    assert float(scores.sequential.exp().sum()) == pytest.approx(1, abs=1e-4)


def test_the_log_ratio_stays_below_minus_log_prior(case):
    priors, _, exact = case
    ratio = exact.conditional - exact.unconditional
    assert (ratio <= -math.log(priors[0])).all()
    torch.testing.assert_close(ratio, exact.posterior[:, 0] - math.log(priors[0]))


@pytest.mark.parametrize("start", ["start", "after select"])
def test_a_continuation_carries_the_posterior_of_its_rows(model, case, start):
    priors, texts, exact = case
    guided_law, state = law(model, priors, guidance_scale=SCALE), None
    state = guided_law.start(len(texts))
    order = torch.arange(len(texts)).flip(0) if start != "start" else torch.arange(len(texts))
    for t, token in enumerate(texts.unbind(1)):
        if t == 2:
            before, state = state.log_posterior, guided_law.select(state, order)
            torch.testing.assert_close(state.log_posterior, before[order])
        state = guided_law.append(state, token[order] if t >= 2 else token)
    torch.testing.assert_close(state.log_posterior.double(), exact.posterior[order], atol=2e-4, rtol=1e-4)


def frequencies(tokens):
    index = (tokens * WORDS ** torch.arange(LENGTH - 1, -1, -1)).sum(1)
    return torch.zeros(WORDS**LENGTH, dtype=torch.float64).index_add(
        0, index, torch.full((len(tokens),), 1 / len(tokens)).double()
    )


def distance(tokens, exact):
    """Σ (f − p)² / (p (1 − p) / n) over the first two words: about 25 for exact draws, above 80 with probability 1e-7."""
    f, p = (each.reshape(WORDS**2, -1).sum(1) for each in (frequencies(tokens), exact))
    return float(((f - p) ** 2 / (p * (1 - p) / len(tokens))).sum())


def drawn(model, priors, n=4000, **more):
    """Draw by `generate`, with several return sequences."""
    torch.manual_seed(0)
    given = {"do_sample": True, "top_k": 0, "num_return_sequences": n, "max_new_tokens": LENGTH, "pad_token_id": 0}
    out = guided(model).generate(torch.tensor([PROMPT]), guidance_scale=SCALE, **settings(priors), **given, **more)
    return out[:, len(PROMPT) :]


def test_generate_draws_the_sequential_law(model, case, monkeypatch):
    """A posterior that stays at the prior gives another law."""
    priors, _, exact = case
    assert distance(drawn(model, priors), exact.sequential) < 80
    monkeypatch.setattr(Posterior, "_after", lambda self, log_posterior, ended, *_: (log_posterior, ended))
    assert distance(drawn(model, priors), exact.sequential) > 80


@pytest.mark.parametrize("scale", [0.5, SCALE])
def test_acceptance_draws_the_joint_law(model, case, scale):
    """Log Ẑ within five standard errors; the scale of the continuation itself does not matter, nor does its absence."""
    priors, texts, _ = case
    laws = [Enumerated(texts, law_of(model, texts, len(priors)), priors, each) for each in (scale, SCALE)]
    generator = torch.Generator().manual_seed(0)
    accepted = sample_accepted(law(model, priors), 0, scale, 4000, LENGTH, generator=generator)
    assert distance(accepted.tokens, laws[0].joint) < 80
    assert distance(accepted.tokens, laws[1].sequential) > 80
    assert abs(float(accepted.log_evidence - laws[0].log_z)) < 5 * float(accepted.std_error)
    index = (accepted.tokens * WORDS ** torch.arange(LENGTH - 1, -1, -1)).sum(1)
    torch.testing.assert_close(accepted.log_posterior, laws[0].posterior[index, 0], atol=2e-4, rtol=1e-4)
    same = sample_accepted(law(model, priors, guidance_scale=7.0), 0, scale, 4000, LENGTH, generator=generator.manual_seed(0))
    assert same.tokens.tolist() == accepted.tokens.tolist()


def law_of(model, texts, count):
    with torch.no_grad():
        return [
            model(torch.cat([torch.tensor([prompt] * len(texts)), texts], 1))
            .logits[:, len(prompt) - 1 : -1]
            .double()
            .log_softmax(-1)
            for prompt in (PROMPT, NEGATIVE, MORE)[:count]
        ]


def test_particles_draw_the_joint_law_too(model, case):
    """Mean of Ẑ/Z over 40 runs within five of its standard errors; the evidence of the first token alone is not."""
    priors, _, exact = case
    generator = torch.Generator().manual_seed(0)
    given = law(model, priors, guidance_scale=SCALE)
    runs = [arguide.sample_joint(given, 100, LENGTH, generator=generator, threshold=0.9) for _ in range(40)]
    ratios = torch.stack([(run.log_evidence.double() - exact.log_z).exp() for run in runs])
    error = float(ratios.std() / math.sqrt(40))
    assert abs(float(ratios.mean()) - 1) < 5 * error < 0.2
    first = torch.stack([(run.evidences[0].double() - exact.log_z).exp() for run in runs])
    assert abs(float(first.mean()) - 1) > 5 * error


@pytest.mark.parametrize("name", ["llama", "mamba", "gemma3"])
def test_rows_may_have_prompts_of_their_own(models, name):
    """Scores of `continuation`, `score` and by hand; a number of prefixes other than that of the prompts is refused."""
    many = ([[5, 6, 7], [5, 6, 7]], [[20, 21], [22]], [[40], [41, 42, 43]])
    priors, network = (0.2, 0.5, 0.3), models(name)
    given = settings(priors, many) | {"guidance_scale": SCALE}
    guided_law = continuation(network, torch.tensor([[5, 6, 7]]), **given)
    texts = torch.tensor([[30, 31, 32], [33, 34, 35]])
    drawn = arguide.sampling.retrace(guided_law, texts)
    scores = score(network, torch.tensor([[5, 6, 7]] * 2), texts, **given)
    for i, text in enumerate(texts.tolist()):
        branches = [(many[k][i], priors[k], network) for k in range(3)]
        steps = [coherent(SCALE, branches, text[:t])[0].log_softmax(-1)[token] for t, token in enumerate(text)]
        assert float(scores.sequential[i]) == pytest.approx(float(sum(steps)), abs=1e-3)
        assert float(drawn.log_proposal[i].sum()) == pytest.approx(float(sum(steps)), abs=1e-3)
    with pytest.raises(ValueError, match="n must be 2, the number of prompts, got 3"):
        guided_law.start(3)


@pytest.mark.parametrize("name", CONFIGS)
def test_padded_texts_are_scored_by_hand(models, name):
    prompts, negatives, texts = [[5, 6, 7, 8], [9]], [[20, 21], [22, 23, 24]], [[30, 31, 32], [33]]
    before, away = padded(prompts), padded(negatives)
    given = {"negative_prompt_ids": away.ids, "negative_prompt_attention_mask": away.mask, "guidance_prior": 0.3}
    ids, mask = torch.tensor([[30, 31, 32], [33, 0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    scores = score(models(name), before.ids, ids, attention_mask=before.mask, text_mask=mask, guidance_scale=SCALE, **given)
    for i, text in enumerate(texts):
        branches = [(prompts[i], 0.3, models(name)), (negatives[i], 0.7, models(name))]
        steps = [coherent(SCALE, branches, text[:t])[0].log_softmax(-1)[token] for t, token in enumerate(text)]
        assert float(scores.sequential[i]) == pytest.approx(float(sum(steps)), abs=1e-3)


def test_the_posterior_stays_after_the_end_and_after_an_impossible_token():
    posterior = Posterior(torch.tensor([0.3, 0.7]).log(), ends=(2,))
    laws = [
        torch.tensor([[[0.5, 0.2, 0.3, 0.0]]]).log().repeat(2, 1, 1),
        torch.tensor([[[0.1, 0.8, 0.1, 0.0]]]).log().repeat(2, 1, 1),
    ]
    posterior.advance(laws, torch.empty(2, 0, dtype=torch.long))
    first = posterior.advance(laws, torch.tensor([[2], [3]]))[:, 0].exp()
    torch.testing.assert_close(first, torch.tensor([[0.09 / 0.16, 0.07 / 0.16], [0.3, 0.7]]))
    second = posterior.advance(laws, torch.tensor([[0], [0]]))[:, 0].exp()
    torch.testing.assert_close(second, torch.tensor([[0.09 / 0.16, 0.07 / 0.16], [0.15 / 0.22, 0.07 / 0.22]]))


@pytest.mark.parametrize(
    ("message", "more"),
    [
        ("temperature 1 and plausibility 0, got temperature 0.5", {"temperature": 0.5}),
        ("temperature 1 and plausibility 0, got temperature 1, plausibility 0.3", {"plausibility": 0.3}),
        ("mixture must be an arguide.Mixture", {"guidance_prior": None, "guidance_scale": 2.0}),
    ],
)
def test_a_law_that_acceptance_would_change_is_refused(model, message, more):
    given = settings(PRIORS["two prompts"]) | more
    with pytest.raises(ValueError, match=message) as error:
        sample_accepted(continuation(model, torch.tensor([PROMPT]), **given), 0, 2.0, 4, LENGTH)
    assert "\n" not in str(error.value)


STORY = ("Lily had a big dog named Max.", "Once upon a time", "Tom was very sad and cried.")


def pairs(network, prompts, priors, scale):
    """Return the sequential and the joint law of all 262,144 pairs of tokens, and log Z, from the laws of all prefixes."""
    size, first, second = network.config.vocab_size, [], []
    with torch.no_grad():
        for ids in prompts:
            rows = torch.cat([ids.expand(size, -1), torch.arange(size)[:, None]], 1)
            steps = network(rows, logits_to_keep=2).logits.double().log_softmax(-1)
            first.append(steps[0, 0])
            second.append(steps[:, 1])
    prior = torch.tensor(priors, dtype=torch.float64)
    before, texts = (
        sum(p * law.exp() for p, law in zip(prior, each, strict=True))
        for each in (first, [one[:, None] + two for one, two in zip(first, second, strict=True)])
    )
    mixture = texts.log() - before.log()[:, None]
    one, two = scale * first[0] + (1 - scale) * before.log(), scale * second[0] + (1 - scale) * mixture
    target = one[:, None] + two
    sequential = one.log_softmax(0)[:, None] + two.log_softmax(-1)
    return sequential.exp(), target.flatten().softmax(0).reshape(size, size), target.logsumexp((0, 1))


def worst(tokens, exact):
    """The largest error of the likeliest eight tokens at both places, in standard errors; above 6 with probability 3e-8."""
    found = []
    for place in range(2):
        law = exact.sum(1 - place)
        likeliest = law.topk(8).indices
        shares = tokens[:, place].bincount(minlength=len(law))[likeliest] / len(tokens)
        found.append((shares - law[likeliest]).abs() / (law[likeliest] * (1 - law[likeliest]) / len(tokens)).sqrt())
    return float(torch.cat(found).max())


@pytest.mark.parametrize(
    ("order", "priors", "scale"), [((2, 0), (0.01, 0.99), 3.0), ((2, 1, 0), (0.01, 0.6, 0.39), 5.0)], ids=["two", "three"]
)
def test_two_tokens_of_a_real_model_follow_both_enumerated_laws(data, order, priors, scale):
    """The sequential law by `generate`, the joint one by acceptance; each is far from the other."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network, n = AutoModelForCausalLM.from_pretrained(data / "stories260K"), 1400
    tokenizer = AutoTokenizer.from_pretrained(data / "stories260K")
    prompts = [tokenizer(STORY[k], return_tensors="pt").input_ids for k in order]
    given = settings(priors, [each.tolist() for each in prompts])
    sequential, joint, log_z = pairs(network, prompts, priors, scale)
    torch.manual_seed(0)
    asked = {"do_sample": True, "top_k": 0, "num_return_sequences": n, "max_new_tokens": 2, "min_new_tokens": 2}
    network.generation_config.eos_token_id = None
    texts = guided(network).generate(prompts[0], guidance_scale=scale, **given, **asked)[:, prompts[0].shape[1] :]
    assert worst(texts, sequential) < 6 < worst(texts, joint)
    generator = torch.Generator().manual_seed(0)
    accepted = sample_accepted(continuation(network, prompts[0], **given), 0, scale, n, 2, generator=generator)
    assert worst(accepted.tokens, joint) < 6 < worst(accepted.tokens, sequential)
    assert abs(float(accepted.log_evidence - log_z)) < 5 * float(accepted.std_error)
