r"""One law, every family: how far from the joint tilt each way of drawing lands, on one and the same law.

A table is a sequence law for the autoregressive wing, and points in R^T or tokens under noise for the diffusion wing. The
laws of guided tokens are exact, and on Gaussian sequences the distances of autoregressive, ODE and SDE guidance are too.
Σ log Z along a family's own paths is the one estimator of both wings: by Jensen its mean is below log Z by the path law's
divergence from the joint, and it is constant where there is none.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

import arguide
import diffusion
from analysis.experiments import samplers
from analysis.experiments.base import Experiment, Settings
from analysis.experiments.samplers import LABEL, Case, Draws
from analysis.figures import families as figures
from analysis.frames import Plot, Track, Verdict, pick, tidy
from analysis.metrics import distances
from analysis.metrics.confidence import Estimate, by_family, difference, nearest
from analysis.metrics.scale_factors import path_normalizers
from analysis.toys import GaussianSequence, Table, guidance
from analysis.toys.discrete_diffusion import masked_law, uniform_law
from analysis.toys.example_tables import coupled_table
from analysis.toys.gaussian import Gaussian, diffused, w2
from diffusion import masked

TABLE, SEQUENCE = "table", "Gaussian sequence"
AR, WEIGHTED, ODE, SDE = "sequential AR", "AR with weights", "diffusion ODE", "diffusion SDE"
CORRECTED, MALA, EXACT = "Feynman–Kac", "MALA", "exact draws"
# Diffusion of the tokens themselves: exact laws, and draws by weight.
MASKED, RATES, UNIFORM = "masked softmax", "masked rates", "uniform noise"
MASKED_WEIGHTED, RATES_WEIGHTED, UNIFORM_WEIGHTED = "softmax with weights", "rates with weights", "uniform with weights"
# Draws of exact laws: only so do these compare with what has no exact law, for few draws are far from any law.
DRAWN = {name: f"{name}, drawn" for name in (AR, MASKED, RATES, UNIFORM)}
SCALE, TABLE_LENGTH, SEQUENCE_LENGTH = 3.0, 2, 4
CHEAP, SMALLEST = 10, 0.02  # times as many batches where a batch costs next to nothing; of interest, total variation
REACHING = (WEIGHTED, CORRECTED, MALA)  # what should draw from the joint tilt
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
    tv = by_family(pick(tables, length=length))
    spread = pick(frame, quantity="path_sd", length=length).set_index("family")["value"].to_dict()
    uncorrected = {name: tv[name] for name in (DRAWN[AR], ODE, SDE)}
    only = "is not the only class that can" if _place(tv, WEIGHTED) == "at" else "may be the only class that can: not decided"
    return Verdict(
        f"total variation of draws to the joint tilt at γ = {SCALE:g}, T = {length}",
        ", ".join(f"{name} {tv[name]}" for name in (*uncorrected, *REACHING, EXACT)),
        f"All of these are draws; the same number of exact draws measures {tv[EXACT]}, the floor. Weighted draws count for "
        f"fewer, so they are above it even where their law is right. Above the floor by less than {SMALLEST:g}: "
        f"{_placed(tv, 'at')}. Above it: {_placed(tv, 'above')}. Not decided: {_placed(tv, '')}. So diffusion {only}. "
        f"Uncorrected, {nearest(uncorrected)}; on "
        f"Gaussian sequences {_hunch(frame)} Σ log Z spreads by {spread[AR]:.2f} nats along autoregressive and "
        f"{spread[SDE]:.2f} along diffusion paths. {_discrete(tv)}",
    )


def _place(tv: dict[str, Estimate], family: str) -> str:
    """Return where weighted or corrected draws are: "at" the floor of exact draws, "above" it, or "", not decided."""
    excess = difference(tv[family], tv[EXACT], SMALLEST, len(REACHING))
    if excess.small:
        return "at"
    return "above" if excess.clear and excess.mean > 0 else ""


def _placed(tv: dict[str, Estimate], where: str) -> str:
    """Return the families that are there, with what they have above the floor."""
    found = {name: difference(tv[name], tv[EXACT], SMALLEST, len(REACHING)) for name in REACHING if _place(tv, name) == where}
    return ", ".join(f"{name} ({each.mean:+.3f} ± {each.half:.3f})" for name, each in found.items()) or "none"


def _discrete(tv: dict[str, Estimate]) -> str:
    """Say how far guided discrete diffusion is from the joint: exact laws beside exact laws, draws beside draws."""
    exact = {name: tv[name] for name in (RATES, MASKED, UNIFORM, AR)}
    pairs = {RATES: RATES_WEIGHTED, MASKED: MASKED_WEIGHTED, UNIFORM: UNIFORM_WEIGHTED}
    nearer = [name for name in pairs if tv[name].value < tv[AR].value]
    changes = {name: difference(tv[mended], tv[DRAWN[name]], SMALLEST, len(pairs)) for name, mended in pairs.items()}
    drawn = "; ".join(
        f"{name} {tv[DRAWN[name]].value:.3f}, with weights {tv[pairs[name]].value:.3f} "
        f"({change.mean:+.3f} ± {change.half:.3f}: {change.answer})"
        for name, change in changes.items()
    )
    return (
        f"Diffusion of the tokens themselves misses the joint too. Exact laws: "
        f"{', '.join(f'{name} {each.value:.3f}' for name, each in exact.items())}; nearer than left to right: "
        f"{', '.join(nearer) or 'none'}. Draws, floor {tv[EXACT].value:.3f}: {drawn}."
    )


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
        found = [distances.empirical(samplers.cells(case.toy, x), log_p.numel(), weights) for x, weights in batches]
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
    cheap = case._replace(batches=CHEAP * case.batches)
    families: dict[str, Iterable[Draws]] = {
        CORRECTED: samplers.corrected(case, diffusion.edm(effort.steps, 0.05, 50.0, rho=3.0)),
        MALA: samplers.langevin(case, 5 * effort.steps),
        DRAWN[AR]: samplers.exact_gaussian(cheap, toy.sequential_guided(LABEL, scale).law),
        EXACT: samplers.exact_gaussian(cheap, target),
    }
    for family, batches in families.items():
        row = {"law": SEQUENCE, "family": family, "quantity": "w2", "scale": scale, "length": length}
        yield row | _mean(torch.stack([w2(_fit(batch), target) for batch in batches]))


def _paths(length: int, scale: float, effort: Effort, generator: torch.Generator) -> Iterator[Row]:
    """Yield histogram, mean and spread of Σ log Z − log Z along the paths of both wings, and the log Ẑ each gives."""
    table = coupled_table(length)
    n, log_z = effort.samples * effort.batches, table.joint_guided(LABEL, scale).log_normalizer
    one = arguide.sample_joint(samplers.sequential(table, scale), n, length, threshold=0, generator=generator)
    grid, score = samplers.points_grid(2 * effort.steps), samplers.guided(table.mixture(), scale)
    options: dict[str, Any] = {"noise": 1.0, "threshold": 0, "generator": generator, "ends_at_zero": False}
    two = diffusion.sample_joint(score, (n, length), grid, **options)
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
    return {"value": float(found.mean()), "std_error": float(found.std() / len(found) ** 0.5), "freedom": len(found) - 1.0}


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
            "Total variation to the joint tilt on tables of three-valued sequences, of equally many draws by every family; "
            "grey: that number of exact draws, the best possible. Bands are 95 % intervals. Annealed MALA keeps what it "
            "held when its chains ceased to cross between points.",
        ),
        Plot(
            "families_discrete",
            (figures.discrete_against_scale, figures.discrete_against_length, figures.discrete_weighted),
            "Total variation to the joint tilt of diffusion of the tokens themselves, on the same tables: masks taken off at "
            "rates guided as they are or normalised at every position, and uniform noise. Left and middle: exact laws, nothing "
            "is sampled. Right: draws, weighted (lines) and as they are (dashed), which few draws raise alike; grey: that "
            "number of exact draws, the best possible.",
        ),
        Plot(
            "families_sequences",
            (figures.against_scale(SEQUENCE), figures.against_length(SEQUENCE), figures.sampled),
            "W2 to the joint tilt on Gaussian sequences. Left and middle: exact laws, nothing is sampled. Right: Gaussians "
            "fitted to equally many samples of each; grey: that number of exact draws, the best possible.",
        ),
        Plot(
            "families_paths",
            (figures.paths(2), figures.paths(3), figures.spread),
            "Σ log Z along the paths of sequential guidance and of the guided reverse SDE on the same table, less the "
            "exact log Z. Were it 0 on every path, the family would draw from the joint. End bins hold what lies beyond.",
        ),
    ),
)
