"""List the chapters of a study's report: the claim of the source, the verdict, and the plots with their captions."""

from analysis.figures.study import against, frontier, held_out, losses, samples, texts
from analysis.frames import Plot, Story
from analysis.study import guidance_findings, temperature_findings, temperatures
from analysis.study.samplers import CORRECTED, JOINT, ODE, SEQUENTIAL

AUTOREGRESSIVE = (SEQUENTIAL, JOINT)
SCORES = (temperatures.ODE, temperatures.NOISE, temperatures.WEIGHTS)
FIRST = "the first samples of the first seed, not selected."


def stories(*, images: bool) -> list[Story]:
    """Return the chapters of a study of images, or of texts."""
    return [_question(images=images), TRADE, *([CLAIMS] if images else []), _temperature(images=images)]


def _question(*, images: bool) -> Story:
    first = tuple(map(samples if images else texts, AUTOREGRESSIVE))
    shown = [Plot("study_samples", first, f"The same labels at every scale, {FIRST}")]
    if images:
        caption = "The same for diffusion: the guided score without weights, and with the weights that make its law joint."
        shown.append(Plot("study_samples_diffusion", (samples(ODE), samples(CORRECTED)), caption))
    return Story(
        name="question",
        title="Is the difference meaningful in practice?",
        claim="“I don't think this has been extensively tested at this point”: whether joint and sequential guidance differ in "
        "practice is open.",
        verdict=guidance_findings.question,
        plots=(*shown, FRONTIER, WEIGHTS),
    )


def _temperature(*, images: bool) -> Story:
    panels = [tuple(samples(family, by="beta") for family in families) for families in (AUTOREGRESSIVE, SCORES)]
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
        verdict=temperature_findings.verdict,
        plots=(*(shown if images else ()), COOLED, COOLED_RUNS),
    )


FRONTIER = Plot(
    "study_frontier",
    frontier("coverage", "recall", "spread"),
    "Fidelity and diversity from γ = 1 on, means over the seeds. A curve further up and to the right is better.",
)
WEIGHTS = Plot(
    "study_weights",
    against("scale", "log_path_spread") + against("scale", "log_z_apart", "left"),
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
    verdict=guidance_findings.trade,
    plots=(
        Plot(
            "study_fidelity",
            against("scale", "accuracy", "spread", "coverage", "energy distance"),
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
    verdict=guidance_findings.claims,
    plots=(
        Plot(
            "study_training",
            (losses, held_out),
            "Left: training losses. Right: held-out loss of the autoregressive model by the dropout of the label, one point "
            "per seed with two standard errors.",
        ),
    ),
)
