# make run   trains and evaluates the demo (CPU, 6 to 9 minutes), into runs/
# make test  runs the tests; compiles torch-scatter once
# make test-fast  leaves out those that start a process, train or export
# make lint  ruff and mypy
# make docs  the pages of docs/ and the docstrings as a site, into site/
# Set PYTHON to choose the interpreter (3.10 or newer) that .venv is made from.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS := $(shell $(PYTHON) -c "import os; print(os.cpu_count() or 1)")
# torch-scatter has no wheels: distutils compiles its files in parallel when told so by a config file
PARALLEL := $(abspath $(VENV))/parallel-build.cfg
FORCE_ONLY_CPU ?= $(if $(shell command -v nvcc && command -v nvidia-smi),0,1)

.PHONY: run test test-fast lint docs clean

run: $(VENV)/.installed
	$(BIN)/python experiments/run.py

# a process per core with one thread: on tensors as small as the tests' several threads mostly wait for each other
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.test-installed
	$(PYTEST) $(PYTEST_ARGS)

test-fast: $(VENV)/.test-installed
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

lint: $(VENV)/.lint-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs-installed
	$(BIN)/python -m sphinx --fail-on-warning --quiet docs site
	@echo "open site/index.html"

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[test]" wheel
	printf '[build_ext]\nparallel=%s\n' $(JOBS) > $(PARALLEL)
	DIST_EXTRA_CONFIG=$(PARALLEL) FORCE_ONLY_CPU=$(FORCE_ONLY_CPU) \
	    $(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation -c constraints.txt torch-scatter
	touch $@

$(VENV)/.lint-installed: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[lint]"
	touch $@

$(VENV)/.docs-installed: $(VENV)/.installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build site docs/api *.egg-info
