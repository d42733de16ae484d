# Two commands do everything on a machine with Python 3.11 or newer and make:
#
#   make reproduce    the whole argument, and where its report is
#   make test         lint, types, import contracts and tests
#
# Settings: PYTHON=python3.12, OUT=report, TEXT=names.parquet, ARGS="--quick --seed 1", JOBS=2.

PYTHON ?= python3
OUT ?= report
TEXT ?=
ARGS ?=
JOBS ?= 2

BIN := .venv/bin
# Progress for people, silence for logs.
INSTALL = $(BIN)/python -m pip install $$([ -t 2 ] || echo --quiet) -c constraints.txt
NEWER = -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null

# Tests share the cores among themselves; benchmarks count the time of one thread.
test benchmark: export OMP_NUM_THREADS := 1

.PHONY: help reproduce test benchmark clean
.DELETE_ON_ERROR:

help:
	@echo "make reproduce   run every experiment into $(OUT)/ and say where the report is (TEXT=file, ARGS=--quick, OUT=dir)"
	@echo "make test        lint, types, import contracts and tests (JOBS=$(JOBS))"
	@echo "make benchmark   measure against peers and print a table of ratios (ARGS='--rounds 5')"
	@echo "make clean       remove .venv, caches and builds; reports stay"
	@echo "All of them make .venv with $(PYTHON) (PYTHON=...) and install into it when needed."

reproduce: .venv/installed
	@$(BIN)/arguide reproduce --out "$(OUT)" $(if $(TEXT),--text "$(TEXT)") $(ARGS)
	@echo "The report is $(abspath $(OUT))/report.html"

test: .venv/installed-dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	HF_HUB_OFFLINE=1 MPLBACKEND=agg $(BIN)/python -m pytest -n $(JOBS)

benchmark: .venv/installed-dev
	@$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find arguide diffusion analysis tests benchmarks notebooks -name __pycache__ -prune -exec rm -rf {} +

# pip, the last thing that venv installs, stands for a finished .venv.
.venv/bin/pip:
	$(if $(shell $(PYTHON) $(NEWER) && echo yes),,$(error arguide needs Python 3.11 or newer, and $(PYTHON) is $(or $(shell $(PYTHON) -V 2>&1 | grep ^Python),not found); name another: make PYTHON=python3.12))
	@$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/pip
	$(if $(shell $(BIN)/python $(NEWER) && echo yes),,$(error .venv has no Python of 3.11 or newer; remove it with: make clean))
	@echo "Installing arguide into .venv; the first time takes minutes"
	@$(INSTALL) -e .
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/pip
	$(if $(shell $(BIN)/python $(NEWER) && echo yes),,$(error .venv has no Python of 3.11 or newer; remove it with: make clean))
	@echo "Installing arguide and what its tests need into .venv; the first time takes minutes"
	@$(INSTALL) -e '.[dev]'
	@touch .venv/installed $@
