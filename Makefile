# `make help` lists the targets. PYTHON chooses the interpreter (3.11 or newer), ARGS is passed on:
#   make demo ARGS=--once        make test ARGS="tests/relay -k feed"
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
SET_UP := @$(PYTHON) packaging/set_up.py

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench faults lock clean

demo: ## the whole system on this machine: relay, sandbox with customers that write, desktop
	$(SET_UP) demo
	@$(BIN)/relay demo $(ARGS)

test: ## all tests but the long fault runs
	$(SET_UP) test
	@$(BIN)/pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal $(ARGS)

check: ## lint, format, types, layers, lock files
	$(SET_UP) check
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python packaging/lock.py --check
	@$(BIN)/python packaging/check_tree.py

format: ## format the code and mend what ruff can mend
	$(SET_UP) check
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

faults: ## the long fault runs
	$(SET_UP) test
	@$(BIN)/pytest tests/faults -m "" $(ARGS)

bench: ## benchmarks, as tables
	$(SET_UP) bench
	@$(BIN)/python tests/bench/run.py $(ARGS)

lock: ## lock files from pyproject.toml; ARGS=--upgrade takes newer versions
	$(SET_UP) check
	@$(BIN)/python packaging/lock.py $(ARGS)

clean: ## remove .venv, caches and build products; data folders stay
	@rm -rf .venv .cache .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis build dist *.egg-info
	@rm -rf tests/bench/peer_express/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 16
