"""Products with few rows: the same numbers in either form and layout, in a guided step alone."""

import copy
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from reference import padded, reference
from small import CONFIGS, build
from torch import nn
from transformers.pytorch_utils import Conv1D

from arguide import guided
from arguide.text import cpu_matmul

PROMPTS, NEGATIVES = [[5, 6, 7, 8, 9], [12, 13]], [[20, 21], [22, 23, 24]]


class Results(dict):
    """Results of five trials, the same for every number of threads."""

    def __init__(self, better):
        super().__init__()
        self.better = better

    def setdefault(self, threads, default):
        return [self.better] * 5


@pytest.fixture
def transposing(monkeypatch):
    """A processor on which (W xᵀ)ᵀ is the better form, and weights that no cache holds; counts the products."""
    monkeypatch.setattr(cpu_matmul, "_RESULTS", Results(True))
    monkeypatch.setattr(cpu_matmul, "LARGE", 0)
    monkeypatch.setattr(cpu_matmul, "SMALL", 0)
    done = []
    plain = cpu_matmul.transposed
    monkeypatch.setattr(cpu_matmul, "transposed", lambda module, x: done.append(module) or plain(module, x))
    return done


def module_of(kind, bias, high=24, wide=16):
    torch.manual_seed(0)
    module = Conv1D(high, wide) if kind is Conv1D else nn.Linear(wide, high, bias=bias)
    if bias:
        nn.init.normal_(module.bias)
    return module


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2), (3, 1), (2, 3), (8, 1), (9, 1), (2, 5), (4,)])
@pytest.mark.parametrize(("kind", "bias"), [(nn.Linear, True), (nn.Linear, False), (Conv1D, True)])
def test_either_form_gives_the_same_numbers(kind, bias, shape):
    module, x = module_of(kind, bias), torch.randn(*shape, 16)
    ours, theirs = cpu_matmul.transposed(module, x), module(x)
    assert ours.is_contiguous()
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs)
    strided = torch.randn(16, *shape).movedim(0, -1)
    torch.testing.assert_close(cpu_matmul.transposed(module, strided), module(strided))


@pytest.mark.parametrize(("rows", "plainly"), [(1, True), (2, False), (8, False), (9, True), (500, True)])
def test_one_row_and_many_are_multiplied_as_ever(monkeypatch, rows, plainly):
    done, linear = [], cpu_matmul.functional.linear
    monkeypatch.setattr(cpu_matmul.functional, "linear", lambda *given: done.append(1) or linear(*given))
    cpu_matmul.transposed(module_of(nn.Linear, True), torch.randn(rows, 16))
    assert bool(done) is plainly


SAMPLES = {"do_sample": True, "num_return_sequences": 2}


@pytest.mark.parametrize(
    ("name", "mode"),
    [*((name, SAMPLES) for name in CONFIGS), *product(["llama", "gpt2"], [{}, {"num_beams": 2}, {"num_beams": 5}])],
)
def test_agrees_with_the_reference_where_the_other_form_is_better(models, transposing, name, mode):
    """Four, eight and twenty rows a step; the last are too many."""
    given, negative, model = padded(PROMPTS).given, padded(NEGATIVES), models(name)
    torch.manual_seed(0)
    want = reference(model, PROMPTS, NEGATIVES, 1.7).generate(**given, use_cache=False, max_new_tokens=5, **mode)
    negatives = {"negative_prompt_ids": negative.ids, "negative_prompt_attention_mask": negative.mask}
    torch.manual_seed(0)
    ours = guided(model).generate(**given, guidance_scale=1.7, max_new_tokens=5, **negatives, **mode)
    assert ours.tolist() == want.tolist()
    assert bool(transposing) is (mode.get("num_beams") != 5)
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_every_module_that_gains_is_multiplied_so_in_every_step(transposing, name):
    """The heads are 60 × 32, the layers 96, 64, 48, 32 and 16 × 32 and back; what goes back gains nothing."""
    model = build(name)
    guided(model).generate(torch.tensor([PROMPTS[0]]), guidance_scale=1.7, max_new_tokens=4, min_new_tokens=4)
    names = {id(module): kind for kind, module in model.named_modules()}
    each = {"gpt2": ["c_attn", "attn.c_proj", "c_fc"], "llama": ["q_proj", "o_proj", "gate_proj", "up_proj"]}[name]
    expected = [kind for kind in names.values() if kind.endswith((*each, "lm_head"))]
    assert sorted(names[id(module)] for module in transposing) == sorted(3 * expected)  # the first token is of the prompt


