# Every target works alone from a clean clone on a machine that has only Python 3.11 (PYTHON=python3.12 for another).
PYTHON ?= python3.11
BIN := .venv/bin
ifndef ZIGGURAT_DATA
ifneq ($(wildcard ../shared/data),)
export ZIGGURAT_DATA := $(abspath ../shared/data)
endif
endif
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-all lint bench claims clean

# torch first, by its exact version, so that nothing later asks for another build.
# Where the registry has only the CUDA build: make TORCH_INDEX=https://download.pytorch.org/whl/cpu
PIP = $(BIN)/python -m pip install -qq --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv || python3 -m venv .venv
	@echo "installing (a few minutes the first time) ..."
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) -c constraints.txt -e ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/python -m ziggurat.cli.demo

lint: .venv/installed
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: lint
	ZIGGURAT_EXPORTS=all $(BIN)/python -m pytest -n 2
	ZIGGURAT_TYPECHECK=0 $(BIN)/python -m pytest -n 2 -m untyped

bench: .venv/installed
	$(BIN)/python -m benchmarks

claims: .venv/installed
	$(BIN)/ziggurat claim --all

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
