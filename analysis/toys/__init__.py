"""Exact distributions, whose guided laws are computed and not sampled.

Toys import no wing. They satisfy the protocols of `arguide` and `diffusion` by their shape. So tests check the code that runs
on real models against laws that share no line with it.
"""

from analysis.toys.chain import MarkovChain, MarkovLaw
from analysis.toys.from_files import digits_table, read_chain, read_table
from analysis.toys.gaussian import Gaussian, GaussianPair, GaussianSequence
from analysis.toys.law import Joint, Label, Sequential, Weights, guidance, temperature
from analysis.toys.mixture import GaussianMixture
from analysis.toys.table import Table

__all__ = [
    "Gaussian",
    "GaussianMixture",
    "GaussianPair",
    "GaussianSequence",
    "Joint",
    "Label",
    "MarkovChain",
    "MarkovLaw",
    "Sequential",
    "Table",
    "Weights",
    "digits_table",
    "guidance",
    "read_chain",
    "read_table",
    "temperature",
]
