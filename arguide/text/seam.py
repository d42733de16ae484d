"""The seam to transformers: every private name that is read or overridden, and what differs between releases.

The rest of the package knows models, configurations, processors and outputs by their public names. `generate` has no public
way to make a cache of K·n rows for n prompts, to reorder and crop it, or to put a processor before all others: a callable
`custom_generate` loses the streamer and the assistant, a logits processor is not told of beams, and a cache that is handed in
does not know how long the text will be. `Hooks` overrides the private steps where that happens, and hands each to the
guidance of the call.

What differs is chosen once, at import. 5.24 names the cache `cache`; before, it was `past_key_values`, or `cache_params` for
recurrent models. Between 5.10 and 5.15 recurrent layers began to hold several states, and caches to record what drafts may
take back. Before 5.5 a cache knows no recurrent states, and every step takes its positions in the cache besides.
"""

import inspect
from collections.abc import Callable
from functools import cache as remembered
from typing import Any, Protocol

import transformers
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, GenerationMixin, LogitsProcessorList, PreTrainedModel, cache_utils
from transformers.cache_utils import (
    Cache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)
from transformers.generation import GenerationMode
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import ModelOutput

OLDEST, BEYOND = (5, 5), (5, 25)  # the releases that are tested, OLDEST ≤ release < BEYOND; pyproject.toml says the same


def check_release(version: str) -> None:
    """Raise ImportError unless a release of transformers is one of those that are tested."""
    release = tuple(int(part) for part in version.split(".")[:2])
    if not OLDEST <= release < BEYOND or "dev" in version:
        oldest, beyond = (".".join(map(str, bound)) for bound in (OLDEST, BEYOND))
        span = f">={oldest},<{beyond}"
        raise ImportError(f"transformers must be {span}, got {version}; try: pip install 'transformers{span}'")


check_release(transformers.__version__)

CACHES = ("cache", "past_key_values", "cache_params")
CACHE = next(name for name in CACHES if name in inspect.signature(CausalLMOutputWithPast).parameters)
STATEFUL = {"recurrent_gemma"}  # keeps its state in its modules, and says so since 5.16 only
RECORDS = hasattr(cache_utils.Cache, "activate_past_recording")
# Arguments of a step that the branches make for themselves.
OWN = {*CACHES, "inputs_embeds", "attention_mask", "position_ids", "next_sequence_length", "is_first_iteration"}
OWN |= {"use_cache", "logits_to_keep", "encoder_outputs", "tokenizer"}

MERGEABLE = {DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer}
MERGEABLE |= {cache_utils.DummyLayer} if hasattr(cache_utils, "DummyLayer") else set()


