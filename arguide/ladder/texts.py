r"""The levels of a ladder, and texts with their densities at all of them.

    p̃_u(x) = p_0(x)^{1−u} p̃(x)^u,    0 = u_0 < u_1 < … < u_{L−1} = 1

p_0 is one branch of a log-linear combination p̃ = Π_k p_k^{w_k}. So p̃_u is a combination as well, whose weights lie on the
straight line from 1 on that branch to w: the scale 1 + u (γ − 1) for guidance, the power 1 + u (β − 1) for p^β. The ratio of a
text is r(x) = log p̃(x) − log p_0(x), a sum over its tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from arguide import checks
from arguide.models import Autoregressive
from arguide.smc.draws import Draw, wide
from arguide.stopping import Ended, ending_tokens


class Texts(NamedTuple):
    """n texts of T tokens, with padding after their ends.

    tokens: [n, T].
    log_start: log p_0 of every token, [n, T].
    ratios: log p̃ − log p_0 of every token, [n, T].
    log_normalizers: log Z_t of every level, [n, T, L].
    """

    tokens: Tensor
    log_start: Tensor
    ratios: Tensor
    log_normalizers: Tensor

    @property
    def ratio(self) -> Tensor:
        """r(x), [n]."""
        return self.ratios.sum(1)

    @property
    def log_weight(self) -> Tensor:
        """Σ_t log Z_t of level 0, [n], which is log p_0 minus the log-probability of a draw that a cap may force to end."""
        return self.log_normalizers[..., 0].sum(1)

    @property
    def log_target(self) -> Tensor:
        """Log p̃ of every token, [n, T]."""
        return self.log_start + self.ratios

    @property
    def possible(self) -> Tensor:
        """Whether the target can produce each text, [n]."""
        return self.log_target.sum(1).isfinite()

    def rows(self, index: Tensor) -> "Texts":
        """Return the texts index[i]."""
        return Texts(*(each[index] for each in self))

    def replaced(self, which: Tensor, others: "Texts") -> "Texts":
        """Return the texts with those where `which` is true, [n], replaced by the others."""
        pairs = zip(others, self, strict=True)
        return Texts(*(torch.where(which.view(-1, *[1] * (old.ndim - 1)), new, old) for new, old in pairs))


@dataclass(frozen=True)
class Levels:
    """The laws of a ladder.

    Attributes:
        model: the target, a model whose states have a log normalizer and the laws of its branches, or an `Ending` of one.
        length: T.
        start: the branch whose law is p_0.
        u: [L], from 0 to 1.
    """

    model: Autoregressive
    length: int
    start: int
    u: Tensor

    @property
    def device(self) -> torch.device:
        """The device of the model's laws."""
        found: torch.device = self.model.start(1).log_probs.device
        return found

    def ends(self, state: Any) -> tuple[Tensor, Tensor]:
        """Return log p_0 and log p̃ − log p_0 of the next token, [n, V] each; the latter is −∞ where only p̃ is 0.

        Raises:
            ValueError: a token with p_0 = 0 < p̃, which no level below 1 reaches.
        """
        inner = state.state if isinstance(state, Ended) else state
        start, target = inner.laws[self.start], inner.log_probs + inner.log_normalizer[:, None]
        if isinstance(state, Ended):
            start, target = state.closed(start), state.closed(target)
        none = start == -math.inf
        if (none & (target > -math.inf)).any():
            raise checks.refusal("start", "a branch that can produce all texts of the target", self.start, "try another branch")
        return start, (target - start).masked_fill(none, 0.0)

    def texts(self, rows: int, level: Tensor, draw: Draw) -> Texts:
        """Draw texts from the sequential laws of their levels; arguments as in `redrawn`."""
        return self.redrawn(self.model.start(rows), _empty(rows, self, level), level, draw)

    def read(self, tokens: Tensor) -> Texts:
        """Return given texts, [n, T], with their densities."""
        columns = iter(tokens.unbind(1))
        level = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
        return self.texts(len(tokens), level, lambda _: next(columns))

    def redrawn(self, state: Any, before: Texts, level: Tensor, draw: Draw) -> Texts:
        """Return texts that continue those before, [n, cut], by draws from the sequential laws of their levels.

        Args:
            state: of the model after the texts before; it is not valid afterwards.
            before: the first tokens.
            level: index of every row's level, [n].
            draw: log-probs [n, V] ↦ tokens [n].
        """
        columns = []
        for t in range(before.tokens.shape[1], self.length):
            columns.append(self._column(*self.ends(state), level, draw))
            if t + 1 < self.length:
                state = self.model.append(state, columns[-1].tokens)
                if getattr(state, "finished", None) is not None and state.finished.all():
                    break
        return _joined(before, columns, self)

    def _column(self, start: Tensor, ratio: Tensor, level: Tensor, draw: Draw) -> Texts:
        """Draw one token per row; return it with its densities, [n] and [n, L]."""
        log_normalizers = torch.stack([_tilted(start, ratio, u).logsumexp(-1) for u in self.u.tolist()], 1)
        law = _tilted(start, ratio, self.u.to(start)[level][:, None])
        dead = log_normalizers.gather(1, level[:, None])[:, 0] == -math.inf
        if dead.any():
            law = torch.where(dead[:, None], 0.0, law)
        token = torch.where(dead, 0, draw(law.log_softmax(-1)))
        at, dtype = token[:, None], wide(start)
        log_start, gained = start.gather(1, at)[:, 0], ratio.gather(1, at)[:, 0]
        return Texts(token, log_start.to(dtype), gained.to(dtype), log_normalizers.to(dtype))


def _tilted(start: Tensor, ratio: Tensor, u: float | Tensor) -> Tensor:
    """Return log p_0 + u r, with u r = 0 at u = 0 for an infinite r too."""
    if isinstance(u, Tensor):
        return start + torch.where(u == 0, 0.0, u * ratio)
    return start + u * ratio if u else start


def _empty(rows: int, levels: Levels, like: Tensor) -> Texts:
    none = torch.empty((rows, 0), device=like.device)
    return Texts(none.long(), none, none, none[..., None].expand(-1, -1, len(levels.u)))


def _joined(before: Texts, columns: Sequence[Texts], levels: Levels) -> Texts:
    """Return the texts before with further columns after them, and padding up to the cap."""
    after = [torch.stack(parts, 1) for parts in zip(*columns, strict=True)]
    missing = levels.length - before.tokens.shape[1] - len(columns)
    pad, *_ = *ending_tokens(levels.model), 0
    paddings = [(0, missing), (0, missing), (0, missing), (0, 0, 0, missing)]
    filled = [
        functional.pad(torch.cat([old, new], 1), padding, value=pad if i == 0 else 0.0)
        for i, (old, new, padding) in enumerate(zip(before, after, paddings, strict=True))
    ]
    return Texts(*filled)
