# Every target makes .venv when it is missing; only python3 (3.11-3.13), its venv and pip, and make are needed.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest --durations=10 --numprocesses logical --maxprocesses 4 --dist loadfile
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: install demo test test-all fuzz lint docs bench clean

install: .venv/installed

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable .
	touch $@

.venv/installed-%: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[$*]'
	touch $@

demo: .venv/installed
	$(BIN)/sciml train experiments/darcy.py --preset demo --model mgno --out runs/demo/mgno
	$(BIN)/sciml train experiments/darcy.py --preset demo --model fno --out runs/demo/fno
	$(BIN)/sciml compare runs/demo/mgno runs/demo/fno --out runs/demo/comparison

test: .venv/installed-test
	$(PYTEST) -m "not slow"

test-all: .venv/installed-test
	$(PYTEST)

fuzz: .venv/installed-test
	$(BIN)/python tests/fuzz/run.py --cases 10000 --seed 0 --out tests/fuzz/results.json

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: .venv/installed-peers
	$(BIN)/python benchmarks/train_step.py

clean:
	rm -rf .venv .jax_cache .pytest_cache .ruff_cache .hypothesis site
