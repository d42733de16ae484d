"""README and documentation: every example runs as it is printed, in an empty folder, and links between files lead somewhere."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tiny import save

ROOT = Path(__file__).parents[1]
DOCS, DATA = ROOT / "docs", ROOT.parent / "shared" / "data"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if page.parent in (DOCS, DOCS / "guides"))]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r"^```(python|sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
# The names of models in the pages; here a folder of that name holds a tiny one.
MODELS = {"openai-community/gpt2": None, "Qwen/Qwen2.5-0.5B-Instruct": CHAT, "HuggingFaceTB/SmolLM2-135M-Instruct": CHAT}
REAL = "stories260K"  # printed output is of this model; a tiny one takes its place where it is absent
INSTALLS = re.compile(r"^(pip|make) .*\n", re.MULTILINE)
LONG = {"lm_eval"}  # its Python examples take half a minute


def blocks(page):
    """Return (language, code, the output that is printed below or None) of the examples of a page."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    outputs = [code if kind == "text" else None for kind, code in (*found, ("", ""))][1:]
    return [(*example, output) for example, output in zip(found, outputs, strict=True) if example[0] != "text"]


def with_examples(*kinds):
    return [page for page in PAGES if any(kind in kinds for kind, _, _ in blocks(page))]


def run(examples, languages):
    """Run the examples in these languages, in this folder; Python shares one namespace."""
    namespace = {}
    for language, code, output in examples:
        if language == "python" and language in languages:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(code, "<example>", "exec"), namespace)
            assert output is None or printed.getvalue() == output
        elif language in languages:
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            command = ["bash", "-euo", "pipefail", "-c", INSTALLS.sub("", code)]
            done = subprocess.run(command, env=os.environ | {"PATH": path}, capture_output=True, text=True)
            assert done.returncode == 0, f"{code}\n{done.stderr}"
            assert output is None or done.stdout == output or (REAL in code and not Path(REAL).is_symlink())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: empty but for the models."""
    for seed, (name, chat) in enumerate(MODELS.items()):
        save(tmp_path / name, seed, chat, context=256)
    if (DATA / REAL).exists():
        (tmp_path / REAL).symlink_to(DATA / REAL)
    else:
        save(tmp_path / REAL, context=256)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def named(pages):
    return [pytest.param(page, id=page.stem, marks=pytest.mark.slow if page.stem in LONG else ()) for page in pages]


@pytest.mark.parametrize("page", named(with_examples("python")))
@pytest.mark.usefixtures("folder")
def test_python_examples_run_as_printed(page):
    run(blocks(page), {"python"})


@pytest.mark.slow
@pytest.mark.parametrize("page", with_examples("sh"), ids=lambda page: page.stem)
@pytest.mark.usefixtures("folder")
def test_commands_run_as_printed(page):
    if page.stem == "clusters":
        pytest.importorskip("ray")
    run(blocks(page), {"python", "sh"})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
@pytest.mark.slow
def test_scripts_run(script, folder):
    done = subprocess.run([sys.executable, script], cwd=folder, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 3


@pytest.mark.slow
def test_the_file_of_prompts_is_read(folder):
    frame = pd.read_csv(ROOT / "examples" / "prompts.csv", keep_default_na=False)
    assert list(frame) == ["prompt", "negative", "scale"]
    run(
        [("sh", f"arguide generate {REAL} --prompts {ROOT}/examples/prompts.csv --out texts.parquet --max-new-tokens 4", None)],
        {"sh"},
    )
    assert pd.read_parquet(folder / "texts.parquet")["prompt"].tolist() == frame["prompt"].tolist()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize(
    "example", [("sh", "false\ntrue", None), ("sh", "echo 1", "2\n"), ("python", "print(1)", "2\n"), ("python", "1 / 0", None)]
)
def test_a_wrong_example_fails(example):
    with pytest.raises((AssertionError, ZeroDivisionError)):
        run([example], {"python", "sh"})


def test_every_guide_has_examples():
    assert {page for page in PAGES if page.parent.name == "guides"} <= set(with_examples("python", "sh"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_to_files_lead_somewhere(page):
    generated = ("api/", "pictures/", "notebooks/", "explore/")  # by the build of the site
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link and not link.removeprefix("../").startswith(generated)]
    assert [link for link in local if not (page.parent / link).exists()] == []
