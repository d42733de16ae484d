"""Scale factors of text: by enumeration of small models' texts, against those of exact tables, and the command."""

import json
import math
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from small import build
from tiny import save
from transformers import AutoModelForCausalLM, AutoTokenizer

import arguide
from analysis import Table
from analysis.figures import measurement as figures
from analysis.metrics import gap_estimates, scale_factors
from analysis.text import measured_texts

WORDS, LENGTH, PROMPT, NEGATIVE, END = 5, 3, [1, 2, 3], [4], 0
SCALE = 2.5


class Exact:
    """Every text of at most three words of a model, padded with the end, and both its laws, in float64."""

    def __init__(self, model, weights, base, end=None, cap="truncate"):
        every = [x for x in product(range(WORDS), repeat=LENGTH) if end is None or self._proper(x, end)]
        self.ended = torch.tensor([end in x for x in every])
        self.sizes = torch.tensor([x.index(end) + 1 if end in x else LENGTH for x in every])
        self.texts = torch.tensor(every)
        laws = {}
        with torch.no_grad():
            for name, prompt in (("cond", PROMPT), ("uncond", NEGATIVE)):
                ids = torch.cat([torch.tensor([prompt] * len(every)), self.texts], 1)
                laws[name] = model(ids).logits[:, len(prompt) - 1 : -1].double().log_softmax(-1)
        guided = sum(weight * laws[name] for name, weight in weights.items())
        inside = torch.arange(LENGTH) < self.sizes[:, None]
        if cap == "force":
            guided[:, -1, [v for v in range(WORDS) if v != end]] = -math.inf
        kept = self.ended if cap == "force" else torch.ones_like(self.ended)
        rows = torch.arange(len(every))[kept]
        self.texts, self.sizes, self.ended, inside = self.texts[rows], self.sizes[rows], self.ended[rows], inside[rows]
        at = self.texts[..., None]
        target = guided[rows].gather(-1, at)[..., 0].masked_fill(~inside, 0.0)
        normalizers = guided[rows].logsumexp(-1).masked_fill(~inside, 0.0)
        self.log_base = laws[base][rows].gather(-1, at)[..., 0].masked_fill(~inside, 0.0).sum(1)
        self.log_target, self.log_path = target.sum(1), normalizers.sum(1)
        self.q = (self.log_target - self.log_path).exp()
        self.log_z = self.log_target.logsumexp(0)
        self.kl = float(self.log_z - (self.q * self.log_path).sum())

    @staticmethod
    def _proper(x, end):
        return end not in x or all(word == end for word in x[x.index(end) :])

    def row(self, tokens):
        padded = [*tokens, *[END] * (LENGTH - len(tokens))]
        return int((self.texts == torch.tensor(padded)).all(1).nonzero()[0, 0])


@pytest.fixture(scope="module")
def small():
    """A model whose laws are far apart: KL(sequential ‖ joint) is .3 nats for guidance, .7 with ends, .7 for temperature."""
    model = build("llama", seed=11, vocab_size=WORDS, pad_token_id=None, bos_token_id=None, eos_token_id=None)
    model.generation_config.eos_token_id = None
    return model


GUIDANCE = {"cond": SCALE, "uncond": 1 - SCALE}
CASES = {
    "guidance": (GUIDANCE, "uncond", None, "truncate"),
    "ends": (GUIDANCE, "uncond", END, "truncate"),
    "forced ends": (GUIDANCE, "uncond", END, "force"),
    "temperature": ({"cond": 2.0}, "cond", END, "truncate"),
    "temperature, unconditional base": ({"cond": 2.0}, "uncond", None, "truncate"),
    "both": ({"cond": 2 * SCALE, "uncond": 2 - 2 * SCALE}, "uncond", None, "truncate"),
}
TAUS = {"temperature": 0.5, "temperature, unconditional base": 0.5, "both": 0.5}


def of_case(model, name):
    """Return the enumeration of a case, and the laws that the library has for it."""
    weights, base, end, cap = CASES[name]
    given = {"negative_prompt_ids": torch.tensor([NEGATIVE])}
    given |= {} if end is None else {"max_new_tokens": LENGTH, "eos_token_id": end}
    ids = torch.tensor([PROMPT])
    scale = SCALE if len(weights) == 2 else 1.0
    law = arguide.continuation(model, ids, guidance_scale=scale, temperature=TAUS.get(name, 1.0), cap=cap, **given)
    own = arguide.continuation(model, ids, guidance_scale=float(base == "cond"), **given)
    return Exact(model, weights, base, end, cap), law, own


