"""Models that cannot be loaded are refused in one line."""

import json
import shutil

import pytest

COMMAND = ("generate",)


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
    elif name == "own model code":
        (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "own.Own"}}))
        (folder / "own.py").write_text("raise ValueError('the code was executed')")
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
def test_a_broken_model_is_one_line(fails, model, tmp_path, name, says):
    err = fails(broken(model, tmp_path / "model", name), "--prompt", "a")
    assert says in err
    assert "model" in err


def test_own_code_of_a_known_model_is_not_executed(run, model, tmp_path):
    given = ("--prompt", "a", "--max-new-tokens", 4)
    assert run(broken(model, tmp_path / "model", "own model code"), *given) == run(model, *given)


@pytest.mark.parametrize(
    ("name", "says"),
    [("no/such", "the hub cannot be reached"), ("./none", "neither a local folder"), ("a/b/c", "neither a local folder")],
)
def test_a_missing_model_is_one_line(fails, name, says):
    assert says in fails(name, "--prompt", "a")
