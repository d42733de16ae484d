"""Run the command line in a test; the COMMAND of a module comes before every argument."""

import sys

import pytest
import transformers
from tiny import save

from analysis import cli


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Return the folder of a tiny model, which no test may change."""
    return save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def run(request, monkeypatch, capsys):
    """Return a function from arguments to exit code, stdout and stderr of the command."""
    logging = transformers.logging
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    command = getattr(request.module, "COMMAND", ())

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["arguide", *command, *map(str, arguments)])
        capsys.readouterr()  # what the test itself has printed
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr()
        return stop.value.code, out.out, out.err

    yield run
    logging.set_verbosity(verbosity)
    if bar:
        logging.enable_progress_bar()


@pytest.fixture
def fails(run):
    """Run a command that must fail in one line, and return the line."""

    def fails(*arguments):
        code, out, err = run(*arguments)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert err.startswith("arguide: ")
        return err

    return fails
