r"""Every sampler on one law: the distance of its draws to the joint tilt.

The law is a table, which is a sequence law for the autoregressive wing, and points in R^T or noised tokens for the diffusion
wing. The laws of guided tokens are exact, and so are those of autoregressive, ODE and SDE guidance of Gaussian sequences.
Both wings have one estimator, Σ log Z along the paths: by Jensen its mean is at most log Z, lower by the divergence of the path
law from the joint law. It is constant where the two laws agree.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

import arguide
import diffusion
from analysis.experiments import samplers
from analysis.experiments.base import Experiment, Settings
from analysis.experiments.coherence import acceptance
from analysis.experiments.family_tables import (
    AR,
    CORRECTED,
    DRAWN,
    EXACT,
    MALA,
    MASKED,
    MASKED_WEIGHTED,
    ODE,
    RATES,
    RATES_WEIGHTED,
    SCALE,
    SDE,
    SEQUENCE,
    SMALLEST,
    TABLE,
    UNIFORM,
    UNIFORM_WEIGHTED,
    WEIGHTED,
    at_longest,
    drawn,
    excess,
    hunch,
    tokens,
)
from analysis.experiments.samplers import LABEL, Case, Draws
from analysis.figures import families as figures
from analysis.frames import Grid, Plot, Row, Track, Verdict, per_point, per_quantity, pick, tidy
from analysis.metrics import distances
from analysis.metrics.confidence import Difference, Estimate, mean_of, nearest
from analysis.metrics.scale_factors import path_normalizers
from analysis.toys import GaussianSequence, guidance
from analysis.toys.discrete_diffusion import masked_law, uniform_law
from analysis.toys.example_tables import coupled_table
from analysis.toys.gaussian import Gaussian, diffused, w2
from diffusion import masked

TABLE_LENGTH, SEQUENCE_LENGTH = 2, 4
CHEAP = 10  # factor on the number of batches where a batch costs almost nothing


class Effort(NamedTuple):
    """Size of a run.

    samples: draws per batch.
    batches: number of batches.
    steps: noise levels of diffusion samplers.
    levels: noise levels of MALA.
    scales, lengths, sequences, sampled: the γ, and the T of tables, of Gaussian sequences and of those that are sampled.
    """

    samples: int
    batches: int
    steps: int
    levels: int
    scales: tuple[float, ...]
    lengths: tuple[int, ...]
    sequences: tuple[int, ...]
    sampled: tuple[int, ...]


FULL = Effort(1000, 4, 100, 12, (1.0, 2.0, 3.0, 5.0), (1, 2, 3, 4), (1, 2, 3, 4, 5, 6, 7, 8, 10, 12), (2, 4, 8))
QUICK = Effort(400, 3, 60, 6, (1.0, 3.0, 5.0), (1, 2, 3), (1, 4, 8, 12), (4, 8))


def run(settings: Settings, track: Track) -> pd.DataFrame:
    """Return the distance of every sampler to the joint tilt, and Σ log Z along the paths of both wings."""
    effort = QUICK if settings.quick else FULL

    def grid(length: int, lengths: tuple[int, ...]) -> list[tuple[int, float]]:
        return list(dict.fromkeys([*((length, scale) for scale in effort.scales), *((each, SCALE) for each in lengths)]))

    cases: list[tuple[Callable[..., Iterable[Row]], int, float]] = [
        *((_table, *point) for point in grid(TABLE_LENGTH, effort.lengths)),
        *((_paths, length, SCALE) for length in effort.lengths[1:]),
        *((_sequence, *point) for point in grid(SEQUENCE_LENGTH, effort.sequences)),
        *((_sampled_sequence, length, SCALE) for length in effort.sampled),
    ]
    rows: list[Row] = []
    for number, (measure, length, scale) in enumerate(track(cases)):
        rows += measure(length, scale, effort, torch.Generator().manual_seed(settings.seed + number))
    return tidy(rows)


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return which samplers draw the joint tilt, which is nearest without correction, and the spread of Σ log Z."""
    length, tv = at_longest(frame)
    at_length = pick(frame, law=TABLE, scale=SCALE, length=length)
    spread = pick(frame, quantity="path_sd", length=length).set_index("family")["value"].to_dict()
    uncorrected = {name: tv[name] for name in (DRAWN[AR], ODE, SDE)}
    gaps = excess(tv)
    at = {name: each for name, each in gaps.items() if each.small}
    above = {name: each for name, each in gaps.items() if not each.small and each.clear and each.mean > 0}
    undecided = {name: each for name, each in gaps.items() if name not in at | above}
    only = "is not the only class that can" if WEIGHTED in at else "may be the only class that can: not decided"
    return Verdict(
        f"total variation of draws to the joint tilt at γ = {SCALE:g}, T = {length}",
        f"{tv[DRAWN[AR]]} token by token, {tv[WEIGHTED]} with weights, {tv[EXACT]} for exact draws",
        f"Above the floor by less than {SMALLEST:g}: {_listed(at)}. Above it: {_listed(above)}. Not decided: "
        f"{_listed(undecided)}. So diffusion {only}.\n"
        f"Uncorrected, {nearest(uncorrected)}; on Gaussian sequences {hunch(frame)} Σ log Z spreads by {spread[AR]:.2f} nats "
        f"along autoregressive and {spread[SDE]:.2f} along diffusion paths.\n"
        f"{acceptance.sentence(at_length, tv, AR)}\n{_discrete(tv)}",
    )


