r"""The joint law by acceptance on a table, in both wings, and the sequential law of the same coherent pair.

A table is coherent by construction: its p(x) is the mixture of its p(x|y). So every sampler here reads the labels' laws and
their prior, and no unconditional law. The sequential law of the mixture is then the ordinary one, which is computed along every
branch of the model that guides, not assumed. Diffusion accepts by the posterior of the path, whose law tends to the joint tilt
as steps shrink, or by the exact classifier of clean data.
"""

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor

import arguide
import diffusion
from analysis.experiments import samplers
from analysis.experiments.samplers import LABEL, Case
from analysis.frames import Row, per_quantity, pick
from analysis.metrics import distances
from analysis.metrics.confidence import Estimate, mean_of
from analysis.toys import Table, guidance
from analysis.toys.autoregressive import law_of
from arguide.smc.acceptance import Accepted

COHERENT, COHERENT_DRAWN = "AR coherent", "AR coherent, drawn"
TOKENS, PATHS, DATA = "AR by acceptance", "paths by acceptance", "data by acceptance"
FAMILIES = (TOKENS, PATHS, DATA)


def measure(case: Case, cheap: Case, table: Table, sigmas: Tensor) -> Iterator[Row]:
    """Yield distances to the joint tilt, the share A that is accepted, and what A bounds, each beside its exact value.

    Args:
        case: the table as points, the scale and the numbers of samples and batches of diffusion.
        cheap: the same with the number of batches of tokens.
        table: the table.
        sigmas: a noise grid for points that falls to 0.
    """
    log_joint, _ = table.log_joint(guidance(LABEL, case.scale))
    pair = mixture(table)
    sequential = pair.guidance(LABEL, case.scale)
    yield {"family": COHERENT, "quantity": "tv", "value": float(distances.tv(law_of(sequential, table.shape), log_joint))}
    drawn = arguide.sample(sequential, cheap.total, cheap.length, generator=cheap.generator).tokens
    yield from _distance(COHERENT_DRAWN, drawn, cheap, log_joint)
    yield from per_quantity({"family": "exact"}, exact(table, case.scale))
    found = {
        TOKENS: (cheap, tokens(cheap, pair)),
        PATHS: (case, points(case, table, sigmas)),
        DATA: (case, points(case, table, sigmas, classified=True)),
    }
    for family, (own, accepted) in found.items():
        share = float(accepted.log_acceptance.exp())
        error = share * float(accepted.std_error)
        yield {"family": family, "quantity": "acceptance", "value": share, "std_error": error}
        yield from _distance(family, accepted.x, own, log_joint)


def exact(table: Table, scale: float) -> dict[str, Tensor]:
    """Return A, and KL(joint ‖ p(x|y)) and the total variation, which −log A and 1 − A bound for γ ≥ 1."""
    (log_joint, _), log_cond = table.log_joint(guidance(LABEL, scale)), table.log_probs(LABEL)
    kept = log_cond if scale >= 1 else table.log_probs()
    power = scale - 1 if scale >= 1 else scale
    return {
        "acceptance": (kept + power * table.log_class_probability()[LABEL]).flatten().logsumexp(0).exp(),
        "kl_joint_conditional": distances.kl(log_joint, log_cond),
        "tv_joint_conditional": distances.tv(log_joint, log_cond),
    }


def mixture(table: Table) -> arguide.Mixture:
    """Return a table's p(x) as the mixture of its labels' laws."""
    labels = range(len(table.labels))
    return arguide.Mixture(tuple(table.autoregressive(label) for label in labels), table.log_prior())


def tokens(case: Case, pair: arguide.Mixture) -> Accepted:
    """Draw sequences of a table's joint law by acceptance."""
    return arguide.sample_accepted(
        pair, LABEL, case.scale, case.total, case.length, generator=case.generator, tolerance=math.inf
    )


def points(case: Case, table: Table, sigmas: Tensor, *, classified: bool = False) -> Accepted:
    """Draw points of a table's joint law by acceptance.

    Args:
        case: the toy, the scale and the numbers of samples and batches.
        table: the table.
        sigmas: a noise grid that falls to 0.
        classified: whether the exact p(y|x_0) of the nearest point decides, and not the posterior of the path.
    """
    scores = [diffusion.conditioned(case.toy.score, label) for label in range(len(table.labels))]
    log_classes = table.log_class_probability().flatten(1).T

    def classifier(x: Tensor) -> Tensor:
        return log_classes[samplers.cells(case.toy, x)]

    options: dict[str, Any] = {"generator": case.generator, "tolerance": math.inf}
    options |= {"classifier": classifier} if classified else {}
    pair, shape = diffusion.Mixture(scores, table.log_prior()), (case.total, case.length)
    return diffusion.sample_accepted(pair, LABEL, case.scale, shape, sigmas, **options)


def sentence(frame: Any, tv: dict[str, Estimate], sequential: str) -> str:
    """Return what acceptance and the coherent sequential law say at one scale and length.

    Args:
        frame: rows of one scale and length.
        tv: distances to the joint tilt by family.
        sequential: the family of the ordinary sequential law.
    """
    shares = pick(frame, quantity="acceptance").set_index("family")["value"]
    moved = pick(frame, quantity="kl_joint_conditional")["value"].iloc[0]
    return (
        f"By acceptance a share of {shares[TOKENS]:.3f} of the conditional sequences is kept, {shares[PATHS]:.3f} of the paths "
        f"and {shares[DATA]:.3f} of the points (exact {shares['exact']:.3f}): KL(joint ‖ conditional) is {moved:.3f} nats, at "
        f"most −log A = {-math.log(shares['exact']):.3f}.\nGuided by the mixture of its labels, the sequential law is the "
        f"ordinary one (distances {tv[COHERENT].value:.6f} and {tv[sequential].value:.6f}), because a table is a coherent pair."
    )


def _distance(family: str, x: Tensor, case: Case, log_joint: Tensor) -> Iterator[Row]:
    """Yield the total variation of draws to the joint tilt, a mean over batches."""
    cells = samplers.cells(case.toy, x).chunk(case.batches)
    found = [distances.empirical(batch, log_joint.numel()) for batch in cells]
    yield {"family": family, "quantity": "tv"} | mean_of([distances.tv(each, log_joint.flatten()) for each in found])._asdict()
