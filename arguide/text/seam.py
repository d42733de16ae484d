"""The seam to transformers: every private name that is read or overridden, and the differences between releases.

The rest of the package uses public names only. `generate` has no public way to make a cache of K·n rows for n prompts, to
reorder and crop it, or to put a processor before all others: a callable `custom_generate` loses the streamer and the
assistant, a logits processor does not see the beams, and a cache that is passed in does not know the length of the text.
`Hooks` overrides the private steps where that happens, and delegates each to the state of the call.

Differences are resolved once, at import. 5.24 names the cache `cache`; before, it was `past_key_values`, or `cache_params` for
recurrent models. Between 5.10 and 5.15 recurrent layers began to hold several states, and caches to record what drafts may
remove. Before 5.5 a cache has no recurrent states, and every step also takes its positions in the cache.
"""

import inspect
from collections.abc import Callable
from functools import cache as remembered
from typing import TYPE_CHECKING, Any

import transformers
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, GenerationMixin, LogitsProcessorList, PreTrainedModel, cache_utils
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation import GenerationMode
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import ModelOutput

if TYPE_CHECKING:
    from arguide.text.call_state import CallState

OLDEST, BEYOND = (5, 5), (5, 25)  # the tested releases, OLDEST ≤ release < BEYOND, as in pyproject.toml


def check_release(version: str) -> None:
    """Raise ImportError unless a release of transformers is tested."""
    release = tuple(int(part) for part in version.split(".")[:2])
    if not OLDEST <= release < BEYOND or "dev" in version:
        oldest, beyond = (".".join(map(str, bound)) for bound in (OLDEST, BEYOND))
        span = f">={oldest},<{beyond}"
        raise ImportError(f"transformers must be {span}, got {version}; try: pip install 'transformers{span}'")


check_release(transformers.__version__)

CACHES = ("cache", "past_key_values", "cache_params")
CACHE = next(name for name in CACHES if name in inspect.signature(CausalLMOutputWithPast).parameters)
STATEFUL = {"recurrent_gemma"}  # keeps its state in its modules; `_is_stateful` is set since 5.16 only
RECORDS = hasattr(Cache, "activate_past_recording")
# Arguments of a step that every branch makes itself.
OWN = {*CACHES, "inputs_embeds", "attention_mask", "position_ids", "next_sequence_length", "is_first_iteration"}
OWN |= {"use_cache", "logits_to_keep", "encoder_outputs", "tokenizer"}

MERGEABLE = {DynamicLayer, DynamicSlidingWindowLayer, cache_utils.LinearAttentionLayer}
MERGEABLE |= {cache_utils.DummyLayer} if hasattr(cache_utils, "DummyLayer") else set()


class Hooks(GenerationMixin):
    """The private steps of `generate`: a guided call replaces or extends them, other calls are the model's own."""

    unguided: PreTrainedModel

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        inputs_embeds: Tensor | None = None,
        guided_call: "CallState | None" = None,
        guided_rows: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the inputs of `forward`; the branches prepare their own.

        Args:
            input_ids: prompts and text, [n, L].
            inputs_embeds: embeddings of the prompts, [n, L, d].
            guided_call: the state of a guided call; None without guidance.
            guided_rows: index of each row's prompt, [n].
            kwargs: further inputs of `transformers`.
        """
        if inputs_embeds is not None:
            kwargs["inputs_embeds"] = inputs_embeds
        if guided_call is None:
            return super().prepare_inputs_for_generation(input_ids, **kwargs)
        return {"guided_call": guided_call, **guided_call.inputs(input_ids, guided_rows, kwargs)}

    def guided_forward(self, *, guided_call: "CallState", return_dict: bool = True, **inputs: Any) -> CausalLMOutputWithPast:
        """Return guided logits [n, keep, V], and the caches of the branches."""
        del return_dict
        return CausalLMOutputWithPast(logits=guided_call.step(**inputs), **{CACHE: inputs["reading"]})

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *given: Any
    ) -> None:
        call = model_kwargs.get("guided_call")
        prepare = super()._prepare_cache_for_generation if call is None else call.prepare_cache
        prepare(generation_config, model_kwargs, *given)

    def _get_logits_processor(
        self, generation_config: GenerationConfig, input_ids_seq_length: int | None = None, **kwargs: Any
    ) -> LogitsProcessorList:
        processors = super()._get_logits_processor(generation_config, input_ids_seq_length, **kwargs)
        call = (kwargs.get("model_kwargs") or {}).get("guided_call")
        return processors if call is None else call.processors(generation_config, input_ids_seq_length or 0, processors)

    def _update_model_kwargs_for_generation(
        self, outputs: ModelOutput, model_kwargs: dict[str, Any], is_encoder_decoder: bool = False, num_new_tokens: int = 1
    ) -> dict[str, Any]:
        if (call := model_kwargs.get("guided_call")) is None:
            return super()._update_model_kwargs_for_generation(outputs, model_kwargs, is_encoder_decoder, num_new_tokens)
        call.keep(num_new_tokens)  # known only now; masks and positions are those of the branches
        return model_kwargs

    def _prefill(
        self, input_ids: Tensor, generation_config: GenerationConfig, model_kwargs: dict[str, Any], **kwargs: Any
    ) -> Any:
        if (call := model_kwargs.get("guided_call")) is not None:
            generation_config = call.unchunked(generation_config)
        return super()._prefill(input_ids, generation_config, model_kwargs, **kwargs)

    def _reorder_cache(self, past_key_values: Any, beam_idx: Tensor) -> Any:
        if isinstance(past_key_values, Cache) and hasattr(super(), "_reorder_cache"):
            return super()._reorder_cache(past_key_values, beam_idx)
        past_key_values.reorder_cache(beam_idx)
        return past_key_values

    def _get_candidate_generator(self, *, model_kwargs: dict[str, Any], **kwargs: Any) -> Any:
        """Make drafts without guidance; the guided model accepts or rejects them."""
        plain = {name: value for name, value in model_kwargs.items() if not name.startswith("guided_")}
        return super()._get_candidate_generator(model_kwargs=plain, **kwargs)


@remembered
def arguments(kind: Any) -> frozenset[str]:
    """Return the names of the arguments of the forward pass of a class of models."""
    return frozenset(inspect.signature(kind.forward).parameters)


def cache_name(model: PreTrainedModel) -> str:
    """Return the name of the argument for the cache of a model; "" for a model without one."""
    return next((name for name in CACHES if name in arguments(model.__class__)), "")


def drafts(mode: Any) -> bool:
    """Whether a mode of `generate` reads drafts, and removes those that are rejected."""
    return mode == GenerationMode.ASSISTED_GENERATION


def keeps_cache(model: PreTrainedModel) -> bool:
    """Whether a class of models keeps its whole state in a cache of transformers, and none in its modules."""
    stateful = model._is_stateful or model.config.model_type in STATEFUL
    return model._supports_default_dynamic_cache() and (not stateful or recurs(full_cache(model)))


def takes_static_cache(model: PreTrainedModel) -> bool:
    """Whether a model is tested with a static cache."""
    return model._can_compile_fullgraph or model._is_stateful


def attention_kind(model: PreTrainedModel) -> str:
    """Return the implementation of a model's attention, "sdpa" say."""
    return model.config._attn_implementation


