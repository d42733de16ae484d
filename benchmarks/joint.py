"""What the joint law of a language model costs, and what a peer takes for it: `python -m benchmarks.joint`.

N sequences of T tokens after one prompt, under γ = 1.5 and a negative prompt, with nothing that ends a text:

    joint        arguide.sample_joint of arguide.continuation(model, …), resampling when ESS < N/2
    everywhere   the same, resampling before every token: the most that it can cost
    sequential   arguide.guided(model).generate(…), N rows without weights
    sample       arguide.sample of the same continuation
    generate     model.generate without guidance, N rows
    genlm        genlm-control's SMC, resampling alike, over its own backend: a model a branch, N texts at once, prompts cached
    driver       genlm-control's SMC over arguide's caches: nothing but the drivers differs

The weights of stories260K are real, those of 15M random: its guided law is nearly even, and only `everywhere` resamples.
genlm-control, which is no dependency, is left out where it is not installed. The part `lookahead` is `benchmarks.lookahead`.
"""

import argparse
import asyncio
import importlib.util
import itertools
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm
from transformers import AutoTokenizer
from transformers.utils import logging

import arguide
from benchmarks.lookahead import LAWS, LENGTHS, lookahead
from benchmarks.memory import fresh, peak_memory
from benchmarks.models import STORIES, Pair, generate, pair, random_ids
from benchmarks.timing import Case, Job, Ratio, Row, measure, table

SCALE, THRESHOLD = 1.5, 0.5
MODELS = ("stories260K", "15M")
TEXTS = ("Lily had a big dog named Max.", "Once upon a time")
PARTS = ("speed", "evidence", "lookahead", "memory")
RATIOS = (
    *(Ratio(f"joint ÷ {other}", "joint", other) for other in ("sequential", "sample", "generate")),
    Ratio("everywhere ÷ sequential", "everywhere", "sequential"),
)
PEERS = tuple(Ratio(f"{other} ÷ joint", other, "joint") for other in ("genlm", "driver"))
Contexts = Sequence[Sequence[int]]
Weigh = Callable[[Contexts], Awaitable[Tensor]]  # texts ↦ log p̃ of their next token, [n, V]
Run = Callable[[int], float]  # tokens ↦ log Ẑ


class Setting(NamedTuple):
    """A model with what its branches read, [1, L] and [1, L′], and the law of what follows."""

    models: Pair
    ids: Tensor
    negative: Tensor
    law: Any


def setting(name: str, stories: Path, device: str = "cpu") -> Setting:
    """Return a model with two texts as prompts, or random ones where it knows no words."""
    models = pair(name, stories, device)
    if name == "stories260K":
        tokenizer = AutoTokenizer.from_pretrained(stories)
        ids, negative = (tokenizer(text, return_tensors="pt").input_ids.to(device) for text in TEXTS)
    else:
        ids, negative = (random_ids(models.plain, 1, 16, seed) for seed in (0, 1))
    law = arguide.continuation(models.plain, ids, guidance_scale=SCALE, negative_prompt_ids=negative)
    return Setting(models, ids, negative, law)


def jobs(of: Setting, n: int, tokens: int) -> dict[str, Job]:
    """Return the ways to draw n sequences that need no peer."""
    rows = {"do_sample": True, "top_k": 0, "num_return_sequences": n}
    guidance = {"guidance_scale": SCALE, "negative_prompt_ids": of.negative}
    return {
        "sequential": partial(generate, of.models.guided, of.ids, tokens, **rows, **guidance),
        "joint": partial(arguide.sample_joint, of.law, n, tokens, threshold=THRESHOLD),
        "sample": partial(arguide.sample, of.law, n, tokens),
        "generate": partial(generate, of.models.plain, of.ids, tokens, **rows),
        "everywhere": partial(arguide.sample_joint, of.law, n, tokens, threshold=1.0),
    }