def test_the_model_is_left_as_it_was_when_a_step_fails(transposing):
    model = build("llama")

    def fails(*_):
        raise RuntimeError("no memory")

    model.lm_head.register_forward_hook(lambda *_: fails() if transposing else None)
    with pytest.raises(RuntimeError, match="no memory"):
        guided(model).generate(torch.tensor([PROMPTS[0]]), guidance_scale=1.7, max_new_tokens=4)
    assert transposing
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_a_forward_that_is_not_ours_stays(transposing):
    """Wrapped after the rows were known, or while a step was under way."""
    model = build("llama")
    step = cpu_matmul.stepping(model, 2)
    first, second = model.model.layers[0].mlp.gate_proj, model.model.layers[1].mlp.gate_proj
    first.forward = wrapped = first.forward
    inner = second.register_forward_hook(lambda module, *_: setattr(module, "forward", wrapped))
    step(input_ids=torch.tensor([[5], [6]]), use_cache=False)
    inner.remove()
    assert transposing
    assert first.__dict__["forward"] is wrapped
    assert second.__dict__["forward"] is wrapped
    assert sum("forward" in module.__dict__ for module in model.modules()) == 2


def test_a_product_can_be_compiled():
    """Its rows are a symbol where their number changes, as in a `forward` that the user has compiled."""
    module = module_of(nn.Linear, True)
    compiled = torch.compile(lambda x: cpu_matmul.transposed(module, x), backend="eager", dynamic=True)
    for rows in (3, 4, 9):
        x = torch.randn(rows, 1, 16)
        torch.testing.assert_close(compiled(x), module(x))


def test_modules_that_are_more_than_a_product_are_left_alone(transposing):
    class Adapted(nn.Linear):
        pass

    model = build("llama")
    first, second = model.model.layers[0].mlp, model.model.layers[1].mlp
    first.gate_proj.__class__ = Adapted
    second.gate_proj.forward = wrapped = second.gate_proj.forward
    second.up_proj.to(torch.float64)
    model.model.layers[0].self_attn.q_proj.weight = nn.Parameter(torch.randn(32, 32).mT, requires_grad=False)
    found = {id(module) for module in cpu_matmul.stepping(model, 2).modules}
    assert id(first.up_proj) in found
    left = (first.gate_proj, second.gate_proj, second.up_proj, model.model.layers[0].self_attn.q_proj, first.down_proj)
    assert not any(id(module) in found for module in left)
    assert second.gate_proj.__dict__["forward"] is wrapped


def test_small_products_are_left_alone(transposing, monkeypatch):
    """The heads have 60 × 32 weights, the layers at most 48 × 32."""
    monkeypatch.setattr(cpu_matmul, "SMALL", 60 * 32)
    model = build("llama")
    assert cpu_matmul.stepping(model, 2).modules == [model.lm_head]


@pytest.mark.parametrize("rows", [1, 9])
def test_one_row_and_many_are_read_by_the_model_itself(transposing, rows):
    model = build("llama")
    assert cpu_matmul.stepping(model, rows) is model


def test_a_small_model_is_read_by_the_model_itself(monkeypatch):
    model = build("llama")
    monkeypatch.setattr(cpu_matmul, "_RESULTS", Results(True))
    assert cpu_matmul.stepping(model, 2) is model


def test_the_switch_turns_all_of_it_off(transposing, monkeypatch):
    """The layout too; with any other value it stays on."""
    model = build("gpt2")
    want = guided(build("gpt2")).generate(torch.tensor([PROMPTS[0]]), guidance_scale=1.7, max_new_tokens=4)
    transposing.clear()
    monkeypatch.setenv("ARGUIDE_CPU_MATMUL", "0")
    assert guided(model).generate(torch.tensor([PROMPTS[0]]), guidance_scale=1.7, max_new_tokens=4).equal(want)
    assert not transposing
    assert model.transformer.h[0].mlp.c_fc.weight.is_contiguous()
    monkeypatch.setenv("ARGUIDE_CPU_MATMUL", "1")
    guided(model).generate(torch.tensor([PROMPTS[0]]), guidance_scale=1.7, max_new_tokens=4)
    assert transposing


@pytest.fixture
def clock(monkeypatch):
    """Let every product take the seconds of its form, (x Wᵀ, (W xᵀ)ᵀ), and count the products in either form."""
    seconds, done, now = [1.0, 1.0], {"plain": 0, "other": 0}, [0.0]

    def timed(form, product):
        def run(module, x):
            done[form] += 1
            now[0] += seconds[form == "other"]
            return product(module, x)

        return run

    monkeypatch.setattr(cpu_matmul, "LARGE", 0)
    monkeypatch.setattr(cpu_matmul, "SMALL", 60 * 32)  # the head alone
    monkeypatch.setattr(cpu_matmul, "perf_counter", lambda: now[0])
    monkeypatch.setattr(cpu_matmul, "transposed", timed("other", cpu_matmul.transposed))
    monkeypatch.setattr(nn.Linear, "forward", timed("plain", nn.Linear.forward))
    monkeypatch.setattr(cpu_matmul, "_RESULTS", {})
    return SimpleNamespace(seconds=seconds, done=done)


