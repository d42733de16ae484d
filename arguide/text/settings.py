r"""Settings of a guided law of text: scales, what every branch reads, and temperatures; and the weights w_k that follow.

    log p̃(v | x_<t) = (γ log p_c + (1 − γ − Σ_i γ_i) log p_u + Σ_i γ_i log p_i) / τ,    p_k ∝ P_k^{1/τ_k}.
    w = (γ, 1 − γ − Σ_i γ_i, γ_1, γ_2, …) / τ,    the weights of (cond, uncond, further conditions).

P_k is the law of branch k's model, before its temperature τ_k.
c reads the prompt, u the negative prompt (the prompt's last token by default), i the further conditions. A `guidance_prior` π
makes the pair coherent (`arguide.coherent`): the unconditional law is then the mixture of all of them,

    log p̃(v | x_<t) = (γ log p_c + (1 − γ) log m) / τ,    m = ρ_c p_c + ρ_u p_u + Σ_i ρ_i p_i,    ρ_k ∝ π_k p_k(x_<t)

One `Guidance` serves `GuidedLM.generate`, `continuation` and `score`, so a text can be scored under the law that it was drawn
from. All three also take its fields as keywords.

Sources: Sanchez et al., "Stay on topic with classifier-free guidance", arXiv:2306.17806, eq. 7; Liu et al., "DExperts",
arXiv:2105.03023, eq. 2; Li et al., "Contrastive decoding", arXiv:2210.15097, eq. 3, for the plausibility cut-off.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arguide import checks
from arguide.guidance import Weight
from arguide.smc.draws import wide
from arguide.text.prompts import check_model, check_rows

Scale = float | Tensor | Callable[[int], float | Tensor]


@dataclass(frozen=True, eq=False)
class Condition:
    """One more branch: adds γ_i (log p_i − log p_u) to the guided log-probs, or enters the mixture with prior π_i.

    Attributes:
        scale: γ_i; a negative one steers away.
        input_ids: its prompts, [n, L], or [1, L] for all rows; the prompt itself by default.
        attention_mask: mask of these prompts, [n, L].
        model: the model that reads it, with the same vocabulary; the guided model by default.
        temperature: τ_i of this branch.
        prior: π_i, in the place of the scale, for a call with a `guidance_prior`.

    Raises:
        ValueError: a scale and a prior, or neither; a prior outside [0, 1]; a scale, prompts or a model of another type.

    Example:
        >>> more = arguide.Condition(0.5, torch.tensor([[5, 6]]))
        >>> more.scale, more.temperature
        (0.5, 1.0)
    """

    scale: Scale | None = None
    input_ids: Tensor | None = None
    attention_mask: Tensor | None = None
    model: PreTrainedModel | None = None
    temperature: float = 1.0
    prior: float | None = None

    def __post_init__(self) -> None:
        if (self.scale is None) == (self.prior is None):
            found = "neither" if self.scale is None else "both"
            raise ValueError(f"a condition must have either a scale or a prior, got {found}; try Condition(scale=0.5, …)")
        if isinstance(self.scale, str) or (isinstance(self.scale, Tensor) and self.scale.ndim > 1):
            raise checks.refusal("scale", "a number, one per prompt [n], or a function", self.scale, "try Condition(0.5, ids)")
        if self.prior is not None:
            checks.share("prior", self.prior)
        check_rows("input_ids", self.input_ids)
        if self.model is not None:
            check_model("model", self.model)


@dataclass(frozen=True, eq=False)
class Guidance:
    """Everything that defines a guided law of text, apart from the model and the prompt.

    Attributes:
        guidance_scale: γ: a number, one per prompt [n], or a function of the position to either, see `arguide.schedules`; None
            means 1, and is allowed only without further branches.
        negative_prompt_ids: prompts of the unconditional branch, [n, L′], or [1, L′] for all rows; the prompt's last token by
            default.
        negative_prompt_attention_mask: their mask, [n, L′]; padding may stand on either side.
        negative_model: another model for the unconditional branch (contrastive decoding); it reads the prompt by default.
        conditions: further branches, each with its own scale, or each with its own prior.
        branch_temperature: τ_k of the branches before they are combined: one number, or two for (cond, uncond).
        temperature: τ of the combination; every weight is divided by it. In `generate` the keyword `temperature` belongs to
            transformers and applies after guidance, with do_sample only.
        plausibility: α; tokens with p_c(v) < α max p_c are removed.
        smoothing: ε; every branch is read as (1 − ε) p_k + ε/V.
        floor: the least log-probability of a branch with a negative weight; without one an improper tilt raises.
        guidance_prior: π, the prior of the prompt; the unconditional law is then the mixture of the prompt, the conditions with
            their priors, and the negative prompt with the rest. None for plain guidance.
        tokens: the only tokens that a text may have; every branch is conditioned on them, then smoothed. All by default.

    Raises:
        ValueError: a setting out of its range, or of another type.

    Example:
        >>> law = arguide.Guidance(2.0, negative_prompt_ids=torch.tensor([[4]]), plausibility=0.1)
        >>> law.guidance_scale, law.branch_temperatures
        (2.0, (1.0, 1.0))
    """

    guidance_scale: Scale | None = None
    negative_prompt_ids: Tensor | None = None
    negative_prompt_attention_mask: Tensor | None = None
    negative_model: PreTrainedModel | None = None
    conditions: Sequence[Condition] = ()
    branch_temperature: float | tuple[float, float] = 1.0
    temperature: float = 1.0
    plausibility: float = 0.0
    smoothing: float = 0.0
    floor: float | None = None
    guidance_prior: float | None = None
    tokens: Sequence[int] | None = None

    def __post_init__(self) -> None:
        self._check_branches()
        checks.share("plausibility", self.plausibility)
        checks.number("smoothing", self.smoothing, "in [0, 1)", lambda share: 0 <= share < 1)
        checks.number("floor", 0.0 if self.floor is None else self.floor)
        prior = 1.0 if self.guidance_prior is None else self.guidance_prior
        checks.number("guidance_prior", prior, "in (0, 1]", lambda prior: 0 < prior <= 1)
        if self.tokens is not None:
            checks.tokens("tokens", self.tokens)
        for tau in (self.temperature, *self.branch_temperatures, *(condition.temperature for condition in self.conditions)):
            checks.positive("temperature", tau)

    def _check_branches(self) -> None:
        """Raise ValueError unless the prompts, models and conditions have their types."""
        check_rows("negative_prompt_ids", self.negative_prompt_ids)
        if self.negative_model is not None:
            check_model("negative_model", self.negative_model)
        if not (isinstance(self.conditions, Sequence) and all(isinstance(each, Condition) for each in self.conditions)):
            hint = "try conditions=[arguide.Condition(0.5, input_ids)]"
            raise checks.refusal("conditions", "a sequence of arguide.Condition", self.conditions, hint)

    @property
    def branch_temperatures(self) -> tuple[float, float]:
        """τ of (cond, uncond).

        Raises:
            ValueError: anything but a number or two.
        """
        tau = self.branch_temperature
        if isinstance(tau, tuple) and len(tau) == 2:
            return tau
        if isinstance(tau, (int, float)):
            return tau, tau
        raise checks.refusal("branch_temperature", "a number, or two for (cond, uncond)", tau)

    @property
    def log_prior(self) -> Tensor | None:
        """Log π of (cond, uncond, further conditions), [K]; None without a `guidance_prior`.

        Raises:
            ValueError: priors that sum past 1, conditions that do not fit, or no negative prompt.
        """
        scales = [condition.scale for condition in self.conditions if condition.prior is None]
        priors = [float(condition.prior) for condition in self.conditions if condition.prior is not None]
        if self.guidance_prior is None:
            if priors:
                raise ValueError("guidance_prior must be given with conditions that have a prior, got None")
            return None
        if scales:
            raise checks.refusal("conditions", "without scales beside a guidance_prior", scales[0], "try Condition(prior=…)")
        if self.negative_prompt_ids is None and self.negative_model is None:
            raise ValueError("guidance_prior needs negative_prompt_ids or a negative_model for the mixture, got neither")
        known = [float(self.guidance_prior), *priors]
        if sum(known) > 1 + 1e-9:
            raise checks.refusal("the priors", "of sum at most 1", sum(known), "the negative prompt has the rest")
        return torch.tensor([known[0], max(0.0, 1 - sum(known)), *priors], dtype=torch.float64).log()


class Settings(TypedDict, total=False):
    """The fields of `Guidance` as keywords, for type checkers and editors."""

    guidance_scale: Scale | None
    negative_prompt_ids: Tensor | None
    negative_prompt_attention_mask: Tensor | None
    negative_model: PreTrainedModel | None
    conditions: Sequence[Condition]
    branch_temperature: float | tuple[float, float]
    temperature: float
    plausibility: float
    smoothing: float
    floor: float | None
    guidance_prior: float | None
    tokens: Sequence[int] | None


@dataclass(frozen=True)
class Weights:
    """The weights of the branches that are read.

    Attributes:
        scales: γ, γ_1, γ_2, …
        rows: n, the number of prompts.
        branches: the indices of the branches that are read, among (cond, uncond, conditions).
        temperature: τ; every weight is divided by it.
    """

    scales: tuple[Scale, ...]
    rows: int
    branches: tuple[int, ...]
    temperature: float = 1.0

    @classmethod
    def of(cls, scales: Sequence[Scale], rows: int, *, always: Sequence[int] = (), temperature: float = 1.0) -> "Weights":
        """Return the weights of the branches whose weight is not 0 at every position.

        Args:
            scales: γ, γ_1, γ_2, …
            rows: n, the number of prompts.
            always: indices of branches that are read whatever they weigh.
            temperature: τ.

        Raises:
            ValueError: a scale that is neither a finite number nor one per prompt.
        """
        read = tuple(scale if callable(scale) else _number_or_rows(scale, rows) for scale in scales)
        numbers = [scale for scale in read if isinstance(scale, float)]
        rest = 1 - sum(numbers) if len(numbers) == len(read) else None
        weighs = [isinstance(weight, Tensor) or weight != 0 for weight in (read[0], rest, *read[1:])]
        return cls(read, rows, tuple(k for k, counts in enumerate(weighs) if counts or k in always), temperature)

    @property
    def vary(self) -> bool:
        """Whether they depend on the position."""
        return any(callable(scale) for scale in self.scales)

    def at(self, position: int) -> list[Weight]:
        """Return K weights, each a number or one per prompt, [n]."""
        now = [_number_or_rows(scale(position), self.rows) if callable(scale) else scale for scale in self.scales]
        every = [now[0], 1 - sum(now), *now[1:]]
        return [every[k] / self.temperature for k in self.branches]

    def over(self, position: int, tokens: int, rows: Tensor) -> list[Weight]:
        """Return the weights of some tokens.

        Args:
            position: of the first token.
            tokens: t, their number.
            rows: index of each row's prompt, [n].

        Returns:
            K weights, each a number or [n, t].
        """
        steps = [self.at(position + i) for i in range(tokens if self.vary else 1)]
        return [_over(column, rows) for column in zip(*steps, strict=True)]


def _over(weights: Sequence[Weight], rows: Tensor) -> Weight:
    """Return one branch's weights at t positions as a number, or as [n, t]."""
    if len(weights) == 1 and isinstance(weights[0], float):
        return weights[0]
    values = [torch.as_tensor(weight, dtype=torch.float64).to(wide(rows)).to(rows.device) for weight in weights]
    return torch.stack([each[rows] if each.ndim else each.expand(len(rows)) for each in values], 1)


def _number_or_rows(scale: float | Tensor, n: int) -> Weight:
    """Return a scale in double precision: a number if it is the same for all rows, else [n]."""
    wanted, hint = f"a number, or one for each of the {n} prompts", "try guidance_scale=2.0"
    try:
        values = torch.as_tensor(scale.cpu() if isinstance(scale, Tensor) else scale, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise checks.refusal("guidance_scale", wanted, scale, hint) from None
    if values.ndim > 1 or values.numel() not in (1, n):
        raise checks.refusal("guidance_scale", wanted, values, hint)
    checks.finite("guidance_scale", values)
    first = values.flatten()[0]
    return float(first) if (values == first).all() else values
