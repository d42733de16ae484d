r"""One law, every family: how far from the joint tilt each way of drawing lands, on one and the same law.

A table is a sequence law for the autoregressive wing, and points in R^T or tokens under noise for the diffusion wing. The
laws of guided tokens are exact, and on Gaussian sequences the distances of autoregressive, ODE and SDE guidance are too.
Σ log Z along a family's own paths is the one estimator of both wings: by Jensen its mean is below log Z by the path law's
divergence from the joint, and it is constant where there is none.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

import arguide
import diffusion
from analysis import distances, draws
from analysis.draws import LABEL, Case, Draws
from analysis.experiment import Experiment, Plot, Settings, Track, Verdict, pick, tidy
from analysis.experiments.scale_factors import coupled_table
from analysis.factors import path_normalizers
from analysis.figures import families as figures
from analysis.toys import GaussianSequence, Table, guidance
from analysis.toys.discrete import masked_law, uniform_law
from analysis.toys.gaussian import Gaussian, diffused, w2
from diffusion import masked

TABLE, SEQUENCE = "table", "Gaussian sequence"
AR, WEIGHTED, ODE, SDE = "sequential AR", "AR with weights", "diffusion ODE", "diffusion SDE"
CORRECTED, MALA, EXACT = "Feynman–Kac", "MALA", "exact draws"
# Sequential guidance by draws too: only so does it compare with what has no exact law.
DRAWN = "sequential AR, drawn"
# Diffusion of the tokens themselves: exact laws, and draws by weight.
MASKED, RATES, UNIFORM = "masked softmax", "masked rates", "uniform noise"
MASKED_WEIGHTED, RATES_WEIGHTED, UNIFORM_WEIGHTED = "softmax with weights", "rates with weights", "uniform with weights"
SCALE, TABLE_LENGTH, SEQUENCE_LENGTH = 3.0, 2, 4
Row = dict[str, Any]


class Effort(NamedTuple):
    """How much a run draws: batches of samples, steps, MALA's levels; and the lengths and scales it visits."""

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
    """Return the distance of every family to the joint tilt, and Σ log Z along the paths of both wings."""
    effort = QUICK if settings.quick else FULL
    tables = [(TABLE_LENGTH, scale) for scale in effort.scales] + [(length, SCALE) for length in effort.lengths]
    sequences = [(SEQUENCE_LENGTH, scale) for scale in effort.scales] + [(length, SCALE) for length in effort.sequences]
    cases: list[tuple[Callable[..., Iterable[Row]], int, float]] = [(_table, *point) for point in dict.fromkeys(tables)]
    cases += [(_paths, length, SCALE) for length in effort.lengths[1:]]
    cases += [(_sequence, *point) for point in dict.fromkeys(sequences)]
    cases += [(_sampled_sequence, length, SCALE) for length in effort.sampled]
    rows: list[Row] = []
    for number, (measure, length, scale) in enumerate(track(cases)):
        generator = torch.Generator().manual_seed(settings.seed + number)
        rows += measure(length, scale, effort, generator)
    return tidy(rows)


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return who reaches the joint tilt, who comes nearest without correction, and how far Σ log Z spreads."""
    tables = pick(frame, law=TABLE, quantity="tv", scale=SCALE)
    length = int(tables["length"].max())
    longest = pick(tables, length=length).set_index("family")
    tv, error = longest["value"].to_dict(), longest["std_error"].to_dict()
    nearest = min((DRAWN, ODE, SDE), key=lambda name: tv[name])
    # Few batches make wide errors: to count as at the floor, a family must also be nearer to it than to the uncorrected.
    limit = {name: tv[EXACT] + 4 * (error[name] ** 2 + error[EXACT] ** 2) ** 0.5 for name in tv}
    halfway = (tv[EXACT] + tv[nearest]) / 2
    reached = [name for name in (WEIGHTED, CORRECTED, MALA) if tv[name] <= min(limit[name], halfway)]
    spread = pick(frame, quantity="path_sd", length=length).set_index("family")["value"].to_dict()
    return Verdict(
        f"total variation to the joint tilt at γ = {SCALE:g}, T = {length}",
        ", ".join(f"{name} {tv[name]:.3f}" for name in (DRAWN, ODE, SDE, WEIGHTED, CORRECTED, MALA, EXACT)),
        f"Diffusion is {'not' if WEIGHTED in reached else 'perhaps'} the only class that can: weighted by Z_t, autoregressive "
        f"draws are {tv[WEIGHTED]:.3f} from the joint, as many exact ones {tv[EXACT]:.3f}. Feynman–Kac "
        f"corrected diffusion is {tv[CORRECTED]:.3f} ± {error[CORRECTED]:.3f}, MALA {tv[MALA]:.3f} ± {error[MALA]:.3f}; at the "
        f"floor: {', '.join(reached) or 'none'}. Uncorrected, the nearest is {nearest} ({tv[nearest]:.3f}); on "
        f"Gaussian sequences {_hunch(frame)} Σ log Z spreads by {spread[AR]:.2f} nats along autoregressive and "
        f"{spread[SDE]:.2f} along diffusion paths. Diffusion of the tokens themselves misses the joint too: "
        f"{_discrete(tv)}.",
    )


def _discrete(tv: Mapping[Any, float]) -> str:
    """Say how far guided discrete diffusion is from the joint, without and with weights, beside the sequential law."""
    pairs = ((RATES, RATES_WEIGHTED), (MASKED, MASKED_WEIGHTED), (UNIFORM, UNIFORM_WEIGHTED))
    found = "; ".join(f"{name} {tv[name]:.3f}, weighted {tv[mended]:.3f}" for name, mended in pairs)
    nearer = [name for name, _ in pairs if tv[name] < tv[AR]]
    return f"{found}; nearer than left to right ({tv[AR]:.3f}): {', '.join(nearer) or 'none'}"


def _hunch(frame: pd.DataFrame) -> str:
    """Say up to which length the autoregressive law is the nearest, and what is nearest beyond."""
    rows = pick(frame, law=SEQUENCE, quantity="w2", scale=SCALE)
    wide = rows.pivot(index="length", columns="family", values="value")[[AR, ODE, SDE]].dropna()
    lost = wide.index[wide.idxmin(axis=1) != AR]
    if lost.empty:
        return f"the autoregressive law is nearest up to T = {wide.index.max()}, against the hunch."
    beyond = f"the {wide.loc[lost[0]].idxmin()} is nearest at T = {', '.join(map(str, lost))}, as the hunch has it."
    kept = wide.index[wide.index < lost[0]]
    return (
        beyond if kept.empty else f"the autoregressive law is nearest up to T = {kept.max()}, against the hunch, and {beyond}"
    )


def _table(length: int, scale: float, effort: Effort, generator: torch.Generator) -> Iterator[Row]:
    """Yield total variations to a table's joint tilt: exact for sequential guidance, of as many draws for the others."""
    table, row = coupled_table(length), {"law": TABLE, "length": length, "scale": scale, "quantity": "tv"}
    log_p, _ = table.log_joint(guidance(LABEL, scale))
    log_q, _ = table.log_sequential(guidance(LABEL, scale))
    laws = {
        AR: log_q,
        MASKED: masked_law(table, guidance(LABEL, scale), normalized=True),
        RATES: masked_law(table, guidance(LABEL, scale), normalized=False),
        UNIFORM: uniform_law(table, guidance(LABEL, scale), accuracy=1e-7),
    }
    for family, law in laws.items():
        yield row | {"family": family, "value": float(distances.tv(law, log_p))}
    case = Case(table.mixture(), scale, length, effort.samples, effort.batches, generator)
    coarse, fine = draws.points_grid(effort.steps // 2), draws.points_grid(effort.steps)
    families: dict[str, Iterable[Draws]] = {
        DRAWN: draws.unweighted(case, table),
        WEIGHTED: draws.weighted(case, table),
        ODE: draws.diffused(case, coarse, diffusion.heun),
        SDE: draws.diffused(case, coarse, diffusion.sde()),
        CORRECTED: draws.corrected(case, fine),
        MALA: draws.annealed(case, effort.levels),
        MASKED_WEIGHTED: draws.unmasked(case, table, masked.normalized),
        RATES_WEIGHTED: draws.unmasked(case, table, masked.unnormalized),
        UNIFORM_WEIGHTED: draws.renoised(case, table, diffusion.geometric(effort.steps, 0.02, 8.0)),
        EXACT: draws.exact_points(case, log_p),
    }
    for family, batches in families.items():
        found = [distances.empirical(draws.cells(case.toy, x), log_p.numel(), weights) for x, weights in batches]
        yield row | {"family": family} | _mean(torch.stack([distances.tv(law, log_p.flatten()) for law in found]))


def _sequence(length: int, scale: float, effort: Effort, _generator: torch.Generator) -> Iterator[Row]:
    """Yield exact W2 distances to a Gaussian sequence's joint tilt."""
    toy = GaussianSequence(length)
    target, branches, weights = toy.joint_guided(LABEL, scale).law, [toy.law(None), toy.law(LABEL)], [1 - scale, scale]
    laws = {AR: toy.sequential_guided(LABEL, scale).law}
    laws |= {family: diffused(branches, weights, noise, steps=2 * effort.steps) for family, noise in ((ODE, 0.0), (SDE, 1.0))}
    for family, law in laws.items():
        row = {"law": SEQUENCE, "family": family, "quantity": "w2", "scale": scale, "length": length}
        yield row | {"value": float(w2(law, target))}


def _sampled_sequence(length: int, scale: float, effort: Effort, generator: torch.Generator) -> Iterator[Row]:
    """Yield W2 of the Gaussians fitted to samples that should follow the joint tilt."""
    toy = GaussianSequence(length)
    target = toy.joint_guided(LABEL, scale).law
    case = Case(toy, scale, length, effort.samples, effort.batches, generator)
    families: dict[str, Iterable[Draws]] = {
        CORRECTED: draws.corrected(case, diffusion.edm(effort.steps, 0.05, 50.0, rho=3.0)),
        MALA: draws.langevin(case, 5 * effort.steps),
        EXACT: draws.exact_gaussian(case, target),
    }
    for family, batches in families.items():
        row = {"law": SEQUENCE, "family": family, "quantity": "w2", "scale": scale, "length": length}
        yield row | _mean(torch.stack([w2(_fit(batch), target) for batch in batches]))


def _paths(length: int, scale: float, effort: Effort, generator: torch.Generator) -> Iterator[Row]:
    """Yield histogram, mean and spread of Σ log Z − log Z along the paths of both wings, and the log Ẑ each gives."""
    table = coupled_table(length)
    n, log_z = effort.samples * effort.batches, table.joint_guided(LABEL, scale).log_normalizer
    one = arguide.sample_joint(draws.sequential(table, scale), n, length, threshold=0, generator=generator)
    grid, score = draws.points_grid(2 * effort.steps), draws.guided(table.mixture(), scale)
    two = diffusion.sample_joint(score, (n, length), grid, noise=1.0, threshold=0, generator=generator)
    row = {"law": TABLE, "length": length, "scale": scale}
    yield row | {"family": "exact", "quantity": "log_evidence", "value": float(log_z)}
    yield row | {"family": "exact", "quantity": "path_sd", "value": _exact_spread(table, scale)}
    for family, log_weights, log_evidence in (
        (AR, one.log_weights, one.log_evidence),
        (SDE, two.log_weights, two.log_evidence),
    ):
        # The samplers normalise their weights; Ẑ puts the constant back.
        path = log_weights + log_evidence + math.log(n)
        yield from _path_rows(row | {"family": family}, path - log_z, log_evidence)


def _fit(batch: Draws) -> Gaussian:
    """Return the Gaussian of a weighted batch's moments."""
    n = len(batch.x)
    weights = torch.full((n,), 1 / n, dtype=torch.float64) if batch.log_weights is None else batch.log_weights.exp()
    mean = weights @ batch.x
    return Gaussian(mean, (weights[:, None] * (batch.x - mean)).mT @ (batch.x - mean))


def _mean(found: Tensor) -> Row:
    return {"value": float(found.mean()), "std_error": float(found.std() / len(found) ** 0.5)}


def _exact_spread(table: Table, scale: float) -> float:
    """Return the standard deviation of Σ_t log Z_t under the sequential law."""
    log_q, log_normalizers = table.log_sequential(guidance(LABEL, scale))
    path = path_normalizers(log_normalizers, table.shape)
    return float(distances.expectation(log_q, (path - distances.expectation(log_q, path)) ** 2).sqrt())


def _path_rows(case: Row, path: Tensor, log_evidence: Tensor) -> Iterator[Row]:
    """Yield what describes Σ log Z − log Z along n paths, and log Ẑ with the error of a mean of weights."""
    n = len(path)
    weights = path.exp()
    yield case | {"quantity": "path_mean"} | _mean(path)
    deviations = (path - path.mean()) ** 2
    sd = float(deviations.mean().sqrt())
    yield case | {"quantity": "path_sd", "value": sd, "std_error": float(deviations.std()) / (2 * sd * n**0.5)}
    yield case | {
        "quantity": "log_evidence",
        "value": float(log_evidence),
        "std_error": float(weights.std() / weights.mean()) / n**0.5,
    }
    edges = torch.linspace(-3, 3, 61, dtype=torch.float64)
    heights = torch.histogram(path.clamp(-3, 3), edges).hist / n
    for x, value in zip(((edges[1:] + edges[:-1]) / 2).tolist(), heights.tolist(), strict=True):
        yield case | {"quantity": "path_share", "x": x, "value": value}


EXPERIMENT = Experiment(
    name="families",
    title="One law, every family",
    claim="“diffusion models are the only model class for which this approach is tractable”, and “my hunch is that diffusion "
    "guidance works so well precisely because we are able to apply it to the joint distribution, rather than to individual "
    "sequential conditional distributions”.",
    run=run,
    verdict=verdict,
    plots=(
        Plot(
            "families_tables",
            (figures.against_scale(TABLE), figures.against_length(TABLE)),
            "Total variation to the joint tilt on tables of three-valued sequences. Sequential guidance is exact; the others "
            "are measured on equally many draws, of which the best possible is grey; bands are two standard errors. Annealed "
            "MALA keeps what it held when its chains ceased to cross between points.",
        ),
        Plot(
            "families_discrete",
            (figures.discrete_against_scale, figures.discrete_against_length, figures.discrete_weighted),
            "Total variation to the joint tilt of diffusion of the tokens themselves, on the same tables: masks taken off at "
            "rates guided as they are or normalised at every position, and uniform noise. Left and middle: exact laws, nothing "
            "is sampled. Right: weighted draws; grey is the best that as many can do.",
        ),
        Plot(
            "families_sequences",
            (figures.against_scale(SEQUENCE), figures.against_length(SEQUENCE), figures.sampled),
            "W2 to the joint tilt on Gaussian sequences. Left and middle: exact laws, nothing is sampled. Right: "
            "Gaussians fitted to samples of what should draw from the joint; grey is the best that as many draws can do.",
        ),
        Plot(
            "families_paths",
            (figures.paths(2), figures.paths(3), figures.spread),
            "Σ log Z along the paths of sequential guidance and of the guided reverse SDE on the same table, less the "
            "exact log Z. Were it 0 on every path, the family would draw from the joint. End bins hold what lies beyond.",
        ),
    ),
)
