# Two commands do everything on a machine with Python 3.11 or newer and make:
#
#   make reproduce    the whole argument, and where its report is
#   make test         lint, types, import contracts and tests
#
# A third, make test-slow, takes most of an hour: long commands, faults, and other releases of what arguide rides on.
# A fourth, make docs, builds the documentation site in about a minute, without network.
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
test lint units test-slow test-transformers test-oldest test-newest audit benchmark benchmark-gpu notebooks docs: export OMP_NUM_THREADS := 1

# Releases that are tested in environments of their own, which hold what differs from .venv and take the rest from there. The newest
# of transformers is in .venv itself.
TRANSFORMERS = 5.5.0 5.10.4 5.12.1 5.15.1 5.20.2
OLDEST = diffusers==0.35.2 datasets==4.0.0 lm-eval==0.4.10
RELEASES := .venv/releases
PYTEST = HF_HUB_OFFLINE=1 MPLBACKEND=agg $(1)/bin/python -m pytest -n $(JOBS) --dist worksteal
TEXT_TESTS := tests/arguide/generation tests/analysis/cli/test_generate.py
OLDEST_TESTS := tests/diffusion/test_diffusers_bridge.py tests/arguide/generation/test_evaluation.py tests/analysis/learning/test_datasets.py \
	tests/analysis/toys/test_from_files.py

.PHONY: help reproduce test lint units test-slow test-transformers test-oldest test-newest audit benchmark benchmark-gpu notebooks docs clean
.DELETE_ON_ERROR:

help:
	@echo "make reproduce   run every experiment into $(OUT)/ and say where the report is (TEXT=file, ARGS=--quick, OUT=dir)"
	@echo "make test        lint, types, import contracts and tests (JOBS=$(JOBS))"
	@echo "make test-slow   long commands, faults, and the releases of transformers and others that arguide supports"
	@echo "make audit       change the code, five places per module, and list what no test notices (ARGS='--modules arguide/*.py')"
	@echo "make benchmark   measure against peers and print a table of ratios (ARGS='--rounds 5')"
	@echo "make benchmark-gpu  the same on a GPU, if there is one (ARGS='--out gpu.md')"
	@echo "make notebooks   execute the notebooks and write their outputs (ARGS=NAME for one of them)"
	@echo "make docs        build the documentation site into docs/_build/html; warnings are errors"
	@echo "make clean       remove .venv, caches and builds; reports stay"
	@echo "All of them make .venv with $(PYTHON) (PYTHON=...) and install into it when needed."

reproduce: .venv/installed
	@$(BIN)/arguide reproduce --out "$(OUT)" $(if $(TEXT),--text "$(TEXT)") $(ARGS)
	@echo "The report is $(abspath $(OUT))/report.html"

test: .venv/installed-dev
	@$(MAKE) --no-print-directory -j 2 lint units

lint: .venv/installed-dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

units: .venv/installed-dev
	$(call PYTEST,.venv)

test-slow: .venv/installed-dev
	$(call PYTEST,.venv) -m slow
	$(MAKE) test-transformers test-oldest test-newest

test-transformers: $(TRANSFORMERS:%=test-transformers-%)

test-transformers-%: $(RELEASES)/transformers-%/installed
	$(call PYTEST,$(<D)) $(TEXT_TESTS)

test-oldest: $(RELEASES)/oldest/installed
	$(call PYTEST,$(<D)) $(OLDEST_TESTS)

test-newest: .venv/bin/pip
	rm -rf $(RELEASES)/newest
	$(BIN)/python -m venv $(RELEASES)/newest
	$(RELEASES)/newest/bin/python -m pip install --quiet $$(grep ^torch== constraints.txt) -e '.[dev]'
	@$(RELEASES)/newest/bin/python -m pip freeze --exclude-editable > $(RELEASES)/newest/releases
	@if $(BIN)/python -m pip freeze --exclude-editable | diff - $(RELEASES)/newest/releases; \
	then echo "The newest releases are those of .venv, where make test has run"; \
	else $(RELEASES)/newest/bin/mypy && $(call PYTEST,$(RELEASES)/newest); fi

audit: .venv/installed-dev
	@HF_HUB_OFFLINE=1 MPLBACKEND=agg PYTHONPATH=tests/support $(BIN)/python -m audit --jobs $(JOBS) $(ARGS)

benchmark: .venv/installed-dev
	@$(BIN)/python -m benchmarks $(ARGS)

benchmark-gpu: .venv/installed-dev
	@$(BIN)/python -m benchmarks.gpu $(ARGS)

notebooks: .venv/installed-dev
	@PYTHONPATH=tests/support $(BIN)/python -m notebook_outputs $(ARGS)

docs: .venv/installed-dev
	@$(BIN)/python -m sphinx -b html -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html
	@echo "The site is $(abspath docs/_build/html)/index.html"

# What stands first on the path of such an environment is its own; .venv follows.
define overlay
	@echo "Installing $(1) into $(@D)"
	@$(BIN)/python -m venv $(@D)
	@echo "import site; site.addsitedir('$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')')" \
		> $$($(@D)/bin/python -c 'import site; print(site.getsitepackages()[0])')/rest.pth
	@$(@D)/bin/python -m pip install --quiet $(1)
	@touch $@
endef

.PRECIOUS: $(RELEASES)/transformers-%/installed
$(RELEASES)/transformers-%/installed: | .venv/installed-dev
	$(call overlay,transformers==$*)

$(RELEASES)/oldest/installed: | .venv/installed-dev
	$(call overlay,$(OLDEST))

clean:
	rm -rf docs/_build docs/api docs/notebooks docs/pictures
	rm -rf .venv .audit build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find arguide diffusion analysis tests benchmarks notebooks docs -name __pycache__ -prune -exec rm -rf {} +

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
