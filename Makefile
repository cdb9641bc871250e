# Everything from a fresh clone with Python 3.11 or later: make demo, make test, make bench.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test bench check

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mechmsc needs Python 3.11 or later, this is %d.%d" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	$(BIN)/mechmsc models fetch smollm2-135m-instruct
	touch $(READY)

demo: setup
	$(BIN)/mechmsc demo --out runs/demo

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# Two processes of one thread each: small models gain nothing from two threads.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

bench: setup
	$(BIN)/python tests/benchmarks/run.py
