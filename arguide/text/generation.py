r"""Text under guidance: a view of a `transformers` model on which every mode of `generate` runs.

    model = arguide.guided(AutoModelForCausalLM.from_pretrained(…))
    model.generate(**inputs, guidance_scale=1.5, negative_prompt_ids=…, do_sample=True, num_return_sequences=4)

The view shares the model's parameters. `generate` sees a model of n rows whose logits are Σ_k w_k log p_k (see
`arguide.text.settings`); one forward pass reads all branches. Greedy decoding, sampling, beams, streaming and assisted decoding
are those of transformers, under the sequential law Π_t p̃(x_t | x_<t) / Z_t. Logits processors, temperature and truncations come
after guidance. A scale of 1 without further branches runs the model itself, a scale of 0 the unconditional branch alone.
"""

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import ModelOutput

from arguide import checks
from arguide.text.call_state import LAWS, CallState, check_arguments
from arguide.text.combination import Combination
from arguide.text.prompts import check_model, check_rows, check_tokens, found_mask
from arguide.text.reading import Reading
from arguide.text.seam import CACHES, Hooks, copy_compiled
from arguide.text.settings import Guidance, Settings

if TYPE_CHECKING:

    class View(Hooks, PreTrainedModel):
        """A guided view is a model of its class too."""

else:
    View = Hooks

F = TypeVar("F", bound=Callable[..., Any])
KEYWORDS = {field.name for field in dataclasses.fields(Guidance)} - {"temperature"}  # that one is a keyword of transformers
MISNAMED = {
    **dict.fromkeys(("scale", "gamma", "cfg_scale"), "guidance_scale"),
    "prior": "guidance_prior",
    "negative_prompt": 'negative_prompt_ids=tokenizer(text, return_tensors="pt").input_ids',
    **dict.fromkeys(("negative_ids", "negative_input_ids"), "negative_prompt_ids"),
}


def with_settings(guidance: Guidance | None, given: dict[str, Any]) -> Guidance:
    """Return settings, none by default, whose fields are replaced by those given.

    Raises:
        ValueError: another object than a `Guidance`.
        TypeError: a name that is not that of a field.
    """
    if not isinstance(guidance, Guidance | None):
        raise checks.refusal("guidance", "an arguide.Guidance", guidance, "try guidance_scale=2.0")
    if unknown := sorted(given.keys() - Settings.__annotations__.keys()):
        raise TypeError(f"unknown argument {unknown[0]}; try {MISNAMED.get(unknown[0], 'help(arguide.Guidance)')}")
    return dataclasses.replace(guidance or Guidance(), **given)


def takes_settings(function: F) -> F:
    """Show the fields of `Guidance` as keywords in the signature of a function that takes them by `**`."""
    signature = inspect.signature(function)
    named = {name: each for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD}
    rest = [each for each in signature.parameters.values() if each.name == "kwargs"]
    for each in dataclasses.fields(Guidance):
        kind = inspect.Parameter.KEYWORD_ONLY
        if not (rest and each.name == "temperature"):  # a keyword of transformers
            named[each.name] = inspect.Parameter(each.name, kind, default=each.default, annotation=each.type)
    function.__signature__ = signature.replace(parameters=[*named.values(), *rest])  # type: ignore[attr-defined]
    return function


