"""Exact distributions, whose guided laws are computed and not sampled.

Toys import no wing. They satisfy the protocols of `arguide` and `diffusion` by their shape. So tests check the code that runs
on real models against laws that share no line with it.

Example:
    >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
    >>> table.joint_guided(1, 3.0).log_normalizer
    tensor(0.3621, dtype=torch.float64)
"""

from analysis.toys.chain import MarkovChain as MarkovChain
from analysis.toys.chain import MarkovLaw as MarkovLaw
from analysis.toys.from_files import digits_table as digits_table
from analysis.toys.from_files import read_ngrams as read_ngrams
from analysis.toys.from_files import read_table as read_table
from analysis.toys.gaussian import Gaussian as Gaussian
from analysis.toys.gaussian import GaussianPair as GaussianPair
from analysis.toys.gaussian import GaussianSequence as GaussianSequence
from analysis.toys.law import guidance as guidance
from analysis.toys.law import temperature as temperature
from analysis.toys.mixture import GaussianMixture as GaussianMixture
from analysis.toys.ngrams import NgramModels as NgramModels
from analysis.toys.ngrams import TextLaw as TextLaw
from analysis.toys.table import Table as Table
