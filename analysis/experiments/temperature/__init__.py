"""Temperature, the exercise left to the reader, in both wings."""

from analysis.experiments.temperature.chapter import EXPERIMENT as EXPERIMENT
