"""Published numbers, computed again: the sources in the order of the table, from modules that may hold several."""

from analysis.experiments.published import post
from analysis.experiments.published.claims import Source
from analysis.experiments.published.papers import (
    feynman_kac,
    guided_density,
    masked,
    powers,
    predictor_corrector,
    rectified,
    rescaled_score,
    stay_on_topic,
)
from analysis.experiments.published.peers import diffusers_guiders, transformers_guidance

SOURCES: tuple[Source, ...] = (
    post.SOURCE,
    predictor_corrector.SOURCE,
    rectified.SOURCE,
    guided_density.SOURCE,
    masked.SOURCE,
    *powers.SOURCES,
    feynman_kac.SOURCE,
    stay_on_topic.SOURCE,
    rescaled_score.SOURCE,
    transformers_guidance.SOURCE,
    diffusers_guiders.SOURCE,
)
