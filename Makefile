# Everything a person does in this tree. Needs make and a Python of 3.11 or newer with venv.

PYTHON ?= python3
GOAL   ?= Become a backend developer with Python
PORT   ?= 8080
ARGS   ?=
ONLY   ?=

# A goal is a person's sentence: it reaches the program through the environment, unread by make or
# the shell, so quotes, dollars and apostrophes in it survive.
override GOAL := $(value GOAL)
export GOAL PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

# Beside each other, each process with servers of its own; who is done takes over from the other.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist worksteal

BIN   := .venv/bin
STAMP := .venv/.setup
LOCKS := requirements.lock requirements-dev.lock

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo up test check mutants fuzz bench bench-long fmt lock

help: ## List these targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The stamp holds what .venv was built from: place, project, locks. Contents count, not dates,
# because a fresh clone dates every file anew.
setup: ## Build .venv from the locked, hashed dependencies (instant when nothing changed)
	@built_from="$$(pwd) $$(cat pyproject.toml $(LOCKS) | cksum)"; \
	if [ "$$(cat $(STAMP) 2>/dev/null)" = "$$built_from" ] && $(BIN)/python -c '' 2>/dev/null; then exit 0; fi; \
	set -e; \
	say() { echo "$$1" >&2; exit 1; }; \
	command -v "$$PYTHON" >/dev/null || \
	    say "There is no $$PYTHON: install Python 3.11 or newer, or name one with make setup PYTHON=/path/to/python3."; \
	"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    say "Waymark needs Python 3.11 or newer and $$PYTHON is older: install one and name it, e.g. make setup PYTHON=python3.12."; \
	command -v uv >/dev/null || "$$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || \
	    say "$$PYTHON cannot make virtual environments: install its venv module (Debian, Ubuntu: apt-get install python3-venv) and try again."; \
	echo "Setting up .venv: once, and again when the locks change." >&2; \
	rm -f $(STAMP); \
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	    grep -qsF "$$(pwd)/.venv" $(BIN)/activate || rm -rf .venv; \
	if command -v uv >/dev/null; then \
	    [ -d .venv ] || uv venv --quiet --python "$$PYTHON" .venv; \
	    uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock; \
	    uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	    [ -x $(BIN)/pip ] || "$$PYTHON" -m venv --clear .venv; \
	    $(BIN)/python -m pip install -qq --require-hashes -r requirements-dev.lock; \
	    $(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .; \
	fi; \
	echo "$$built_from" > $(STAMP)

demo: setup ## Make one roadmap from nothing, then stop: make demo GOAL="Learn SQL"
	@$(BIN)/waymark demo -- "$$GOAL"

up: setup ## Run everything with embedded servers: make up PORT=8080
	@exec $(BIN)/waymark up --port $(PORT)

test: setup ## Run all tests, or some: make test ARGS="tests/unit -k outbox"
	@$(BIN)/python -m pytest $(or $(ARGS),$(SIDE_BY_SIDE))

check: setup ## Lint, format check, types, import law, catalog
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "Some files are not formatted: make fmt" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@report=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$report" >&2; exit 1; }
	@$(BIN)/python -m worker_service.generators.offline check

fmt: setup ## Format the code and fix what can be fixed
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

mutants: setup ## Take each guard away in turn: the tests have to notice
	@$(BIN)/python -m tests.chaos.mutants

fuzz: setup ## Try the API with 20,000 requests, right ones and wrong ones
	@$(BIN)/python -m tests.fuzz

bench: setup ## Measure, all or one: make bench ONLY=relay
	@$(BIN)/python -m benchmarks $(ONLY)

bench-long: setup ## The same with a million rows and a held snapshot
	@$(BIN)/python -m benchmarks --long $(ONLY)

# Run with the oldest Python we support. ARGS=--upgrade moves every pin.
COMPILE = CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes \
	--allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	--no-emit-options --no-annotate $(ARGS)
lock: setup ## Pin all dependencies again, with hashes
	@$(COMPILE) --output-file requirements.lock pyproject.toml
	@$(COMPILE) --extra dev -c requirements.lock --output-file requirements-dev.lock pyproject.toml
	@if grep -nE '://|^ *-i |^ *--[a-z-]*(index|links|host)' $(LOCKS); then \
	    echo "A lock names an index or a host: remove that line." >&2; exit 1; fi
