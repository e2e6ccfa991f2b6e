# make demo, make test: all the set-up happens by itself, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo
# What each of the two commands needs beyond the library itself.
DEMO_INSTALL := .
TEST_INSTALL := .[dev]

.PHONY: demo test lint types pytest slow bench clean help

help:
	@echo "make demo   render a few videos, run the main job on them, show what came out"
	@echo "make test   lint, types and tests"
	@echo "make slow   the tests that take long"
	@echo "make bench  the benchmark table"

demo: $(VENV)/.ready-demo
	@$(BIN)/vidfeat demo $(DEMO)

test: lint types pytest

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# cli/ and pretrained/ become vidfeat.cli and vidfeat.pretrained when they are installed: a type
# checker sees them as users do in a copy that is installed beside.
types: $(VENV)/.ready-test
	@rm -rf build/typecheck build/lib
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target build/typecheck .
	cd build/typecheck && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p vidfeat

pytest: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --maxprocesses 4

slow: $(VENV)/.ready-test
	$(BIN)/python -m pytest -m slow

bench: $(VENV)/.ready-test
	$(BIN)/python tests/bench

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"vidfeat needs Python 3.11 or newer, and $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready-demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable "$(DEMO_INSTALL)"
	@$(BIN)/python -c '$(ROOT_ON_PATH)'
	@touch $@

$(VENV)/.ready-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet "setuptools>=77" wheel
	$(BIN)/python -m pip install --quiet --editable "$(TEST_INSTALL)"
	@$(BIN)/python -c '$(ROOT_ON_PATH)'
	@touch $@ $(VENV)/.ready-demo

# A folder named vidfeat in the current directory (a clone, seen from its parent) is a namespace
# package to Python unless a regular one is found on the path: the checkout's root goes there.
ROOT_ON_PATH := import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "vidfeat-checkout.pth").write_text(str(pathlib.Path.cwd()) + "\n")

clean:
	rm -rf build $(DEMO)
