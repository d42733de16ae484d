"""Define the words of a report; the glossary of the documentation has the same rows."""

import re
from typing import NamedTuple


class Term(NamedTuple):
    """A word, its symbol, its meaning, and a pattern that finds it in a text, the word itself by default."""

    word: str
    symbol: str
    meaning: str
    pattern: str = ""

    def occurs(self, text: str) -> bool:
        """Return whether a text uses the word."""
        return re.search(self.pattern or rf"\b{re.escape(self.word)}", text) is not None


TERMS = (
    Term("AR", "", "autoregressive: a model that writes one token after another"),
    Term(
        "scale", "γ", "strength of guidance: 0 unconditional, 1 conditional, above 1 sharpened. Some libraries count ω = γ − 1"
    ),
    Term("length", "T", "number of tokens of a sequence, or of components of x"),
    Term(
        "tilt",
        "Π_k p_k^{w_k}, p̃",
        "a product of powers of laws, not yet normalised. It is improper where its sum or integral is infinite",
    ),
    Term("joint law", "p_γ(x) = Π_k p_k(x)^{w_k} / Z", "the tilt of whole sequences or samples, normalised once", "joint"),
    Term(
        "sequential law",
        "q_γ(x) = Π_t Π_k p_k(x_t given x_<t)^{w_k} / Z_t(x_<t)",
        "the tilt of every factor, normalised at every step: what guided sampling draws",
        "sequential",
    ),
    Term(
        "log normalizer",
        "log Z, log Z_t",
        "log of the sum of a tilt: one number for the joint law, one per prefix for the sequential law",
        r"log Z|Z_t",
    ),
    Term(
        "KL divergence",
        "KL(q ‖ p)",
        "mean of log q(x)/p(x) over samples of q, in nats: 0 only where the two laws are equal. "
        "One nat is a factor of e, about 2.7, in probability",
        "KL|nats",
    ),
    Term(
        "gap",
        "KL(q_γ ‖ p_γ)",
        "Kullback–Leibler divergence of the sequential law from the joint law, in nats",
        r"\bgap|KL\(seq",
    ),
    Term(
        "total variation",
        "TV",
        "largest difference of two laws in the probability of one event: 0 equal, 1 disjoint",
        r"total variation|\bTV\b",
    ),
    Term(
        "Wasserstein distance",
        "W1, W2",
        "how far probability must be moved to turn one law into another, in units of x",
        r"\bW[12]\b",
    ),
    Term(
        "ODE, SDE",
        "",
        "two ways to sample a diffusion model: the ODE adds no noise on the way, the reverse SDE adds noise at every step",
        r"\b(ODE|SDE)\b",
    ),
    Term("stochasticity", "λ", "how much noise a reverse step adds: 0 is the ODE, 1 the reverse SDE", "λ"),
    Term("Feynman–Kac", "", "diffusion with weighted particles, whose weights make its law the joint law", "Feynman"),
    Term("particles", "N", "weighted samples that are moved and resampled; with weights Π_t Z_t they follow the joint law"),
    Term("MALA", "", "Markov chain of Langevin steps with acceptance: a second route to the joint law"),
    Term(
        "coherent pair",
        "p(x) = Σ_k π_k p(x given k)",
        "a pair where p(x) is the mixture of the conditional laws, so that "
        "p(x given y)/p(x) is at most 1/π_y. Models learned with dropped labels give an incoherent pair",
        "coherent",
    ),
    Term("plain pair", "", "p(x given y) and p(x) as one network learns both, with labels dropped at random", "plain"),
    Term("clamped pair", "", "the plain pair, with the ratio p(x given y)/p(x) of a prefix cut at Bayes' bound", "clamped"),
    Term("autoguidance", "", "guidance by a weaker model of the same condition in place of p(x)", "autoguidance|weaker model"),
    Term("DDPM", "", "diffusion by Gaussian reverse steps, one per noise level, whose density is known"),
    Term("acceptance", "A", "share of proposals that are kept; those that are follow the joint law of a coherent pair exactly"),
    Term("temperature", "τ, β = 1/τ", "p^{1/τ}, of the whole law or of every factor; β is the inverse temperature"),
    Term(
        "adherence",
        "log p(x given y) − log p(x)",
        "how much the condition explains a sample, in nats; for stories, the share that names the label",
    ),
    Term("accuracy", "", "share of samples with the requested label, by a classifier that is independent of the models"),
    Term("coverage", "", "share of held-out rows that have a sample nearer than their k-th nearest held-out neighbour"),
    Term("precision", "", "share of samples that are within the reach of held-out data"),
    Term("recall", "", "share of held-out data that are within the reach of samples"),
    Term("distinct", "", "share of different samples, where larger is more diverse"),
    Term("memorised", "", "share of samples that copy a training row, where smaller is better"),
    Term("new rows", "", "share of samples that are held-out rows and no training rows"),
    Term("spread", "", "mean distance of two samples of one label; of runs: the standard deviation of log Ẑ over runs"),
    Term("energy distance", "2 E‖x − y‖ − E‖x − x′‖ − E‖y − y′‖", "distance between samples x and data y; 0 for equal laws"),
    Term(
        "verdict",
        "",
        "of a comparison: different, no difference that would matter, or not decided; of a sampler: whether runs disagree",
        "decided",
    ),
)


def used(text: str) -> list[Term]:
    """Return the terms that a text uses."""
    return [term for term in TERMS if term.occurs(text)]
