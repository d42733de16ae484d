import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
import transformers
from tiny import save, tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

import arguide
from analysis.text import batch_jobs, distributed

COMMAND = ("generate",)
CHAT = "{% for m in messages %}<s>[{{ m['role'] }}] {{ m['content'] }}{% endfor %}{% if add_generation_prompt %} ->{% endif %}"
FEW = ("--max-new-tokens", 6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "chat", chat=CHAT)


@pytest.fixture(scope="module")
def mute(tmp_path_factory):
    """A model whose tokenizer has no beginning-of-text token."""
    return save(tmp_path_factory.mktemp("models") / "mute", bos=False)


def directly(folder, ids, new=6, negative=None, **options):
    """What the library makes of tokens, greedily, as text."""
    view = arguide.guided(AutoModelForCausalLM.from_pretrained(folder))
    given = {} if negative is None else {"negative_prompt_ids": torch.tensor([negative])}
    options = {"guidance_scale": 1.5, "do_sample": False, "max_new_tokens": new} | given | options
    out = view.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), **options)
    return AutoTokenizer.from_pretrained(folder).decode(out[0, len(ids) :], skip_special_tokens=True)


def completions(run, *arguments):
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")
    return [record["completion"] for record in json.loads(out)]


# prompts on the command line


def test_greedy_is_what_the_library_generates(run, model):
    words = AutoTokenizer.from_pretrained(model)
    for options, given in (
        ((), {}),
        (("--scale", 0), {"guidance_scale": 0.0}),
        (("--scale", 1), {"guidance_scale": 1.0}),
        (("--scale", 3, "--negative", "bad"), {"guidance_scale": 3.0, "negative": words("bad").input_ids}),
        (("--plausibility", 0.5), {"plausibility": 0.5}),
    ):
        expected = directly(model, words("a dog").input_ids, **given)
        assert completions(run, model, "--prompt", "a dog", "--greedy", *FEW, *options) == [expected]


def test_one_completion_is_printed_alone_and_the_seed_decides_it(run, model):
    first, again, other = (run(model, "--prompt", "a dog", *FEW, "--seed", seed) for seed in (3, 3, 4))
    assert first == again
    assert first[0] == 0
    assert first[2] == ""
    assert first[1].strip()
    assert first[1] != other[1]