def prepares_plainly(kind: Any) -> bool:
    """Whether a class of models has the default preparation of inputs."""
    return kind.prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation


def copy_compiled(view: PreTrainedModel, model: PreTrainedModel) -> None:
    """Give a copy of a model the result of `model.compile()`, which copying drops."""
    view._compiled_call_impl = model._compiled_call_impl


def empty_cache(
    model: PreTrainedModel, config: GenerationConfig, *, rows: int, length: int, mode: Any, encoded: Any
) -> tuple[Cache, Callable[..., Any]]:
    """Return an empty cache as `generate` makes it, and the function for one further token: the model, or its compiled form.

    Args:
        model: the model that will read.
        config: the kind of cache.
        rows: number of prompts, before beams and samples multiply them.
        length: number of tokens that a static cache has room for.
        mode: mode of generation, if there is one.
        encoded: output of an encoder, if there is one.
    """
    own = {} if encoded is None else {"encoder_outputs": encoded}
    model._prepare_cache_for_generation(config, own, mode, rows, length)
    cache = next(own[name] for name in CACHES if name in own)
    if drafts(mode) and not RECORDS and isinstance(cache, DynamicCache):
        _widen(cache)  # 5.12 and 5.13 do not, and fail without guidance too
    compiled = model._valid_auto_compile_criteria(own, config)
    return cache, model.get_compiled_call(config.compile_config) if compiled else model


def full_cache(model: PreTrainedModel) -> DynamicCache:
    """Return an empty cache that keeps all states, also beyond a sliding window."""
    return _widen(DynamicCache(config=model.config.get_text_config(decoder=True)))


def _widen(cache: DynamicCache) -> DynamicCache:
    """Let the layers of an empty cache keep states beyond their windows."""
    cache.layers = [DynamicLayer() if type(layer) is DynamicSlidingWindowLayer else layer for layer in cache.layers]
    return cache


def is_recurrent(layer: Any) -> bool:
    """Whether a layer of a cache holds recurrent states."""
    return isinstance(layer, cache_utils.LinearAttentionCacheLayerMixin)


def recurs(cache: Any) -> bool:
    """Whether a cache holds recurrent states."""
    return any(map(is_recurrent, getattr(cache, "layers", [])))


def recurrent_states(layer: Any) -> list[tuple[Tensor | None, Tensor | None]]:
    """Return the (convolution, recurrent) states of a recurrent layer."""
    conv, recurrent = layer.conv_states, layer.recurrent_states
    return list(zip(conv.values(), recurrent.values(), strict=True)) if isinstance(conv, dict) else [(conv, recurrent)]


def fill_states(cache: Cache, layer: int, states: list[tuple[Tensor | None, Tensor | None]]) -> None:
    """Put states into an empty recurrent layer of a cache.

    Args:
        cache: the cache.
        layer: index of the layer.
        states: pairs (convolution, recurrent).
    """
    for i, (conv, recurrent) in enumerate(states):
        which = {"state_idx": i} if i else {}
        if conv is not None:
            cache.update_conv_state(conv, layer, **which)
        if recurrent is not None:
            cache.update_recurrent_state(recurrent, layer, **which)


def record_past(cache: Cache) -> None:
    """Let a cache record states, so that tokens can be removed; in older releases a cache for drafts always does."""
    if RECORDS:
        cache.activate_past_recording()


def take_back(cache: Cache, tokens: int) -> None:
    """Remove the last tokens of a cache; 0 tokens still shorten layers that record their past, as far as possible."""
    if tokens or RECORDS:  # before that, -0 would mean a length of 0
        cache.crop(-tokens)
