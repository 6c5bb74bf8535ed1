# Everything a newcomer needs: `make demo` and `make test`. Only Python 3.11+, pip, venv and make are needed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
AIOPIPE = $(BIN)/python -m aiopipe
BENCHED := $(VENV)/.benched
# Processes that `make test` runs the tests in; `make test JOBS=0` runs them one after another in a single one.
JOBS   ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-system test-faults-full test-power lint types bench docs format clean

help:  ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' $(MAKEFILE_LIST) | sort | while read -r t what; do printf '%-16s %s\n' "$$t" "$$what"; done

$(STAMP): pyproject.toml
	@echo "installing into $(VENV): a minute or so, once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(STAMP)  ## make .venv with aiopipe and what its tests need

demo: $(STAMP)  ## run the sample pipeline over sample_data/ and show what it did
	@rm -rf demo-out
	@echo "\$$ aiopipe run sample_data/clean.toml"
	@$(AIOPIPE) run sample_data/clean.toml; code=$$?; \
	if [ $$code -ne 3 ]; then echo "exit code $$code, 3 was expected"; exit 1; fi
	@echo "(exit code 3: done, and records were set aside, as they should be here)"
	@echo
	@echo "\$$ aiopipe pipe read demo-out/late/flights then head 3 \\"
	@echo "    then select time_hour carrier flight dest arr_delay mph then write -"
	@$(AIOPIPE) pipe read demo-out/late/flights then head 3 \
	    then select time_hour carrier flight dest arr_delay mph then write -
	@echo
	@echo "\$$ aiopipe pipe read demo-out/rejects.csv then select path line reason then write -"
	@$(AIOPIPE) pipe read demo-out/rejects.csv then select path line reason then write -
	@echo
	@echo "The outputs mirror the input: demo-out/late/flights/2013-01-01.csv and so on."

test: $(STAMP)  ## run the tests (no root, no server, no internet), JOBS at a time
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not system and not alone"
	$(BIN)/python -m pytest -m alone -rs tests/sums/test_processes.py tests/sums/test_engine.py

test-system: $(STAMP)  ## tests that need root (for a small disk), strace, faketime, b3sum, xxhsum, openssl, hashdeep, postgresql
	$(BIN)/python -m pytest -m "system and not power"

test-faults-full: $(STAMP)  ## every point of the fault sweeps, of which `make test` takes a sample (Linux)
	AIOPIPE_FAULTS=full $(BIN)/python -m pytest -rA -k sweeps tests/faults

test-power: $(STAMP)  ## cut the power of a disk at calls that touch it (root, a loop device, ext4)
	$(BIN)/python -m tests.faults.harness.power --can .
	$(BIN)/python -m pytest -rA -m power tests/system

lint: $(STAMP)  ## ruff, format check, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)  ## mypy --strict over the package and the typing tests
	$(BIN)/mypy

$(BENCHED): $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

bench: $(BENCHED)  ## measure against peers, medians of five (BENCH=--fast, or BENCH="--quick --runs 1")
	$(BIN)/python -m benchmarks.csv_jobs $(BENCH)
	$(BIN)/python -m benchmarks.memory $(filter --quick,$(BENCH))
	$(BIN)/python -m benchmarks.loop $(filter --quick,$(BENCH))
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.durability $(filter-out --fast,$(BENCH))
	$(BIN)/python -m benchmarks.enrich $(filter-out --fast,$(BENCH))

docs: $(STAMP)  ## write the stage table of the README and docs/stages.md anew
	$(BIN)/python docs/make.py

format: $(STAMP)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what the other targets made
	rm -rf $(VENV) demo-out bench-data .mypy_cache .ruff_cache .pytest_cache .hypothesis
