# The commands of a newcomer: `make demo` and `make test`. Everything is installed into .venv from requirements.lock.
PYTHON ?= python3
# Of `make test`: two processes, since many tests wait for servers and leases; who is done takes from what the other has left.
ARGS ?= -n 2 --dist worksteal
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help setup demo test check format bench sim up lock generate clean

help: ## say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

.venv/.ready: requirements.lock pyproject.toml muster/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "muster needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e ./muster -e .
	@touch $@

setup: .venv/.ready ## create .venv

demo: .venv/.ready ## run the main job end to end (KAFKA=local for real Kafka and PostgreSQL)
	$(BIN)/python -m examples.demo $(if $(KAFKA),--kafka $(KAFKA) --postgres local)

test: .venv/.ready ## run all tests, real Kafka and PostgreSQL included
	$(BIN)/python -m pytest $(ARGS)

check: .venv/.ready ## ruff, strict types, import contracts, generated files current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check

format: .venv/.ready ## format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: .venv/.ready ## write the generated files anew (AsyncAPI, OpenAPI)
	$(BIN)/python -m docs.generate

bench: .venv/.ready ## measure, print the table, write benchmarks/results.json (CASES=… to choose, RIVALS="etcd patroni proxies")
	$(BIN)/python -m benchmarks $(CASES) $(RIVALS:%=--rival %)

sim: .venv/.ready ## run one seeded simulation with faults: make sim SEED=123
	$(BIN)/python -m tests.simulation $(SEED)

up: .venv/.ready ## start a controller on the embedded engine
	$(BIN)/muster up

lock: ## resolve the dependencies anew
	$(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv
	.venv-lock/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --python-version 3.11 \
		--all-extras --group dev --no-emit-package muster-client pyproject.toml muster/pyproject.toml --custom-compile-command "make lock" -o requirements.lock
	rm -rf .venv-lock

clean: ## remove what was built
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
