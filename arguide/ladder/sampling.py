r"""Replica exchange of texts: sample the joint law and its log Z by a ladder of laws, whose levels adapt in a burn-in.

The burn-in has rounds of 1/8, 1/8, 1/4 and 1/2 of its sweeps. After each of the first three the levels move to where all pairs
reject the same share of exchanges, and the law of the cut follows the lengths of the texts. Then both stay, and nothing of the
burn-in enters a result.

Source: Syed, Bouchard-Côté, Deligiannidis & Doucet, "Non-reversible parallel tempering", arXiv:1905.02939, algorithm 2.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Generator, Tensor

from arguide import checks
from arguide.ladder import estimates
from arguide.ladder.diagnosis import Ladder as Ladder
from arguide.ladder.diagnosis import diagnosed
from arguide.ladder.replicas import Info, State, init, step
from arguide.ladder.texts import Levels, Texts
from arguide.models import Autoregressive
from arguide.sampling import check_sizes
from arguide.smc.draws import Draw, categorical
from arguide.stopping import Ending, ending_tokens, lengths, padded

BATCHES = 20  # of first texts, before the ladder gives up
EVEN = 0.1  # share of the cuts that are uniform over the T positions


def sample_ladder(
    model: Autoregressive,
    n: int,
    length: int,
    *,
    levels: int = 8,
    sweeps: int = 400,
    burn_in: int = 200,
    texts: int = 1,
    start: int | None = None,
    first: Tensor | None = None,
    draw: Draw | None = None,
    generator: Generator | None = None,
) -> Ladder:
    """Run n independent ladders, (levels − 1)·n texts in one batch, and diagnose them.

    Args:
        model: a `LogLinear` or a `continuation`, or an `Ending` of one for variable length.
        n: number of ladders, 2 at least.
        length: T, number of tokens; the cap of an `Ending`.
        levels: L, 2 at least, level 0 included.
        sweeps: number of sweeps after the burn-in, 2 at least; a sweep redraws two suffixes per text, and exchanges every
            pair once.
        burn_in: number of sweeps before them, which no estimate uses.
        texts: number of texts of the target per ladder, at equal distances over the sweeps.
        start: index of the branch that is level 0; by default that of the largest weight; of a `continuation` the
            prompt's own.
        first: texts to start from, [m, t ≤ T], in turn for all rows; drawn from level 0 by default.
        draw: log-probs [n, K] ↦ indices [n]; `categorical(generator)` by default.
        generator: of the default draw.

    Raises:
        ValueError: a model without branches or with a scale per row; a branch that cannot produce all texts of the target, or
            whose draws the target excludes; first texts of probability 0.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
        >>> ladder = arguide.sample_ladder(law, 16, 2, levels=3, sweeps=100, burn_in=24)
        >>> ladder.tokens.shape
        torch.Size([16, 2])
        >>> bool(abs(ladder.log_evidence - table.joint_guided(1, 3.0).log_normalizer) < 5 * ladder.std_error)
        True
    """
    check_sizes(model, n, length, 1)
    checks.integer("n", n, 2), checks.integer("levels", levels, 2)
    checks.integer("sweeps", sweeps, 2), checks.integer("burn_in", burn_in, 0)
    if checks.integer("texts", texts) > sweeps:
        raise checks.refusal("texts", f"at most {sweeps}, the number of sweeps", texts)
    draw = checks.function("draw", draw or categorical(generator))
    law = Levels(model, length, _start(model, start), torch.linspace(0, 1, levels, dtype=torch.float64))
    rows = (levels - 1) * n
    state = init(law, _drawn(law, rows, draw) if first is None else _given(law, first, rows), n)
    for part in (burn_in // 8, burn_in // 8, burn_in // 4):
        if part:
            state, info = run(law, state, _log_cuts(law, state), draw, part)
            law, state = _adapted(law, state, 1 - info.exchanged.mean((0, 2)))
    log_cuts = _log_cuts(law, state)
    if burn_in:
        state, _ = run(law, state, log_cuts, draw, burn_in - burn_in // 2)
    drawn, infos = [], []
    for part in range(texts):
        state, info = run(law, state, log_cuts, draw, sweeps * (part + 1) // texts - sweeps * part // texts)
        top = (state.level == levels - 1).flatten().nonzero()[:, 0]
        drawn.append(state.texts.rows(top[(top % n).argsort()]))
        infos.append(info)
    return diagnosed(law, Texts(*map(torch.cat, zip(*drawn, strict=True))), Info(*map(torch.cat, zip(*infos, strict=True))))


def run(levels: Levels, state: State, log_cuts: Tensor, draw: Draw, sweeps: int) -> tuple[State, Info]:
    """Run some sweeps; return the new state and what they measured, stacked, [sweeps, …].

    Args:
        levels: the laws.
        state: n ladders.
        log_cuts: log-probs of the cut, [T].
        draw: log-probs [n, K] ↦ indices [n].
        sweeps: their number, 1 at least.
    """
    feed, infos = _fresh(levels, state, draw, sweeps), []
    for _ in range(sweeps):
        fresh = next(feed)
        state, even = step(levels, state, fresh, log_cuts, draw, 0)
        state, odd = step(levels, state, fresh, log_cuts, draw, 1)
        exchanged = torch.where(even.exchanged.isnan(), odd.exchanged, even.exchanged)
        accepted = (even.accepted.to(exchanged) + odd.accepted) / 2
        infos.append(even._replace(exchanged=exchanged, accepted=accepted, trips=even.trips + odd.trips))
    return state, Info(*(torch.stack(column) for column in zip(*infos, strict=True)))


def _fresh(levels: Levels, state: State, draw: Draw, sweeps: int) -> Iterator[Texts]:
    """Yield n texts of level 0 per sweep, drawn in batches of the size of the ladder."""
    batch, n = state.level.shape
    for begin in range(0, sweeps, batch):
        rows = min(batch, sweeps - begin) * n
        level = torch.zeros(rows, dtype=torch.long, device=state.level.device)
        texts = levels.texts(rows, level, draw)
        yield from (texts.rows(each) for each in torch.arange(rows, device=level.device).view(-1, n))


def _start(model: Autoregressive, start: int | None) -> int:
    """Return the index of the branch of level 0, or raise ValueError for a model without branches or with a scale per row."""
    state = model.start(2)
    model.select(state, torch.arange(2, device=state.log_probs.device))  # refuses a scale per row: the target is one
    inner, law = (state.state, model.model) if isinstance(model, Ending) else (state, model)
    if not (hasattr(inner, "laws") and hasattr(inner, "log_normalizer")):
        raise checks.refusal("model", "a LogLinear, a continuation, or an Ending of one", law, "try arguide.LogLinear")
    weights = [float(weight) for weight in law.weights_at(0)] if hasattr(law, "weights_at") else [1.0]
    index = weights.index(max(weights)) if start is None else checks.integer("start", start, 0)
    if index >= len(inner.laws):
        raise checks.refusal("start", f"the index of a branch, below {len(inner.laws)}", index)
    return index


def _drawn(levels: Levels, rows: int, draw: Draw) -> Texts:
    """Return texts of level 0 that the target does not exclude, [rows, T]; some of them several times if they are rare."""
    level, found = torch.zeros(rows, dtype=torch.long, device=levels.device), []
    for _ in range(BATCHES):
        texts = levels.texts(rows, level, draw)
        found.append(texts.rows(texts.possible.nonzero()[:, 0]))
        if sum(len(each.tokens) for each in found) >= rows:
            break
    return _tiled(Texts(*map(torch.cat, zip(*found, strict=True))), rows)


def _given(levels: Levels, first: Tensor, rows: int) -> Texts:
    """Return given texts with their densities, [rows, T]."""
    fits = isinstance(first, Tensor) and first.ndim == 2 and len(first) > 0 and first.shape[1] <= levels.length
    if not fits or first.is_floating_point():
        raise checks.refusal("first", f"integer tokens [m, at most {levels.length}]", first)
    if not isinstance(levels.model, Ending) and first.shape[1] < levels.length:
        raise checks.refusal("first", f"of {levels.length} tokens, for a model without an end", first)
    checks.integer("tokens", int(first.min()), 0)
    checks.within("tokens", int(first.max()), levels.model.start(1).log_probs.shape[-1])
    texts = levels.read(padded(first.to(levels.device), levels.length, ending_tokens(levels.model)))
    return _tiled(texts.rows(texts.possible.nonzero()[:, 0]), rows)


def _tiled(texts: Texts, rows: int) -> Texts:
    """Return as many rows of texts, in turn."""
    if not len(texts.tokens):
        raise ValueError("first must have a text of positive probability, got none; try another start, or texts of particles")
    return texts.rows(torch.arange(rows, device=texts.tokens.device) % len(texts.tokens))


def _log_cuts(levels: Levels, state: State) -> Tensor:
    """Return the log-probs of the cut, [T]: mostly uniform within the texts, averaged over the texts."""
    size = lengths(state.texts.tokens, ending_tokens(levels.model))
    inside = torch.arange(levels.length, device=size.device) < size[:, None]
    return ((1 - EVEN) * (inside / size[:, None]).double().mean(0) + EVEN / levels.length).log()


def _adapted(levels: Levels, state: State, rejected: Tensor) -> tuple[Levels, State]:
    """Return levels between which the same share of exchanges is rejected, and the state with densities at these."""
    levels = replace(levels, u=estimates.equalised(levels.u, rejected.to(levels.u)))
    return levels, state._replace(texts=levels.read(state.texts.tokens), model=None, kept=0)
