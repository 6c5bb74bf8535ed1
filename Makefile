# Everything a newcomer needs: `make demo` and `make test`. Only Python 3.11+, pip, venv and make are needed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-system lint types bench docs format clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(STAMP)  ## make .venv with aiopipe and what its tests need

demo: $(STAMP)  ## run the sample pipeline over sample_data/ and show what it did
	@$(BIN)/python -m aiopipe.demo

test: $(STAMP)  ## run the tests (no root, no server, no internet)
	$(BIN)/python -m pytest -m "not system"

test-system: $(STAMP)  ## run the tests that need a system package or root
	$(BIN)/python -m pytest -m system

lint: $(STAMP)  ## ruff, format check, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)  ## mypy --strict over the package and the typing tests
	$(BIN)/mypy

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what the other targets made
	rm -rf $(VENV) demo-out bench-data .mypy_cache .ruff_cache .pytest_cache .hypothesis
