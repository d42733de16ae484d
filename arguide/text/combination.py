r"""What a language model is guided with: its branches, each with a prompt, a scale and a temperature.

    log p̃(v | x_<t) = γ log p_c + (1 − γ − Σ_i γ_i) log p_u + Σ_i γ_i log p_i,    p_k ∝ p_k^{1/τ_k}.

c reads the prompt, u the negative prompt (the prompt's last token if there is none), i the further conditions. Each γ is a
number, one a prompt, or a function of the position. A branch of weight 0 is not read at all.

Sources: Sanchez et al., "Stay on topic with classifier-free guidance" (2023), eq. 7; Liu et al., "DExperts" (2021), eq. 2;
Li et al., "Contrastive decoding" (2023), eq. 3, for the plausibility cut-off.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arguide.guidance import Weight, check_temperature, combine
from arguide.text.branches import Branches
from arguide.text.prompts import Prompt

Scale = float | Tensor | Callable[[int], float | Tensor]
Source = Callable[[Prompt, Tensor], Prompt]


@dataclass(frozen=True)
class Condition:
    """One more branch: adds γ_i (log p_i − log p_u) to the guided log-probs.

    Attributes:
        scale: γ_i; negative to steer away.
        input_ids: its prompts, [n, L], or [1, L] for all; the prompt itself by default.
        attention_mask: of these prompts, [n, L].
        model: what reads it; the guided model by default. It must share the vocabulary.
        temperature: τ_i of this branch.
    """

    scale: Scale
    input_ids: Tensor | None = None
    attention_mask: Tensor | None = None
    model: PreTrainedModel | None = None
    temperature: float = 1.0

    def prompt(self, model: PreTrainedModel) -> Prompt | None:
        """Return the prompts of its own, if any, padded for `model`."""
        if self.input_ids is None:
            return None
        return Prompt.of(self.input_ids, self.attention_mask, right=model.config.is_encoder_decoder)


class Guided(NamedTuple):
    """Guided logits Σ_k w_k log p_k, [n, t, V], and the laws they were made of, K tensors [n, t, V]."""

    logits: Tensor
    branches: list[Tensor]


@dataclass(frozen=True)
class Combination:
    """A log-linear combination of K branches.

    Attributes:
        branches: what reads them.
        sources: for each, (the prompts, rows) ↦ its prompts.
        widths: the length of its prompts where it has its own, else 0.
        weights: position ↦ K weights, each a number or one a prompt.
        temperatures: τ_k, one a branch.
        floor: the policy for improper tilts, see `arguide.guidance`.
        plausibility: α of the cut-off p_c(v) ≥ α max p_c, where branch 0 is c; 0 for none.
    """

    branches: Branches
    sources: tuple[Source, ...]
    widths: tuple[int, ...]
    weights: Callable[[int], Sequence[Weight]]
    temperatures: tuple[float, ...]
    floor: float | None = None
    plausibility: float = 0.0

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        scale: Scale,
        *,
        rows: int,
        negative: Prompt | None = None,
        negative_model: PreTrainedModel | None = None,
        conditions: Sequence[Condition] = (),
        temperature: float | tuple[float, float] = 1.0,
        floor: float | None = None,
        plausibility: float = 0.0,
    ) -> "Combination":
        """Return the combination, without the branches of weight 0.

        Args:
            rows: the number of prompts.
            negative: what the unconditional branch reads.
            negative_model: what reads the unconditional branch; it reads the prompt itself unless `negative` is given.
            temperature: τ of all branches but the conditions, or of (cond, uncond).

        Raises:
            ValueError: a scale, prompt, temperature or cut-off that does not fit, or models of unlike vocabularies.
        """
        if not 0 <= plausibility <= 1:
            raise ValueError(f"plausibility must lie in [0, 1], not {plausibility}")
        scales = tuple(_plain(each) for each in (scale, *(condition.scale for condition in conditions)))
        for each in scales:
            if not callable(each):
                _checked(each, rows)
        given = [None, negative, *(condition.prompt(model) for condition in conditions)]
        cond, uncond = temperature if isinstance(temperature, tuple) and len(temperature) == 2 else (temperature, temperature)
        defaults = [the_prompt, last_token if negative_model is None else the_prompt, *[the_prompt] * len(conditions)]
        sources = [_given(own, rows) if own else default for own, default in zip(given, defaults, strict=True)]
        models = [model, negative_model or model, *(condition.model or model for condition in conditions)]
        temperatures = [cond, uncond, *(condition.temperature for condition in conditions)]
        for tau in temperatures:
            if not isinstance(tau, (int, float)):
                raise ValueError(f"a branch's temperature must be a number, or two for (cond, uncond), not {tau!r}")
            check_temperature(tau)
        _check_vocabularies(models)
        used = _used(scales)
        if plausibility and 0 not in used:
            used = [0, *used]

        def weights(position: int) -> list[Weight]:
            now = [_double(_checked(each(position), rows) if callable(each) else each) for each in scales]
            every = [now[0], 1 - sum(now), *now[1:]]
            return [every[k] for k in used]

        fixed = None if any(callable(each) for each in scales) else weights(0)
        return cls(
            Branches(tuple(models[k] for k in used)),
            tuple(sources[k] for k in used),
            tuple(0 if (own := given[k]) is None else own.width for k in used),
            weights if fixed is None else lambda _: fixed,
            tuple(temperatures[k] for k in used),
            floor,
            plausibility,
        )

    def is_just(self, model: PreTrainedModel) -> bool:
        """Whether nothing is left but the prompt itself, read by `model` as it is."""
        if len(self.sources) > 1 or self.plausibility or self.temperatures[0] != 1:
            return False
        return self.branches.models[0] is model and self.sources[0] is the_prompt and list(self.weights(0)) == [1]

    def reach(self, k: int, width: int, model: PreTrainedModel | None) -> int:
        """Return how long a prompt branch k reads, given the prompts' own `width`; 0 if that is `model`'s own business."""
        if self.widths[k]:
            return self.widths[k]
        return width if self.sources[k] is the_prompt and self.branches.models[k] is not model else 0

    def check_room(self, width: int, tokens: int, model: PreTrainedModel | None = None) -> None:
        """Raise ValueError unless every branch can read its prompt and `tokens` more, less the last.

        Args:
            width: of the prompts themselves.
            model: reads the prompts themselves under rules of its own; what they are is left to it.
        """
        for k, reader in enumerate(self.branches.models):
            limit: int = getattr(reader.config.get_text_config(decoder=True), "max_position_embeddings", None) or 0
            reach = self.reach(k, width, model)
            if reach and 0 < limit < reach + tokens - 1:
                raise ValueError(
                    f"{reach} tokens of branch {k + 1} and {tokens} new ones exceed its model's context of {limit}"
                )

    def prompts(self, prompt: Prompt, rows: Tensor) -> list[Prompt]:
        """Return what every branch reads, given the prompts themselves [n, L] and which prompt each row has, [n]."""
        return [source(prompt, rows).to(prompt.inputs.device) for source in self.sources]

    def guide(self, logits: Sequence[Tensor], position: int, rows: Tensor) -> Guided:
        """Combine the branches' logits, K tensors [n, t, V], of the tokens from `position` on."""
        laws = [_law(branch.to(logits[0].device), tau) for branch, tau in zip(logits, self.temperatures, strict=True)]
        weights = self._weights(position, laws[0].shape[1], rows)
        guided = combine(laws, weights, floor=self.floor)
        if self.plausibility:
            least = laws[0].amax(-1, keepdim=True) + math.log(self.plausibility)
            guided = guided.masked_fill(laws[0] < least, -math.inf)
        return Guided(guided, laws)

    def _weights(self, position: int, tokens: int, rows: Tensor) -> Sequence[Weight]:
        """Return K weights, numbers or tensors that broadcast to [n, t]."""
        steps = [[_by_row(weight, rows) for weight in self.weights(position + i)] for i in range(tokens)]
        if all(step == steps[0] for step in steps[1:]) if not _any_tensor(steps) else tokens == 1:
            return [weight[:, None] if isinstance(weight, Tensor) else weight for weight in steps[0]]
        columns = zip(*steps, strict=True)
        return [torch.stack([_row(weight, rows) for weight in column], 1) for column in columns]


