r"""One sweep of replica exchange: redraw suffixes within the levels, then exchange texts between neighbouring levels.

    suffix      cut all texts at one place, redraw what follows from the sequential law of each level, and accept with
                min(1, Π_{t ≥ cut} Z_t(x′_<t) / Z_t(x_<t))
    exchange    texts x, x′ at levels i, i + 1 with min(1, exp(W_i(x) − W_i(x′))), W_i(x) = (u_{i+1} − u_i) r(x)

Level 0 is the sequential law of p_0, with fresh draws in every sweep. It differs from p_0 only where a cap forces an end, which
adds Σ_t log Z_t(x_<t) of level 0 to W_0. All texts share the cut, whose law depends on no text; so no ratio of lengths enters,
as it would for a cut that is drawn within each text. The n ladders of a batch share nothing but the cuts.

Even and odd pairs take turns. Ladders exchange levels rather than texts, so a model's states stay where they are.

Sources: Geyer, "Markov chain Monte Carlo maximum likelihood" (1991), https://hdl.handle.net/11299/58440; Syed, Bouchard-Côté,
Deligiannidis & Doucet, "Non-reversible parallel tempering", arXiv:1905.02939.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from arguide.ladder.texts import Levels, Texts
from arguide.models import resumed
from arguide.smc.draws import Draw


class State(NamedTuple):
    """n ladders; level 0 has no text of its own.

    texts: row i·n + j is text i of ladder j, [(L − 1)·n, T].
    level: the level of each text, 1 to L − 1, [(L − 1), n].
    rising: whether the text was at level 0 later than at level L − 1, [(L − 1), n].
    model: the model's state after some tokens, of which the first `kept` are those of the texts.
    kept: see `model`.
    """

    texts: Texts
    level: Tensor
    rising: Tensor
    model: Any
    kept: int

    def ordered(self, rows: Tensor) -> Tensor:
        """Return values of the texts, [(L − 1)·n, …], by level, [L − 1, n, …]."""
        rows = rows.view(*self.level.shape, *rows.shape[1:])
        order = self.level.argsort(0)
        return rows.gather(0, order.view(*order.shape, *[1] * (rows.ndim - 2)).expand_as(rows))


class Info(NamedTuple):
    """Measurements of one sweep, before its exchanges.

    ratios: r of the texts at every level, [L, n].
    log_weights: Σ_t log Z_t of level 0 along them, [L, n].
    accepted: whether each text moved, by level, [L − 1, n].
    exchanged: probability of every exchange, [L − 1, n]; NaN for the pairs of the other turn.
    trips: number of texts that came to level 0 after level L − 1, or to level L − 1 after level 0, [2, n].
    """

    ratios: Tensor
    log_weights: Tensor
    accepted: Tensor
    exchanged: Tensor
    trips: Tensor


def init(levels: Levels, texts: Texts, n: int) -> State:
    """Return n ladders with texts.

    Args:
        levels: the laws.
        texts: [(L − 1)·n, T], the first n at level 1, the next at level 2, ….
        n: number of ladders.
    """
    level = torch.arange(1, len(levels.u), device=texts.tokens.device)[:, None].expand(-1, n).contiguous()
    return State(texts, level, level < len(level), None, 0)


def step(levels: Levels, state: State, fresh: Texts, log_cuts: Tensor, draw: Draw, turn: int) -> tuple[State, Info]:
    """Move every text within its level, then exchange levels.

    Args:
        levels: the laws.
        state: n ladders.
        fresh: n texts from the sequential law of level 0.
        log_cuts: log-probs of the cut, [T].
        draw: log-probs [n, K] ↦ indices [n].
        turn: 0 for the pairs (0, 1), (2, 3), …; 1 for (1, 2), (3, 4), ….
    """
    state, moved = redraw(levels, state, int(draw(log_cuts[None])), draw)
    ratios = torch.cat([fresh.ratio[None], state.ordered(state.texts.ratio)])
    log_weights = torch.cat([fresh.log_weight[None], state.ordered(state.texts.log_weight)])
    state, log_accept, trips = exchange(state, fresh, log_exchange(levels, ratios, log_weights), draw, turn)
    return state, Info(ratios, log_weights, moved, log_accept.exp(), trips)


def redraw(levels: Levels, state: State, cut: int, draw: Draw) -> tuple[State, Tensor]:
    """Redraw what follows the cut, and accept or reject.

    Args:
        levels: the laws.
        state: n ladders.
        cut: number of tokens that stay.
        draw: log-probs [n, K] ↦ indices [n].

    Returns:
        The new state, and which texts moved, by level, [L − 1, n].
    """
    texts, level = state.texts, state.level.flatten()
    before = Texts(*(each[:, :cut] for each in texts))
    model = resumed(levels.model, state.model, before.tokens, state.kept)
    proposed = levels.redrawn(model, before, level, draw)
    gained = (proposed.log_normalizers - texts.log_normalizers)[:, cut:].sum(1)
    moved = accepted(gained.gather(1, level[:, None])[:, 0], draw)
    state = state._replace(texts=texts.replaced(moved, proposed), model=model, kept=cut)
    return state, state.ordered(moved)


def log_exchange(levels: Levels, ratios: Tensor, log_weights: Tensor) -> Tensor:
    """Return W_i(x) − W_i(x′) of all pairs, [L − 1, n]; arguments as in `Info`."""
    found = -levels.u.diff().to(ratios)[:, None] * ratios.diff(dim=0)
    found[0] += log_weights[0] - log_weights[1]
    return found


def exchange(state: State, fresh: Texts, log_ratios: Tensor, draw: Draw, turn: int) -> tuple[State, Tensor, Tensor]:
    """Exchange the levels of texts whose turn it is, level 1 with fresh texts.

    Args:
        state: n ladders.
        fresh: n texts of level 0.
        log_ratios: as `log_exchange` returns them.
        draw: log-probs [n, 2] ↦ indices [n].
        turn: as in `step`.

    Returns:
        The new state; log-probabilities of the exchanges, [L − 1, n], NaN for other pairs; the trips, see `Info`.
    """
    log_accept = torch.full_like(log_ratios, torch.nan)
    log_accept[turn::2] = log_ratios[turn::2].clamp(max=0.0)
    swapped = torch.zeros_like(log_accept, dtype=torch.bool)
    swapped[turn::2] = _taken(log_accept[turn::2].flatten(), draw).view_as(swapped[turn::2])
    shift = torch.zeros_like(state.level)  # by level
    shift[:-1] += swapped[1:].long()
    shift[1:] -= swapped[1:].long()
    level = state.level + shift.gather(0, state.level - 1)
    fed = (state.level == 1) & swapped[0]
    top = len(level)
    rises = state.rising | fed
    trips = torch.stack([(fed & ~state.rising).sum(0), (rises & (level == top)).sum(0)])
    others = fresh.rows(torch.arange(level.numel(), device=level.device) % level.shape[1])
    texts = state.texts.replaced(fed.flatten(), others)
    kept = 0 if fed.any() else state.kept
    return State(texts, level, rises & (level < top), state.model, kept), log_accept, trips


def accepted(log_ratio: Tensor, draw: Draw) -> Tensor:
    """Accept with probability min(1, ratio), [n]."""
    return _taken(log_ratio.clamp(max=0.0), draw)


def _taken(log_probs: Tensor, draw: Draw) -> Tensor:
    if not len(log_probs):
        return torch.zeros_like(log_probs, dtype=torch.bool)
    return draw(torch.stack([torch.log1p(-log_probs.exp()), log_probs], 1)) == 1
