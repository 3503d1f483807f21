# `make demo` and `make test` need only Python >= 3.11, make and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-numbers test-faults test-cluster lint environment docs linkcheck notebooks clean benchmark

environment: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: environment
	$(BIN)/actstore demo

# In two processes, a module to one of them.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What rests on sums and on a network's own arithmetic, in two minutes: to be tried as other machines compute, with
# ATEN_CPU_CAPABILITY=default, NUMBA_CPU_NAME=generic, OMP_NUM_THREADS=1, or
# NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL AVX512_SPR" before it.
NUMBERS := tests/analysis tests/measures tests/inputs tests/tables/test_columns.py tests/networks/test_record.py\
	tests/jobs/test_statistics.py tests/views/test_explorer_cohort.py
test-numbers: environment
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(NUMBERS)

# Every fault as often as docs/reliability.md says.
test-faults: environment
	$(BIN)/python -m pytest -m faults

# Real SLURM, hosts in network namespaces, a file system that is full: as root, with the packages that it names.
test-cluster: environment
	$(BIN)/python -m pytest -m cluster

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Into docs/_build/html; every warning, and every link between pages that leads nowhere, is an error.
docs: environment
	$(BIN)/python -m sphinx -n -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

# Links to other servers: needs the network.
linkcheck: environment
	$(BIN)/python -m sphinx -n -W --keep-going -b linkcheck docs docs/_build/linkcheck

# Run, and written beside their scripts; the test suite runs them and compares.
notebooks: environment
	$(BIN)/python notebooks/build.py

benchmark: environment
	$(BIN)/python benchmarks/recording.py
	$(BIN)/python benchmarks/capture.py
	$(BIN)/python benchmarks/reductions.py
	$(BIN)/python benchmarks/metrics.py

clean:
	rm -rf $(VENV) actstore-demo docs/_build
