# One environment, a few verbs. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEVELOP := $(VENV)/.develop

DATASET ?= demo
BACKBONE ?= auto
WEIGHTS ?= auto

JOBS ?= 2

.PHONY: help setup develop report test test-fast lab demo lint lock clean

help:
	@echo "make report   the demo dataset from photographs to reports/demo/index.html (DATASET= BACKBONE= WEIGHTS= pass through)"
	@echo "make test     the whole test suite, in JOBS=2 processes (TESTS= names files or options of pytest)"
	@echo "make test-fast  the tests that take seconds and need no browser"
	@echo "make lab      JupyterLab on notebooks/"
	@echo "make demo     only the demo dataset"
	@echo "make lint     ruff and mypy"
	@echo "make develop  what tests and lint need, beside what runs (CONTRIBUTING.md)"

setup: $(READY)

develop: $(DEVELOP)

# What runs.
$(READY): requirements.lock pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"fmiqa needs Python 3.11, 3.12 or 3.13 and found {v.major}.{v.minor}: name another with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

# And what develops: tests, lint, types, Ray, stores in the cloud.
$(DEVELOP): $(READY) requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-dev.lock
	@touch $@

report: $(READY)
	@$(BIN)/fmiqa report --dataset '$(DATASET)' --backbone '$(BACKBONE)' --weights '$(WEIGHTS)'

demo: $(READY)
	@$(BIN)/fmiqa demo

lab: $(READY)
	@$(BIN)/fmiqa lab

# One thread a process: on a busy machine, threads that wait for one another cost more than they bring to the tests' small models.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

test: $(DEVELOP)
	$(PYTEST) $(TESTS)

test-fast: $(DEVELOP)
	$(PYTEST) -m 'not slow and not browser' $(TESTS)

lint: $(DEVELOP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Needs uv. torch and torchvision must be a matching pair; what is locked stays unless UPGRADE=--upgrade.
COMPILE = uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-header pyproject.toml $(UPGRADE)

lock:
	printf 'torch==2.14.1\ntorchvision==0.29.1\n' > $(VENV)/pair.txt
	$(COMPILE) --extra dev --constraint $(VENV)/pair.txt --output-file requirements-dev.lock
	$(COMPILE) --constraint requirements-dev.lock --output-file requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache test-artifacts
