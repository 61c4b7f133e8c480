# Thin calls of scripts/ and the tools of .venv, for who is used to make.
.PHONY: help install install-dev install-all format quick-format lint check-all test docs run clean
BIN := .venv/bin

help:           ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

install:        ## what an operator needs, locked, into .venv/
	scripts/install requirements.lock

install-dev:    ## and what tests and checks need
	scripts/install requirements-test.lock

install-all: install-dev  ## and the extras: Parquet, notifications, the site
	$(BIN)/python -m pip install --quiet 'pyarrow>=18' 'apprise>=1.9' 'mkdocs>=1.6'

format: install-dev  ## lint with its fixes (unused imports, their order), then the formatter
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

quick-format: install-dev  ## the formatter alone
	$(BIN)/ruff format .

lint: install-dev  ## lint, format, types and the rules of the tree; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.tidy

check-all:      ## lint, types, fast tests: before each commit
	scripts/check

test:           ## everything that needs no root
	scripts/test

docs: install-dev  ## reference pages out of the code, and the site into build/site
	$(BIN)/python -m pip install --quiet 'mkdocs>=1.6'
	scripts/docs build

run:            ## the engine on simulated exchanges
	scripts/run

clean:          ## caches and builds; neither .venv/ nor any state
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .benchmarks
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
