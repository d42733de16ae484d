from . import experiments as experiments, metrics as metrics, toys as toys
from .metrics.scale_factors import ScaleFactors as ScaleFactors, scale_factors as scale_factors
from .toys import (
    GaussianMixture as GaussianMixture,
    GaussianPair as GaussianPair,
    GaussianSequence as GaussianSequence,
    MarkovChain as MarkovChain,
    NgramModels as NgramModels,
    Table as Table,
    digits_table as digits_table,
    read_ngrams as read_ngrams,
    read_table as read_table,
)
