"""The experiments in the order of the report. Every module has one, `EXPERIMENT`."""

from analysis.experiments import (
    classifier,
    coherent,
    correction,
    families,
    fidelity,
    real_data,
    scale_factors,
    temperature,
    text,
)
from analysis.experiments.base import Experiment

ORDER = (scale_factors, temperature, correction, classifier, families, coherent, fidelity, real_data, text)
EXPERIMENTS: tuple[Experiment, ...] = tuple(module.EXPERIMENT for module in ORDER)