class Guidance(Protocol):
    """What a call of `generate` is guided by; see `arguide.text.decoding`."""

    def inputs(self, input_ids: Tensor, rows: Tensor | None, given: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of a step, from what `generate` gives to all models."""

    def step(self, inputs: dict[str, Any]) -> tuple[Tensor, Any]:
        """Return guided logits [n, keep, V] and the cache."""

    def cache(self, config: GenerationConfig, given: dict[str, Any], mode: Any, rows: int, length: int) -> Any:
        """Return an empty cache for all branches; None where there is to be no cache."""

    def begin(self, width: int) -> None:
        """Note how many tokens the prompts have, with padding."""

    def processors(self, config: GenerationConfig) -> list[Any]:
        """Return the logits processors that go before all others."""

    def keep(self, tokens: int) -> None:
        """Record the first `tokens` positions of the last step."""

    def chunked(self, config: GenerationConfig) -> GenerationConfig:
        """Note in which chunks prompts are to be read; return the configuration without them."""


class Hooks(GenerationMixin):
    """The private steps of `generate`: in a guided call they are the guidance's, otherwise the model's own."""

    unguided: PreTrainedModel

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        inputs_embeds: Tensor | None = None,
        guidance: Guidance | None = None,
        guidance_rows: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Hand a guided step to `forward` as it is; the branches prepare their own inputs."""
        if inputs_embeds is not None:
            kwargs["inputs_embeds"] = inputs_embeds
        if guidance is None:
            return super().prepare_inputs_for_generation(input_ids, **kwargs)
        return {"guidance": guidance, **guidance.inputs(input_ids, guidance_rows, kwargs)}

    def guided_forward(self, *, guidance: Guidance, return_dict: bool = True, **inputs: Any) -> CausalLMOutputWithPast:
        """Read what is new in every branch, and return guided logits [n, keep, V]."""
        del return_dict
        logits, reading = guidance.step(inputs)
        return CausalLMOutputWithPast(logits=logits, **{CACHE: reading})

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], mode: Any, rows: int, length: int
    ) -> None:
        if (guidance := model_kwargs.get("guidance")) is None:
            super()._prepare_cache_for_generation(generation_config, model_kwargs, mode, rows, length)
        elif (reading := guidance.cache(generation_config, model_kwargs, mode, rows, length)) is not None:
            model_kwargs[CACHE] = reading

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Tensor | None = None, **model_kwargs: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        if (guidance := model_kwargs.get("guidance")) is not None and input_ids is not None:
            guidance.begin(input_ids.shape[1])
        return super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
        )

    def _get_logits_processor(
        self, generation_config: GenerationConfig, input_ids_seq_length: int | None = None, **kwargs: Any
    ) -> LogitsProcessorList:
        processors = super()._get_logits_processor(generation_config, input_ids_seq_length, **kwargs)
        if (guidance := (kwargs.get("model_kwargs") or {}).get("guidance")) is not None:
            guidance.begin(input_ids_seq_length or 0)  # healing a prompt's last token may have changed it
            processors[:0] = guidance.processors(generation_config)
        return processors

    def _update_model_kwargs_for_generation(
        self, outputs: ModelOutput, model_kwargs: dict[str, Any], is_encoder_decoder: bool = False, num_new_tokens: int = 1
    ) -> dict[str, Any]:
        if (guidance := model_kwargs.get("guidance")) is None:
            return super()._update_model_kwargs_for_generation(outputs, model_kwargs, is_encoder_decoder, num_new_tokens)
        guidance.keep(num_new_tokens)  # it is known only now; the reading knows masks and positions
        return model_kwargs

    def _prefill(
        self, input_ids: Tensor, generation_config: GenerationConfig, model_kwargs: dict[str, Any], **kwargs: Any
    ) -> Any:
        if (guidance := model_kwargs.get("guidance")) is not None:
            generation_config = guidance.chunked(generation_config)
        return super()._prefill(input_ids, generation_config, model_kwargs, **kwargs)

    def _reorder_cache(self, past_key_values: Any, beam_idx: Tensor) -> Any:
        if isinstance(past_key_values, Cache) and hasattr(super(), "_reorder_cache"):
            return super()._reorder_cache(past_key_values, beam_idx)
        past_key_values.reorder_cache(beam_idx)
        return past_key_values

    def _get_candidate_generator(self, *, model_kwargs: dict[str, Any], **kwargs: Any) -> Any:
        """Let drafts be made without guidance; the guided model accepts or refuses them."""
        plain = {name: value for name, value in model_kwargs.items() if name not in ("guidance", "guidance_rows")}
        return super()._get_candidate_generator(model_kwargs=plain, **kwargs)


@remembered
def arguments(kind: Any) -> frozenset[str]:
    """Return what the forward pass of a class of models takes."""
    return frozenset(inspect.signature(kind.forward).parameters)


def cache_name(model: PreTrainedModel) -> str:
    """Return the argument under which a model takes its cache; "" for a model that takes none."""
    return next((name for name in CACHES if name in arguments(model.__class__)), "")


def drafts(mode: Any) -> bool:
    """Whether a mode of `generate` reads drafts, and takes back those that are refused."""
    return mode == GenerationMode.ASSISTED_GENERATION


