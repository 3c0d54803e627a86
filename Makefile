# The newcomer's commands are `make up` and `make test`; everything they need they install.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= auto

# Where somebody's machine sets it, each of the thousands of processes the tests start would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help up test compiled chaos soak fuzz lint format bench peers constraints clean

help:
	@echo "make up      start all five daemons with the demo, until Ctrl-C"
	@echo "make test    run the tests, with real peers (installed if missing)"
	@echo "make compiled a wheel in dist/ whose hot modules are C: mypyc's, of the same source"
	@echo "make lint    ruff, mypy --strict, import walls"
	@echo "make chaos   the long kill tests: every start order, every kill"
	@echo "make soak    ten minutes under load with kills, and a hundred reloads"
	@echo "make bench   measure against real uWSGI, net-snmp and others"

$(VENV)/.ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv --help >/dev/null
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

up: $(VENV)/.ready
	$(BIN)/palatine up --demo deploy/demo

# What fails beside others on a busy machine is tried again, alone, at most twice; a fault fails again. All runs are shown.
ALONE := $(BIN)/python -m pytest --last-failed --last-failed-no-failures none -n 0

test: $(VENV)/.ready peers
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile || $(ALONE) || $(ALONE)

compiled: $(VENV)/.ready
	PALATINE_COMPILE=1 $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

chaos: $(VENV)/.ready peers
	PALATINE_LONG=1 $(BIN)/python -m pytest tests/chaos

soak: $(VENV)/.ready peers
	PALATINE_LONG=1 $(BIN)/python -m pytest -s -n 0 tests/chaos/test_app_server_soak.py

fuzz: $(VENV)/.ready peers
	PALATINE_LONG=1 $(BIN)/python -m pytest tests/fuzz

lint: $(VENV)/.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.ready
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.ready peers
	for bench in tests/bench/bench_*.py; do $(BIN)/python $$bench || exit 1; done

peers:
	./tests/peers.sh

constraints:
	uv pip compile pyproject.toml --all-extras --group dev --generate-hashes --no-emit-index-url --no-header \
		--universal --python-version 3.11 --output-file constraints.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
