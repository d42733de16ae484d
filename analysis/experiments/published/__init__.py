"""Published numbers, computed again: a module per paper or package, each with its `SOURCE`, in the order of the table."""

from analysis.experiments.published import (
    diffusers_guiders,
    feynman_kac,
    guided_density,
    masked,
    powers,
    predictor_corrector,
    rectified,
    transformers_guidance,
)
from analysis.experiments.published.claims import Source

ORDER = (predictor_corrector, rectified, guided_density, masked, powers, feynman_kac, transformers_guidance, diffusers_guiders)
SOURCES: tuple[Source, ...] = tuple(module.SOURCE for module in ORDER)
