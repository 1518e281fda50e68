# One environment, six verbs. `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

DATASET ?= demo
BACKBONE ?= auto
WEIGHTS ?= auto

JOBS ?= 2

.PHONY: help setup report test test-fast lab demo lint lock clean

help:
	@echo "make report   the demo dataset from photographs to reports/demo/index.html (DATASET= BACKBONE= WEIGHTS= pass through)"
	@echo "make test     the whole test suite, in JOBS=2 processes (TESTS= names files or options of pytest)"
	@echo "make test-fast  the tests that take seconds and need no browser"
	@echo "make lab      JupyterLab on notebooks/"
	@echo "make demo     only the demo dataset"
	@echo "make lint     ruff and mypy"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"fmiqa needs Python 3.11, 3.12 or 3.13 and found {v.major}.{v.minor}: name another with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

report: $(READY)
	@$(BIN)/fmiqa report --dataset '$(DATASET)' --backbone '$(BACKBONE)' --weights '$(WEIGHTS)'

demo: $(READY)
	@$(BIN)/fmiqa demo

lab: $(READY)
	@$(BIN)/fmiqa lab

# One thread a process: on a busy machine, threads that wait for one another cost more than they bring to the tests' small models.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

test: $(READY)
	$(PYTEST) $(TESTS)

test-fast: $(READY)
	$(PYTEST) -m 'not slow and not browser' $(TESTS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Needs uv. torch and torchvision must be a matching pair.
lock:
	printf 'torch==2.14.1\ntorchvision==0.29.1\n' | uv pip compile --quiet --universal --python-version 3.11 --extra dev \
		--constraint /dev/stdin --no-annotate --no-header pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache test-artifacts
