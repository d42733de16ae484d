"""Modes of `generate`: what guidance does right passes, the rest is refused with what to do instead."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import GenerationConfig, PreTrainedModel

from arguide.text.seam import CACHES, OWN, keeps_cache, takes_static_cache


def check_arguments(given: Mapping[str, Any], *, lent: bool) -> None:
    """Refuse arguments of `generate` that a branch could not follow, if the prompt is `lent` to other models say."""
    if lent and any(given.get(name) is not None for name in ("inputs_embeds", "encoder_outputs")):
        raise ValueError("embeddings mean nothing to another model; give input_ids, or prompts of its own")
    if given.get("position_ids") is not None:
        raise ValueError("every branch has positions of its own, from its mask; leave out position_ids")
    if given.get("cache_implementation") == "paged":
        raise ValueError("continuous batching cannot be guided; leave out cache_implementation='paged'")


def check_inputs(given: Mapping[str, Any]) -> None:
    """Refuse inputs of a step besides the text, an image say."""
    unknown = {name for name, value in given.items() if value is not None} - OWN
    if unknown:
        raise ValueError(f"guided generation reads text alone; it cannot pass on {', '.join(sorted(unknown))}")


def check_mode(config: GenerationConfig, given: Mapping[str, Any], models: Sequence[PreTrainedModel]) -> None:
    """Refuse caches and outputs that cannot be those of all branches."""
    for model in models:
        name = type(model).__name__
        if not keeps_cache(model):
            raise ValueError(f"{name} keeps its state in a way of its own, which cannot be guided")
        if config.cache_implementation == "static" and not takes_static_cache(model):
            raise ValueError(f"{name} is not known to be right with a static cache; leave out cache_implementation")
    if config.cache_implementation not in (None, "dynamic", "static"):
        raise ValueError(f"guided generation takes a dynamic or static cache, not {config.cache_implementation!r}")
    if named := next((name for name in CACHES if given.get(name) is not None), None):
        raise ValueError(f"guided generation makes its own caches; leave out {named}")
    if config.output_attentions or config.output_hidden_states:
        raise ValueError("attentions and hidden states belong to one branch; ask the unguided model for them")
