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
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from arguide.guidance import check_temperature, combine
from arguide.text.branches import Branches
from arguide.text.prompts import Prompt, along, check_tokens
from arguide.text.weights import Scale, Weights
from arguide.transforms import defensive

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


class Guided(NamedTuple):
    """Guided logits Σ_k w_k log p_k, [n, t, V], and the laws they were made of, K tensors [n, t, V]."""

    logits: Tensor
    branches: list[Tensor]

    @property
    def log_normalizer(self) -> Tensor:
        """Log Z_t = log Σ_v Π_k p_k(v)^{w_k}, [n, t]."""
        return self.logits.logsumexp(-1)


@dataclass(frozen=True)
class Combination:
    """A log-linear combination of K branches.

    Attributes:
        branches: what reads them.
        sources: for each, (the prompts, rows) ↦ its prompts.
        widths: the length of its prompts where it has its own, else 0.
        weights: w_k at every position.
        temperatures: τ_k, one a branch.
        floor: the policy for improper tilts, see `arguide.guidance`.
        plausibility: α of the cut-off p_c(v) ≥ α max p_c, where branch 0 is c; 0 for none.
        smoothing: ε; every branch is read as (1 − ε) p_k + ε/V.
    """

    branches: Branches
    sources: tuple[Source, ...]
    widths: tuple[int, ...]
    weights: Weights
    temperatures: tuple[float, ...]
    floor: float | None = None
    plausibility: float = 0.0
    smoothing: float = 0.0

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        scale: Scale | None,
        *,
        rows: int,
        negative_prompt_ids: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        negative_model: PreTrainedModel | None = None,
        conditions: Sequence[Condition] = (),
        branch_temperature: float | tuple[float, float] = 1.0,
        temperature: float = 1.0,
        floor: float | None = None,
        plausibility: float = 0.0,
        smoothing: float = 0.0,
    ) -> "Combination":
        """Return the combination, without the branches of weight 0.

        Args:
            scale: γ; None for 1 where nothing but the prompt is given.
            rows: the number of prompts.
            negative_model: what reads the unconditional branch; it reads the prompt itself without a negative prompt.
            temperature: τ of the whole: every weight is divided by it, where `branch_temperature` makes branches other laws.

        Raises:
            ValueError: a scale, prompt, temperature or cut-off that does not fit, or models of unlike vocabularies.
        """
        if not 0 <= plausibility <= 1:
            raise ValueError(f"plausibility must lie in [0, 1], not {plausibility}")
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), not {smoothing}")
        if scale is None and (negative_prompt_ids is not None or negative_model is not None or conditions):
            raise ValueError("a negative prompt or model and conditions need a guidance_scale")
        right = model.config.is_encoder_decoder
        own = [
            None,
            _own(negative_prompt_ids, negative_prompt_attention_mask, "the negative prompt", right=right),
            *(_own(each.input_ids, each.attention_mask, "a condition", right=right) for each in conditions),
        ]
        default = [the_prompt, last_token if negative_model is None else the_prompt, *[the_prompt] * len(conditions)]
        models = [model, negative_model or model, *(condition.model or model for condition in conditions)]
        _check_vocabularies(models)
        for k, prompt in enumerate(own):
            check_tokens("negative_prompt_ids" if k == 1 else "input_ids of a condition", prompt and prompt.inputs, models[k])
        temperatures = [*_both(branch_temperature), *(condition.temperature for condition in conditions)]
        for tau in temperatures:
            check_temperature(tau)
        scales = (1.0 if scale is None else scale, *(condition.scale for condition in conditions))
        weights = Weights.of(scales, rows, always=(0,) if plausibility else (), temperature=temperature)
        sources = [source if prompt is None else _given(prompt, rows) for prompt, source in zip(own, default, strict=True)]
        return cls(
            Branches(tuple(models[k] for k in weights.branches)),
            tuple(sources[k] for k in weights.branches),
            tuple(0 if (prompt := own[k]) is None else prompt.width for k in weights.branches),
            weights,
            tuple(temperatures[k] for k in weights.branches),
            floor,
            plausibility,
            smoothing,
        )

    def is_just(self, model: PreTrainedModel) -> bool:
        """Whether nothing is left but the prompt itself, read by `model` as it is."""
        if len(self.sources) > 1 or self.plausibility or self.smoothing or self.temperatures[0] != 1:
            return False
        return self.branches.models[0] is model and self.sources[0] is the_prompt and self.weights.at(0) == [1]

    def lends(self, model: PreTrainedModel) -> bool:
        """Whether the prompt that `model` was given is read by another model too."""
        pairs = zip(self.sources, self.branches.models, strict=True)
        return any(reader is not model and source in (the_prompt, last_token) for source, reader in pairs)

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
        for k in range(len(self.sources)):
            if reach := self.reach(k, width, model):
                self._check_context(k, reach, tokens)

    def check_rows(self, prompts: Sequence[Prompt], tokens: Tensor) -> None:
        """Raise ValueError unless every branch can read each of its prompts, K times n, and the row's `tokens` [n] less one."""
        for k, prompt in enumerate(prompts):
            lengths = prompt.mask.sum(1)
            row = (lengths + tokens).argmax()
            self._check_context(k, int(lengths[row]), int(tokens[row]))

    def prompts(self, prompt: Prompt, rows: Tensor) -> list[Prompt]:
        """Return what every branch reads, given the prompts themselves [n, L] and which prompt each row has, [n]."""
        return [source(prompt, rows).to(prompt.inputs.device) for source in self.sources]

    def _check_context(self, k: int, before: int, tokens: int) -> None:
        config = self.branches.models[k].config.get_text_config(decoder=True)
        limit: int = getattr(config, "max_position_embeddings", None) or 0
        if 0 < limit < before + tokens - 1:
            raise ValueError(f"{before} tokens of branch {k + 1} and {tokens} new ones exceed its model's context of {limit}")

    def guide(self, logits: Sequence[Tensor], position: int, rows: Tensor) -> Guided:
        """Combine the branches' logits, K tensors [n, t, V], of the tokens from `position` on."""
        laws = [_law(branch.to(logits[0].device), tau) for branch, tau in zip(logits, self.temperatures, strict=True)]
        if self.smoothing:
            laws = [defensive(self.smoothing)(law) for law in laws]
        weights = self.weights.over(position, laws[0].shape[1], rows)
        guided = combine(laws, weights, floor=self.floor)
        if self.plausibility:
            least = laws[0].amax(-1, keepdim=True) + math.log(self.plausibility)
            guided = guided.masked_fill(laws[0] < least, -math.inf)
        return Guided(guided, laws)


