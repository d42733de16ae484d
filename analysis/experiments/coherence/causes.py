r"""A toy that decides on causes: two branching classes in the plane, small denoisers, and every score exactly known.

Guided samples of learned models are cleaner than unguided ones and less diverse. Four causes are proposed, and each changes one
score here, with one sampler, the reverse kernels of `diffusion.coherent`, on one grid:

    plain               learned p(x|y), learned p(x) of the same network
    coherent            learned p(x|y), p(x) is the mixture of the learned p(x|y), by the posterior of the path
    autoguidance        learned p(x|y), p(x|y) of a smaller network after fewer steps in place of p(x)
    exact p(x)          learned p(x|y), exact p(x)
    exact p(x|y)        exact p(x|y), learned p(x)
    exact scores        both exact

What could come out, written before the first run. *Outside* is the share of samples below the 1 % quantile of log p(x|y).

    Bayes' rule is what cleans: exact scores, coherent and plain guidance put alike few samples outside, and autoguidance,
        which has no information on the class, cleans less than they do.
    The worse fit is what cleans (Karras et al.): autoguidance and plain guidance clean; coherent guidance, whose p(x) is
        as good as its p(x|y), does not, nor does exact p(x).
    Errors of p(x) are what spoils: exact p(x) and coherent guidance put fewer samples outside than plain guidance.
    Errors of p(x|y) are what spoils: exact p(x|y) puts fewer outside than plain guidance, and exact p(x) does not.

Coverage may fall by the tilt itself (then the exact joint tilt has it too), by guiding noised laws (then exact scores have it,
and the exact joint tilt has not), or by learned errors (then exact scores have not).

Source: Karras et al., "Guiding a diffusion model with a bad version of itself", arXiv:2406.02507, figures 1 and 2.
"""

import pandas as pd
import torch

import diffusion
from analysis.experiments.base import Experiment, Settings, stream
from analysis.experiments.coherence.trees import (
    AUTO,
    COHERENT,
    COND,
    NONE,
    PATHS,
    PLAIN,
    SCORES,
    TILT,
    UNCOND,
    Effort,
    Measure,
    Reference,
    families,
    tilted,
    trained,
)
from analysis.figures.coherence import causes as figures
from analysis.frames import Cells, Grid, Plot, Row, Track, Verdict, per_quantity, pick, tidy
from analysis.metrics.confidence import Difference, Estimate, mean_of
from analysis.toys.example_tables import trees

LAW, SHOWN = "two trees", 400
MEASURES = ("outside", "coverage", "energy to class", "energy to tilt", "accuracy")
MATTERS = {"outside": 0.02, "coverage": 0.05}
# Pairs of families whose difference, over the seeds, decides on a cause; all intervals are simultaneous.
CONTRASTS = (
    *(("outside", family, NONE) for family in (PLAIN, COHERENT, PATHS, AUTO)),
    *(("outside", family, PLAIN) for family in (UNCOND, COND)),
    *(("coverage", *each) for each in ((SCORES, TILT), (PLAIN, SCORES), (PATHS, COHERENT))),
)
FULL = Effort(7, 400, 24, 500, 120, (2.0, 4.0))
QUICK = Effort(2, 200, 12, 40, 10, (4.0,))


def run(settings: Settings, track: Track) -> pd.DataFrame:
    """Return the measures of every family per scale and seed, and the draws of the first seed at the largest scale."""
    effort, toy = QUICK if settings.quick else FULL, trees()
    measure = Measure(toy, stream(settings.seed, 0))
    sigmas = diffusion.edm(effort.levels, sigma_min=0.01, sigma_max=5.0).float()
    rows: list[Row] = []
    for seed in track(range(effort.seeds)):
        pair, generator = trained(toy, effort, settings.seed + seed), stream(settings.seed, 2, seed)
        for scale in effort.scales:
            tilt = Reference.of(tilted(toy, scale, 1000, generator))
            case = {"law": LAW, "scale": scale, "length": 2, "seed": seed}
            with torch.no_grad():
                for family, x in families(toy, pair, scale, effort.samples, sigmas, generator):
                    rows += per_quantity(case | {"family": family}, measure(x.double(), tilt))
                    if (seed, scale) == (0, effort.scales[-1]):
                        rows += measure.points(case | {"family": family}, x[:SHOWN].double())
    return tidy(rows)


def over_seeds(frame: pd.DataFrame) -> dict[tuple[str, str], Estimate]:
    """Return the mean over the seeds of every (quantity, family) of one scale."""
    groups = frame[frame["quantity"].isin(MEASURES)].groupby(["quantity", "family"], sort=False)["value"]
    return {(str(key[0]), str(key[1])): mean_of(values.tolist()) for key, values in groups}


def contrasts(frame: pd.DataFrame) -> dict[tuple[str, str, str], Difference]:
    """Return the paired differences over the seeds that decide, at one scale, with simultaneous 95 % intervals."""
    wide = frame[frame["quantity"].isin(MATTERS)].pivot(index="seed", columns=["quantity", "family"], values="value")

    def paired(quantity: str, first: str, second: str) -> Difference:
        gap = mean_of((wide[quantity, first] - wide[quantity, second]).tolist())
        return Difference(gap.value, gap.half_of(len(CONTRASTS)), MATTERS[quantity])

    return {each: paired(*each) for each in CONTRASTS}