def test_the_global_generator_is_left_as_it_was(run, model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run(model, "--prompt", "a dog", *FEW)
    assert torch.equal(before, torch.get_rng_state())


def test_json_has_a_record_for_every_prompt_and_sample(run, model):
    code, out, err = run(model, "--prompt", "a", "--prompt", "longer", "--num-samples", 2, *FEW, "--json", "--negative", "x")
    records = json.loads(out)
    assert (code, err) == (0, "")
    assert [(r["prompt"], r["sample"]) for r in records] == [("a", 0), ("a", 1), ("longer", 0), ("longer", 1)]
    assert all(list(r) == ["prompt", "negative", "scale", "sample", "completion", "tokens"] for r in records)
    assert {(r["negative"], r["scale"]) for r in records} == {("x", 1.5)}
    assert all(0 <= r["tokens"] <= 6 for r in records)
    assert len({r["completion"] for r in records}) > 1


def test_several_completions_stand_below_what_tells_them_apart(run, model):
    code, out, _ = run(model, "--prompt", "a [red] dog", "--prompt", "b", "--num-samples", 2, *FEW)
    assert code == 0
    assert "prompt 1: a [red] dog · sample 2" in out
    assert "prompt 2: b · sample 1" in out


def test_prompts_of_a_batch_are_completed_as_they_are_alone(run, model):
    prompts = ["a", "longer prompt", "mid"]
    options = [option for prompt in prompts for option in ("--prompt", prompt)]
    together = completions(run, model, *options, "--greedy", *FEW)
    assert together == [completions(run, model, "--prompt", p, "--greedy", *FEW)[0] for p in prompts]


@pytest.mark.parametrize(("columns", "table"), [(120, True), (60, False)])
def test_scales_are_compared_side_by_side_where_there_is_room(run, model, monkeypatch, columns, table):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, err = run(model, "--prompt", "a dog", "--prompt", "b", "--compare", "1,1.5,2,3", *FEW)
    assert (code, err) == (0, "")
    assert ("┃ γ = 1.5" in out) == table
    assert ("prompt 1: a dog · γ = 1.5" in out) != table
    lines = [line for line in out.splitlines() if line.startswith("│")]
    assert not table or len(lines[0].split("│")) == 6


def test_scales_that_are_given_twice_are_compared_once(run, model):
    _, out, _ = run(model, "--prompt", "a", "--compare", "2,1,2.0", *FEW, "--json")
    assert [record["scale"] for record in json.loads(out)] == [2, 1]


def test_compared_scales_draw_from_the_same_seed(run, model):
    _, out, _ = run(model, "--prompt", "a", "--prompt", "b", "--compare", "0.5,2", *FEW, "--json")
    records = json.loads(out)
    assert [(r["prompt"], r["scale"]) for r in records] == [("a", 0.5), ("a", 2.0), ("b", 0.5), ("b", 2.0)]
    for scale in (0.5, 2.0):
        alone = completions(run, model, "--prompt", "a", "--prompt", "b", "--scale", scale, *FEW)
        assert [r["completion"] for r in records if r["scale"] == scale] == alone


def test_streaming_prints_the_same_text(run, model):
    plain = run(model, "--prompt", "a dog", *FEW)
    streamed = run(model, "--prompt", "a dog", *FEW, "--stream")
    assert streamed[0] == 0
    assert streamed[1].strip() == plain[1].strip()


@pytest.mark.parametrize(
    "options",
    [("--json",), ("--compare", "1,2"), ("--num-samples", 2), ("--prompt", "b")],
)
def test_streaming_is_for_one_completion(fails, model, options):
    assert "--stream prints one completion" in fails(model, "--prompt", "a", "--stream", *options)


def test_text_after_the_prompt_keeps_the_space_it_starts_with(run, data):
    first = completions(run, data / "stories260K", "--prompt", "Lily had", "--greedy", *FEW)[0]
    assert first.startswith(" ")


# templates, empty texts


def test_the_chat_template_is_used_unless_told_otherwise(run, chatty):
    words = AutoTokenizer.from_pretrained(chatty)
    rendered = words("<s>[user] hi ->", add_special_tokens=False).input_ids
    away = words("<s>[user] no ->", add_special_tokens=False).input_ids
    arguments = (chatty, "--prompt", "hi", "--greedy", *FEW)
    assert rendered[:2].count(1) == 1
    assert completions(run, *arguments) == [directly(chatty, rendered)]
    assert completions(run, *arguments, "--negative", "no") == [directly(chatty, rendered, negative=away)]
    assert completions(run, *arguments, "--no-chat") == [directly(chatty, words("hi").input_ids)]


def test_a_template_that_refuses_is_one_line(fails, tmp_path):
    folder = save(tmp_path / "strict", chat="{{ raise_exception('no users here') }}")
    assert "no users here" in fails(folder, "--prompt", "hi")


def test_an_empty_text_is_the_beginning_of_text_alone(run, model):
    ids = AutoTokenizer.from_pretrained(model)("a dog").input_ids
    assert completions(run, model, "--prompt", "a dog", "--negative", "", "--greedy", *FEW) == [
        directly(model, ids, negative=[1])
    ]
    assert completions(run, model, "--prompt", "", "--greedy", *FEW) == [directly(model, [1])]
    assert completions(run, model, "--prompt", "<s>a dog", "--greedy", *FEW) == [directly(model, ids)]


def test_an_empty_text_without_such_a_token_is_one_line(run, fails, mute):
    assert "the negative is empty" in fails(mute, "--prompt", "a", "--negative", "")
    assert "the prompt 2 is empty" in fails(mute, "--prompt", "a", "--prompt", "", *FEW)
    assert run(mute, "--prompt", "a", *FEW)[0] == 0


def test_a_second_model_reads_the_unconditional_branch(run, fails, model, tmp_path):
    other = save(tmp_path / "other", seed=1)
    ids = AutoTokenizer.from_pretrained(model)("a dog").input_ids
    expected = directly(model, ids, negative_model=AutoModelForCausalLM.from_pretrained(other))
    arguments = (model, "--prompt", "a dog", "--greedy", *FEW)
    assert completions(run, *arguments, "--negative-model", other) == [expected]
    backwards = save(tmp_path / "backwards", reverse=True)
    assert "number their tokens differently" in fails(*arguments, "--negative-model", backwards)


def test_encoder_decoders_generate_too(run, tmp_path, fails):
    sizes = {"vocab_size": 259, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0, eos_token_id=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    tokenizer(bos=False).save_pretrained(tmp_path / "t5")
    records = completions(run, tmp_path / "t5", "--prompt", "a dog", "--prompt", "b", "--negative", "bad", *FEW)
    assert len(records) == 2


# errors


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--prompt", "a", "--temperature", 0), "--temperature"),
        (("--prompt", "a", "--top-p", 0), "--top-p"),
        (("--prompt", "a", "--top-k", -1), "top"),
        (("--prompt", "a", "--plausibility", 2), "--plausibility"),
        (("--prompt", "a", "--greedy", "--num-samples", 2), "--greedy"),
        (("--prompt", "a", "--num-samples", 0), "num"),
        (("--prompt", "a", "--max-new-tokens", 0), "max"),
        (("--prompt", "a", "--scale", "nan"), "finite"),
        (("--prompt", "a", "--compare", "1,x"), "finite numbers"),
        (("--prompt", "a", "--compare", ""), "finite numbers"),
        (("--prompt", "\udcff"), "the prompt is not text in UTF-8"),
        (("--prompt", "a", "--negative", "\udcff"), "the negative is not text in UTF-8"),
        (("--prompt", "a", "--dtype", "int8"), "--dtype"),
        (("--prompt", "a", "--device", "nowhere"), "no device"),
        (("--prompt", "a", "--device", "cuda:99"), "no device"),
        (("--prompt", "a", "--prompts", "a.txt", "--out", "b.parquet"), "either --prompt"),
        ((), "either --prompt"),
        (("--prompts", "a.txt"), "go together"),
        (("--prompt", "a", "--out", "b.parquet"), "go together"),
        (("--prompts", "a.txt", "--out", "b.parquet", "--compare", "1,2"), "--compare"),
        (("--prompts", "none.txt", "--out", "b.parquet"), "no file"),
        (("--prompt", "a" * 40), "the prompt has 41 tokens; with 64 new ones they exceed the model's context of 48"),
        (("--prompt", "a", "--negative", "b" * 45, *FEW), "the negative has 46 tokens"),
        (("--prompt", "a", "--prompt", "b" * 45, *FEW), "the prompt 2 has 46 tokens"),
    ],
)
def test_bad_options_are_one_line(fails, model, options, says):
    assert says in fails(model, *options)