def asking(models: Sequence[Any], prompts: Sequence[list[int]]) -> Weigh:
    """Weigh next tokens by genlm's backend: one of its models a branch, and their prompts."""

    async def weigh(contexts: Contexts) -> Tensor:
        pairs = list(zip(models, prompts, strict=True))
        if not contexts[0]:  # a new run
            for model, prompt in pairs:
                model.clear_cache()
                model.cache_kv(prompt)
        asked = [model.batch_next_token_logprobs([[*prompt, *context] for context in contexts]) for model, prompt in pairs]
        cond, uncond = await asyncio.gather(*asked)
        return arguide.guide(cond, uncond, SCALE)

    return weigh


def keeping(law: Any) -> Weigh:
    """Weigh next tokens by arguide's own state of the last contexts, whose children the next ones are."""
    last: dict[tuple[int, ...], int] = {}
    state: Any = None

    async def weigh(contexts: Contexts) -> Tensor:
        nonlocal last, state
        keys = [tuple(context) for context in contexts]
        if not keys[0]:  # a new run
            state = law.start(len(keys))
        else:
            index = torch.tensor([last[key[:-1]] for key in keys])
            state = state if index.equal(torch.arange(len(keys))) else law.select(state, index)
            state = law.append(state, torch.tensor([key[-1] for key in keys]))
        last = {key: i for i, key in enumerate(keys)}
        return state.log_probs + state.log_normalizer[:, None]

    return weigh


class Endless:
    """What genlm-control asks of a potential whose texts do not end; `weigh` gives the log-weights of the next token."""

    async def prefix(self, context: Sequence[int]) -> float:
        """Return the log-weight of a text; it asks for the empty one only."""
        assert not context
        return 0.0

    complete = prefix

    async def batch_logw_next(self: Any, contexts: Contexts) -> Any:
        """Return the log-weights of the next token and, last, of the end, [n, V + 1]."""
        return self.make_lazy_weights(functional.pad(await self.weigh(contexts), (0, 1), value=-math.inf))


def peers(of: Setting, n: int, stories: Path) -> dict[str, Run]:
    """Return how genlm-control draws n weighted sequences, if it is installed; its Z_t are checked to be arguide's."""
    if importlib.util.find_spec("genlm") is None:
        return {}
    control, backend = importlib.import_module("genlm.control"), importlib.import_module("genlm.backend")
    tokenizer = AutoTokenizer.from_pretrained(stories)
    # Two, for one would take texts of one batch for the same if they differ in nothing but the cached prompt.
    models = [backend.AsyncTransformer(of.models.plain, tokenizer, batch_size=n) for _ in range(2)]
    ways = {"genlm": asking(models, [of.ids[0].tolist(), of.negative[0].tolist()]), "driver": keeping(of.law)}
    runs, drawn = {}, arguide.sample(of.law, n, 4)
    for name, weigh in ways.items():
        potential = type("Potential", (Endless, control.Potential), {"weigh": staticmethod(weigh)})(list(range(len(tokenizer))))
        for t, log_normalizer in enumerate(drawn.log_normalizer.unbind(1)):
            weights = asyncio.run(potential.batch_logw_next(drawn.tokens[:, :t].tolist())).weights
            torch.testing.assert_close(weights.logsumexp(-1), log_normalizer, atol=1e-4, rtol=1e-4)
        runs[name] = partial(_smc, control.direct_token_sampler(potential), n)
    return {**runs}


