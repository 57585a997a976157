# LightSeg's commands. Any Python from 3.10 to 3.14 will do: make demo PYTHON=python3.12
PYTHON ?= python3
PIP_OPTIONS ?=
PYTEST_OPTIONS ?=
BENCHMARK_OPTIONS ?=
GPU_OPTIONS ?=
SECONDS ?= 60

VENV := .venv
PEERS := .venv-peers
TOTALSEGMENTATOR := .venv-totalsegmentator
DOCS := .venv-docs
SITE := build/site
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.requirements
DEV_STAMP := $(VENV)/.requirements-dev
PEERS_STAMP := $(PEERS)/.requirements-peers
TOTALSEGMENTATOR_STAMP := $(TOTALSEGMENTATOR)/.requirements
TOTALSEGMENTATOR_KB := 5000000  # while it is installed
DOCS_STAMP := $(DOCS)/.requirements-docs
PYTEST = $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=8 $(PYTEST_OPTIONS)

.PHONY: help demo test test-all parity totalsegmentator lint types fuzz chaos benchmark gpu-check docs pictures clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(RUN_STAMP)  ## segment the sample with two bundled models, into demo-output/
	$(BIN)/python Testing/demo.py

test: $(DEV_STAMP)  ## the tests that need no GPU, but for the slow ones
	$(PYTEST) -m "not slow" Testing

test-all: $(DEV_STAMP)  ## every test that needs no GPU
	$(PYTEST) Testing

parity: $(DEV_STAMP) $(PEERS_STAMP) totalsegmentator  ## the same answers as nnU-Net's and TotalSegmentator's programs
	LIGHTSEG_PEERS=$(PEERS)/bin/python $(BIN)/python -m pytest $(PYTEST_OPTIONS) Testing/Parity

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(DEV_STAMP)
	$(BIN)/mypy

fuzz: $(DEV_STAMP)  ## spoil real inputs for SECONDS=60, and report what ends in neither a result nor a sentence
	$(BIN)/python Testing/Fuzz/fuzz.py --seconds $(SECONDS)

chaos: $(DEV_STAMP)  ## let faults meet its jobs for SECONDS=60, and see that nothing is lost or half done
	$(BIN)/python Testing/Chaos/chaos.py --seconds $(SECONDS)

benchmark: $(DEV_STAMP)  ## speed and memory beside published figures, and beside nnU-Net and MONAI after make parity
	LIGHTSEG_PEERS=$(PEERS)/bin/python $(BIN)/python Testing/Benchmarks/benchmark.py $(BENCHMARK_OPTIONS)

gpu-check: $(RUN_STAMP)  ## whether an NVIDIA GPU computes what the CPU computes, how fast, and in how much memory
	$(BIN)/python Testing/gpu_check.py $(GPU_OPTIONS)

docs: $(DEV_STAMP) $(DOCS_STAMP)  ## the documentation as a site, in build/site, with every link followed
	rm -rf $(SITE)
	$(DOCS)/bin/sphinx-build --quiet --fail-on-warning --keep-going --builder html Documentation $(SITE)
	$(BIN)/python -m pytest $(PYTEST_OPTIONS) Testing/Site

pictures: $(DEV_STAMP)  ## the pictures of the window in README and documentation, in Resources
	$(BIN)/python Testing/pictures.py

clean:  ## remove what these commands have made
	rm -rf $(VENV) $(PEERS) $(TOTALSEGMENTATOR) $(DOCS) build dist demo-output .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' \
		|| { echo "LightSeg needs Python 3.10 to 3.14; name one with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) -r requirements.txt
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(RUN_STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) -r requirements-dev.txt
	@touch $@

$(PEERS)/bin/python: | $(BIN)/python
	$(BIN)/python -m venv $(PEERS)

$(PEERS_STAMP): requirements-peers.txt | $(PEERS)/bin/python
	$(PEERS)/bin/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) -r requirements-peers.txt
	@touch $@

totalsegmentator: | $(BIN)/python  # without room or network its tests are skipped
	@$(MAKE) --no-print-directory $(TOTALSEGMENTATOR_STAMP) \
		|| echo "TotalSegmentator could not be installed, so nothing is compared with it."

$(TOTALSEGMENTATOR_STAMP): requirements-totalsegmentator.txt
	@test $$(df -Pk . | awk 'NR == 2 {print $$4}') -gt $(TOTALSEGMENTATOR_KB) || { echo "The disk is too full."; exit 1; }
	$(BIN)/python -m venv $(TOTALSEGMENTATOR)
	$(TOTALSEGMENTATOR)/bin/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) -r requirements-totalsegmentator.txt
	@touch $@

$(DOCS)/bin/python: | $(BIN)/python
	$(BIN)/python -m venv $(DOCS)

$(DOCS_STAMP): requirements-docs.txt | $(DOCS)/bin/python
	$(DOCS)/bin/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) -r requirements-docs.txt
	@touch $@