def broken(model, folder, name):
    """Return a copy of a model that cannot be loaded."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    if name in ("own code", "unknown"):
        own = {"auto_map": {"AutoConfig": "a.B", "AutoModelForCausalLM": "a.C"}} if name == "own code" else {}
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "weird"} | own))
    elif name == "other task":
        (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    elif name == "own tokens":
        given = json.loads((folder / "tokenizer_config.json").read_text())
        given |= {"tokenizer_class": "Weird", "auto_map": {"AutoTokenizer": ["a.T", None]}}
        (folder / "tokenizer_config.json").write_text(json.dumps(given))
    elif name == "no tokenizer":
        for path in folder.glob("tokenizer*"):
            path.unlink()
    elif name == "no config":
        (folder / "config.json").unlink()
    elif name == "bad config":
        (folder / "config.json").write_text("{")
    elif name == "pickled":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif name == "cut":
        (folder / "model.safetensors").write_bytes(b"12345678901234")
    elif name == "fewer":
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    elif name == "misshapen":
        (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 20}))
    return folder


@pytest.mark.parametrize(
    ("name", "says"),
    {
        "own code": "needs code of its own",
        "own tokens": "needs code of its own",
        "unknown": "knows no model of type 'weird'",
        "other task": "does not generate text",
        "no tokenizer": "no tokenizer",
        "no config": "config.json is needed",
        "bad config": "config.json",
        "pickled": "no weights in safetensors",
        "cut": "the weights cannot be read",
        "fewer": "missing or misshapen",
        "misshapen": "weights",
    }.items(),
)
def test_a_model_that_cannot_be_loaded_is_one_line(fails, model, tmp_path, name, says):
    err = fails(broken(model, tmp_path / "model", name), "--prompt", "a")
    assert says in err
    assert "model" in err


@pytest.mark.parametrize(
    ("name", "says"), [("no/such", "the hub cannot be reached"), ("./none", "neither a folder"), ("a/b/c", "neither a folder")]
)
def test_a_model_that_is_nowhere_is_one_line(fails, name, says):
    assert says in fails(name, "--prompt", "a")


# files of prompts

PROMPTS = ["one", "two and more", "NA", "four", "5", "2020-01-01", "seven, with a comma"]
NEGATIVES = ["bad", None, "worse", None, "", "x", None]
SCALES = [1.0, 2.0, None, 0.0, 3.0, None, 1.5]


def write_prompts(folder, kind, columns=True):
    frame = pd.DataFrame({"prompt": PROMPTS})
    path = folder / f"prompts.{kind}"
    if columns:
        frame = frame.assign(negative=NEGATIVES, scale=SCALES, kept=range(7))
    if kind == "txt":
        path.write_text("\n".join(PROMPTS[:3]) + "\n\n" + "\n".join(PROMPTS[3:]) + "\n")
    elif kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "jsonl":
        path.write_text(
            "".join(json.dumps(row) + "\n" for row in frame.astype(object).where(frame.notna(), None).to_dict("records"))
        )
    else:
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_rows_of_a_file_have_their_own_scale_and_negative(run, model, tmp_path, kind):
    source, out = write_prompts(tmp_path, kind), tmp_path / "out.parquet"
    code, text, err = run(model, "--prompts", source, "--out", out, "--greedy", *FEW, "--batch-size", 3, "--scale", 2.5)
    assert code == 0
    assert "7 completions are in" in text
    assert "100%" in err
    frame = pd.read_parquet(out)
    assert list(frame) == ["index", "sample", "prompt", "negative", "kept", "scale", "completion", "tokens"]
    assert frame["prompt"].tolist() == PROMPTS
    assert frame["kept"].tolist() == list(range(7))
    assert frame["scale"].tolist() == [2.5 if scale is None else scale for scale in SCALES]
    for row, (prompt, negative, scale) in enumerate(zip(PROMPTS, NEGATIVES, frame["scale"], strict=True)):
        empty = kind == "csv" and negative == ""  # an empty cell is no negative
        given = [] if negative is None or empty else ["--negative", negative]
        alone = completions(run, model, "--prompt", prompt, "--scale", scale, "--greedy", *FEW, *given)
        assert frame["completion"][row] == alone[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, "out.parquet"])


def test_a_text_file_has_a_prompt_a_line_and_every_sample_a_row(run, model, tmp_path):
    source, out = write_prompts(tmp_path, "txt"), tmp_path / "out.parquet"
    code, text, _ = run(model, "--prompts", source, "--out", out, *FEW, "--num-samples", 2, "--json")
    frame = pd.read_parquet(out)
    assert (code, json.loads(text)) == (0, {"out": str(out), "completions": 14})
    assert list(frame) == ["index", "sample", "prompt", "scale", "completion", "tokens"]
    assert frame["index"].tolist() == [i for i in range(7) for _ in range(2)]
    assert frame["sample"].tolist() == [0, 1] * 7
    assert frame["prompt"].tolist() == [prompt for prompt in PROMPTS for _ in range(2)]


def arguments(model, folder, *more):
    return (model, "--prompts", folder / "prompts.csv", "--out", folder / "out.parquet", *FEW, "--batch-size", 2, *more)


@pytest.fixture
def interrupted(run, model, tmp_path, monkeypatch):
    """A run that was interrupted in its second batch; the folder and what it should have come to."""
    source = write_prompts(tmp_path, "csv")
    assert run(*arguments(model, tmp_path), "--num-samples", 2)[0] == 0
    whole = pd.read_parquet(tmp_path / "out.parquet")
    (tmp_path / "out.parquet").unlink()

    def stop(*given, complete=batch_jobs.complete):
        if given[3] == 1:
            raise KeyboardInterrupt
        return complete(*given)

    with monkeypatch.context() as patch:
        patch.setattr(batch_jobs, "complete", stop)
        code, _, err = run(*arguments(model, tmp_path), "--num-samples", 2)
    assert code == 130
    assert "interrupted" in err
    assert sorted(p.name for p in (tmp_path / ".out.parquet.parts").iterdir()) == ["00000000.parquet", "run.json"]
    assert not (tmp_path / "out.parquet").exists()
    return source, whole


def test_an_interrupted_run_is_picked_up_and_comes_to_the_same(run, model, tmp_path, interrupted, monkeypatch):
    done = []

    def note(*given, complete=batch_jobs.complete):
        done.append(given[3])
        return complete(*given)

    monkeypatch.setattr(batch_jobs, "complete", note)
    assert run(*arguments(model, tmp_path), "--num-samples", 2)[0] == 0
    assert done == [1, 2, 3]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), interrupted[1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.parquet", "prompts.csv"]


def test_an_interrupted_run_is_not_gone_on_with_differently(run, fails, model, tmp_path, interrupted):
    same = (*arguments(model, tmp_path), "--num-samples", 2)
    err = fails(*same, "--temperature", 0.5, "--seed", 1)
    assert "temperature 1.0 → 0.5" in err
    assert "seed 0 → 1" in err
    assert "--fresh" in err
    assert "model" in fails(save(tmp_path / "other", seed=1), *same[1:])
    interrupted[0].write_text(interrupted[0].read_text().replace("one", "1ne"))
    assert "content of the prompts" in fails(*same)
    assert run(*same, "--fresh")[0] == 0
    assert pd.read_parquet(tmp_path / "out.parquet")["prompt"][0] == "1ne"


@pytest.mark.parametrize("record", [None, "{"])
def test_parts_without_a_record_are_done_again(run, model, tmp_path, interrupted, record):
    """They may be of any settings."""
    parts = tmp_path / ".out.parquet.parts"
    (parts / "run.json").unlink()
    if record is not None:
        (parts / "run.json").write_text(record)
    other = (*arguments(model, tmp_path), "--greedy")
    assert run(*other)[0] == 0
    found = pd.read_parquet(tmp_path / "out.parquet")
    assert run(*other, "--fresh")[0] == 0
    pd.testing.assert_frame_equal(found, pd.read_parquet(tmp_path / "out.parquet"))


def test_parts_that_cannot_be_deleted_are_told(fails, model, tmp_path, interrupted, monkeypatch):
    def refuse(path, ignore_errors=False, **_):
        if not ignore_errors:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    assert "Permission denied" in fails(*arguments(model, tmp_path), "--temperature", 0.5, "--fresh")


def test_a_model_retrained_in_its_place_is_another(run, fails, tmp_path, monkeypatch):
    folder = save(tmp_path / "mine")
    write_prompts(tmp_path, "csv")
    with monkeypatch.context() as patch:
        patch.setattr(batch_jobs.Run, "merge", lambda self: 0)
        assert run(*arguments(folder, tmp_path))[0] == 0
    save(folder, seed=1)
    assert "model" in fails(*arguments(folder, tmp_path))


def test_an_output_is_overwritten_only_when_told(run, fails, model, tmp_path):
    write_prompts(tmp_path, "csv")
    assert run(*arguments(model, tmp_path))[0] == 0
    before = (tmp_path / "out.parquet").read_bytes()
    assert "nothing was overwritten" in fails(*arguments(model, tmp_path), "--seed", 1)
    assert (tmp_path / "out.parquet").read_bytes() == before
    assert run(*arguments(model, tmp_path), "--seed", 1, "--fresh")[0] == 0
    assert (tmp_path / "out.parquet").read_bytes() != before
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 7


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.xml", "a", "must end in .txt, .csv, .parquet, .jsonl"),
        ("p.txt", "\n \n", "no prompts"),
        ("p.csv", "", "not a readable .csv"),
        ("p.csv", "text\na\n", "no column 'prompt'"),
        ("p.csv", "prompt,tokens\na,1\n", "'tokens'"),
        ("p.csv", "prompt,scale\na,x\n", "row 1 has the scale 'x'"),
        ("p.csv", "prompt,scale\na,1\nb,inf\n", "row 2 has the scale inf"),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": 2}\n', "row 2 has no text in the column 'prompt'"),
        ("p.jsonl", '{"prompt": "a", "negative": 3}\n', "no text in the column 'negative'"),
        ("p.jsonl", '{"prompt": "a"\n', "not a readable .jsonl"),
        ("p.jsonl", "[1]\n", "every row must be an object"),
        ("p.jsonl", '{"prompt": "a", "m": 1}\n{"prompt": "a", "m": "x"}\n', "cannot be written to parquet"),
        ("p.parquet", "PAR1", "not a readable .parquet"),
        ("p.txt", "a\n" + "b" * 60, "the prompt 2 has 61 tokens"),
    ],
)
def test_a_bad_file_of_prompts_is_one_line_and_leaves_nothing(fails, model, tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    assert says in fails(model, "--prompts", tmp_path / name, "--out", tmp_path / "out.parquet", *FEW)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_output_that_cannot_be_written_is_one_line(fails, model, tmp_path):
    source = write_prompts(tmp_path, "txt")
    assert "cannot write" in fails(model, "--prompts", source, "--out", tmp_path / "none/out.parquet", *FEW)
    assert "end in .parquet" in fails(model, "--prompts", source, "--out", tmp_path / "out.csv", *FEW)


# other processes


def environment():
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def test_a_killed_run_is_picked_up(run, model, tmp_path):
    write_prompts(tmp_path, "csv")
    (tmp_path / "prompts.csv").write_text("prompt\n" + "".join(f"prompt {i}\n" for i in range(120)))
    command = [sys.executable, "-m", "analysis.cli", "generate", *map(str, arguments(model, tmp_path))]
    child = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts, limit = tmp_path / ".out.parquet.parts", time.monotonic() + 120
    while not list(parts.glob("0*.parquet")) and time.monotonic() < limit and child.poll() is None:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    finished = len(list(parts.glob("0*.parquet")))
    assert 0 < finished < 60
    assert run(*arguments(model, tmp_path))[0] == 0
    resumed = pd.read_parquet(tmp_path / "out.parquet")
    assert run(*arguments(model, tmp_path), "--fresh")[0] == 0
    pd.testing.assert_frame_equal(resumed, pd.read_parquet(tmp_path / "out.parquet"))
    assert resumed["index"].tolist() == list(range(120))


def torchrun(*arguments):
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "analysis.cli"]
    return subprocess.run(
        [*start, "generate", *map(str, arguments)], env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


def test_two_processes_share_the_batches(run, model, tmp_path):
    pytest.importorskip("accelerate")
    write_prompts(tmp_path, "csv")
    assert run(*arguments(model, tmp_path))[0] == 0
    alone = pd.read_parquet(tmp_path / "out.parquet")
    (tmp_path / "out.parquet").unlink()
    done = torchrun(*arguments(model, tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"7 completions are in {tmp_path / 'out.parquet'}"]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), alone)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.parquet", "prompts.csv"]


@pytest.mark.parametrize("rank", [0, 1])
def test_what_fails_in_one_process_fails_in_all_and_the_first_says_why(monkeypatch, rank):
    pytest.importorskip("accelerate")
    monkeypatch.setattr("accelerate.utils.gather_object", lambda mine: [*mine, "the other failed"])
    monkeypatch.setattr(distributed, "PAUSE", 0)
    team = distributed.Team(rank, 2, torch.device("cpu"), state=object())
    with pytest.raises(SystemExit if rank else ValueError, match="2" if rank else "the other failed"):
        team.together(lambda: "mine is fine")
    monkeypatch.setattr("accelerate.utils.gather_object", lambda mine: [*mine, None])
    assert team.together(lambda: "mine is fine") == "mine is fine"


def test_several_processes_without_accelerate_are_told_what_to_install(fails, model, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert "arguide[distributed]" in fails(model, "--prompt", "a")


def test_batches_are_shared_without_gap_or_overlap(tmp_path):
    run = batch_jobs.Run(tmp_path / "out.parquet", pd.DataFrame({"prompt": PROMPTS}), 2, {})
    shares = [run.share(distributed.Team(rank, 3, torch.device("cpu"))) for rank in range(3)]
    assert sorted(batch for share in shares for batch in share) == [0, 1, 2, 3]
    assert sorted(row for batch in run.batches for row in run.rows(batch)) == list(range(7))


def test_a_real_model_goes_on_with_a_story(run, data):
    code, out, err = run(data / "stories260K", "--prompt", "Once upon", "--negative", "", "--scale", 2, "--max-new-tokens", 20)
    assert (code, err) == (0, "")
    assert len(out.split()) > 5


JOINT = ("--joint", "--particles", 8, "--repeats", 2, *FEW)


def test_the_joint_law_comes_with_its_verdict(run, model):
    code, out, err = run(model, "--prompt", "ab", "--negative", "c", "--num-samples", 2, "--json", *JOINT)
    records = json.loads(out)
    assert code == 0
    assert [record["sample"] for record in records] == [0, 1]
    assert {"log_evidence", "std_error", "consistent", "verdict"} <= set(records[0])
    assert records[0]["consistent"] is records[0]["verdict"].startswith("no disagreement found")
    assert err.strip() == f"arguide: {records[0]['verdict']}"


def test_the_joint_law_is_drawn_from_the_seed(run, model):
    seeds = [run(model, "--prompt", "ab", "--seed", seed, "--json", *JOINT)[1] for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_verdicts_say_of_what_they_are(run, model):
    _, out, err = run(model, "--prompt", "ab", "--compare", "1,2", *JOINT)
    assert "γ = 2" in out
    assert [line.split(": ")[1] for line in err.splitlines()] == ["γ = 1", "γ = 2"]


@pytest.mark.parametrize("column", ["log_evidence", "std_error", "consistent", "verdict"])
def test_a_column_that_tells_of_the_joint_law_is_its_own(run, fails, model, tmp_path, column):
    (tmp_path / "in.csv").write_text(f"prompt,{column}\nab,1\n")
    given = (model, "--prompts", tmp_path / "in.csv", "--out", tmp_path / "out.parquet", *FEW)
    assert f"the output has a column '{column}' of its own" in fails(*given, "--joint")
    assert run(*given)[0] == 0


def test_a_power_is_a_joint_law_of_its_own(run, model):
    records = [
        json.loads(run(model, "--prompt", "ab", "--scale", 1, "--power", power, "--json", *JOINT[1:], *extra)[1])
        for power, extra in ((2, ()), (1, ("--joint",)))
    ]
    assert records[0][0]["log_evidence"] < -0.1
    assert records[1][0]["log_evidence"] == pytest.approx(0, abs=1e-4)


def test_a_file_of_prompts_under_the_joint_law(run, model, tmp_path):
    (tmp_path / "in.txt").write_text("ab\ncd\nef\n")
    code, *_ = run(model, "--prompts", tmp_path / "in.txt", "--out", tmp_path / "out.parquet", "--batch-size", 2, *JOINT)
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert code == 0
    assert list(frame.columns)[-4:] == ["log_evidence", "std_error", "consistent", "verdict"]
    assert frame["prompt"].tolist() == ["ab", "cd", "ef"]
    assert frame["log_evidence"].nunique() == 3


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--power in the place of --temperature", ("--temperature", 0.5)),
        ("--power in the place of --temperature", ("--greedy",)),
        ("two --particles", ("--particles", 1)),
        ("--power must be positive", ("--power", 0)),
        ("--cap must be", ("--cap", "stop")),
        ("--stream prints", ("--stream",)),
    ],
)
def test_options_that_are_not_of_the_joint_law_are_refused(fails, model, words, options):
    assert words in fails(model, "--prompt", "ab", *JOINT, *options)