def the_prompt(prompt: Prompt, rows: Tensor) -> Prompt:
    """Read the prompt itself."""
    del rows
    return prompt


def last_token(prompt: Prompt, rows: Tensor) -> Prompt:
    """Read the last token of the prompt."""
    del rows
    at = prompt.mask.cumsum(1).argmax(1, keepdim=True)
    index = at if prompt.inputs.ndim == 2 else at[..., None]
    return Prompt(torch.take_along_dim(prompt.inputs, index, 1), torch.ones_like(at))


def _given(given: Prompt, n: int) -> Source:
    if len(given.mask) not in (1, n):
        raise ValueError(
            f"one negative or further prompt is needed for each of the {n} prompts, or one for all, not {len(given.mask)}"
        )
    return lambda _, rows: given.select((rows if len(given.mask) == n else torch.zeros_like(rows)).to(given.mask.device))


def _used(scales: Sequence[Scale]) -> list[int]:
    """Return the branches whose weight is not always 0, in the order (cond, uncond, conditions)."""
    fixed = [None if callable(scale) or isinstance(scale, Tensor) else float(scale) for scale in scales]
    rest = None if None in fixed else 1 - sum(number for number in fixed if number is not None)
    return [k for k, weight in enumerate((fixed[0], rest, *fixed[1:])) if weight != 0]


