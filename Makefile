# The commands of this repository; `make help` lists them, scripts/ does the work.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9

# For `make serve`; empty means the server's own default or an EXTRACOT_* variable.
PORT ?=
HOST ?=
MODEL ?=
# More words for the command a target runs: make test ARGS="-k budget", make serve ARGS="--engine scripted"
ARGS ?=

# Processes that tests are shared out to; more than there are cores gains little.
WORKERS ?= 2

# Byte code is kept: without it, every process that imports vLLM compiles it for half a minute.
unexport PYTHONDONTWRITEBYTECODE

CODE := extracot server training clients tests scripts deploy benchmarks
INSTALL := $(PYTHON) scripts/install.py --venv $(VENV)
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  serve and playground take PORT=8000 HOST=127.0.0.1 MODEL=folder-or-id; VENV=.venv and ARGS=... go with all"

.PHONY: install
install: ## Install what serving needs into .venv, for CUDA if there is a GPU, else for CPU
	@$(INSTALL)

.PHONY: install-dev
install-dev: ## Install what tests, linters and training need, too
	@$(INSTALL) --with training --with dev

.PHONY: serve
serve: install ## Install and serve the bundled model (MODEL=… for another)
	@exec $(BIN)/extracot-serve $(if $(HOST),--host "$(HOST)") $(if $(PORT),--port "$(PORT)") \
		$(if $(MODEL),--model "$(MODEL)") $(ARGS)

.PHONY: playground
playground: ## Serve with a page for the browser at /playground
	@$(INSTALL) --with playground
	@exec $(BIN)/extracot-serve --playground true $(if $(HOST),--host "$(HOST)") \
		$(if $(PORT),--port "$(PORT)") $(if $(MODEL),--model "$(MODEL)") $(ARGS)

.PHONY: test
test: install-dev ## Run the tests, real vLLM on the CPU included, but for the slow ones (15 minutes)
	@$(PYTEST) -m "not slow and not clients" $(ARGS)

.PHONY: test-all
test-all: install-dev ## Run all tests, the slow ones too: what docs/testing.md lists
	@$(PYTEST) $(ARGS)

.PHONY: test-clients
test-clients: install-dev uv ## Run the clients that people use, each from its lock in an environment of its own
	@$(PYTEST) -m clients tests/real_clients $(ARGS)

.PHONY: check
check: lint test-all ## Run everything that must pass before a commit: lint, then test-all

.PHONY: lint
lint: install-dev ## Run ruff, mypy --strict and import-linter
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: install-dev ## Format the code with ruff
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

.PHONY: soak
soak: install-dev ## Send 20,000 requests to the scripted engine and abandon many of them
	@$(BIN)/python -m tests.server.soak $(ARGS)

.PHONY: bench
bench: install-dev ## Measure the front end against vLLM's own, scaling, time saved by budgets, caps, memory, training (ARGS=--quick)
	@$(BIN)/python -m benchmarks.frontend $(ARGS)
	@$(BIN)/python -m benchmarks.growth $(filter --quick,$(ARGS))
	@$(BIN)/python -m benchmarks.budgets $(filter --quick,$(ARGS))
	@$(BIN)/python -m benchmarks.caps $(filter --quick,$(ARGS))
	@$(BIN)/python -m benchmarks.memory $(filter --quick,$(ARGS))
	@$(BIN)/python -m benchmarks.training $(filter --quick,$(ARGS))

.PHONY: evaluate
evaluate: install-dev ## Evaluate the bundled model through the server (ARGS="--limit 100" for a quick look)
	@PATH="$(abspath $(BIN)):$$PATH" training/recipes/evaluate.sh $(ARGS)

.PHONY: audit
audit: ## Check every pinned dependency for known vulnerabilities (exit 3: no database reachable)
	@$(PYTHON) scripts/audit.py

.PHONY: gpu-smoke
gpu-smoke: ## Run the tests that need a CUDA GPU; fails without one
	@nvidia-smi --list-gpus 2>/dev/null | grep -q '^GPU ' || \
		{ echo "extracot: no working CUDA GPU here (nvidia-smi lists none): nothing was run" >&2; exit 2; }
	@$(INSTALL) --with training --with dev
	@$(BIN)/python -m pytest -m gpu $(ARGS)

.PHONY: wheel
wheel: install-dev ## Build the wheel and the source archive into dist/
	@$(BIN)/python -m build --no-isolation $(ARGS) .

.PHONY: lock
lock: install-dev uv ## Resolve requirements/*.txt from pyproject.toml and the .in files (ARGS=--upgrade)
	@$(BIN)/python scripts/lock.py $(ARGS)

.PHONY: lock-check
lock-check: install-dev uv ## Check that the locks resolve and are current; writes nothing
	@$(BIN)/python scripts/lock.py --check

.PHONY: uv
uv:
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)

.PHONY: clean
clean: ## Remove files left by builds and tests; keeps .venv and .venv-clients
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
