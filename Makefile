# What people type. Each target says what it does in `make help`; scripts/ holds the how.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9

# For `make serve`; what is left empty is the server's own default or an EXTRACOT_* variable.
PORT ?=
HOST ?=
MODEL ?=
# More words for the command a target runs: make test ARGS="-k budget", make serve ARGS="--engine scripted"
ARGS ?=

# Processes that tests are shared out to; more than there are cores gains little.
WORKERS ?= 2

CODE := extracot server training clients tests scripts deploy benchmarks
INSTALL := $(PYTHON) scripts/install.py --venv $(VENV)
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

.PHONY: help
help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  serve and playground take PORT=8000 HOST=127.0.0.1 MODEL=folder-or-id; VENV=.venv and ARGS=... go with all"

.PHONY: install
install: ## Install what serving needs into .venv, for CPU or CUDA as it finds
	@$(INSTALL)

.PHONY: install-dev
install-dev: ## Install what tests, linters and training need as well
	@$(INSTALL) --with training --with dev

.PHONY: serve
serve: install ## Install, prepare the model of the first day, serve it
	@exec $(BIN)/extracot-serve $(if $(HOST),--host "$(HOST)") $(if $(PORT),--port "$(PORT)") \
		$(if $(MODEL),--model "$(MODEL)") $(ARGS)

.PHONY: playground
playground: ## As serve, with a page in the browser at /playground
	@$(INSTALL) --with playground
	@exec $(BIN)/extracot-serve --playground true $(if $(HOST),--host "$(HOST)") \
		$(if $(PORT),--port "$(PORT)") $(if $(MODEL),--model "$(MODEL)") $(ARGS)

.PHONY: test
test: install-dev ## Run the tests, real vLLM on the CPU included, but for the slow ones (15 minutes)
	@$(PYTEST) -m "not slow" $(ARGS)

.PHONY: test-all
test-all: install-dev ## Run all tests, the slow ones too: what docs/testing.md lists
	@$(PYTEST) $(ARGS)

.PHONY: check
check: lint test-all ## Run everything that must be green before a commit: lint, then test-all

.PHONY: lint
lint: install-dev ## Run ruff, mypy --strict and import-linter
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: install-dev ## Let ruff put the code in order
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

.PHONY: soak
soak: install-dev ## Send 20,000 requests to the scripted engine, many of them left alone
	@$(BIN)/python -m tests.server.soak $(ARGS)

.PHONY: bench
bench: install-dev ## Measure the front end beside vLLM's own, its growth, what budgets save, training (ARGS=--quick)
	@$(BIN)/python -m benchmarks.frontend $(ARGS)
	@$(BIN)/python -m benchmarks.growth $(filter --quick,$(ARGS))
	@$(BIN)/python -m benchmarks.budgets $(filter --quick,$(ARGS))
	@$(BIN)/python -m benchmarks.training $(filter --quick,$(ARGS))

.PHONY: evaluate
evaluate: install-dev ## Measure the bundled model again, through the server (ARGS="--limit 100": a quick look)
	@PATH="$(abspath $(BIN)):$$PATH" training/recipes/evaluate.sh $(ARGS)

.PHONY: audit
audit: ## Ask the advisory database about every pinned dependency (exit 3: it can't be reached)
	@$(PYTHON) scripts/audit.py

.PHONY: gpu-smoke
gpu-smoke: ## Run the tests that need a CUDA GPU; without one it says so and fails
	@nvidia-smi --list-gpus 2>/dev/null | grep -q '^GPU ' || \
		{ echo "extracot: no working CUDA GPU here (nvidia-smi lists none): nothing was run" >&2; exit 2; }
	@$(INSTALL) --with training --with dev
	@$(BIN)/python -m pytest -m gpu $(ARGS)

.PHONY: wheel
wheel: install-dev ## Build the wheel and the source archive into dist/
	@$(BIN)/python -m build --no-isolation $(ARGS) .

.PHONY: lock
lock: install-dev uv ## Write requirements/*.txt anew from pyproject.toml and the .in files (ARGS=--upgrade)
	@$(BIN)/python scripts/lock.py $(ARGS)

.PHONY: lock-check
lock-check: install-dev uv ## Show that the locks resolve and are current; writes nothing
	@$(BIN)/python scripts/lock.py --check

.PHONY: uv
uv:
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)

.PHONY: clean
clean: ## Remove what builds and tests leave behind; .venv stays
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