def measure(law, base, seed=0, plan=(100, 100, 4), **options):
    generator = torch.Generator().manual_seed(seed)
    return gap_estimates.measure(law, base, LENGTH, gap_estimates.Plan(*plan), generator=generator, **options)


@pytest.mark.parametrize("name", CASES)
def test_factors_are_the_enumerated_ones(small, name):
    """Up to the error of log Ẑ, the same for every text; eight errors by Student's t of nine degrees: 2e-5."""
    exact, law, base = of_case(small, name)
    measured = measure(law, base, plan=(100, 100, 10))
    frame = measured.sequences
    rows = [exact.row(tokens) for tokens in measured.tokens]
    assert len(set(rows)) > 4
    log_target, log_path, log_base = (x[rows].numpy() for x in (exact.log_target, exact.log_path, exact.log_base))
    exact_z = float(exact.log_z)
    np.testing.assert_allclose(frame.log_s + frame.log_z - exact_z, log_target - exact_z - log_base, atol=1e-4)
    np.testing.assert_allclose(frame.log_s_prime, log_target - log_path - log_base, atol=1e-4)
    np.testing.assert_allclose(frame.log_path, log_path, atol=1e-4)
    np.testing.assert_allclose(frame.log_s - frame.log_s_prime, frame.log_path - frame.log_z, atol=1e-9)
    assert frame.tokens.tolist() == exact.sizes[rows].tolist() == list(map(len, measured.tokens))
    assert frame.ended.tolist() == exact.ended[rows].tolist()
    assert (frame.log_z == measured.diagnosis.log_evidence).all()
    np.testing.assert_allclose(frame.log_s_high - frame.log_s, 2.262157 * measured.diagnosis.std_error, rtol=1e-6)
    np.testing.assert_allclose(frame.log_s - frame.log_s_low, 2.262157 * measured.diagnosis.std_error, rtol=1e-6)
    last = measured.lengths.iloc[-1]
    assert last.kl_per_token == pytest.approx(last.kl / frame.tokens.mean())
    assert abs(measured.diagnosis.log_evidence - exact_z) < 8 * measured.diagnosis.std_error + 1e-4
    assert abs(last.kl - exact.kl) < 2 * (last.kl_high - last.kl_low) + 1e-4


def toy_case(make_joint, kind):
    """Return the laws of a table, and the same as autoregressive models; γ = 3, or β = 3 for temperature."""
    table = Table(make_joint(7, (2, 3, 3, 3)))
    cond, uncond = table.autoregressive(1), table.autoregressive()
    if kind == "guidance":
        law = arguide.LogLinear.guidance(cond, uncond, 3.0)
        return law, uncond, scale_factors.scale_factors(table, 1, 3.0), scale_factors.summary(table, 1, 3.0)
    law = arguide.LogLinear.temperature(uncond, 1 / 3)
    given = {"scale": 0.0, "temperature": 1 / 3}  # of the unconditional law
    return law, uncond, scale_factors.scale_factors(table, 1, **given), scale_factors.summary(table, 1, **given)


@pytest.mark.parametrize("kind", ["guidance", "temperature"])
def test_intervals_hold_what_they_say(make_joint, kind):
    """28 of 40 or fewer have probability 1e-6 at 95 %; the same intervals do not hold half the KL, nor a log Z as far off."""
    law, base, exact, summary = toy_case(make_joint, kind)
    kl, held = summary["kl_sequential_joint"], torch.zeros(4, dtype=torch.long)
    assert kl > 0.1
    for seed in range(40):
        generator, plan = torch.Generator().manual_seed(seed), gap_estimates.Plan(1000, 500, 4)
        measured = gap_estimates.measure(law, base, 3, plan, generator=generator)
        last, first, cell = measured.lengths.iloc[-1], measured.sequences.iloc[0], tuple(measured.tokens[0])
        assert first.log_s_prime == pytest.approx(float(exact.log_sequential[cell]), abs=1e-9)
        assert first.log_path == pytest.approx(float(exact.log_path[cell]), abs=1e-9)
        log_s = float(exact.log_joint[cell])
        inside = [last.kl_low <= kl - wrong <= last.kl_high for wrong in (0.0, kl / 2)]
        inside += [first.log_s_low <= log_s - wrong <= first.log_s_high for wrong in (0.0, kl / 2)]
        held += torch.tensor(inside)
    assert min(held[0], held[2]) > 28 > max(held[1], held[3]), held


