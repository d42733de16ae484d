"""How a step of few rows multiplies by a model's weights on a CPU; all of guidance's price is whether two rows cost one.

A matrix-vector product reads the weights once, and so could a product with two rows. Whether it does depends on three things:

- the layout. `Linear` stores [out, in], GPT-2's `Conv1D` [in, out]; few rows want the first, many the second;
- the form. x Wᵀ and (W xᵀ)ᵀ are the same numbers by different routines of the library below;
- the processor. On some x Wᵀ with two rows costs what it costs with one; on others twice as much, and (W xᵀ)ᵀ once.

So the form is tried, with a weight that no cache holds, and the layout follows the rows at hand. A yes stands for the process;
a no is what a busy machine says as well, so the next calls ask again. Values and shapes of the weights stay as they are;
outside of a guided step the model multiplies as it always does.
"""

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

FEW = range(2, 9)  # rows for which (W xᵀ)ᵀ may be the better form
FEW_PLAIN = range(2, 4)  # rows for which [out, in] is the better layout of x Wᵀ
LARGE = 2**22  # weights of a model, 16 MiB, that leave the caches between two steps
SMALL = 2**16  # weights of one product that calls cost more than numbers
PROBE = (2**14, 2**8)
TRIALS = 5  # calls of `generate` that try, some 35 ms each, until one says yes
BETTER = 0.75  # of the time of x Wᵀ; what a processor does either takes less than this, or about as long

_TRIED: dict[int, list[bool]] = {}  # what the trials of this process have said, by the number of threads


def stepping(model: PreTrainedModel, rows: int) -> Callable[..., Any]:
    """Lay a model's weights out for steps of so many rows; return what reads one, the model in the better form."""
    modules = [module for module in model.modules() if _plain(module)]
    large = sum(_weight(module).numel() for module in modules) >= LARGE
    transposes = rows in FEW and large and transposed_is_better(torch.get_num_threads())
    if rows > 1:  # one row takes them as they are
        with torch.inference_mode(False):  # the weights are the model's own, and may be trained afterwards
            _lay_out(modules, few=rows in (FEW if transposes else FEW_PLAIN))
    gaining = [module for module in modules if transposes and _gains(_weight(module))]
    return partial(_step, model, gaining) if gaining else model


def transposed_is_better(threads: int) -> bool:
    """Whether (W xᵀ)ᵀ with two rows beats x Wᵀ on this processor with so many threads, as many as there are now."""
    tried = _TRIED.setdefault(threads, [])
    if not any(tried) and len(tried) < TRIALS:
        tried.append(_try_forms())
    return any(tried)


def _try_forms() -> bool:
    """Time both forms; the other one's product waits for every thread, so that beside other work it may seem the worse."""
    with torch.inference_mode():
        x, weight = torch.ones(2, PROBE[1]), torch.ones(PROBE)
        forms = (lambda: x @ weight.t(), lambda: (weight @ x.t()).t())
        plain, other = (min(times) for times in zip(*([_seconds(form) for form in forms] for _ in range(4)), strict=True))
    return other < BETTER * plain


def _step(model: PreTrainedModel, modules: Sequence[nn.Module], **inputs: Any) -> Any:
    ours = [(module, MethodType(_transposed, module)) for module in modules if "forward" not in module.__dict__]
    for module, forward in ours:
        module.__dict__["forward"] = forward
    try:
        return model(**inputs)
    finally:
        for module, forward in ours:
            if module.__dict__.get("forward") is forward:  # and not what has come in its place meanwhile
                del module.__dict__["forward"]


def _seconds(job: Callable[[], Tensor]) -> float:
    start = perf_counter()
    job()
    return perf_counter() - start


def _transposed(module: Any, x: Tensor) -> Tensor:
    """Return x Wᵀ + b, [..., out], as (W xᵀ + b)ᵀ if x has few rows."""
    weight = _weight(module)
    rows = x.numel() // weight.shape[1]
    if rows < FEW.start or rows >= FEW.stop:  # not `in`: a compiler's rows may be a symbol
        return functional.linear(x, weight, module.bias)
    columns = x.reshape(rows, -1).t()
    out = weight @ columns if module.bias is None else torch.addmm(module.bias[:, None], weight, columns)
    return out.t().contiguous().view(*x.shape[:-1], -1)


def _plain(module: Any) -> bool:
    """Whether a module is just a product with float32 weights on a CPU, not wrapped or quantised; hooks run around it."""
    if type(module) not in (nn.Linear, Conv1D) or "forward" in module.__dict__:
        return False
    weight = module.weight
    return type(weight) is nn.Parameter and weight.device.type == "cpu" and weight.dtype == torch.float32


def _weight(module: Any) -> Tensor:
    """Return W, [out, in]."""
    return module.weight.t() if type(module) is Conv1D else module.weight


def _gains(weight: Tensor) -> bool:
    """Whether (W xᵀ)ᵀ gains anything; where W is wider than high it does not, and in the other layout it is far slower."""
    return weight.numel() >= SMALL and weight.shape[0] >= weight.shape[1] and weight.is_contiguous()


def _lay_out(modules: Sequence[Any], few: bool) -> None:
    for module in modules:
        if type(module) is Conv1D:
            weight = module.weight.data
            if not few:
                module.weight.data = weight.contiguous()
            elif weight.is_contiguous():
                module.weight.data = weight.t().contiguous().t()