def keeps_cache(model: PreTrainedModel) -> bool:
    """Whether a model keeps all that it has read in a cache of transformers, and none of it in its own modules."""
    stateful = model._is_stateful or model.config.model_type in STATEFUL
    return model._supports_default_dynamic_cache() and (not stateful or recurs(full_cache(model)))


def takes_static_cache(model: PreTrainedModel) -> bool:
    """Whether a model is known to be right with a static cache."""
    return model._can_compile_fullgraph or model._is_stateful


def attention_kind(model: PreTrainedModel) -> str:
    """Return the implementation of a model's attention, "sdpa" say."""
    return model.config._attn_implementation


def prepares_plainly(kind: Any) -> bool:
    """Whether a class of models prepares its inputs as all models do."""
    return kind.prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation


def copy_compiled(view: PreTrainedModel, model: PreTrainedModel) -> None:
    """Give a copy of a model what `model.compile()` made, which copying drops."""
    view._compiled_call_impl = model._compiled_call_impl


def empty_cache(
    model: PreTrainedModel, config: GenerationConfig, *, rows: int, length: int, mode: Any, encoded: Any
) -> tuple[Cache, Callable[..., Any]]:
    """Return an empty cache as `generate` makes it, and what reads a further token: the model, or its compiled form."""
    own = {} if encoded is None else {"encoder_outputs": encoded}
    model._prepare_cache_for_generation(config, own, mode, rows, length)
    cache = next(own[name] for name in CACHES if name in own)
    if drafts(mode) and not RECORDS and isinstance(cache, DynamicCache):
        _widen(cache)  # 5.12 and 5.13 leave that out, and fail without guidance too
    compiled = model._valid_auto_compile_criteria(own, config)
    return cache, model.get_compiled_call(config.compile_config) if compiled else model


def full_cache(model: PreTrainedModel) -> DynamicCache:
    """Return an empty cache that keeps all it is given, also beyond a sliding window."""
    return _widen(DynamicCache(config=model.config.get_text_config(decoder=True)))


def _widen(cache: DynamicCache) -> DynamicCache:
    """Let the layers of an empty cache keep what is beyond their windows."""
    cache.layers = [DynamicLayer() if type(layer) is DynamicSlidingWindowLayer else layer for layer in cache.layers]
    return cache


def is_recurrent(layer: Any) -> bool:
    """Whether a layer of a cache holds recurrent states."""
    return isinstance(layer, LinearAttentionCacheLayerMixin)


def recurs(cache: Any) -> bool:
    """Whether a cache holds recurrent states."""
    return any(map(is_recurrent, getattr(cache, "layers", [])))


def recurrent_states(layer: Any) -> list[tuple[Tensor | None, Tensor | None]]:
    """Return the (convolution, recurrent) states of a recurrent layer."""
    conv, recurrent = layer.conv_states, layer.recurrent_states
    return list(zip(conv.values(), recurrent.values(), strict=True)) if isinstance(conv, dict) else [(conv, recurrent)]


def fill_states(cache: Cache, layer: int, states: list[tuple[Tensor | None, Tensor | None]]) -> None:
    """Put states into an empty recurrent layer of a cache."""
    for i, (conv, recurrent) in enumerate(states):
        which = {"state_idx": i} if i else {}
        if conv is not None:
            cache.update_conv_state(conv, layer, **which)
        if recurrent is not None:
            cache.update_recurrent_state(recurrent, layer, **which)


def record_past(cache: Cache) -> None:
    """Let a cache keep what may be taken back; in older releases one that drafts are read into keeps all from the start."""
    if RECORDS:
        cache.activate_past_recording()


def take_back(cache: Cache, tokens: int) -> None:
    """Remove the last tokens of a cache; none shortens layers that record their past to what the next step needs."""
    if tokens or RECORDS:  # before that, -0 would mean a length of 0
        cache.crop(-tokens)
