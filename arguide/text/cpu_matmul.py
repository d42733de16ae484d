"""Choose the faster of two matrix products for guided steps of few rows on a CPU.

A product with two rows can be as fast as one with one row, for both read the weights once. Whether it is depends on

- the layout: `Linear` stores [out, in], GPT-2's `Conv1D` [in, out]; few rows are faster with the first, many with the second;
- the form: x Wᵀ and (W xᵀ)ᵀ are the same numbers, by different routines of the library below;
- the processor: on some, x Wᵀ with two rows costs twice one row, and (W xᵀ)ᵀ costs one.

The first steps of a call are the trial. They multiply by weights of middle size in both forms alternately, and time it, until
the second form is not faster. So a negative trial costs a part of one step. A positive result is cached for the process and the
number of rows. A negative one is measured again in the next calls, because a busy machine gives false negatives. The values and
shapes of the weights stay the same, and outside of guided steps a model multiplies as usual. The two forms round differently,
so log-probs may differ in their last digits.

The environment variable ARGUIDE_CPU_MATMUL=0 turns all of this off; guided steps then multiply as the model does.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

SWITCH = "ARGUIDE_CPU_MATMUL"
FEW = range(2, 9)  # rows for which (W xᵀ)ᵀ may be the faster form
FEW_PLAIN = range(2, 4)  # rows for which [out, in] is the faster layout of x Wᵀ
LARGE = 2**22  # weights of a model, 16 MiB, that do not stay in the caches between two steps
MIDDLE = 2**21  # weights of a product that is timed, at most: a trial of the head would cost milliseconds
SMALL = 2**16  # weights of a product whose time is that of calls
TRIALS = 5  # calls of `generate` that measure until a result is positive
PAIRS = 3  # steps in each form per trial
BETTER = 0.75  # of the time of x Wᵀ; a processor takes either less than this, or about the same

_RESULTS: dict[tuple[int, int], list[bool]] = {}  # of the trials of this process, by numbers of threads and rows


@dataclass
class Step:
    """One step of a model, with the faster form in the modules that gain from it.

    Attributes:
        model: the model.
        modules: the modules that gain from (W xᵀ)ᵀ.
        results: of all trials with these numbers of threads and rows.
        left: number of steps that are still timed.
        seconds: times of x Wᵀ and of (W xᵀ)ᵀ.
    """

    model: PreTrainedModel
    modules: Sequence[nn.Module]
    results: list[bool]
    left: int = 0
    seconds: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    def __call__(self, **inputs: Any) -> Any:
        """Read a step with the model's own arguments."""
        if not self.left:
            return self._replaced(self.modules, transposed, inputs) if any(self.results) else self.model(**inputs)
        self.left -= 1
        out = self._replaced(self._trial, self._timed, inputs)
        plain, other = self.seconds
        if self.left % 2 == 0 and plain and other:
            faster = min(other) < BETTER * min(plain)
            self.left = self.left if faster else 0
            if not self.left:
                self.results.append(faster)
        return out

    @cached_property
    def _trial(self) -> list[nn.Module]:
        """The modules that are timed: those of the largest size up to `MIDDLE`, or of the smallest."""
        sizes = {_weight(module).numel() for module in self.modules}
        size = max((each for each in sizes if each <= MIDDLE), default=min(sizes))
        return [module for module in self.modules if _weight(module).numel() == size]

    def _replaced(self, modules: Sequence[nn.Module], product: Callable[[Any, Tensor], Tensor], inputs: dict[str, Any]) -> Any:
        """Read a step with another product in some modules, unless their `forward` has been wrapped."""
        ours = [(module, MethodType(product, module)) for module in modules if "forward" not in module.__dict__]
        for module, forward in ours:
            module.__dict__["forward"] = forward
        try:
            return self.model(**inputs)
        finally:
            for module, forward in ours:
                if module.__dict__.get("forward") is forward:  # not one that was set meanwhile
                    del module.__dict__["forward"]

    def _timed(self, module: Any, x: Tensor) -> Tensor:
        """Multiply in one of the forms, alternately, and record the time."""
        other = self.left % 2 == 0
        start = perf_counter()
        out = transposed(module, x) if other else type(module).forward(module, x)
        self.seconds[other].append(perf_counter() - start)
        return out


def stepping(model: PreTrainedModel, rows: int) -> Callable[..., Any]:
    """Lay out a model's weights for steps of `rows` rows; return the function for a step, the model itself without a gain."""
    if os.environ.get(SWITCH) == "0":
        return model
    modules = [module for module in model.modules() if _is_plain(module)]
    results = _RESULTS.setdefault((torch.get_num_threads(), rows), [])
    large = rows in FEW and sum(_weight(module).numel() for module in modules) >= LARGE
    if rows > 1:  # one row takes any layout
        with torch.inference_mode(False):  # the weights are the model's own, and may be trained afterwards
            _lay_out(modules, few=rows in (FEW if large and any(results) else FEW_PLAIN))
    if not large or (len(results) >= TRIALS and not any(results)):
        return model
    gaining = list(filter(_gains, modules))
    return Step(model, gaining, results, 0 if any(results) else 2 * PAIRS) if gaining else model


def transposed(module: Any, x: Tensor) -> Tensor:
    """Return x Wᵀ + b, [..., out], as (W xᵀ + b)ᵀ if x has few rows."""
    weight = _weight(module)
    rows = x.numel() // weight.shape[1]
    if rows < FEW.start or rows >= FEW.stop:  # not `in`: for a compiler the number of rows may be a symbol
        return functional.linear(x, weight, module.bias)
    columns = x.reshape(rows, -1).t()
    out = weight @ columns if module.bias is None else torch.addmm(module.bias[:, None], weight, columns)
    return out.t().contiguous().view(*x.shape[:-1], -1)


def _is_plain(module: Any) -> bool:
    """Whether a module is a product with float32 weights on a CPU, neither wrapped nor quantised; hooks run around it."""
    if type(module) not in (nn.Linear, Conv1D) or "forward" in module.__dict__:
        return False
    weight = module.weight
    return type(weight) is nn.Parameter and weight.device.type == "cpu" and weight.dtype == torch.float32


def _weight(module: Any) -> Tensor:
    """Return W, [out, in]."""
    return module.weight.t() if type(module) is Conv1D else module.weight


def _gains(module: nn.Module) -> bool:
    """Whether (W xᵀ)ᵀ can be faster: not for W that is wider than high, nor in the other layout, where it is far slower."""
    weight = _weight(module)
    return weight.numel() >= SMALL and weight.shape[0] >= weight.shape[1] and weight.is_contiguous()


def _lay_out(modules: Sequence[Any], few: bool) -> None:
    """Store the weights of `Conv1D` as [out, in] for few rows, else as [in, out]."""
    for module in modules:
        if type(module) is Conv1D:
            weight = module.weight.data
            if not few:
                module.weight.data = weight.contiguous()
            elif weight.is_contiguous():
                module.weight.data = weight.t().contiguous().t()
