"""Losses of causal language models of `transformers`; `arguide.training.fit` minimises them."""

import torch
from torch import Tensor, nn
from torch.nn import functional

IGNORED = -100  # the label of padding, which adds no loss


def causal_losses(model: nn.Module, tokens: Tensor, first: Tensor) -> Tensor:
    """Return Σ_t −log p(x_t | first, x_<t) of every row under a causal model, [n].

    Args:
        model: a causal language model of `transformers`.
        tokens: x [n, T], padded with `IGNORED` after their end.
        first: the token before each row, [n]: the control token of its label, or the one for no label.
    """
    tokens = tokens[:, : int((tokens != IGNORED).sum(1).max())]
    inputs = torch.cat([first[:, None], tokens[:, :-1].clamp(min=0)], 1)
    logits = model(input_ids=inputs).logits
    losses = functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.view(tokens.shape).sum(1)


def causal_loss(model: nn.Module, tokens: Tensor, first: Tensor) -> Tensor:
    """Return Σ `causal_losses` / number of tokens, [].

    Args:
        model: as in `causal_losses`.
        tokens: x [n, T].
        first: the token before each row, [n].
    """
    return causal_losses(model, tokens, first).sum() / (tokens != IGNORED).sum()
