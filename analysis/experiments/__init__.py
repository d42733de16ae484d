"""The experiments in the order of the report. Every module has one, `EXPERIMENT`.

Example:
    >>> [experiment.title for experiment in analysis.experiments.EXPERIMENTS][:2]
    ['Guiding the factors is not guiding the joint', 'Temperature: the exercise left to the reader']
"""

from analysis.experiments import (
    classifier,
    correction,
    families,
    fidelity,
    real_data,
    scale_factors,
    temperature,
    text,
    whole_texts,
)
from analysis.experiments.base import Experiment
from analysis.experiments.coherence import causes, coherent
from analysis.experiments.continuous import chapter as langevin
from analysis.experiments.published import chapter as published_numbers

ORDER = (
    scale_factors,
    temperature,
    correction,
    classifier,
    families,
    langevin,
    coherent,
    causes,
    fidelity,
    real_data,
    whole_texts,
    text,
    published_numbers,
)
EXPERIMENTS: tuple[Experiment, ...] = tuple(module.EXPERIMENT for module in ORDER)
