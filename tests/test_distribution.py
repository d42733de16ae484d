"""The wheel and the sdist have all files of the packages, install, and run without the repository."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("arguide", "diffusion", "analysis")
BUILD = "from hatchling import build; build.build_{kind}({folder!r})"

pytestmark = pytest.mark.slow


def run(*command, **options):
    """Run a command that does not see the repository; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment, **options)
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout


def virtual(folder):
    """Return the programs of a new environment in a folder."""
    run(sys.executable, "-m", "venv", folder)
    return folder / ("Scripts" if os.name == "nt" else "bin")


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    """The Python of an environment that has the build backend alone."""
    programs = virtual(tmp_path_factory.mktemp("backend"))
    try:
        run(programs / "python", "-m", "pip", "install", "--quiet", "--retries", "0", "--timeout", "20", "hatchling>=1.26")
    except AssertionError as error:
        pytest.skip(f"the build backend cannot be installed, perhaps without a network: {str(error)[-200:]}")
    return programs / "python"


@pytest.fixture(scope="module")
def built(backend, tmp_path_factory):
    """The sdist of the repository, and the wheel that is built from the unpacked sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(backend, "-c", BUILD.format(kind="sdist", folder=str(folder)), cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    run(backend, "-c", BUILD.format(kind="wheel", folder=str(folder)), cwd=unpacked)
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The programs of an environment that has the wheel, and all else from the running one."""
    folder = tmp_path_factory.mktemp("user")
    programs = virtual(folder)
    own = Path(run(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    rest = sysconfig.get_path("purelib")
    (own / "rest.pth").write_text(f"import site; site.addsitedir({rest!r})\n", encoding="utf-8")
    run(programs / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", built[1])
    return programs


def names_of(archive):
    """Return the names of the files in a wheel, or in an sdist without its folder."""
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as opened:
        return {name.partition("/")[2] for name in opened.getnames()}


def test_both_have_every_file_of_the_packages(built):
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    wanted = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    assert {"arguide/py.typed", "arguide/__init__.pyi", "diffusion/__init__.pyi", "analysis/__init__.pyi"} <= wanted
    for archive in built:
        assert wanted - names_of(archive) == set()


def test_the_page_to_play_with_is_in_both(built):
    pages = [path for path in (ROOT / "docs" / "explore").glob("*") if path.is_file()]
    if not pages:
        pytest.skip("there is no page to play with")
    for archive in built:
        assert any(name.endswith(("docs/explore/index.html", "analysis/explore_page/index.html")) for name in names_of(archive))


def test_the_wheel_has_nothing_else(built):
    other = {name for name in names_of(built[1]) if not name.startswith(PACKAGES)}
    assert other == set()
    assert not any("__pycache__" in name for archive in built for name in names_of(archive))


def test_the_command_is_that_of_the_wheel(installed, tmp_path):
    code = "import arguide, diffusion, analysis; print(arguide.__file__, diffusion.__file__, analysis.__file__)"
    for file in run(installed / "python", "-c", code, cwd=tmp_path).split():
        assert Path(file).is_relative_to(installed.parent)
    version = run(installed / "python", "-c", "import arguide; print(arguide.__version__)", cwd=tmp_path)
    for start in ((installed / "arguide",), (installed / "python", "-m", "arguide")):
        assert run(*start, "--version", cwd=tmp_path) == f"arguide {version}"
        assert "reproduce" in run(*start, "--help", cwd=tmp_path)


def test_exact_runs_without_the_repository(installed, tmp_path):
    np.save(tmp_path / "table.npy", np.array([[[0.2, 0.1], [0.1, 0.1]], [[0.05, 0.1], [0.1, 0.25]]]))
    given = ("exact", "table.npy", "--label", "1", "--scale", "3", "--out", "laws.parquet")
    found = json.loads(run(installed / "arguide", *given, "--json", cwd=tmp_path))
    assert found["kl_sequential_joint"] > 0
    assert (tmp_path / "laws.parquet").is_file()


def test_the_whole_argument_runs_without_the_repository(installed, tmp_path):
    run(installed / "arguide", "reproduce", "--quick", "--out", "report", cwd=tmp_path)
    report = tmp_path / "report"
    assert "<svg" in (report / "report.html").read_text(encoding="utf-8") or any((report / "figures").iterdir())
    assert (report / "results.parquet").is_file()
    record = json.loads((report / "run.json").read_text(encoding="utf-8"))
    assert record["config"]["quick"] is True