def test_the_gap_grows_from_nothing_with_length(small):
    """Every prefix length is a measurement of its own: the last row of a shorter one."""
    exact, law, base = of_case(small, "guidance")
    measured = measure(law, base, plan=(4000, 1000, 10))
    frame = measured.lengths
    assert frame.length.tolist() == [1, 2, 3]
    for size in (1, 2, 3):
        heads = exact.texts[:, :size]
        _, index = torch.unique(heads, dim=0, return_inverse=True)
        firsts = torch.zeros(WORDS**size, dtype=torch.long).scatter_(0, index, torch.arange(len(index)))
        short = {"q": torch.zeros(WORDS**size, dtype=torch.float64).index_add(0, index, exact.q)}
        rows = exact.texts[firsts]
        assert short["q"].sum() == pytest.approx(1)
        log_target, log_path = prefixes(small, rows, size)
        log_z = float(log_target.logsumexp(0))
        kl = log_z - float((short["q"] * log_path).sum())
        row = frame.iloc[size - 1]
        assert row.log_z == pytest.approx(log_z, abs=8 * row.log_z_std_error + 1e-4)
        assert row.log_path == pytest.approx(log_z - kl, abs=8 * row.log_path_std_error + 1e-4)
        assert row.kl == pytest.approx(row.log_z - row.log_path, abs=1e-12)
        assert row.kl_per_token == pytest.approx(row.kl / size)
        weights = (log_path - log_z).exp()
        share = 1 / float((short["q"] * weights.square()).sum())  # E[w]² / E[w²]; E[w] = 1
        assert row.ess_share == pytest.approx(share, abs=0.15)
        assert row.ess == pytest.approx(4000 * row.ess_share)
    assert abs(frame.kl[0]) < 1e-4 < frame.kl[1] < frame.kl[2]
    assert frame.kl_high[0] - frame.kl_low[0] < 1e-4 < frame.kl_high[2] - frame.kl_low[2]


def prefixes(model, texts, size):
    """Return Σ log p̃ and Σ log Z_t over the first words of texts, by guidance."""
    laws = []
    with torch.no_grad():
        for prompt in (PROMPT, NEGATIVE):
            ids = torch.cat([torch.tensor([prompt] * len(texts)), texts], 1)
            laws.append(model(ids).logits[:, len(prompt) - 1 : -1].double().log_softmax(-1))
    guided = (SCALE * laws[0] + (1 - SCALE) * laws[1])[:, :size]
    return guided.gather(-1, texts[:, :size, None]).sum((1, 2)), guided.logsumexp(-1).sum(1)


def test_given_texts_are_read_and_prefixes_are_held_against_their_own_length(small):
    exact, law, base = of_case(small, "ends")
    given = [[1, 2, 3], [4], [3, END], [2, 2]]
    measured = measure(law, base, given=given, plan=(50, 3, 3))
    frame = measured.sequences
    assert measured.tokens == given
    assert frame.ended.tolist() == [False, False, True, False]
    log_z = measured.lengths.log_z
    assert frame.log_z.tolist() == [log_z[2], log_z[0], log_z[2], log_z[1]]
    for i in (0, 2):
        row = exact.row(given[i])
        assert frame.log_s[i] + frame.log_z[i] == pytest.approx(float(exact.log_target[row] - exact.log_base[row]), abs=1e-4)
    again = measure(law, base, plan=(50, 3, 3))
    pd.testing.assert_frame_equal(again.lengths, measured.lengths)  # the gap is of samples, whatever texts are given
    scores = arguide.score(
        small,
        torch.tensor([PROMPT]),
        torch.tensor([[2, 2]]),
        guidance_scale=SCALE,
        negative_prompt_ids=torch.tensor([NEGATIVE]),
    )
    assert frame.log_s[3] == pytest.approx(float(scores.joint - scores.branches[1]) - log_z[1], abs=1e-4)
    assert frame.log_s_prime[3] == pytest.approx(float(scores.sequential - scores.branches[1]), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("guidance", [[1], []], "text 2 has 0 tokens"),
        ("guidance", [[1, 2, 3, 4]], "text 1 has 4 tokens"),
        ("ends", [[1], [END, 2]], "text 2 goes on after its end"),
        ("forced ends", [[1, END], [1, 2, 3]], "text 2 has probability 0 under the guided law"),
    ],
)
def test_texts_that_have_no_factors_are_refused(small, name, given, says):
    _, law, base = of_case(small, name)
    with pytest.raises(ValueError, match=says):
        measure(law, base, given=given)


