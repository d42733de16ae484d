"""Losses of causal language models, against log-probs of single rows."""

import torch
from small import build

from arguide.text.training import IGNORED, causal_loss, causal_losses


def test_the_loss_of_a_causal_model_counts_every_token_once():
    """Row by row without padding, the label's token first; a row's own length decides what counts."""
    model = build("llama")
    tokens = torch.tensor([[5, 6, 7, 2], [9, 2, IGNORED, IGNORED], [4, 4, 2, IGNORED]])
    first = torch.tensor([30, 31, 30])
    expected = []
    with torch.no_grad():
        for row, start in zip(tokens, first, strict=True):
            own = row[row != IGNORED]
            log_probs = model(torch.cat([start[None], own])[None]).logits[0, :-1].log_softmax(-1)
            expected.append(-log_probs.gather(1, own[:, None]).sum())
        torch.testing.assert_close(causal_losses(model, tokens, first), torch.stack(expected), atol=1e-4, rtol=0)
        torch.testing.assert_close(causal_loss(model, tokens, first), torch.stack(expected).sum() / 9, atol=1e-5, rtol=0)
