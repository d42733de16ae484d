import json
from types import SimpleNamespace

import pytest
import torch
from small import build, letters

import arguide

pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("quiet")]

CONTEXTS, CHOICES = ["abc", "bdaf", "e"], ["fg", "hij", "k"]


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="module")
def evaluate():
    from arguide.text.evaluation import GuidedHFLM

    model, tokenizer = build("llama"), letters()
    return lambda **options: GuidedHFLM(model, tokenizer=tokenizer, device="cpu", batch_size=2, **options)


def requests(kind, pairs):
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, pair, i) for i, pair in enumerate(pairs)]


@pytest.mark.parametrize("law", ["joint", "sequential"])
@pytest.mark.parametrize("negative", [None, "zy"])
def test_log_likelihoods_are_of_the_law_that_is_asked_for(evaluate, law, negative):
    model = evaluate(guidance_scale=2.0, law=law, negative=negative)
    pairs = [(context, choice) for context in CONTEXTS for choice in CHOICES]
    answers = model.loglikelihood(requests("loglikelihood", pairs), disable_tqdm=True)
    tokenizer = letters()
    for (context, choice), (value, greedy) in zip(pairs, answers, strict=True):
        ids, text = torch.tensor([tokenizer.encode(context)]), torch.tensor([tokenizer.encode(choice)])
        rest = None if negative is None else torch.tensor([tokenizer.encode(negative)])
        want = arguide.score(build("llama"), ids, text, guidance_scale=2.0, negative_prompt_ids=rest)
        assert value == pytest.approx(float(getattr(want, law)), abs=1e-3)
        assert greedy == bool(want.greedy)
    info = model.get_model_info()
    assert (info["law_of_scores"], info["law_of_texts"], info["guidance_scale"]) == (law, "sequential", 2.0)


def test_answers_go_to_the_cache_of_the_harness(evaluate):
    model, kept = evaluate(guidance_scale=2.0), []
    model.set_cache_hook(SimpleNamespace(add_partial=lambda *each: kept.append(each)))
    pairs = [(CONTEXTS[0], choice) for choice in CHOICES]
    answers = model.loglikelihood(requests("loglikelihood", pairs), disable_tqdm=True)
    assert kept == [("loglikelihood", pair, answer) for pair, answer in zip(pairs, answers, strict=True)]


def test_texts_are_written_under_guidance(evaluate):
    model, tokenizer = evaluate(guidance_scale=3.0), letters()
    options = {"until": ["!"], "max_gen_toks": 8}
    texts = model.generate_until(requests("generate_until", [(context, dict(options)) for context in CONTEXTS]))
    for context, text in zip(CONTEXTS, texts, strict=True):
        ids = torch.tensor([tokenizer.encode(context)])
        given = {"attention_mask": torch.ones_like(ids), "guidance_scale": 3.0, "max_new_tokens": 8}
        out = arguide.guided(build("llama")).generate(ids, **given)
        assert text == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def test_long_contexts_lose_their_beginning(evaluate):
    model = evaluate(guidance_scale=2.0, max_length=8)
    (value, _), (same, _) = model._loglikelihood_tokens(
        [(None, list(range(10, 30)), [31, 32]), (None, list(range(23, 30)), [31, 32])], disable_tqdm=True
    )
    assert value == pytest.approx(same, abs=1e-4)


def test_a_context_may_be_full():
    """Of a model with absolute positions, beside a row whose text is longer and whose context is shorter."""
    from arguide.text.evaluation import GuidedHFLM

    model, torch_model = build("gpt2"), build("gpt2")
    evaluated = GuidedHFLM(model, tokenizer=letters(), device="cpu", batch_size=2, guidance_scale=2.0)
    assert evaluated.max_length == 64
    long, short = [3 + i % 50 for i in range(70)], [7, 8, 9]
    answers = evaluated._loglikelihood_tokens([(None, long, [31, 32]), (None, short, long[:40])], disable_tqdm=True)
    for (context, text), (value, _) in zip([(long[-63:], [31, 32]), (short, long[:40])], answers, strict=True):
        want = arguide.score(torch_model, torch.tensor([context]), torch.tensor([text]), guidance_scale=2.0).joint
        assert value == pytest.approx(float(want), abs=1e-3)


