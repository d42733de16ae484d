r"""The joint guided law of a coherent pair, drawn exactly by acceptance.

    γ ≥ 1        x ~ p(x|y), kept with probability ρ_y(x)^{γ−1}
    0 ≤ γ < 1    x ~ p(x),   kept with probability ρ_y(x)^γ

The share A that is kept is large wherever x determines the label: A ≥ exp((γ − 1) E_{p(x|y)}[log ρ_y(x)]) for γ ≥ 1. It also
bounds what joint guidance changes: KL(joint ‖ p(x|y)) ≤ −log A, and the total variation is at most 1 − A.
"""

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack, overload

import torch
from torch import Generator, Tensor
from torch.nn import functional

from arguide import checks, sampling
from arguide.coherent.mixture import checked_label, checked_prior, mixed, of_token
from arguide.guidance import normalize
from arguide.models import Autoregressive
from arguide.smc.acceptance import LEAST, Accepted, Proposed, at_scales
from arguide.smc.draws import Draw, categorical, wide
from arguide.smc.draws import uniform as uniform_draw
from arguide.stopping import Ended, Ending, ending_tokens, padded


class Options(TypedDict, total=False):
    """The keywords of `sample_accepted`, for type checkers."""

    generator: Generator | None
    draw: Draw | None
    uniform: Draw | None
    tolerance: float
    least: float
    rows: int | None


@overload
def sample_accepted(
    mixture: Autoregressive, label: int, scale: float, n: int, length: int, **options: Unpack[Options]
) -> Accepted: ...
@overload
def sample_accepted(
    mixture: Autoregressive, label: int, scale: Sequence[float], n: int, length: int, **options: Unpack[Options]
) -> list[Accepted]: ...
def sample_accepted(
    mixture: Autoregressive,
    label: int,
    scale: float | Sequence[float],
    n: int,
    length: int,
    *,
    generator: Generator | None = None,
    draw: Draw | None = None,
    uniform: Draw | None = None,
    tolerance: float = 0.02,
    least: float = LEAST,
    rows: int | None = None,
) -> Accepted | list[Accepted]:
    """Draw n exact samples of p(x) p(y|x)^γ / E_p[p(y|x)^γ] from a mixture p(x) = Σ_k π_k p(x|k).

    Args:
        mixture: a `Mixture`, an `Ending` of one, or a model with `log_prior` whose states have the `laws` of K components.
        label: index y of the component.
        scale: γ ≥ 0; several share proposals, and their results depend on each other.
        n: number of samples per scale.
        length: T, number of tokens; the cap of an `Ending`.
        generator: of the default draws.
        draw: log-probs [rows, V] ↦ tokens [rows] of the proposals; `categorical(generator)` by default.
        uniform: [rows] ↦ uniform numbers in [0, 1) of the acceptance.
        tolerance: largest standard error of log Ẑ, for which more proposals are made than n draws need; ∞ for none.
        least: the smallest share of accepted proposals A that is not refused.
        rows: proposals per batch; by default n, between 64 and 4,096, and twice as many per further batch up to 512.

    Returns:
        An `Accepted`; a list of them for several scales, in their order.

    Raises:
        ValueError: γ below 0, for which no bound exists; a label that the mixture lacks; an A below `least`, with its estimate
            (`arguide.LowAcceptanceError`).

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> mixture = arguide.Mixture([table.autoregressive(0), table.autoregressive(1)], table.log_prior())
        >>> drawn = arguide.sample_accepted(mixture, 1, 3.0, 1000, 2)
        >>> drawn.tokens.shape
        torch.Size([1000, 2])
        >>> bool(abs(drawn.log_evidence - table.joint_guided(1, 3.0).log_normalizer) < 4 * drawn.std_error)
        True
    """
    sampling.check_sizes(mixture, n, length, 1)
    log_prior = prior_of(mixture)
    checked_label(log_prior, label)
    draw = checks.function("draw", draw or categorical(generator))
    uniform = checks.function("uniform", uniform or uniform_draw(generator))

    def propose(conditional: bool, size: int) -> Proposed:
        found = proposals(mixture, label if conditional else None, size, length, draw)
        return found._replace(log_posterior=found.log_posterior[:, label])

    limits: dict[str, Any] = {"tolerance": tolerance, "least": least, "rows": rows}
    return at_scales(propose, scale, n, float(log_prior[label]), uniform=uniform, **limits)


def proposals(mixture: Autoregressive, component: int | None, n: int, length: int, draw: Draw) -> Proposed:
    """Return n sequences [n, T] of one component or of the mixture, log ρ of all components [n, K], and log weights [n].

    A weight is the probability of an ending token where a cap forces one, and 1 elsewhere.

    Args:
        mixture: as in `sample_accepted`.
        component: the component that is drawn from; None for the mixture.
        n: number of sequences.
        length: T.
        draw: log-probs [n, V] ↦ tokens [n].
    """
    state, joint = sampling.init(mixture, n), prior_of(mixture).to(torch.float64)
    log_joint = joint.to(wide(state.x)).to(state.x.device).expand(n, -1)
    log_weight = log_joint.new_zeros(n)
    for t in range(length):
        ended = state.model if isinstance(state.model, Ended) else None
        laws = state.model.laws if ended is None else ended.weighted_laws
        law = laws[component] if component is not None else mixed(laws, log_joint.log_softmax(-1).to(laws[0]))
        if ended is not None and ended.forces:
            law, log_mass = normalize(law)
            log_weight = log_weight + log_mass.to(log_weight)

        def propose(_: Any, law: Tensor = law) -> Tensor:
            return law

        state, _ = sampling.step(mixture, state, draw, propose=propose, last=t == length - 1)
        log_joint = log_joint + of_token(laws, state.x[:, -1]).to(log_joint)
        if t < length - 1 and sampling.ended(state):
            break
    ends = ending_tokens(mixture)
    x = padded(state.x, length, ends) if ends else functional.pad(state.x, (0, length - state.x.shape[1]))
    return Proposed(x, log_joint.log_softmax(-1), log_weight)


def prior_of(mixture: Autoregressive) -> Tensor:
    """Return log π of a mixture, [K], or raise ValueError for a model without one."""
    found = getattr(mixture.model if isinstance(mixture, Ending) else mixture, "log_prior", None)
    if found is None:
        hint = "try arguide.Mixture(models, log_prior)"
        raise checks.refusal("mixture", "an arguide.Mixture, or a model with a log_prior", mixture, hint)
    return checked_prior(found)