def _law(logits: Tensor, tau: float) -> Tensor:
    """Return normalised log-probs in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (logits if tau == 1 else logits / tau).log_softmax(-1)


def _plain(scale: Scale) -> Scale:
    """Return a scale of one element as a number."""
    if callable(scale):
        return scale
    values = torch.as_tensor(scale, dtype=torch.float64)
    return float(values) if values.numel() == 1 else values


def _double(scale: Any) -> Weight:
    return scale.double() if isinstance(scale, Tensor) else float(scale)


def _by_row(weight: Weight, rows: Tensor) -> Weight:
    if isinstance(weight, Tensor) and weight.ndim:
        return weight.to(rows.device)[rows]
    return float(weight)


def _row(weight: Weight, rows: Tensor) -> Tensor:
    return weight if isinstance(weight, Tensor) else torch.full((len(rows),), weight, dtype=torch.float64, device=rows.device)


def _any_tensor(steps: Sequence[Sequence[Weight]]) -> bool:
    return any(isinstance(weight, Tensor) for step in steps for weight in step)


def _checked(scale: float | Tensor, n: int) -> float | Tensor:
    """Return a scale as it is if it is finite and one number, or one for each of the n prompts."""
    values = torch.as_tensor(scale, dtype=torch.float64)
    if values.ndim > 1 or values.numel() not in (1, n):
        raise ValueError(f"a scale must be a number, or one for each of the {n} prompts, not of shape {tuple(values.shape)}")
    if not values.isfinite().all():
        raise ValueError("scales must be finite")
    return scale if values.numel() > 1 else float(values)


def _check_vocabularies(models: Sequence[PreTrainedModel]) -> None:
    if len({bool(model.config.is_encoder_decoder) for model in models}) > 1:
        raise ValueError("branches must all be read by decoders, or all by encoder-decoders")
    sizes = [model.get_output_embeddings().weight.shape[0] for model in models]
    for model, size in zip(models, sizes, strict=True):
        if size != sizes[0]:
            name = type(model).__name__
            raise ValueError(
                f"branches must share one vocabulary: {sizes[0]} tokens in {type(models[0]).__name__}, {size} in {name}"
            )
