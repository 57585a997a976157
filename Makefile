# LightSeg's commands. Any Python from 3.10 to 3.13 will do: make demo PYTHON=python3.12
PYTHON ?= python3
PIP_OPTIONS ?=
PYTEST_OPTIONS ?=

VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.requirements
DEV_STAMP := $(VENV)/.requirements-dev

.PHONY: demo test lint types benchmark clean

demo: $(RUN_STAMP)  ## segment the sample with the bundled model, into demo-output/
	$(BIN)/python Testing/demo.py

test: $(DEV_STAMP)  ## every test that needs no GPU
	$(BIN)/python -m pytest $(PYTEST_OPTIONS) Testing/Unit Testing/Slicer

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP)
	$(BIN)/mypy

benchmark: $(RUN_STAMP)  ## speed and memory beside the paper's figures
	$(BIN)/python Testing/Benchmarks/benchmark.py

clean:
	rm -rf $(VENV) build dist demo-output .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "LightSeg needs Python 3.10 to 3.13; name one with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) -r requirements.txt
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(RUN_STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) -r requirements-dev.txt
	@touch $@
