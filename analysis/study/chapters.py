"""List the chapters of a study's report: the claim of the source, the verdict, and the plots with their captions."""

from analysis.figures.study import against, frontier, held_out, losses, samples, texts
from analysis.frames import Grid, Plot, Story
from analysis.study import temperatures
from analysis.study.coherent import ACCEPTED, COHERENT, DDPM, PATHS, SCORES
from analysis.study.findings import coherent, guidance, temperature
from analysis.study.samplers import CORRECTED, JOINT, ODE, SEQUENTIAL

AUTOREGRESSIVE = (SEQUENTIAL, JOINT)
COOLED_SCORES = (temperatures.ODE, temperatures.NOISE, temperatures.WEIGHTS)
FIRST = "the first samples of the first seed, not selected."


def stories(*, images: bool) -> list[Story]:
    """Return the chapters of a study of images, or of texts."""
    return [
        _coherent(images=images),
        _question(images=images),
        TRADE,
        *([CLAIMS] if images else []),
        _temperature(images=images),
    ]


def _coherent(*, images: bool) -> Story:
    first = tuple(map(samples if images else texts, (SEQUENTIAL, COHERENT, ACCEPTED)))
    shown = [Plot("study_coherent_samples", first, f"The same labels at every scale, {FIRST}")]
    if images:
        second = tuple(map(samples, (DDPM, SCORES, PATHS)))
        shown.append(Plot("study_coherent_diffusion", second, "The same for diffusion, with the reverse kernels of DDPM."))
    for wing in coherent.WINGS if images else coherent.WINGS[:1]:
        families = (wing.plain, wing.coherent, wing.joint, *wing.controls)
        panels = frontier("spread", "energy distance", "log p(x|y)", families=families)
        shown.append(Plot(f"study_equal_accuracy_{wing.name}", panels, FRONTIERS))
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
        ),
        plots=tuple(shown),
    )


def _question(*, images: bool) -> Story:
    first = tuple(map(samples if images else texts, AUTOREGRESSIVE))
    shown = [Plot("study_samples", first, f"The same labels at every scale, {FIRST}")]
    if images:
        caption = "The same for diffusion: the guided score without weights, and with the weights that make its law joint."
        shown.append(Plot("study_samples_diffusion", (samples(ODE), samples(CORRECTED)), caption))
    return Story(
        name="question",
        title="The plain pair: is the difference meaningful in practice?",
        claim="“I don't think this has been extensively tested at this point”: whether joint and sequential guidance differ in "
        "practice is open. The plain pair is what learned models give; its joint law is reached at small scales only.",
        verdict=guidance.question,
        plots=(*shown, FRONTIER, WEIGHTS),
    )


def _temperature(*, images: bool) -> Story:
    panels = [tuple(samples(family, by="beta") for family in families) for families in (AUTOREGRESSIVE, COOLED_SCORES)]
    caption = "The same for diffusion: the score times β, the noise times β^(−1/2), and the score times β with weights."
    shown = [
        Plot("study_temperature_samples", panels[0], f"The same labels at γ = 1 and every β, {FIRST}"),
        Plot("study_temperature_scores", panels[1], caption),
    ]
    return Story(
        name="temperature",
        title="Temperature of learned models",
        claim="“changing the temperature of the sequential conditionals is not the same as changing the temperature of the "
        "joint distribution”, and tuning that of the joint is useless where that of the conditionals works; multiplying the "
        "score “invariably yields terrible results”.",
        verdict=temperature.verdict,
        plots=(*(shown if images else ()), COOLED, COOLED_RUNS),
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
    "At γ = 1 against the inverse temperature, one line per sampler. Bands are two standard errors over the seeds.",
)
COOLED_RUNS = Plot(
    "study_temperature_runs",
    against("beta", "log_z_apart", "spread"),
    "Left: the difference between halves of the populations in log Z of p(x)^β; above half a nat the sampler of that law did "
    "not converge. Right: diversity within a label, one line per sampler as above.",
)
TRADE = Story(
    name="trade",
    title="γ trades diversity for adherence",
    claim="“guidance represents a trade-off: it dramatically improves adherence to the conditioning signal, as well as "
    "overall sample quality, but at great cost to diversity.”",
    verdict=guidance.trade,
    plots=(
        Plot(
            "study_fidelity",
            against("scale", "accuracy", "spread", "coverage", "energy distance", families=guidance.FAMILIES),
            "Accuracy by an independent classifier, diversity, and distance to held-out data against the scale, one line per "
            "sampler. Bands are two standard errors over the seeds. The dotted line is chance.",
        ),
    ),
)
CLAIMS = Story(
    name="claims",
    title="Conditioning dropout and classifier gradients",
    claim="Dropping the conditioning at random costs the conditional model seemingly nothing; it may be done in finetuning "
    "only; the gradient of a classifier with respect to its input can be arbitrary.",
    verdict=guidance.claims,
    plots=(
        Plot(
            "study_training",
            (losses, held_out),
            "Left: training losses. Right: held-out loss of the autoregressive model by the dropout of the label, one point "
            "per seed with two standard errors.",
        ),
    ),
)