def _smc(sampler: Any, n: int, tokens: int) -> float:
    """Return log Ẑ of a run that resamples as arguide does, and stops after so many tokens without a weight for it."""
    run = sampler.smc(n, THRESHOLD, tokens + 1, resampling_method="systematic", terminate_when=lambda text: len(text) == tokens)
    return float(asyncio.run(run).log_ml)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield n sequences of every model."""
    for name, n in itertools.product(options.models, options.particles):
        of = setting(name, options.stories)
        found = peers(of, n, options.stories) if name == "stories260K" else {}
        ways = jobs(of, n, options.tokens) | {peer: partial(run, options.tokens) for peer, run in found.items()}
        yield Case(f"{name}, {n} × {options.tokens} tokens", ways, RATIOS + (PEERS if found else ()))


def evidence(options: argparse.Namespace, advance: Callable[[], object], n: int = 256, tokens: int = 10) -> str:
    """Return a line with log Ẑ of short texts by arguide and its peer: the mean over runs, and its standard error."""
    of = setting("stories260K", options.stories)
    runs: dict[str, Run] = {"arguide": lambda length: float(arguide.sample_joint(of.law, n, length).log_evidence)}
    runs |= peers(of, n, options.stories)
    logs: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            logs[name].append(run(tokens))
        advance()
    means = (f"{name} {fmean(each):.3f} ± {stdev(each) / math.sqrt(len(each)):.3f}" for name, each in logs.items())
    return f"stories260K, {n} × {tokens} tokens: log Ẑ, mean of {options.repeats} runs ± standard error: {', '.join(means)}."


def peak(n: int, tokens: int, stories: Path) -> float:
    """Return by how many MB one call raises this process's resident memory at its peak; call it in a fresh process."""
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    of = setting("stories260K", stories)
    jobs(of, 2, 2)["joint"]()
    before = peak_memory(reset=True)
    jobs(of, n, tokens)["joint"]()
    return peak_memory() - before


def memory(options: argparse.Namespace, advance: Callable[[], object], n: int = 512, tokens: int = 128) -> str:
    """Return a line with the peak of memory over the size of what both branches' caches hold at the end."""
    of = setting("stories260K", options.stories)
    config, width = of.models.plain.config, max(of.ids.shape[1], of.negative.shape[1])
    numbers = 2 * n * (width + tokens) * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 2
    size = 4 * numbers / 2**20
    found = []
    for _ in range(options.rounds):
        found.append(fresh(peak, n, tokens, options.stories))
        advance()
    what = f"stories260K, {n} × {tokens} tokens: peak of memory ÷ caches of both branches"
    return f"{what} {median(found) / size:.2f}, {min(found):.0f}–{max(found):.0f} ÷ {size:.0f} MB."


def main() -> None:
    """Measure on one thread, and print tables in Markdown."""
    options = _options()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    speed = len(options.models) * len(options.particles) * options.rounds
    ahead = len(LAWS) * len(LENGTHS) * options.repeats
    work = {"speed": speed, "evidence": options.repeats, "lookahead": ahead, "memory": options.rounds}
    with tqdm(total=sum(work[part] for part in options.parts), desc="joint", unit="round", dynamic_ncols=True) as bar:
        rows: list[Row] = []
        for case in cases(options) if "speed" in options.parts else ():
            bar.set_postfix_str(case.name)
            rows += measure(case, options.rounds, bar.update)
        rest = [part(options, bar.update) for part in (evidence, lookahead, memory) if part.__name__ in options.parts]
    print("\n\n".join([*([table(rows, options.rounds)] if rows else []), *rest]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.joint", description="Measure the joint law.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="default: %(default)s")
    parser.add_argument("--particles", type=int, nargs="+", default=[32, 256], help="sequences (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=32, help="of a sequence (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every job (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=10, help="runs that log Ẑ is the mean of (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: %(default)s)")
    parser.add_argument("--stories", type=Path, default=STORIES, help="folder of stories260K (default: %(default)s)")
    options = parser.parse_args()
    options.rounds, options.repeats = max(1, options.rounds), max(2, options.repeats)
    if not options.stories.is_dir():
        print(f"stories260K is left out: there is no folder {options.stories}; name it with --stories.\n")
        options.models, options.parts = [name for name in options.models if name != "stories260K"], ["speed"]
    if importlib.util.find_spec("genlm") is None:
        print("The peer is left out: genlm-control is not installed.\n")
    return options


if __name__ == "__main__":
    main()
