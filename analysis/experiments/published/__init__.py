"""Published numbers, computed again: a module per source, each with its `SOURCE`, in the order of the table."""

from analysis.experiments.published import (
    feynman_kac,
    guided_density,
    masked,
    powers,
    predictor_corrector,
    rectified,
)
from analysis.experiments.published.claims import Source

ORDER = (predictor_corrector, rectified, guided_density, masked, powers, feynman_kac)
SOURCES: tuple[Source, ...] = tuple(module.SOURCE for module in ORDER)