class GuidedLM(View):
    """A guided view of a model; `guided` makes one, as a subclass of the model's own class.

    Example:
        >>> config = transformers.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=None)
        >>> model = transformers.GPT2LMHeadModel(config)
        >>> view = arguide.guided(model)
        >>> isinstance(view, arguide.GuidedLM), isinstance(view, type(model))
        (True, True)
    """

    unguided: PreTrainedModel

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Any:
        """Return a new object of a guided class, and refuse this one, which is no model.

        Raises:
            TypeError: a call of `GuidedLM` itself.
        """
        if cls is GuidedLM:
            raise TypeError("a GuidedLM must be made from a model; try arguide.guided(model)")
        return super().__new__(cls)

    @takes_settings
    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        guidance: Guidance | None = None,
        beam_law: str = "sequential",
        **kwargs: Any,
    ) -> Any:
        """Generate as `transformers` does, from Σ_k w_k log p_k.

        Args:
            inputs: prompts, [n, L].
            generation_config: its `guidance_scale` is used if no other is given.
            guidance: settings of the guided law. Its fields but `temperature` are keywords of `generate` too, and replace those
                of the object.
            beam_law: the law that beams maximise: the "sequential" guided one, or the "joint" one, Σ_t Σ_k w_k log p_k
                unnormalised.
            kwargs: fields of `Guidance`; all others are the keywords of `transformers`.

        Returns:
            The result of `transformers`. With `output_scores`, `return_dict_in_generate` and a scale it also has
            `log_normalizers` (log Z_t, [n]) and `branch_scores` (log p_k, [K, n, V]), one tensor per entry of `scores`. K is
            the number of branches with a weight: 1 at γ = 1, where log Z_t = 0. With a `guidance_prior` it also has
            `log_posteriors` (log ρ_k before the token, [n, K]), and K is the number of all branches, except at γ = 1.

        Raises:
            ValueError: an argument that does not fit, a mode that cannot be guided, or an improper tilt.
        """
        if beam_law not in LAWS:
            raise checks.refusal("beam_law", f"one of {', '.join(LAWS)}", beam_law)
        if not isinstance(generation_config, GenerationConfig | None):
            raise checks.refusal("generation_config", "a GenerationConfig", generation_config, "try guidance_scale=2.0")
        check_rows("inputs", inputs)
        check_rows("input_ids", kwargs.get("input_ids"))
        if read := next((name for name in CACHES if isinstance(kwargs.get(name), Reading)), None):
            raise ValueError(f"{read} must not be that of another guided call, which cannot be continued; leave out {read}")
        settings = with_settings(guidance, {name: kwargs.pop(name) for name in (KEYWORDS | MISNAMED.keys()) & kwargs.keys()})
        configured, generation_config, kwargs = self._take_scale(generation_config, kwargs)
        if settings.guidance_scale is None and configured is not None:
            settings = dataclasses.replace(settings, guidance_scale=configured)
        rows, device = _rows(inputs, kwargs)
        combination = Combination.of(self.unguided, settings, rows=rows)
        if combination.is_just(self.unguided):
            return self._generate_alone(inputs, generation_config, kwargs, scored=settings.guidance_scale is not None)
        ids = None if kwargs.get("inputs_embeds") is not None else kwargs.get("input_ids") if inputs is None else inputs
        check_tokens("input_ids", ids, self.unguided)
        check_arguments(kwargs, ids, lent=combination.lends(self.unguided))
        kwargs.pop("logits_to_keep", None)
        call = CallState(combination, beam_law, self.unguided, width=0 if ids is None else ids.shape[1])
        if self.config.is_encoder_decoder:
            kwargs |= self._encoding(call, inputs, generation_config, kwargs)
        kwargs |= {"guided_call": call, "guided_rows": torch.arange(rows, device=device or self.device)}
        out = super().generate(inputs, generation_config, **kwargs)
        if call.scored and isinstance(out, ModelOutput):
            out["log_normalizers"] = tuple(call.log_normalizers[: len(out.scores)])
            out["branch_scores"] = tuple(call.branch_scores[: len(out.scores)])
            if call.log_posteriors:
                out["log_posteriors"] = tuple(call.log_posteriors[: len(out.scores)])
        return out

    def _generate_alone(
        self, inputs: Tensor | None, config: GenerationConfig | None, kwargs: dict[str, Any], *, scored: bool
    ) -> Any:
        """Generate with the model itself; add the scores of its one branch if they are asked for."""
        asked = {
            name: next(iter(_values(name, kwargs, config, self.generation_config)), False)
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
        self, call: CallState, inputs: Tensor | None, config: GenerationConfig | None, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Record the prompts of the encoder for the branches; return the arguments that replace them in `generate`."""
        given = next((ids for ids in (inputs, kwargs.get("input_ids"), kwargs.get("inputs_embeds")) if ids is not None), None)
        encoded, mask = kwargs.get("encoder_outputs"), kwargs.get("attention_mask")
        if mask is None and encoded is None and given is not None:
            pad, ends = (_values(name, kwargs, config, self.generation_config) for name in ("pad_token_id", "eos_token_id"))
            mask = found_mask(given, pad[0], ends=ends[0] if ends else None) if pad else None
        return {"encoder_outputs": call.encode(given, encoded, mask), "attention_mask": None}

    def _take_scale(
        self, config: GenerationConfig | None, kwargs: dict[str, Any]
    ) -> tuple[float | None, GenerationConfig | None, dict[str, Any]]:
        """Take the scale out of the configuration, so that transformers' own logits processor does not guide too."""
        scale = next(iter(_values("guidance_scale", {}, config, self.generation_config)), None)
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


def guided(model: PreTrainedModel) -> GuidedLM:
    """Return a guided view of a `transformers` model, whose `generate` takes a scale γ and negative prompts.

        model = arguide.guided(AutoModelForCausalLM.from_pretrained(name))
        model.generate(**inputs, guidance_scale=1.5, negative_prompt_ids=negative.input_ids)

    γ = 0 writes the unconditional text, γ = 1 the model's own; above 1 the prompt has more influence. The negative prompt is
    the prompt's last token by default. The other keywords of guidance are the fields of `arguide.Guidance`.

    The view shares the model's parameters, and is an instance of its class too, so it can replace the model; without a guidance
    scale it does what the model does. Guided steps on a CPU may store the weights of `Conv1D` (GPT-2) with other strides, and
    multiply by the faster of two forms (`arguide.text.cpu_matmul`; ARGUIDE_CPU_MATMUL=0 turns that off). Shapes and values of
    the weights, and so the files of `save_pretrained`, stay as they are.

    Raises:
        ValueError: an object that is not a model with `generate`.

    Example:
        >>> config = transformers.GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=None)
        >>> model = transformers.GPT2LMHeadModel(config)
        >>> prompt, negative = torch.tensor([[1, 2, 3]]), torch.tensor([[4]])
        >>> view = arguide.guided(model)
        >>> view.generate(prompt, guidance_scale=2.0, negative_prompt_ids=negative, max_new_tokens=4).shape
        torch.Size([1, 7])
    """
    if isinstance(model, GuidedLM):
        return model
    check_model("model", model)
    view = copy.copy(model)
    view.__class__ = _guided_class(model.__class__)
    view.__dict__.pop("forward", None)  # one that a hook has wrapped on the instance is the unguided model's
    view.generation_config = copy.deepcopy(model.generation_config)
    view.__dict__["unguided"] = plain = copy.copy(model)  # not a submodule: the view has its parameters already
    copy_compiled(plain, model)
    return view


@functools.cache
def _guided_class(base: Any) -> Any:
    """Return the subclass of a model's class that `generate` can guide; its `forward` takes the same arguments."""

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, guided_call: CallState | None = None, **kwargs: Any) -> Any:
        if guided_call is None:
            if misplaced := sorted(KEYWORDS & kwargs.keys()):
                raise TypeError(f"{misplaced[0]} must be given to generate, not to forward; try model.generate(…)")
            wrapped = self.unguided.__dict__.get("forward")
            return wrapped(*args, **kwargs) if wrapped else super(kind, self).forward(*args, **kwargs)
        return self.guided_forward(*args, guided_call=guided_call, **kwargs)

    # Pipelines, and models in their losses, know a class by its name.
    names = {"__qualname__": f"Guided{base.__name__}", "__doc__": GuidedLM.__doc__}
    kind: Any = type(base.__name__, (GuidedLM, base), {"forward": forward} | names)
    return kind


def _values(name: str, kwargs: dict[str, Any], *configs: GenerationConfig | None) -> list[Any]:
    """Return the values of a setting that are not None, the one with priority first."""
    values = [kwargs.get(name), *(getattr(config, name, None) for config in configs)]
    return [value for value in values if value is not None]


def _rows(inputs: Tensor | None, kwargs: dict[str, Any]) -> tuple[int, torch.device | None]:
    """Return the number of prompts and their device."""
    given = [inputs, kwargs.get("input_ids"), kwargs.get("inputs_embeds")]
    if (encoded := kwargs.get("encoder_outputs")) is not None:
        given.append(encoded[0])
    return next(((len(tensor), tensor.device) for tensor in given if tensor is not None), (1, None))
