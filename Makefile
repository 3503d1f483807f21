# `make demo` and `make test` need only Python >= 3.11, make and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Of everything that tests need, and of what the demo needs alone.
STAMP := $(VENV)/.installed
DEMO := $(VENV)/.installed-demo

.PHONY: demo check test test-numbers test-faults test-cluster test-lowest test-wheel gpu wheel lint environment docs \
	linkcheck notebooks clean benchmark

environment: $(STAMP)

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Bytecode of what is imported is written when it is: of 21,700 modules, few are.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --no-compile --editable '.[dev]'
	touch $(DEMO) $@

$(DEMO): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[capture,views]'
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

demo: $(DEMO)
	$(BIN)/actstore demo

# In two processes, a module to one of them, each computing with one thread: two would wait for each other.
# Bytecode is kept whatever the environment says: a run starts a hundred interpreters.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

QUICK := not process and not browser and not docs and not slow and not faults and not cluster and not gpu
# Lint, types and the quick tests: before every commit, in under two minutes.
check:
	@$(MAKE) --no-print-directory -j 2 --output-sync=target lint quick

.PHONY: quick
quick: environment
	$(PYTEST) -q -m '$(QUICK)'

# Everything but what the next targets ask for. In one process more: many tests wait for processes that they start.
test:
	@$(MAKE) --no-print-directory -j 2 lint every

.PHONY: every
every: $(VENV)/.imported
	$(PYTEST) -n 3

# Everything imported once, before three processes compile the same modules beside each other.
$(VENV)/.imported: $(STAMP)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q --collect-only >/dev/null || true
	touch $@

# What rests on sums and on a network's own arithmetic, in two minutes: to be tried as other machines compute, with
# ATEN_CPU_CAPABILITY=default, NUMBA_CPU_NAME=generic, OMP_NUM_THREADS=1, or
# NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL AVX512_SPR" before it.
NUMBERS := tests/analysis tests/measures tests/inputs/test_perturb.py tests/inputs/test_preprocess.py \
	tests/inputs/test_unchanged.py tests/inputs/test_windows.py tests/tables/test_columns.py tests/networks/test_record.py \
	tests/store/test_reductions.py tests/views/test_explorer_cohort.py
test-numbers: environment
	$(PYTEST) $(NUMBERS)

# Every fault as often as docs/reliability.md says.
test-faults: environment
	$(BIN)/python -m pytest -m faults

# Real SLURM, hosts in network namespaces, a file system that is full: as root, with the packages that it names.
test-cluster: environment
	$(BIN)/python -m pytest -m cluster

# Tests and rates of one GPU, into docs/performance.md; ends within six minutes.
gpu: environment
	$(BIN)/python benchmarks/gpu.py

# On the lowest versions that pyproject.toml names, in an environment of their own. For Linux PyPI has torch with CUDA
# only, some gigabytes of it.
LOWEST := .venv-lowest
# Without what tests pages, whose tools are not among them.
LOWEST_TESTS := tests --ignore tests/project/test_docs.py --ignore tests/project/test_notebooks.py
# What old releases warn of, in each other, is past.
OLD := -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W ignore::FutureWarning
test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -n 2 --dist loadfile $(OLD) -m '$(QUICK)' $(LOWEST_TESTS)

$(LOWEST)/.installed: pyproject.toml tests/support/lowest.py
	$(PYTHON) -m venv --clear $(LOWEST)
	$(PYTHON) tests/support/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/lowest.txt --editable '.[test]'
	touch $@

# Into dist/.
wheel: environment
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

# The wheel as a user gets it: in empty environments, with the versions that pip chooses, except for torch's. The plain one
# reads what the other captured.
FRESH := .venv-wheel
INSTALL := bin/python -m pip install --quiet --disable-pip-version-check
test-wheel: wheel
	rm -rf $(FRESH)
	$(PYTHON) -m venv $(FRESH)/full $(FRESH)/plain
	$(FRESH)/full/$(INSTALL) "$$(grep ^torch== constraints.txt)"
	$(FRESH)/full/$(INSTALL) "$$(echo dist/*.whl)[capture,views]"
	$(FRESH)/plain/$(INSTALL) dist/*.whl
	cd $(FRESH) && full/bin/actstore demo --patients 2
	cd $(FRESH) && plain/bin/actstore table actstore-demo/phantom.zarr surface -o surface.csv
	rm -rf $(FRESH)

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry src
	$(BIN)/lint-imports --no-cache

# Into docs/_build/html/VERSION, beside those of other versions, which each page's menu names. Every warning is an error,
# and so is every link between pages that leads nowhere.
docs: environment
	version=$$($(BIN)/python -c 'import actstore; print(actstore.__version__)') && \
	$(BIN)/python -m sphinx -n -W --keep-going -q -b html -d docs/_build/doctrees docs "docs/_build/html/$$version" && \
	echo "docs/_build/html/$$version/index.html"

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
	rm -rf $(VENV) $(LOWEST) $(FRESH) dist actstore-demo docs/_build
