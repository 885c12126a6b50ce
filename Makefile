# From a fresh clone, with Python 3.11 or newer and make: `make bench` or `make test`.
# Each target sets up what it needs in .venv; the second time it starts at once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# PYTHONNOUSERSITE: what is in the user's home does not leak into the environment.
INSTALL := PYTHONNOUSERSITE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
STATED := pyproject.toml constraints.txt

.PHONY: bench test test-all check clean
.DELETE_ON_ERROR:

bench: $(VENV)/.runtime
	$(BIN)/gptbench throughput --out reports/latest

# Two files of tests at a time: most of them wait for a process to start.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not gpu"

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache reports/latest
	find gptbench tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A virtual environment that broke half-way has no pip, and is made anew.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit("gptbench needs Python 3.11 or newer; type make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "Making the environment in $(VENV); this happens once."
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.runtime: $(STATED) | $(BIN)/pip
	$(INSTALL) -e .
	@touch $@

# The dev extra holds the runtime dependencies too, so its stamp serves for both.
$(VENV)/.dev: $(STATED) | $(BIN)/pip
	$(INSTALL) -e '.[dev]'
	@touch $(VENV)/.runtime $@