def verdict(frame: pd.DataFrame) -> Verdict:
    """Return the shares outside at the largest scale, and the causes that controls decide."""
    scale = frame["scale"].max()
    at = pick(frame, scale=scale)
    means, gaps = over_seeds(at), contrasts(at)
    shown = (NONE, PLAIN, COHERENT, AUTO, COND)
    return Verdict(
        f"share of samples outside the data's support at γ = {scale:g}",
        ", ".join(f"{family} {means['outside', family].value:.3f}" for family in shown),
        f"{_cleaned(gaps)}\n{_spoilt(gaps)}\n{_covered(gaps)}",
    )


def _cleaned(gaps: dict[tuple[str, str, str], Difference]) -> str:
    """Return which guidance puts fewer samples outside than none, and what that decides."""
    found = {family: gaps["outside", family, NONE] for family in (PLAIN, COHERENT, PATHS, AUTO)}
    fewer = [family for family, each in found.items() if each.clear and each.mean < 0]
    start = f"Clearly fewer samples outside than without guidance: {', '.join(fewer) or 'none'}."
    if AUTO in fewer and COHERENT not in fewer:
        return f"{start} Autoguidance reads one class alone: a worse fit suffices to clean. Bayes' rule is not shown to."
    if COHERENT in fewer and AUTO not in fewer:
        return f"{start} A coherent pair has no worse fit: Bayes' rule suffices to clean. A worse fit is not shown to."
    if {AUTO, COHERENT} <= set(fewer):
        return f"{start} Either suffices: autoguidance reads one class alone, and a coherent pair has no worse fit."
    return f"{start} Which of Bayes' rule and a worse fit cleans is not decided."


def _spoilt(gaps: dict[tuple[str, str, str], Difference]) -> str:
    """Return which of the two learned laws has the errors that put samples outside."""
    uncond, cond = (gaps["outside", family, PLAIN] for family in (UNCOND, COND))
    report = f"With exact p(x) the share outside changes by {uncond.text}, with exact p(x|y) by {cond.text}:"
    if cond.clear and cond.mean < 0 and uncond.clear and uncond.mean > 0:
        return f"{report} the samples outside are errors of p(x|y); beside a p(x) that does not share them they are amplified."
    if cond.clear and cond.mean < 0:
        return f"{report} the samples outside are errors of p(x|y)."
    return f"{report} whose errors put samples outside is not decided."


def _covered(gaps: dict[tuple[str, str, str], Difference]) -> str:
    """Return what loses coverage: guiding noised laws, or learned errors."""
    causes = {"guiding noised laws": gaps["coverage", SCORES, TILT], "learned errors": gaps["coverage", PLAIN, SCORES]}
    lost = [name for name, each in causes.items() if each.clear and each.mean < 0]
    return f"Coverage is clearly lost by: {', '.join(lost) or 'nothing'}."


def decided(frame: pd.DataFrame) -> Cells:
    """Return the table of the differences that decide, at the largest scale."""
    gaps = contrasts(pick(frame, scale=frame["scale"].max()))
    rows = [[quantity, f"{first} − {second}", gap.text, gap.answer] for (quantity, first, second), gap in gaps.items()]
    return ("measure", "difference", "mean ± half of its interval", "decision"), rows


def at_scales(frame: pd.DataFrame) -> Cells:
    """Return the columns and rows of the table: every family at every scale, means over the seeds with 95 % intervals."""
    rows = []
    for scale in sorted(frame["scale"].unique()):
        means = over_seeds(pick(frame, scale=scale))
        for family in figures.ORDER:
            rows.append([f"{scale:g}", family, *(str(means[quantity, family]) for quantity in MEASURES)])
    return ["γ", "law", *MEASURES], rows


EXPERIMENT = Experiment(
    name="causes",
    title="A toy that decides on causes",
    claim="guidance “dramatically improves adherence to the conditioning signal, as well as overall sample quality, but at "
    "great cost to diversity”. Is it Bayes' rule that does so, or the worse fit of the unconditional model (Karras et al.)?",
    run=run,
    verdict=verdict,
    source=lambda frame: f"small denoisers of two branching classes in the plane, {frame['seed'].nunique()} seeds",
    tables=(
        Grid(decided, "The differences that decide, paired over the seeds, with simultaneous 95 % intervals.", wide=True),
        Grid(
            at_scales,
            "Means over the trained seeds, ± half the width of their 95 % interval. Outside: the share below the 1 % quantile "
            "of log p(x|y). Coverage: Σ min of the shares of draws and of exact draws that are nearest to each Gaussian, 1 at "
            "most; “data” stands for as many exact draws. Energy distances are to exact draws of p(x|y) and of the joint "
            "tilt. Accuracy: mean exact p(y|x).",
            wide=True,
        ),
    ),
    plots=(
        Plot(
            "causes_samples",
            tuple(figures.samples(family) for family in (NONE, PLAIN, AUTO)),
            "Samples of one class at the largest γ, over exact draws of that class (grey); crosses: outside its support. "
            "Networks of the first seed.",
        ),
        Plot(
            "causes_coherent",
            tuple(figures.samples(family) for family in (COHERENT, PATHS, TILT)),
            "As above, for the coherent pair of the same network, guided step by step and by its joint law on paths, and for "
            "the exact joint law.",
        ),
        Plot(
            "causes_controls",
            tuple(figures.samples(family) for family in (UNCOND, COND, SCORES)),
            "As above, with one of the two laws exact, or both.",
        ),
        Plot(
            "causes_numbers",
            (figures.number("outside"), figures.number("coverage"), figures.number("energy to class")),
            "Means over the trained seeds with 95 % intervals. Left: the share of samples outside the support. Middle: "
            "coverage of the Gaussians of p(x|y); the dotted line is that of exact draws. Right: energy distance to p(x|y).",
        ),
    ),
)
