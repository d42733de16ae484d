"""The experiments in the order of the report. Every module has one, `EXPERIMENT`."""

from analysis.experiments.base import Experiment
from analysis.experiments.classifier import EXPERIMENT as CLASSIFIER
from analysis.experiments.correction import EXPERIMENT as CORRECTION
from analysis.experiments.families import EXPERIMENT as FAMILIES
from analysis.experiments.fidelity import EXPERIMENT as FIDELITY
from analysis.experiments.real_data import EXPERIMENT as REAL_DATA
from analysis.experiments.scale_factors import EXPERIMENT as SCALE_FACTORS
from analysis.experiments.temperature import EXPERIMENT as TEMPERATURE
from analysis.experiments.text import EXPERIMENT as TEXT

EXPERIMENTS: tuple[Experiment, ...] = (SCALE_FACTORS, TEMPERATURE, CORRECTION, CLASSIFIER, FAMILIES, FIDELITY, REAL_DATA, TEXT)
