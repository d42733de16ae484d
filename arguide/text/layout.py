"""The layout of GPT-2's weights in a CPU's memory, which decides what a step of few rows costs.

`Conv1D` stores [in, out] where `Linear` stores [out, in]. On a CPU a product with one row reads either at the same speed; with
two or three rows the first takes twice as long, the second no longer than with one; from four rows on the first is the
better one again. So the weights are laid out for the rows at hand. Values and shapes stay as they are.
"""

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

FEW = (2, 3)


def lay_out(model: PreTrainedModel, rows: int) -> None:
    """Lay a model's `Conv1D` weights out for steps of so many rows; one row takes them as they are."""
    if rows == 1:
        return
    with torch.inference_mode(False):  # the weights are the model's own, and may be trained afterwards
        _lay_out(model, rows)


def _lay_out(model: PreTrainedModel, rows: int) -> None:
    for module in model.modules():
        if isinstance(module, Conv1D) and module.weight.device.type == "cpu" and module.weight.dtype == torch.float32:
            weight = module.weight.data
            if rows not in FEW:
                module.weight.data = weight.contiguous()
            elif weight.is_contiguous():
                module.weight.data = weight.t().contiguous().t()