def call(model, steps=10):
    """Read so many steps as a call of `generate` does."""
    step = cpu_matmul.stepping(model, 2)
    for _ in range(steps):
        step(input_ids=torch.tensor([[5], [6]]), use_cache=False)


@pytest.mark.parametrize(("seconds", "faster"), [((2.0, 1.0), True), ((1.0, 1.0), False), ((1.0, 2.0), False)])
def test_the_form_follows_the_times(clock, seconds, faster):
    clock.seconds[:] = seconds
    call(build("llama"))
    assert {(torch.get_num_threads(), 2): [faster]} == cpu_matmul._RESULTS
    assert clock.done["other"] == (3 + 4 if faster else 1)  # a negative trial ends at once


def test_a_trial_multiplies_nothing_twice(clock):
    """Its products are those that the model needs anyway."""
    model = build("llama")
    call(model)
    assert sum(clock.done.values()) == 10 * sum(isinstance(module, nn.Linear) for module in model.modules())


def test_a_negative_result_is_measured_again_and_a_positive_one_stays(clock):
    """A busy machine gives false negatives, five of which are final."""
    model, results, key = build("llama"), [], (torch.get_num_threads(), 2)
    for seconds in ((1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, 2.0)):
        clock.seconds[:] = seconds
        call(model)
        results.append(list(cpu_matmul._RESULTS[key]))
    assert results == [[False], [False] * 2, [False, False, True], [False, False, True]]
    cpu_matmul._RESULTS[key] = [False] * 4
    assert cpu_matmul.stepping(model, 2) is not model
    cpu_matmul._RESULTS[key] = [False] * 5
    assert cpu_matmul.stepping(model, 2) is model


def test_a_result_holds_for_its_number_of_rows(clock):
    """On some processors (W xᵀ)ᵀ is the faster form for eight rows and the slower one for two."""
    model = build("llama")
    clock.seconds[:] = 2.0, 1.0
    call(model)
    assert cpu_matmul.stepping(model, 2).left == 0
    assert cpu_matmul.stepping(model, 8).left > 0


def test_a_product_of_middle_size_is_timed(monkeypatch):
    monkeypatch.setattr(cpu_matmul, "_RESULTS", {})
    monkeypatch.setattr(cpu_matmul, "LARGE", 0)
    monkeypatch.setattr(cpu_matmul, "SMALL", 0)
    model = build("llama")  # the head has 60 × 32 weights, gate and up projections 48 × 32
    for largest, names in ((2**21, {"lm_head"}), (48 * 32, {"gate_proj", "up_proj"}), (1, {"q_proj", "o_proj"})):
        monkeypatch.setattr(cpu_matmul, "MIDDLE", largest)
        trial = {id(module) for module in cpu_matmul.stepping(model, 2)._trial}
        assert {name.rsplit(".")[-1] for name, module in model.named_modules() if id(module) in trial} == names


def test_a_call_that_is_too_short_gives_no_result(clock):
    clock.seconds[:] = 2.0, 1.0
    call(build("llama"), steps=5)
    assert {(torch.get_num_threads(), 2): []} == cpu_matmul._RESULTS


@pytest.mark.parametrize(("better", "few"), [(True, range(2, 9)), (False, range(2, 4))])
def test_weights_are_laid_out_for_the_rows_at_hand(transposing, monkeypatch, better, few):
    """Layouts change back and forth with the rows; shapes, values and texts do not."""
    monkeypatch.setattr(cpu_matmul, "_RESULTS", Results(better))
    model = build("gpt2")
    plain = copy.deepcopy(model)
    weight = model.transformer.h[0].mlp.c_fc.weight
    for rows in (2, 3, 4, 8, 9, 2, 1, 12, 1):
        before = weight.is_contiguous()
        cpu_matmul.stepping(model, rows)
        assert weight.is_contiguous() is (before if rows == 1 else rows not in few)
        assert weight.shape == (32, 128)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    for prompts in (1, 2, 1):
        out = guided(model).generate(torch.tensor([PROMPTS[0]] * prompts), guidance_scale=2.0, max_new_tokens=9)
        want = plain.generate(torch.tensor([PROMPTS[0]] * prompts), guidance_scale=2.0, max_new_tokens=9)
        assert out.tolist() == want.tolist()
    assert weight.requires_grad
    assert not weight.is_inference()


def test_a_model_laid_out_anew_is_saved_as_ever(tmp_path):
    """`guided` promises it."""
    model = build("gpt2")
    model.save_pretrained(tmp_path / "before")
    guided(model).generate(torch.tensor([PROMPTS[0]]), guidance_scale=2.0, max_new_tokens=3)
    assert not model.transformer.h[0].mlp.c_fc.weight.is_contiguous()
    guided(model).save_pretrained(tmp_path / "after")
    before, after = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("before", "after"))
    assert before == after
