# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv, install what they need, build and run.
#   TORCH="torch==2.13.0"   another torch than the newest        PYTHON=python3.12   another Python
PYTHON ?= python3
TORCH ?= torch
VENV ?= .venv
BIN := $(VENV)/bin
export MAX_JOBS ?= 2
CSRC := $(shell find csrc -type f)
FORMATTED := $(filter %.h %.cpp %.cu %.cuh %.inl,$(CSRC) $(shell find tests/native tests/simt benchmarks -type f))

.PHONY: help demo test test-reference test-simt test-abi test-install instructions lint format bench clean
.SECONDARY:

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet "$(TORCH)" numpy "setuptools>=77.0.3" ninja "pybind11>=2.13"
	@touch $@

# the package, built in place, once; pip compiles everything again for each time it is asked for ".[extra]"
$(VENV)/.built: setup.py pyproject.toml $(CSRC) | $(VENV)/.torch
	$(BIN)/pip install --quiet --no-build-isolation -e .
	@touch $@

# what one of its extras needs, for the package that is there
$(VENV)/.with-%: $(VENV)/.built
	$(BIN)/pip install --quiet "rdh_ext[$*]"
	@touch $@

demo: $(VENV)/.with-demo  ## train with and without RDH on real digits, write rdh-demo/report.md
	$(BIN)/rdh demo --out rdh-demo

test: $(VENV)/.with-test  ## the whole quick suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-reference: $(VENV)/.with-test  ## the op tests with native code switched off
	RDH_EXT_DISABLE_NATIVE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/ops tests/retrieval

test-simt: $(VENV)/.with-simt  ## the CUDA kernels without a GPU: run on the host, mutated, and held to their budget
	@# compiles on all cores what the tests then look into, and complain of
	-@$(BIN)/python tests/simt/gates.py > /dev/null 2>&1
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal tests/simt

test-abi:  ## one build of the ops on two versions of torch, in environments of their own
	$(PYTHON) tests/build/abi.py

test-install:  ## sdist, wheel, build isolation, with and without nvcc, in environments of their own
	$(PYTHON) tests/build/install.py

instructions: $(VENV)/.torch  ## instructions of three small CPU cases, held to the committed counts
	$(BIN)/python benchmarks/instructions.py --check

lint: $(VENV)/.with-lint  ## ruff, mypy --strict, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(FORMATTED)

format: $(VENV)/.with-lint  ## let the tools format everything
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(FORMATTED)

bench: $(VENV)/.with-test $(VENV)/.with-bench  ## measure everything on this machine, into build/
	$(BIN)/rdh bench --sweep all --out build/bench.csv --resume
	$(BIN)/rdh report build/bench.csv
	$(BIN)/python benchmarks/gradient_amplifier.py --out build/gradient_amplifier_cpu.csv
	$(BIN)/python benchmarks/pairwise_loss.py --out build/pairwise_loss_cpu.csv
	$(BIN)/python benchmarks/hamming.py --out build/hamming_cpu.csv
	$(BIN)/python benchmarks/training_step.py --quick --out build/training_step_cpu.csv

clean:  ## remove everything that was made here
	rm -rf $(VENV) build dist *.egg-info rdh_ext/*.so rdh-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
