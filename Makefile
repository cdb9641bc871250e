# Everything from a fresh clone with Python 3.11 or later: make demo, make test, make bench.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The same with TransformerLens 4: make test-tl4 runs everything there, make test-engines what is about the engines.
VENV_TL4 := .venv-tl4
READY_TL4 := $(VENV_TL4)/.ready

.PHONY: setup setup-tl4 demo test test-tl4 test-engines bench check

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mechmsc needs Python 3.11 or later, this is %d.%d" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	$(BIN)/mechmsc models fetch smollm2-135m-instruct
	touch $(READY)

setup-tl4: setup $(READY_TL4)

$(READY_TL4): pyproject.toml constraints-tl4.txt
	$(PYTHON) -m venv $(VENV_TL4)
	$(VENV_TL4)/bin/python -m pip install --quiet --constraint constraints-tl4.txt --editable ".[test]"
	touch $(READY_TL4)

demo: setup
	$(BIN)/mechmsc demo --out runs/demo

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# Two processes of one thread each: small models gain nothing from two threads.
PYTEST := -m pytest -q -n 2 --dist loadfile

test: check
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST)

test-tl4: setup-tl4
	OMP_NUM_THREADS=1 $(VENV_TL4)/bin/python $(PYTEST)

test-engines: setup-tl4
	OMP_NUM_THREADS=1 $(VENV_TL4)/bin/python $(PYTEST) -m engine

bench: setup
	$(BIN)/python tests/benchmarks/run.py