def test_what_the_base_law_excludes_is_refused():
    joint = torch.tensor([[0.4, 0.1, 0.2, 0.3], [0.1, 0.4, 0.3, 0.2]]).double().reshape(2, 2, 2)
    law = Table(joint / joint.sum()).autoregressive(0)
    gone = joint.clone()
    gone[:, 1] = 0.0
    with pytest.raises(ValueError, match="probability 0 under the base law"):
        gap_estimates.measure(
            arguide.LogLinear.temperature(law, 0.5), Table(gone / gone.sum()).autoregressive(), 2, gap_estimates.Plan(50, 50, 2)
        )


@pytest.mark.parametrize("numbers", [(1, 2, 2), (2, 1, 2), (2, 2, 1)])
def test_a_plan_without_errors_is_refused(numbers):
    with pytest.raises(ValueError, match="at least 2"):
        gap_estimates.Plan(*numbers)


def test_what_a_probe_finds_is_a_doubt_and_a_part_of_the_estimate():
    """A word of 1e-7 weighs more than all others together: runs never find it and agree to the last digit, probes do."""
    rare, far = 1e-7, 1e-4
    first = torch.tensor([0.6, 0.4 - rare, rare], dtype=torch.float64)[:, None]
    cond, uncond = (
        Table((first * torch.tensor([[0.5, 0.5], [0.5, 0.5], [1 - e, e]]))[None].numpy()).autoregressive()
        for e in (far, 1 - far)
    )
    measured = gap_estimates.measure(
        arguide.LogLinear.guidance(cond, uncond, 3.0),
        uncond,
        2,
        gap_estimates.Plan(50, 200, 3),
        generator=torch.Generator().manual_seed(0),
    )
    assert measured.lengths.log_z.iloc[-1] == measured.diagnosis.log_evidence > 0.5
    assert measured.diagnosis.missed > 1
    assert not measured.diagnosis.consistent


def test_differences_have_welchs_interval():
    """By hand: errors 3 and 4 with 3 and 10 degrees of freedom; Student's .975 quantile is 2.179 at 12 degrees, 2.160 at 13."""
    one, two = gap_estimates.Estimate(10.0, 3.0, 3), gap_estimates.Estimate(4.0, 4.0, 10)
    both = one.minus(two)
    assert both[:2] == (6.0, 5.0)
    assert both.freedom == pytest.approx(25**2 / (81 / 3 + 256 / 10))
    assert both.freedom == pytest.approx(11.88, abs=0.01)
    assert both.interval == pytest.approx((6 - 5 * 2.181, 6 + 5 * 2.181), abs=0.01)
    assert gap_estimates.Estimate(0.0, 1.0, 3).half == pytest.approx(3.1824, abs=1e-4)
    exact = gap_estimates.Estimate(1.0, 0.0, 3)
    assert exact.minus(exact).interval == (0.0, 0.0)


def test_batches_change_nothing_but_the_draws(small):
    _, law, base = of_case(small, "ends")
    given = [[1, 2, 3], [4], [3, END], [2, 2], [END]]
    one, parts = (measure(law, base, given=given, plan=(20, n, 2)).sequences for n in (20, 2))
    columns = ["tokens", "ended", "log_path", "log_s_prime", "log_base"]
    pd.testing.assert_frame_equal(one[columns], parts[columns], atol=1e-5)
    jobs = []
    measure(law, base, given=given, plan=(20, 7, 3), track=lambda items: jobs.append(len(items)) or items)
    assert jobs == [1 + 3 + 3 + gap_estimates.PROBES]


