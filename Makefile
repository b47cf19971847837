# Everything is installed into .venv (for `bench`, .venv-bench) and built in this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find rust/core/src rust/py/src python -type f -not -name '*.pyc' -not -name '*.so') $(wildcard rust/*/Cargo.toml)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Installs the newest wheel with the extras named by $(1).
install = $(PIP) "$$(ls -t dist/*.whl | head -n 1)[$(1)]"

.PHONY: help demo test lint fmt bench slow clean
.DEFAULT_GOAL := help

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## learn CartPole from recorded episodes and act better than they did (under three minutes)
	$(BIN)/python examples/cartpole.py

test: $(VENV)/.dev ## run every test: the core's, the package's, the documents' examples
	@if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --no-fail-fast --workspace --exclude precedent-py; \
	else cargo test --workspace --exclude precedent-py --lib --tests; fi
	cargo test --doc -p precedent-core
	$(BIN)/python -m pytest
	PRECEDENT_KERNEL=scalar $(BIN)/python -m pytest tests/test_search.py tests/test_layer.py

slow: $(VENV)/.dev ## the same with far more random cases
	PROPTEST_CASES=5000 cargo test --workspace --exclude precedent-py --lib --tests
	PRECEDENT_TESTS=slow $(BIN)/python -m pytest

lint: $(VENV)/.dev ## check formats, lints, types and stubs
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest precedent._core

fmt: $(VENV)/.dev ## format everything
	cargo fmt --all
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format --quiet .

bench: dist/.built ## measure against the peers; writes the tables of docs/benchmarks.md (see benches/python/README.md)
	bash benches/python/run

clean: ## remove what was built
	rm -rf $(VENV) .venv-bench dist target

$(VENV)/.demo: dist/.built
	$(call install,demo)
	@touch $@

$(VENV)/.dev: dist/.built
	$(call install,dev)
	@touch $@

# A wheel is always installed anew: its version number stays the same while the code changes.
dist/.built: $(SOURCES) | $(VENV)/.tools
	@command -v cargo >/dev/null || { echo "Precedent's core is written in Rust: install a Rust toolchain (1.89 or newer) from https://rustup.rs and try again." >&2; exit 1; }
	rm -f dist/*.whl
	$(BIN)/maturin build --release --quiet --interpreter $(BIN)/python --out dist
	$(PIP) --force-reinstall --no-deps dist/*.whl
	@touch $@

$(VENV)/.tools:
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Precedent needs Python 3.11 or newer: install it, or name it with make PYTHON=/path/to/python3." >&2; exit 1; }
	@command -v cc >/dev/null || { echo "Precedent bundles SQLite, which is compiled from C: install a C compiler (for example gcc) and try again." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: install it (on Debian and Ubuntu: the package python3-venv) and try again." >&2; exit 1; }
	$(PIP) 'maturin>=1.9.4,<2'
	@touch $@