TEXTS = ["abdcefg", "bcdefghijklmnopqrstuvwxyz"]
OUTPUTS = {
    "loglikelihood": {"doc_to_text": "{{context}}", "doc_to_target": "{{choices[0]}}", "metric_list": [{"metric": "acc"}]},
    "multiple_choice": {
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}],
    },
    "loglikelihood_rolling": {"doc_to_text": "", "doc_to_target": "{{text}}", "metric_list": [{"metric": "byte_perplexity"}]},
    "generate_until": {
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["!"], "max_gen_toks": 6, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder with one local task per output type, on two documents."""
    folder = tmp_path_factory.mktemp("task")
    rows = [{"context": c, "choices": CHOICES, "answer": 1, "text": t} for c, t in zip(CONTEXTS[:2], TEXTS, strict=True)]
    (folder / "rows.json").write_text("\n".join(map(json.dumps, rows)))
    data = {"data_files": {"test": str(folder / "rows.json")}, "cache_dir": str(folder / "cache")}
    shared = {"dataset_path": "json", "dataset_kwargs": data, "test_split": "test", "target_delimiter": ""}
    for kind, own in OUTPUTS.items():  # every JSON is YAML
        (folder / f"{kind}.yaml").write_text(json.dumps({"task": kind, "output_type": kind} | shared | own))
    return str(folder)


@pytest.mark.parametrize("law", ["joint", "sequential"])
def test_tasks_of_every_output_type_are_evaluated(evaluate, tasks, law):
    import lm_eval
    from lm_eval import utils
    from lm_eval.tasks import TaskManager

    tokenizer, torch_model = letters(), build("llama")

    def score(pairs):
        pairs = [[torch.tensor([ids]) for ids in pair] for pair in pairs]
        return sum(float(getattr(arguide.score(torch_model, *pair, guidance_scale=2.0), law)) for pair in pairs)

    model = evaluate(guidance_scale=2.0, law=law, max_length=10)
    manager = TaskManager(include_path=tasks, include_defaults=False)  # the index of all tasks takes seconds
    found = lm_eval.simple_evaluate(model, tasks=list(OUTPUTS), task_manager=manager, bootstrap_iters=0, log_samples=True)
    responses = {kind: [each["filtered_resps"] for each in found["samples"][kind]] for kind in OUTPUTS}
    scored = [[score([map(tokenizer.encode, (c, choice))]) for choice in CHOICES] for c in CONTEXTS[:2]]
    for i, (context, text) in enumerate(zip(CONTEXTS, TEXTS, strict=False)):
        assert float(responses["loglikelihood"][i][0][0]) == pytest.approx(scored[i][0], abs=1e-3)
        assert [float(each[0]) for each in responses["multiple_choice"][i]] == pytest.approx(scored[i], abs=1e-3)
        windows = utils.get_rolling_token_windows(tokenizer.encode(text), model.prefix_token_id, 10, 1)
        pairs = [utils.make_disjoint_window(window) for window in windows]
        assert len(pairs) == [1, 3][i]
        assert float(responses["loglikelihood_rolling"][i][0]) == pytest.approx(score(pairs), abs=1e-3)
        ids = torch.tensor([tokenizer.encode(context)[-4:]])  # what the limit leaves beside six new tokens
        given = {"attention_mask": torch.ones_like(ids), "guidance_scale": 2.0, "max_new_tokens": 6}
        out = arguide.guided(torch_model).generate(ids, **given)
        assert responses["generate_until"][i][0] == tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    right = sum(row.index(max(row)) == 1 for row in scored) / 2
    assert found["results"]["multiple_choice"]["acc,none"] == right


def test_an_unknown_law_is_refused(evaluate):
    with pytest.raises(ValueError, match="law must be one of"):
        evaluate(law="global")