def the_prompt(prompt: Prompt, rows: Tensor) -> Prompt:
    """Read the prompt itself."""
    del rows
    return prompt


def last_token(prompt: Prompt, rows: Tensor) -> Prompt:
    """Read the last token of the prompt."""
    del rows
    at = prompt.mask.cumsum(1).argmax(1, keepdim=True)
    return Prompt(along(prompt.inputs, at), torch.ones_like(at))


def _own(ids: Tensor | None, mask: Tensor | None, name: str, *, right: bool) -> Prompt | None:
    """Return prompts that were given, if any."""
    if ids is not None:
        return Prompt.of(ids, mask, right=right)
    if mask is not None:
        raise ValueError(f"the attention mask of {name} was given without its ids")
    return None


def _both(temperature: float | tuple[float, float]) -> tuple[float, float]:
    """Return τ of (cond, uncond)."""
    if isinstance(temperature, tuple) and len(temperature) == 2:
        return temperature
    if isinstance(temperature, (int, float)):
        return temperature, temperature
    raise ValueError(f"a branch's temperature must be a number, or two for (cond, uncond), not {temperature!r}")


def _given(given: Prompt, n: int) -> Source:
    if len(given.mask) not in (1, n):
        raise ValueError(
            f"one negative or further prompt is needed for each of the {n} prompts, or one for all, not {len(given.mask)}"
        )
    return lambda _, rows: given.select((rows if len(given.mask) == n else torch.zeros_like(rows)).to(given.mask.device))


def _law(logits: Tensor, tau: float) -> Tensor:
    """Return normalised log-probs in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (logits if tau == 1 else logits / tau).log_softmax(-1)


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
