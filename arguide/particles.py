r"""Joint sampling: draw sequences from the joint law as weighted particles, with the driver of `arguide.smc`.

A move draws a token. With sequential guidance as the proposal its log incremental weight is log Z_t(x_<t), which the sampler
computes anyway, and

    Π_t Z_t(x_<t) q(x) = Π_k p_k(x)^{w_k},    E[mean weight] = Z = Σ_x Π_k p_k(x)^{w_k}:

the weighted particles follow the joint law Π_k p_k(x)^{w_k} / Z, and Ẑ is unbiased.
"""

from functools import partial

import torch
from torch import Generator, Tensor

from arguide import checks
from arguide.models import Autoregressive
from arguide.sampling import Propose, State, check_sizes, ended, init, sequential, step
from arguide.smc.draws import Draw, categorical
from arguide.smc.driver import Twist, drive, single
from arguide.smc.resampling import Resample, systematic
from arguide.smc.samples import Info, JointSample
from arguide.smc.samples import pooled as pooled
from arguide.transforms import Transform, identity


def ahead(state: State) -> Tensor:
    """Return the look-ahead log ψ = log Z_t(x_<t) of the next token, [N]; 0 for a model without a normalizer."""
    model = state.model
    log_normalizer: Tensor = getattr(model, "log_normalizer", torch.zeros_like(model.log_probs[:, 0]))
    return log_normalizer.clamp(min=torch.finfo(log_normalizer.dtype).min / 4)


def sample_joints(
    model: Autoregressive,
    count: int,
    n: int,
    length: int,
    *,
    draw: Draw | None = None,
    generator: Generator | None = None,
    transform: Transform = identity,
    propose: Propose = sequential,
    resample: Resample = systematic,
    threshold: float = 0.5,
    block: int = 1,
    twist: Twist | None = None,
) -> list[JointSample]:
    """Draw `count` independent samples of n weighted sequences of the joint law, side by side in one batch.

    Args:
        model: a `LogLinear` or another model with a log normalizer; `stopping.Ending` of one for variable length. Its
            condition may differ between samples, but not between the n rows of a sample.
        count: number of samples.
        n: N, particles of a sample.
        length: T, number of tokens.
        draw: log-probs [n, V] ↦ tokens [n]; `categorical(generator)` by default.
        generator: of the default draw and of the resampling.
        transform: of the proposal; the weights correct for it. A truncation restricts the target to the sequences that can
            still be proposed.
        propose: model state ↦ the law that particles are drawn from; the sequential law by default.
        resample: a scheme of `arguide.smc.resampling`.
        threshold: resample when ESS < threshold·N; 0 is plain importance sampling.
        block: number of tokens between two decisions to resample.
        twist: look-ahead, a function of the `State` to log ψ, see `arguide.smc.driver.drive`; `ahead` is one. It must
            not change the state, as `append` and `select` of a language model do.

    Raises:
        ValueError: n below 1, a sample whose particles all have weight 0, or a scale per row.

    Example:
        >>> table = analysis.Table([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]])
        >>> law = arguide.LogLinear.guidance(table.autoregressive(1), table.autoregressive(), 3.0)
        >>> drawn = arguide.sample_joint(law, 1000, 2)
        >>> bool(abs(drawn.log_evidence - table.joint_guided(1, 3.0).log_normalizer) < 4 * drawn.std_error)
        True
        >>> len(arguide.sample_joints(law, 3, 1000, 2))
        3
    """
    check_sizes(model, n, length)
    checks.integer("count", count), checks.integer("block", block)
    draw = checks.function("draw", draw or categorical(generator))
    checks.functions(transform=transform, propose=propose, twist=twist or ahead)

    def move(state: State, tokens: int) -> tuple[State, Info]:
        infos = []
        for t in range(state.x.shape[1] + 1, state.x.shape[1] + tokens + 1):
            state, info = step(model, state, draw, transform, propose, last=t == length)
            infos.append(info)
        return state, Info.stack(infos)

    def select(state: State, index: Tensor) -> State:
        return State(model.select(state.model, index), state.x[index])

    first = init(model, count * n)
    return drive(
        select(first, torch.arange(count * n, device=first.x.device)),  # refuses a scale per row: the target is one
        first.model.log_probs.new_zeros(count, n),
        [partial(move, tokens=min(block, length - start)) for start in range(0, length, block)],
        select,
        resample=resample,
        threshold=threshold,
        twist=twist,
        stop=ended,
        generator=generator,
    )


sample_joint = single(sample_joints)
