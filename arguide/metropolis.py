r"""A second route to the joint law: Metropolis–Hastings that cuts a sequence and draws it anew from there.

From x of length L: a cut m uniform on 0, …, L − 1; x′ keeps x_<m and draws the rest from the proposal q. Accepted with

    α = min(1, p̃(x′)/p̃(x) · q(x_≥m|x_<m)/q(x′_≥m|x_<m) · L/L′),

where L/L′ is the ratio of the probabilities to cut at m, 1/L from x and 1/L′ back from x′. With the sequential law as q the
first two ratios are Π_{t≥m} Z_t(x′_<t) / Z_t(x_<t). The chains leave Π_k p_k(x)^{w_k} / Z as it is, without its Z.

Sources: Hastings, "Monte Carlo sampling methods using Markov chains" (1970); Karan & Du, "Reasoning with sampling" (2025), for
suffixes of language models, there without the ratio of lengths.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from arguide import checks, sampling
from arguide.models import Autoregressive
from arguide.sampling import Draw, Propose, Sample
from arguide.stopping import ending_tokens, lengths, padded
from arguide.transforms import Transform, identity


class Chains(NamedTuple):
    """n chains where they stand after their last step.

    tokens: [n, T].
    log_target: log p̃(x_t|x_<t) of the tokens, [n, T].
    log_normalizer: log Z_t(x_<t) along every sequence, [n, T].
    log_weight: log p̃(x)/q(x) = Σ_t log Z_t(x_<t) for the sequential law as q, after every step, [steps, n].
    accepted: share of accepted steps, [n].
    """

    tokens: Tensor
    log_target: Tensor
    log_normalizer: Tensor
    log_weight: Tensor
    accepted: Tensor


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
    advance: Callable[[], object] = lambda: None,
) -> Chains:
    """Run n chains of `steps` steps on the joint law of sequences of at most `length` tokens.

    Args:
        model: as for `particles.sample_joint`, an `stopping.Ending` for variable length.
        draw: the seam of all randomness: log-probs [n, K] to indices [n].
        transform, propose: of the proposal. It must be able to propose whatever the target holds.
        first: where the chains start, tokens [n, t ≤ T]; sequences from the proposal by default; what follows an end is cut.
        advance: called after every step.

    Raises:
        ValueError: a first sequence of probability 0, of another number of rows than n, or of more than `length` tokens.
    """
    sampling.check(model, n, length, 1)
    checks.integer("steps", steps, 0)
    draw = checks.function("draw", draw or sampling.categorical(generator))
    for name, part in (("transform", transform), ("propose", propose), ("advance", advance)):
        checks.function(name, part)
    ends = ending_tokens(model)

    def anew(kept: Draw) -> Sample:
        drawn = sampling.rollout(model, n, length, draw=kept, transform=transform, propose=propose)
        return _widened(drawn, length, ends)

    if first is None:
        now = anew(draw)
    else:
        _check_first(first, n, length)
        first = padded(first, length, ends)  # pooled runs end where each has ended, with any of the ending tokens
        now = _widened(sampling.retrace(model, first, transform=transform, propose=propose), length, ends)
    if not log_weight_of(now).isfinite().all():
        raise ValueError("a chain starts at a sequence of probability 0; give others as `first`, such as particles have drawn")
    accepted = torch.zeros(n, device=now.tokens.device)
    history: list[Tensor] = []
    for _ in range(steps):
        now, moved = step(now, anew, draw, ends)
        accepted += moved
        history.append(log_weight_of(now))
        advance()
    log_weight = torch.stack(history) if history else now.log_target.new_empty((0, n))
    return Chains(now.tokens, now.log_target, now.log_normalizer, log_weight, accepted / max(steps, 1))


def step(now: Sample, anew: Callable[[Draw], Sample], draw: Draw, ends: tuple[int, ...] = ()) -> tuple[Sample, Tensor]:
    """Cut every chain, draw it anew from there, and accept or not; return the chains and which ones moved, [n]."""
    cut = draw(_cuts(now, ends))
    proposed = anew(_keeping(now.tokens, cut, draw))
    log_ratio = log_weight_of(proposed) - log_weight_of(now) + _log_length(now, ends) - _log_length(proposed, ends)
    accept = log_ratio.clamp(max=0.0)
    moved = draw(torch.stack([torch.log1p(-accept.exp()), accept], 1)) == 1
    return _where(moved, proposed, now), moved


def log_weight_of(sample: Sample) -> Tensor:
    """Return log p̃(x)/q(x), [n]; what two sequences share of it cancels in their ratio."""
    return (sample.log_target - sample.log_proposal).sum(1)


def _check_first(first: Tensor, n: int, length: int) -> None:
    fits = isinstance(first, Tensor) and first.ndim == 2 and len(first) == n and first.shape[1] <= length
    if not fits or first.is_floating_point():
        raise checks.refusal("first", f"integer tokens [{n}, at most {length}]", first)


def _cuts(sample: Sample, ends: tuple[int, ...]) -> Tensor:
    """Return the law of where to cut, [n, T]: uniform on a sequence with its end."""
    size = lengths(sample.tokens, ends)
    after = torch.arange(sample.tokens.shape[1], device=size.device) >= size[:, None]
    even = -size.to(sample.log_target).log()
    return even[:, None].expand_as(sample.log_target).masked_fill(after, -math.inf)


def _log_length(sample: Sample, ends: tuple[int, ...]) -> Tensor:
    return lengths(sample.tokens, ends).to(sample.log_target).log()


def _keeping(tokens: Tensor, cut: Tensor, draw: Draw) -> Draw:
    """Return the draw that repeats the tokens before the cut, position after position."""
    positions = itertools.count()

    def kept(law: Tensor) -> Tensor:
        t = next(positions)
        fixed = t < cut
        return tokens[:, t] if fixed.all() else torch.where(fixed, tokens[:, t], draw(law))

    return kept


def _where(moved: Tensor, new: Sample, old: Sample) -> Sample:
    return Sample(*(torch.where(moved[:, None], a, b) for a, b in zip(new, old, strict=True)))


def _widened(sample: Sample, length: int, ends: tuple[int, ...]) -> Sample:
    """Return the sample with padding after the end up to the cap."""
    missing = (0, length - sample.tokens.shape[1])
    return Sample(padded(sample.tokens, length, ends), *(functional.pad(rows, missing) for rows in sample[1:]))
