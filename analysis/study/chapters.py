"""List the chapters of a study's report: the claim of the source, the verdict, and the plots with their captions."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from analysis.figures.study import against, frontier, held_out, losses, samples
from analysis.frames import Grid, Plot, Story
from analysis.study import temperatures
from analysis.study.coherent import ACCEPTED, COHERENT, DDPM, PATHS, SCORES
from analysis.study.findings import coherent, guidance, temperature
from analysis.study.samplers import AWARE, CLEAN, CORRECTED, JOINT, ODE, SEQUENTIAL
from analysis.study.statistics import by_value
from analysis.study.texts import texts

AUTOREGRESSIVE = (SEQUENTIAL, JOINT)
SCORES_COOLED = (temperatures.ODE, temperatures.SDE, temperatures.NOISE, temperatures.WEIGHTS)
FIRST = "the first samples of the first seed, not selected."


def stories(*, images: bool, about: str) -> list[Story]:
    """Return the chapters of a study of images, or of texts.

    Args:
        images: whether the data are images.
        about: the data, the models and the numbers of seeds and samples.
    """
    chapters = [
        _coherent(images=images),
        _question(images=images),
        _trade(images=images),
        *([CLAIMS] if images else []),
        _temperature(images=images),
    ]
    return [replace(chapter, source=about) for chapter in chapters]


def _shown(name: str, families: Sequence[str], caption: str, *, images: bool) -> tuple[tuple[Plot, ...], tuple[Grid, ...]]:
    """Return how samples of several samplers lie side by side: a plot of images, or a table of texts."""
    if images:
        return (Plot(name, tuple(map(samples, families)), caption),), ()
    return (), (Grid(partial(texts, families=families), caption, wide=True, verbatim=True),)


def _coherent(*, images: bool) -> Story:
    caption = f"The same labels at every scale, {FIRST}"
    plots, tables = _shown("study_coherent_samples", (SEQUENTIAL, COHERENT, ACCEPTED), caption, images=images)
    if images:
        second = tuple(map(samples, (DDPM, SCORES, PATHS)))
        plots += (Plot("study_coherent_diffusion", second, "The same for diffusion, with the reverse kernels of DDPM."),)
    for wing in coherent.WINGS if images else coherent.WINGS[:1]:
        families = (wing.plain, wing.coherent, wing.joint, *wing.controls)
        decide = partial(coherent.outcome, first=wing.coherent, second=wing.plain)
        panels = frontier("spread", "energy distance", "log p(x|y)", families=families, decide=decide)
        plots += (Plot(f"study_equal_accuracy_{wing.name}", panels, FRONTIERS),)
    return Story(
        name="coherent",
        title="Joint and sequential guidance of a coherent pair, at every scale",
        claim="“I don't think this has been extensively tested at this point”: whether joint and sequential guidance differ in "
        "practice is open. Here the unconditional law is the mixture of the conditional ones, so that the joint law is known.",
        verdict=coherent.answer,
        tables=(
            Grid(coherent.at_scales, AT_SCALES),
            Grid(coherent.decisions, AT_ACCURACY),
            Grid(coherent.differences, f"{DIFFERENCES} {coherent.OUTCOMES}", wide=True),
            *tables,
        ),
        plots=plots,
    )


def _question(*, images: bool) -> Story:
    plots, tables = _shown("study_samples", AUTOREGRESSIVE, f"The same labels at every scale, {FIRST}", images=images)
    if images:
        caption = "The same for diffusion: the guided score without weights, and with the weights that make its law joint."
        plots += (Plot("study_samples_diffusion", (samples(ODE), samples(CORRECTED)), caption),)
    return Story(
        name="question",
        title="The plain pair: is the difference meaningful in practice?",
        claim="“I don't think this has been extensively tested at this point”: whether joint and sequential guidance differ in "
        "practice is open. The plain pair is what learned models give; its joint law is reached at small scales only.",
        verdict=guidance.question,
        tables=(Grid(guidance.compared, COMPARED), *tables),
        plots=(*plots, FRONTIER, WEIGHTS),
    )


def _trade(*, images: bool) -> Story:
    families = guidance.FAMILIES if images else AUTOREGRESSIVE
    measures = {"accuracy": "Accuracy by an independent classifier", "spread": "Spread within a label, in units of the data's"}
    return Story(
        name="trade",
        title="γ trades diversity for adherence",
        claim="“guidance represents a trade-off: it dramatically improves adherence to the conditioning signal, as well as "
        "overall sample quality, but at great cost to diversity.”",
        verdict=guidance.trade,
        tables=tuple(
            Grid(partial(by_value, families=families, quantity=name), f"{text}. {OVER_SEEDS}", wide=True)
            for name, text in measures.items()
        ),
        plots=(
            Plot(
                "study_fidelity",
                against("scale", "accuracy", "spread", "coverage", "energy distance", families=families),
                "Accuracy by an independent classifier, diversity, and distance to held-out data against the scale, one line "
                "per sampler. Bands are 95 % intervals over the seeds. The dotted line is chance.",
            ),
        ),
    )


def _temperature(*, images: bool) -> Story:
    panels = [tuple(samples(family, by="beta") for family in each) for each in (AUTOREGRESSIVE, COOLED_SCORES)]
    caption = "The same for diffusion: the score times β, the noise times β^(−1/2), and the score times β with weights."
    shown = [
        Plot("study_temperature_samples", panels[0], f"The same labels at γ = 1 and every β, {FIRST}"),
        Plot("study_temperature_scores", panels[1], caption),
    ]
    families = (*AUTOREGRESSIVE, *(SCORES_COOLED if images else ()))
    measures = {"precision": ".2f", "accuracy": ".2f", "coverage": ".2f", "energy distance": ".3f"}
    return Story(
        name="temperature",
        title="Temperature of learned models",
        claim="“changing the temperature of the sequential conditionals is not the same as changing the temperature of the "
        "joint distribution”, and tuning that of the joint is useless where that of the conditionals works; multiplying the "
        "score “invariably yields terrible results”.",
        verdict=temperature.verdict,
        tables=tuple(
            Grid(
                partial(by_value, families=families, quantity=name, by="beta", form=form),
                f"{name.capitalize()} at γ = 1. {OVER_SEEDS}",
                wide=True,
            )
            for name, form in measures.items()
        ),
        plots=(*(shown if images else ()), COOLED, COOLED_RUNS),
    )


COOLED_SCORES = (temperatures.ODE, temperatures.NOISE, temperatures.WEIGHTS)
OVER_SEEDS = "Means over the seeds with 95 % intervals."
COMPARED = (
    "Joint sampler minus its proposal, with simultaneous 95 % intervals over the seeds; a difference of 0.05 would matter. "
    "Bias left: Var(Ẑ)/Z², a proxy for the bias that remains."
)
AT_SCALES = (
    "A is the share of conditional draws that the joint law keeps: KL(joint ‖ p(x|y)) is at most −log A, the total variation "
    "at most 1 − A. KL(sequential ‖ joint) is in nats per sample, with a 95 % interval over the seeds. The last columns are "
    "of the joint / the coherent / the plain law: the share of samples with the requested label, by an independent classifier, "
    "and the energy distance to held-out data."
)
AT_ACCURACY = (
    "What the differences at up to five levels of accuracy decide, which both samplers reach; 95 % intervals "
    "over the seeds are simultaneous over the levels. A difference of 0.05 in a share or in the spread, of 0.02 in the energy "
    "distance and of 1 nat in log p(x|y) would matter. “better” means more diversity, likelihood or held-out data, and fewer "
    "copies."
)
DIFFERENCES = "The same in numbers: the smallest and the largest mean difference over the levels, and the widest interval."
FRONTIERS = (
    "Means over the seeds from γ = 1 on: at one accuracy, more spread, a smaller distance and a higher likelihood are better. "
    "Where a curve turns back, guidance has left the data."
)
FRONTIER = Plot(
    "study_frontier",
    frontier("coverage", "recall", "spread", families=guidance.FAMILIES),
    "Fidelity and diversity from γ = 1 on, means over the seeds. A curve further up and to the right is better.",
)
WEIGHTS = Plot(
    "study_weights",
    against("scale", "log_path_spread", families=guidance.FAMILIES) + against("scale", "log_z_apart", "left"),
    "The normalizers that sequential guidance leaves out, in both learned wings. Left: standard deviation of Σ log Z over "
    "samples; both laws are equal where it is 0. Middle: the difference between halves of the populations in log Z; above half "
    "a nat the joint sampler did not converge. Right: Var(Ẑ)/Z² per population, a proxy for the remaining bias; above ½ the "
    "joint sampler did not converge either.",
)
COOLED = Plot(
    "study_temperature",
    against("beta", "accuracy", "precision", "coverage", "energy distance"),
    "At γ = 1 against the inverse temperature, one line per sampler. Bands are 95 % intervals over the seeds.",
)
COOLED_RUNS = Plot(
    "study_temperature_runs",
    against("beta", "log_z_apart", "spread"),
    "Left: the difference between halves of the populations in log Z of p(x)^β; above half a nat the sampler of that law did "
    "not converge. Right: diversity within a label, one line per sampler as above.",
)
CLAIMS = Story(
    name="claims",
    title="Conditioning dropout and classifier gradients",
    claim="Dropping the conditioning at random costs the conditional model seemingly nothing; it may be done in finetuning "
    "only; the gradient of a classifier with respect to its input can be arbitrary.",
    verdict=guidance.claims,
    tables=(
        Grid(
            partial(by_value, families=(AWARE, CLEAN, ODE), quantity="energy distance", form=".3f"),
            f"Energy distance to held-out data with a classifier of noised images, with one of clean images, and without a "
            f"classifier. {OVER_SEEDS}",
            wide=True,
        ),
    ),
    plots=(
        Plot(
            "study_training",
            (losses, held_out),
            "Left: training losses. Right: held-out loss of the autoregressive model by the dropout of the label, one point "
            "per seed with two standard errors.",
        ),
    ),
)