def _listed(excess: Mapping[str, Difference]) -> str:
    """Return the names of samplers."""
    return ", ".join(excess) or "none"


def _discrete(tv: dict[str, Estimate]) -> str:
    """Return the sentence on the exact laws of guided discrete diffusion."""
    nearer = [name for name in (RATES, MASKED, UNIFORM) if tv[name].value < tv[AR].value]
    return f"Of diffusion of the tokens themselves, nearer to the joint law than left to right: {', '.join(nearer) or 'none'}."


def _table(length: int, scale: float, effort: Effort, generator: torch.Generator) -> Iterator[Row]:
    """Yield total variations to the joint tilt of a table, of exact laws and of equally many draws."""
    table, weights = coupled_table(length), guidance(LABEL, scale)
    row = {"law": TABLE, "length": length, "scale": scale, "quantity": "tv"}
    log_p, _ = table.log_joint(weights)
    laws = {
        AR: table.log_sequential(weights)[0],
        MASKED: masked_law(table, weights, normalized=True),
        RATES: masked_law(table, weights, normalized=False),
        UNIFORM: uniform_law(table, weights, accuracy=1e-7),
    }
    for family, law in laws.items():
        yield row | {"family": family, "value": float(distances.tv(law, log_p))}
    case = Case(table.mixture(), scale, length, effort.samples, effort.batches, generator)
    cheap = case._replace(batches=CHEAP * case.batches)
    coarse, fine = samplers.points_grid(effort.steps // 2), samplers.points_grid(effort.steps)
    families: dict[str, Iterable[Draws]] = {
        **{DRAWN[name]: samplers.exact_points(cheap, laws[name]) for name in (MASKED, RATES, UNIFORM)},
        DRAWN[AR]: samplers.unweighted(cheap, table),
        WEIGHTED: samplers.weighted(cheap, table),
        EXACT: samplers.exact_points(cheap, log_p),
        ODE: samplers.diffused(case, coarse, diffusion.heun),
        SDE: samplers.diffused(case, coarse, diffusion.sde()),
        CORRECTED: samplers.corrected(case, fine),
        MALA: samplers.annealed(case, effort.levels),
        MASKED_WEIGHTED: samplers.unmasked(cheap, table, masked.normalized),
        RATES_WEIGHTED: samplers.unmasked(cheap, table, masked.unnormalized),
        UNIFORM_WEIGHTED: samplers.renoised(case, table, diffusion.geometric(effort.steps, 0.02, 8.0)),
    }
    for family, batches in families.items():
        found = [distances.empirical(samplers.cells(case.toy, x), log_p.numel(), log_w) for x, log_w in batches]
        yield row | {"family": family} | mean_of([distances.tv(law, log_p.flatten()) for law in found])._asdict()
    to_zero = samplers.points_grid(effort.steps // 2, to_zero=True)
    yield from (row | each for each in acceptance.measure(case, cheap, table, to_zero))


def _sequence(length: int, scale: float, _effort: Effort, _generator: torch.Generator) -> Iterator[Row]:
    """Yield exact W2 distances to the joint tilt of a Gaussian sequence."""
    toy = GaussianSequence(length)
    target, branches, weights = toy.joint_guided(LABEL, scale).law, [toy.law(None), toy.law(LABEL)], [1 - scale, scale]
    laws = {AR: toy.sequential_guided(LABEL, scale).law}
    laws |= {family: diffused(branches, weights, noise) for family, noise in ((ODE, 0.0), (SDE, 1.0))}
    for family, law in laws.items():
        row = {"law": SEQUENCE, "family": family, "quantity": "w2", "scale": scale, "length": length}
        yield row | {"value": float(w2(law, target))}


def _sampled_sequence(length: int, scale: float, effort: Effort, generator: torch.Generator) -> Iterator[Row]:
    """Yield W2 distances to the joint tilt of Gaussians that are fitted to draws."""
    toy = GaussianSequence(length)
    target = toy.joint_guided(LABEL, scale).law
    case = Case(toy, scale, length, effort.samples, effort.batches, generator)
    cheap = case._replace(batches=CHEAP * case.batches)
    families: dict[str, Iterable[Draws]] = {
        CORRECTED: samplers.corrected(case, diffusion.edm(effort.steps, 0.05, 50.0, rho=3.0)),
        MALA: samplers.langevin(case, 5 * effort.steps),
        DRAWN[AR]: samplers.exact_gaussian(cheap, toy.sequential_guided(LABEL, scale).law),
        EXACT: samplers.exact_gaussian(cheap, target),
    }
    for family, batches in families.items():
        row = {"law": SEQUENCE, "family": family, "quantity": "w2", "scale": scale, "length": length}
        yield row | mean_of([w2(_fit(batch), target) for batch in batches])._asdict()


def _fit(batch: Draws) -> Gaussian:
    """Return the Gaussian with the moments of a weighted batch."""
    mean = batch.weights @ batch.x
    return Gaussian(mean, (batch.weights[:, None] * (batch.x - mean)).mT @ (batch.x - mean))


def _paths(length: int, scale: float, effort: Effort, generator: torch.Generator) -> Iterator[Row]:
    """Yield histogram, mean and spread of Σ log Z − log Z along the paths of both wings, and the log Ẑ of each."""
    table = coupled_table(length)
    n, log_z = effort.samples * effort.batches, table.joint_guided(LABEL, scale).log_normalizer
    log_q, log_normalizers = table.log_sequential(guidance(LABEL, scale))
    spread = distances.deviation(log_q, path_normalizers(log_normalizers, table.shape))
    row = {"law": TABLE, "length": length, "scale": scale}
    yield from per_quantity(row | {"family": "exact"}, {"log_evidence": log_z, "path_sd": spread})
    ar = arguide.sample_joint(samplers.sequential(table, scale), n, length, threshold=0, generator=generator)
    grid, score = samplers.points_grid(2 * effort.steps), samplers.guided(table.mixture(), scale)
    sde = diffusion.sample_joint(score, (n, length), grid, noise=1.0, threshold=0, generator=generator, ends_at_zero=False)
    found = {AR: (ar.log_weights, ar.log_evidence), SDE: (sde.log_weights, sde.log_evidence)}
    for family, (log_weights, log_evidence) in found.items():
        # The samplers normalise their weights; Ẑ puts the constant back.
        path = log_weights + log_evidence + math.log(n)
        yield from _path_rows(row | {"family": family}, path - log_z, log_evidence)


def _path_rows(case: Row, path: Tensor, log_evidence: Tensor) -> Iterator[Row]:
    """Yield mean, spread and histogram of Σ log Z − log Z along n paths, and log Ẑ with the error of a mean of weights."""
    n, weights = len(path), path.exp()
    yield case | {"quantity": "path_mean"} | mean_of(path)._asdict()
    deviations = (path - path.mean()) ** 2
    sd = float(deviations.mean().sqrt())
    yield case | {"quantity": "path_sd", "value": sd, "std_error": float(deviations.std()) / (2 * sd * n**0.5)}
    error = float(weights.std() / weights.mean()) / n**0.5
    yield case | {"quantity": "log_evidence", "value": float(log_evidence), "std_error": error}
    edges = torch.linspace(-3, 3, 61, dtype=torch.float64)
    shares = torch.histogram(path.clamp(-3, 3), edges).hist / n
    centres = (edges[1:] + edges[:-1]) / 2
    yield from per_point(case | {"quantity": "path_share"}, x=centres.tolist(), value=shares.tolist())


EXPERIMENT = Experiment(
    name="families",
    title="One law, every family",
    claim="“diffusion models are the only model class for which this approach is tractable”, and “my hunch is that diffusion "
    "guidance works so well precisely because we are able to apply it to the joint distribution, rather than to individual "
    "sequential conditional distributions”.",
    run=run,
    verdict=verdict,
    source=lambda frame: f"draws of a table of three-valued tokens, T = {at_longest(frame)[0]}; Gaussian sequences, exact",
    tables=(
        Grid(
            drawn,
            "Draws at γ = 3 on the longest table, with 95 % intervals; those of the third column are simultaneous. The floor "
            "is that of as many exact draws. Weighted draws have a smaller effective sample size, so they are above it even "
            "where their law is right.",
        ),
        Grid(tokens, "Diffusion of the tokens themselves, total variation to the joint law on the same table.", wide=True),
    ),
    plots=(
        Plot(
            "families_tables",
            (figures.against_scale(TABLE), figures.against_length(TABLE)),
            "Total variation to the joint tilt on tables of three-valued sequences, of equally many draws by every family; "
            "black: the same number of exact draws, the best possible. Bands are 95 % intervals. Annealed MALA keeps the "
            "shares of the noise level at which its chains ceased to cross between points.",
        ),
        Plot(
            "families_acceptance",
            (figures.accepted_against_scale, figures.accepted_against_length, figures.kept),
            "Draws of the joint tilt by acceptance, on the same tables: conditional sequences, or paths of a reverse SDE, are "
            "kept with probability p(y|x)^(γ−1), by the posterior of the tokens, of the path, or of the final point. "
            "A table is a coherent pair, so the sequential law guided by the mixture of the labels is the ordinary one. "
            "Right: the share A that is kept, and the distances from the conditional law that 1 − A and −log A bound.",
        ),
        Plot(
            "families_discrete",
            (figures.discrete_against_scale, figures.discrete_against_length, figures.discrete_weighted),
            "Total variation to the joint tilt of diffusion of the tokens themselves, on the same tables: masks taken off at "
            "rates guided as they are or normalised at every position, and uniform noise. Left and middle: exact laws, nothing "
            "is sampled. Right: draws, weighted (lines) and as they are (dashed), which few draws raise alike; black: the same "
            "number of exact draws, the best possible.",
        ),
        Plot(
            "families_sequences",
            (figures.against_scale(SEQUENCE), figures.against_length(SEQUENCE), figures.sampled),
            "W2 to the joint tilt on Gaussian sequences. Left and middle: exact laws, nothing is sampled. Right: Gaussians "
            "fitted to equally many samples of each; black: the same number of exact draws, the best possible.",
        ),
        Plot(
            "families_paths",
            (figures.paths(2), figures.paths(3), figures.spread),
            "Σ log Z along the paths of sequential guidance and of the guided reverse SDE on the same table, less the "
            "exact log Z. Were it 0 on every path, the family would draw from the joint. End bins hold what lies beyond.",
        ),
    ),
)
