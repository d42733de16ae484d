"""The experiments in the order of the story, one a module, each offering `EXPERIMENT`."""

from analysis.experiment import Experiment
from analysis.experiments import correction, families, fidelity, real_data, scale_factors, temperature

EXPERIMENTS: tuple[Experiment, ...] = tuple(
    module.EXPERIMENT for module in (scale_factors, temperature, correction, families, fidelity, real_data)
)