def test_the_figure_draws_what_the_frames_hold(small):
    _, law, base = of_case(small, "guidance")
    measured = measure(law, base)
    figure = figures.draw(measured.sequences, measured.lengths, "careful")
    points, gap, share = figure.axes
    assert figure.get_suptitle() == "careful"
    assert figures.draw(measured.sequences, measured.lengths).get_suptitle() == ""
    dots = next(line for line in points.lines if len(line.get_xdata()) == 100)
    assert np.asarray(dots.get_xdata()).tolist() == measured.sequences.log_s.tolist()
    assert np.asarray(dots.get_ydata()).tolist() == measured.sequences.log_s_prime.tolist()
    assert np.asarray(gap.lines[-1].get_ydata()).tolist() == measured.lengths.kl.tolist()
    assert np.asarray(share.lines[-1].get_ydata()).tolist() == measured.lengths.ess_share.tolist()
    plt.close("all")


# the command

COMMAND = ("scale-factors",)
FEW = ("--max-new-tokens", 4, "--samples", 12, "--particles", 12, "--repeats", 3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny")


def measured_by(run, *arguments):
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in the output"))


def test_json_says_what_the_library_says(run, tiny, tmp_path):
    out, picture = tmp_path / "texts.parquet", tmp_path / "factors.png"
    options = ("--prompt", "a dog", "--negative", "", "--scale", 1.5, *FEW, "--seed", 3, "--out", out, "--figure", picture)
    record = measured_by(run, tiny, *options)
    model, words = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    given = {"max_new_tokens": 4, "negative_prompt_ids": torch.tensor([[1]])}
    ids = words("a dog", return_tensors="pt").input_ids
    law, base = (arguide.continuation(model, ids, guidance_scale=scale, **given) for scale in (1.5, 0.0))
    plan, generator = gap_estimates.Plan(12, 12, 3), torch.Generator().manual_seed(3)
    expected = gap_estimates.measure(law, base, 4, plan, generator=generator)
    last = expected.lengths.iloc[-1]
    assert record["base"] == "unconditional"
    assert record["log_z"] == pytest.approx(expected.diagnosis.log_evidence)
    assert record["log_z_std_error"] == pytest.approx(expected.diagnosis.std_error)
    assert record["kl_sequential_joint"] == pytest.approx(last.kl)
    assert record["kl_interval"] == pytest.approx([last.kl_low, last.kl_high])
    assert (record["ess"], record["ess_share"]) == pytest.approx((last.ess, last.ess_share))
    assert record["lengths"] == {name: pytest.approx(expected.lengths[name].tolist()) for name in expected.lengths}
    assert record["verdict"] == expected.diagnosis.verdict
    asked = {"prompt": "a dog", "negative": "", "scale": 1.5, "temperature": 1.0, "power": 1.0, "max_new_tokens": 4}
    assert record["law"] == asked | {"cap": "truncate", "chat": True, "samples": 12, "particles": 12, "repeats": 3}
    assert (record["model"], record["seed"]) == (str(tiny), 3)
    for row, (_, one), tokens in zip(record["sequences"], expected.sequences.iterrows(), expected.tokens, strict=True):
        assert row["text"] == words.decode(tokens, skip_special_tokens=True)
        assert row["tokens"] == one.tokens == len(tokens)
        assert [row[name] for name in ("log_s", "log_s_prime", "log_path")] == pytest.approx(
            [one.log_s, one.log_s_prime, one.log_path]
        )
        assert row["log_s_interval"] == pytest.approx([one.log_s_low, one.log_s_high])
    frame = pd.read_parquet(out)
    assert frame["text"].tolist() == [row["text"] for row in record["sequences"]]
    assert set(frame["base"]) == {"unconditional"}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["factors.png", "texts.parquet"]


def test_power_is_one_over_temperature_and_refers_to_the_model(run, tiny):
    options = (tiny, "--prompt", "a dog", "--scale", 1, *FEW)
    power, tau = (measured_by(run, *options, *given) for given in (("--power", 2), ("--temperature", 0.5)))
    assert power == tau
    assert (power["base"], power["law"]["temperature"], power["law"]["power"]) == ("model", 0.5, 2.0)
    for row in power["sequences"]:  # log s = log p − log Z at β = 2, for log p̃ = 2 log p
        log_p = row["log_s"] + power["log_z"]
        assert log_p < 0
        assert row["log_s_prime"] == pytest.approx(log_p - row["log_path"])
    other = measured_by(run, *options, "--power", 2, "--negative", "")
    assert other["base"] == "unconditional"
    assert other["log_z"] == power["log_z"]
    assert other["sequences"][0]["log_s"] != power["sequences"][0]["log_s"]
    plain = measured_by(run, *options)
    assert plain["kl_sequential_joint"] == pytest.approx(0, abs=1e-5)
    assert all(abs(row["log_s"]) < 1e-5 for row in plain["sequences"])
    assert plain["ess_share"] == pytest.approx(1)


TEXTS = [" cat", "cat", "NA", "12", "x[/b]"]


@pytest.mark.parametrize("kind", ["txt", "csv", "parquet", "jsonl"])
def test_texts_come_from_a_file(run, tiny, tmp_path, kind):
    path, frame = tmp_path / f"texts.{kind}", pd.DataFrame({"text": TEXTS, "n": range(5)})
    if kind == "txt":
        path.write_text("\n".join(TEXTS[:2]) + "\n\n" + "\n".join(TEXTS[2:]) + "\n")
    elif kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    else:
        frame.to_parquet(path)
    options = (tiny, "--prompt", "a dog", "--scale", 2, *FEW, "--max-new-tokens", 5)
    record = measured_by(run, *options, "--texts", path)
    assert [row["text"] for row in record["sequences"]] == TEXTS
    assert [row["tokens"] for row in record["sequences"]] == [4, 3, 2, 2, 5]
    assert record["kl_sequential_joint"] == measured_by(run, *options)["kl_sequential_joint"]


def test_an_end_counts_where_it_is_written_or_forced(run, tiny, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("ab\nab</s>\n")
    options = (tiny, "--prompt", "a dog", "--scale", 2, *FEW, "--texts", path)
    cut, forced = (measured_by(run, *options, "--cap", cap)["sequences"] for cap in ("truncate", "force"))
    assert [(row["tokens"], row["ended"]) for row in cut] == [(2, False), (3, True)]
    assert [(row["tokens"], row["ended"]) for row in forced] == [(3, True), (3, True)]
    assert forced[0]["log_s"] == pytest.approx(forced[1]["log_s"])
    assert cut[1]["log_s_prime"] == pytest.approx(forced[1]["log_s_prime"])  # it ends before the cap


def test_people_see_tables_with_texts_as_they_are(run, tiny, tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("[/b]\n[red]\n")
    code, out, err = run(tiny, "--prompt", "a [b]dog", "--scale", 2, *FEW, "--max-new-tokens", 5, "--texts", path)
    assert code == 0
    assert "KL(sequential ‖ joint)" in out
    assert "[/b]" in out
    assert "[red]" in out
    assert "'a [b]dog'" in out
    assert "scale-factors" in err
    assert "100%" in err


def test_an_estimate_that_has_not_converged_says_so(run, tiny, tmp_path):
    options = ("--prompt", "a dog", "--scale", 8, "--max-new-tokens", 12, "--samples", 8, "--particles", 8)
    code, out, err = run(tiny, *options, "--figure", tmp_path / "figure.png", "--json")
    assert code == 0
    record = json.loads(out)
    assert not record["consistent"]
    assert f"arguide: log Z is {record['verdict']}" in err.splitlines()[-1]
    assert "more particles" in record["verdict"]


def test_the_seed_decides_the_texts(run, tiny):
    options = (tiny, "--prompt", "a dog", "--scale", 2, *FEW)
    one, again, other = (measured_by(run, *options, "--seed", seed) for seed in (1, 1, 2))
    assert one == again
    assert one["sequences"] != other["sequences"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--temperature", 2, "--power", 2), "either --temperature or --power"),
        (("--temperature", 0), "--temperature must be positive"),
        (("--power", -1), "--power must be positive"),
        (("--power", "nan"), "--power must be positive"),
        (("--scale", "inf"), "--scale must be finite"),
        (("--cap", "stop"), "--cap must be one of truncate, force"),
        (("--samples", 1), "--samples"),
        (("--particles", 1), "--particles"),
        (("--repeats", 1), "--repeats"),
        (("--max-new-tokens", 0), "--max-new-tokens"),
        (("--max-new-tokens", 60), "exceed the model's context of 48"),
        (("--negative", "b" * 45, "--max-new-tokens", 6), "the negative has 46 tokens"),
        (("--dtype", "float8"), "--dtype"),
        (("--device", "nowhere"), "no device"),
        (("--out", "a.csv"), "--out must end in .parquet"),
        (("--figure", "a.pdf"), "--figure must end in .png"),
        (("--out", "none/a.parquet"), "no folder none"),
        (("--texts", "none.txt"), "no file"),
        (("--texts", "none.xml"), "no file"),
        (("--texts", __file__), "must end in .txt, .csv, .parquet, .jsonl"),
    ],
)
def test_bad_options_are_one_line(fails, tiny, options, says):
    assert says in fails(tiny, "--prompt", "a", "--scale", 2, *options)


def test_prompt_and_scale_are_needed(fails, tiny):
    assert "--prompt" in fails(tiny, "--scale", 2)
    assert "--scale" in fails(tiny, "--prompt", "a")


def test_what_exists_is_not_overwritten(fails, tiny, tmp_path):
    for option, name in (("--out", "a.parquet"), ("--figure", "a.png")):
        (tmp_path / name).write_text("mine")
        assert "nothing was overwritten" in fails(tiny, "--prompt", "a", "--scale", 2, option, tmp_path / name)
        assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.txt", "\n \n", "no texts"),
        ("t.csv", "", "not a readable .csv"),
        ("t.csv", "prompt\na\n", "no column 'text'"),
        ("t.csv", 'text,n\n"",1\n', "text 1 has 0 tokens"),
        ("t.jsonl", '{"text": 2}\n', "row 1 has no text"),
        ("t.jsonl", '{"text": "a"\n', "not a readable .jsonl"),
        ("t.parquet", "PAR1", "not a readable .parquet"),
        ("t.txt", "a\nabcdefgh\n", "text 2 has 8 tokens"),
        ("t.txt", "a</s>b\n", "text 1 goes on after its end"),
    ],
)
def test_a_bad_file_of_texts_is_one_line_and_leaves_nothing(fails, tiny, tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    options = ("--texts", tmp_path / name, "--out", tmp_path / "out.parquet", "--figure", tmp_path / "out.png")
    assert says in fails(tiny, "--prompt", "a", "--scale", 2, *FEW, *options)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_model_without_an_end_has_none_to_force(fails, run, tmp_path):
    folder = save(tmp_path / "endless", ends=False)
    assert "nothing to force" in fails(folder, "--prompt", "a", "--scale", 2, *FEW, "--cap", "force")
    record = measured_by(run, folder, "--prompt", "a", "--scale", 2, *FEW)
    assert {row["tokens"] for row in record["sequences"]} == {4}


def test_texts_of_a_real_model_are_read_as_they_were_written(run, data, tmp_path):
    """A tokenizer that begins every text with a space; most samples are tokenized as they were drawn."""
    options = (data / "stories260K", "--prompt", "Lily had a big dog named Max.", "--negative", "", "--scale", 1.5)
    few = ("--max-new-tokens", 8, "--samples", 32, "--particles", 64, "--repeats", 2)
    drawn = measured_by(run, *options, *few, "--out", tmp_path / "texts.parquet")["sequences"]
    read = measured_by(run, *options, *few, "--texts", tmp_path / "texts.parquet")["sequences"]
    same = [(a, b) for a, b in zip(drawn, read, strict=True) if a["tokens"] == b["tokens"] and not a["ended"]]
    assert len(same) > 16
    for a, b in same:
        assert b["log_s_prime"] == pytest.approx(a["log_s_prime"], abs=1e-3)


def test_targets_know_their_base():
    assert measured_texts.Target("a", None, 1.0, power=2.0).base == "model"
    assert measured_texts.Target("a", "", 1.0).base == measured_texts.Target("a", None, 2.0).base == "unconditional"
