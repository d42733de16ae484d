r"""Metropolis–Hastings chains on the joint law: a step cuts a sequence and redraws the part after the cut.

A step from x of length L draws the cut m uniformly from 0, …, L − 1, and x′ with x′_<m = x_<m and the rest from the proposal q.
It is accepted with probability

    α = min(1, p̃(x′)/p̃(x) · q(x_≥m|x_<m)/q(x′_≥m|x_<m) · L/L′),

where L/L′ is the ratio of the probabilities to cut at m, 1/L from x and 1/L′ back from x′. With the sequential law as q the
first two ratios are Π_{t≥m} Z_t(x′_<t) / Z_t(x_<t). The law Π_k p_k(x)^{w_k} / Z is invariant, and Z is not needed.

Sources: Hastings, "Monte Carlo sampling methods using Markov chains" (1970), doi:10.1093/biomet/57.1.97; Karan & Du, "Reasoning
with sampling", arXiv:2510.14901, for suffixes of language models, without the ratio of lengths.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from arguide import checks, sampling
from arguide.models import Autoregressive
from arguide.sampling import Propose
from arguide.smc.draws import Draw, categorical
from arguide.smc.samples import Chains, Sample
from arguide.stopping import ending_tokens, lengths, padded
from arguide.transforms import Transform, identity


def sample_metropolis(
    model: Autoregressive,
    n: int,
    length: int,
    steps: int,
    *,
    draw: Draw | None = None,
    generator: torch.Generator | None = None,
    transform: Transform = identity,
    propose: Propose = sampling.sequential,
    first: Tensor | None = None,
) -> Chains:
    """Run n chains of `steps` steps on the joint law of sequences of at most `length` tokens.

    Args:
        model: as for `particles.sample_joints`, a `stopping.Ending` for variable length.
        n: number of chains.
        length: T.
        steps: number of steps per chain.
        draw: log-probs [n, K] ↦ indices [n]; `categorical(generator)` by default.
        generator: of the default draw.
        transform: of the proposal, which must be able to propose every sequence of the target.
        propose: the proposal before the transform.
        first: the first sequences, [n, t ≤ T], with tokens after their ends ignored; drawn from the proposal by default.

    Raises:
        ValueError: a first sequence of probability 0, of another number of rows than n, or of more than `length` tokens.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
        >>> chains = arguide.sample_metropolis(law, 100, 2, 5)
        >>> chains.tokens.shape, chains.log_weight.shape
        (torch.Size([100, 2]), torch.Size([5, 100]))
    """
    sampling.check_sizes(model, n, length, 1)
    checks.integer("steps", steps, 0)
    draw = checks.function("draw", draw or categorical(generator))
    checks.functions(transform=transform, propose=propose)
    ends = ending_tokens(model)

    def redraw(kept: Draw) -> Sample:
        drawn = sampling.rollout(model, n, length, draw=kept, transform=transform, propose=propose)
        return _widened(drawn, length, ends)

    if first is None:
        now = redraw(draw)
    else:
        _check_first(first, n, length)
        first = padded(first, length, ends)  # rows of pooled runs may have different ending tokens after their ends
        now = _widened(sampling.retrace(model, first, transform=transform, propose=propose), length, ends)
    if not now.log_weights.isfinite().all():
        raise ValueError("first must have positive probability, got a sequence of probability 0; try sequences of particles")
    accepted = torch.zeros(n, device=now.x.device)
    history = [now.log_target.new_empty((0, n))]
    for _ in range(steps):
        now, moved = step(now, redraw, draw, ends)
        accepted += moved
        history.append(now.log_weights[None])
    return Chains(now.x, accepted / max(steps, 1), now.log_target, now.log_normalizer, torch.cat(history))


def step(now: Sample, redraw: Callable[[Draw], Sample], draw: Draw, ends: tuple[int, ...] = ()) -> tuple[Sample, Tensor]:
    """Cut every chain, redraw it from there, and accept or reject; return the chains, and which of them moved, [n].

    Args:
        now: the chains, n sequences.
        redraw: draw ↦ n sequences from the proposal.
        draw: log-probs [n, K] ↦ indices [n].
        ends: the ending tokens.
    """
    cut = draw(_cuts(now, ends))
    proposed = redraw(_keeping(now.x, cut, draw))
    log_ratio = proposed.log_weights - now.log_weights + _log_length(now, ends) - _log_length(proposed, ends)
    accept = log_ratio.clamp(max=0.0)
    moved = draw(torch.stack([torch.log1p(-accept.exp()), accept], 1)) == 1
    return Sample(*(torch.where(moved[:, None], a, b) for a, b in zip(proposed, now, strict=True))), moved


def _check_first(first: Tensor, n: int, length: int) -> None:
    fits = isinstance(first, Tensor) and first.ndim == 2 and len(first) == n and first.shape[1] <= length
    if not fits or first.is_floating_point():
        raise checks.refusal("first", f"integer tokens [{n}, at most {length}]", first)


def _cuts(sample: Sample, ends: tuple[int, ...]) -> Tensor:
    """Return the log-probs of the cut, [n, T]: uniform over the tokens of a sequence, its ending token included."""
    size = lengths(sample.x, ends)
    after = torch.arange(sample.x.shape[1], device=size.device) >= size[:, None]
    even = -size.to(sample.log_target).log()
    return even[:, None].expand_as(sample.log_target).masked_fill(after, -math.inf)


def _log_length(sample: Sample, ends: tuple[int, ...]) -> Tensor:
    return lengths(sample.x, ends).to(sample.log_target).log()


def _keeping(tokens: Tensor, cut: Tensor, draw: Draw) -> Draw:
    """Return the draw that repeats the tokens before the cut, and draws after it; for one pass over the positions."""
    positions = itertools.count()

    def kept(law: Tensor) -> Tensor:
        t = next(positions)
        before = t < cut
        return tokens[:, t] if before.all() else torch.where(before, tokens[:, t], draw(law))

    return kept


def _widened(sample: Sample, length: int, ends: tuple[int, ...]) -> Sample:
    """Return the sample with padding after the end up to the cap."""
    missing = (0, length - sample.x.shape[1])
    return Sample(padded(sample.x, length, ends), *(functional.pad(rows, missing) for rows in sample[1:]))
