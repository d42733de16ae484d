r"""Text under guidance: a view of a `transformers` model on which every mode of `generate` runs.

    model = arguide.guided(AutoModelForCausalLM.from_pretrained(…))
    model.generate(**inputs, guidance_scale=1.5, negative_prompt_ids=…, do_sample=True, num_return_sequences=4)

The view shares the model's parameters and shows `generate` a model of n rows whose logits are Σ_k w_k log p_k (see
`arguide.text.combination`); behind it one forward pass reads all branches. So greedy decoding, sampling, beams, streaming and
assisted decoding are transformers' own, under the sequential law Π_t p̃(x_t | x_<t) / Z_t. Logits processors, temperature
and truncations come after guidance. A scale of 1 without further branches runs the model itself, a scale of 0 the
unconditional branch alone.
"""

import copy
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.utils import ModelOutput

from arguide.text.caches import Reading
from arguide.text.combination import Combination, Condition
from arguide.text.decoding import LAWS, Guidance
from arguide.text.modes import check_arguments
from arguide.text.prompts import found_mask
from arguide.text.seam import CACHES, Hooks, copy_compiled
from arguide.text.weights import Scale


class GuidedLM(Hooks):
    """The part of a guided view that it adds to the model's own class; made by `guided`."""

    unguided: PreTrainedModel

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        guidance_scale: Scale | None = None,
        negative_prompt_ids: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        negative_model: PreTrainedModel | None = None,
        conditions: Sequence[Condition] = (),
        branch_temperature: float | tuple[float, float] = 1.0,
        plausibility: float = 0.0,
        smoothing: float = 0.0,
        floor: float | None = None,
        beam_law: str = "sequential",
        **kwargs: Any,
    ) -> Any:
        """Generate as `transformers` does, from Σ_k w_k log p_k.

        Args:
            inputs: prompts, [n, L]; they and everything in `kwargs` mean what they mean in `transformers`.
            generation_config: its `guidance_scale` counts if the argument is not given.
            guidance_scale: γ; a number, one a prompt [n], or a function of the position, see `arguide.schedules`.
            negative_prompt_ids: what the unconditional branch reads, [n, L′], or [1, L′] for all; the prompt's last token
                by default.
            negative_prompt_attention_mask: [n, L′]; padding may stand on either side.
            negative_model: another model to read the unconditional branch (contrastive decoding), the prompt by default.
            conditions: further branches, each with a scale of its own.
            branch_temperature: τ of the branches before they are combined, one number or (cond, uncond).
            plausibility: α; tokens with p_c(v) < α max p_c are left out.
            smoothing: ε; every branch is read as (1 − ε) p_k + ε/V.
            floor: least log-probability a branch of negative weight is read with; without it an improper tilt raises.
            beam_law: whether beams maximise the "sequential" guided law or the "joint" one, Σ_t Σ_k w_k log p_k unnormalised.

        Returns:
            What `transformers` returns. With `output_scores` and `return_dict_in_generate` it also has, a tensor for every
            entry of `scores`, `log_normalizers` (log Z_t, [n]) and `branch_scores` (log p_k, [K, n, V]), where a scale is
            given; K counts the branches that have a weight, which is one at γ = 1, where log Z_t = 0.

        Raises:
            ValueError: an argument that does not fit, a mode that cannot be guided, or an improper tilt.
        """
        if beam_law not in LAWS:
            raise ValueError(f"beam_law must be one of {', '.join(LAWS)}, not {beam_law!r}")
        if read := next((name for name in CACHES if isinstance(kwargs.get(name), Reading)), None):
            raise ValueError(f"what a guided call has read cannot be handed on; leave out {read}")
        configured, generation_config, kwargs = self._taken_scale(generation_config, kwargs)
        rows, device = _rows(inputs, kwargs)
        combination = Combination.of(
            self.unguided,
            configured if guidance_scale is None else guidance_scale,
            rows=rows,
            negative_prompt_ids=negative_prompt_ids,
            negative_prompt_attention_mask=negative_prompt_attention_mask,
            negative_model=negative_model,
            conditions=conditions,
            branch_temperature=branch_temperature,
            floor=floor,
            plausibility=plausibility,
            smoothing=smoothing,
        )
        if combination.is_just(self.unguided):
            given = configured is not None or guidance_scale is not None
            return self._generate_alone(inputs, generation_config, kwargs, scored=given)
        check_arguments(kwargs, lent=combination.lends(self.unguided))
        kwargs.pop("logits_to_keep", None)
        guidance = Guidance(combination, beam_law, self.unguided)
        if self.config.is_encoder_decoder:
            kwargs |= self._encoding(guidance, inputs, generation_config, kwargs)
        kwargs |= {"guidance": guidance, "guidance_rows": torch.arange(rows, device=device or self.device)}
        out = super().generate(inputs, generation_config, **kwargs)
        if guidance.scored and isinstance(out, ModelOutput):
            out["log_normalizers"] = tuple(guidance.log_normalizers[: len(out.scores)])
            out["branch_scores"] = tuple(guidance.branch_scores[: len(out.scores)])
        return out

    def _generate_alone(
        self, inputs: Tensor | None, config: GenerationConfig | None, kwargs: dict[str, Any], *, scored: bool
    ) -> Any:
        """Let the model generate as it is; tell of its one branch if that is asked for."""
        asked = {
            name: next(iter(_settings(name, kwargs, config, self.generation_config)), False)
            for name in ("return_dict_in_generate", "output_scores", "output_logits")
        }
        if not (scored and asked["return_dict_in_generate"] and asked["output_scores"]):
            return super().generate(inputs, config, **kwargs)
        out = super().generate(inputs, config, **kwargs | {"output_logits": True})
        laws = [logits.log_softmax(-1) for logits in out.logits]
        out = out if asked["output_logits"] else dataclasses.replace(out, logits=None)
        out["log_normalizers"] = tuple(law.new_zeros(len(law)) for law in laws)
        out["branch_scores"] = tuple(law[None] for law in laws)
        return out

    def _encoding(
        self, guidance: Guidance, inputs: Tensor | None, config: GenerationConfig | None, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Leave the encoding to the branches: give `generate` something that stands for it."""
        given = next((ids for ids in (inputs, kwargs.get("input_ids"), kwargs.get("inputs_embeds")) if ids is not None), None)
        encoded, mask = kwargs.get("encoder_outputs"), kwargs.get("attention_mask")
        if mask is None and encoded is None and given is not None:
            pad, ends = (_settings(name, kwargs, config, self.generation_config) for name in ("pad_token_id", "eos_token_id"))
            mask = found_mask(given, pad[0], ends=ends[0] if ends else None) if pad else None
        return {"encoder_outputs": guidance.encode(given, encoded, mask), "attention_mask": None}

    def _taken_scale(
        self, config: GenerationConfig | None, kwargs: dict[str, Any]
    ) -> tuple[float | None, GenerationConfig | None, dict[str, Any]]:
        """Take the scale out of the configuration, so that the view guides and not transformers' logits processor."""
        scales = [each.guidance_scale for each in (config, self.generation_config) if each is not None]
        scale = next((each for each in scales if each is not None), None)
        if scale is None:
            return None, config, kwargs
        if config is None:
            return scale, None, kwargs | {"guidance_scale": 1.0}
        config = copy.deepcopy(config)
        config.guidance_scale = 1.0
        return scale, config, kwargs

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """Save the model itself."""
        return self.unguided.save_pretrained(*args, **kwargs)


def guided(model: PreTrainedModel) -> Any:
    """Return a guided view of a `transformers` model that generates text.

    The view shares the model's parameters. It is one of its class too, so it stands wherever the model did; without a guidance
    scale it does what the model does. Guided steps may lay the weights of `Conv1D` (GPT-2) out with other strides; their shapes
    and values, and so what `save_pretrained` writes, stay as they are.

    Raises:
        ValueError: something that does not generate text, or wraps a model that does.
    """
    if isinstance(model, GuidedLM):
        return model
    if not isinstance(model, GenerationMixin) or not model.can_generate():
        raise ValueError(f"only a transformers model with `generate` can be guided, not {type(model).__name__}")
    view = copy.copy(model)
    view.__class__ = _guided_class(model.__class__)
    view.__dict__.pop("forward", None)  # one wrapped on the instance, by a hook say, is the unguided model's
    view.generation_config = copy.deepcopy(model.generation_config)
    view.__dict__["unguided"] = plain = copy.copy(model)  # not a submodule: the parameters are the view's already
    copy_compiled(plain, model)
    return view


@functools.cache
def _guided_class(base: Any) -> Any:
    """Return the subclass of a model's class that `generate` can guide; its `forward` takes the same arguments."""

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, guidance: Guidance | None = None, **kwargs: Any) -> Any:
        if guidance is None:
            wrapped = self.unguided.__dict__.get("forward")
            return wrapped(*args, **kwargs) if wrapped else super(kind, self).forward(*args, **kwargs)
        return self.guided_forward(*args, guidance=guidance, **kwargs)

    kind: Any = type(f"Guided{base.__name__}", (GuidedLM, base), {"forward": forward, "__doc__": GuidedLM.__doc__})
    return kind


def _settings(name: str, kwargs: dict[str, Any], *configs: GenerationConfig | None) -> list[Any]:
    """Return the values of a setting that are given, what counts first."""
    values = [kwargs.get(name), *(getattr(config, name, None) for config in configs)]
    return [value for value in values if value is not None]


def _rows(inputs: Tensor | None, kwargs: dict[str, Any]) -> tuple[int, torch.device | None]:
    """Return the number of prompts, and the device they are on."""
    given = [inputs, kwargs.get("input_ids"), kwargs.get("inputs_embeds")]
    if (encoded := kwargs.get("encoder_outputs")) is not None:
        given.append(encoded[0])
    return next(((len(tensor), tensor.device) for tensor in given if tensor is not None), (1, None))
