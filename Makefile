# Every target does all of its own set-up: only Python >= 3.11 and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow coverage package dist check docs clean

demo: $(STAMP)
	$(BIN)/lowdim demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -q

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow -rP --timeout 7200

# Lines that the tests run, child processes included. Compiled kernels are invisible: their short tests run once more as plain Python.
PLAIN := $(addprefix tests/completion/test_,kernels.py packed.py entries.py als.py ratings.py)
LONG := noise or new_rows or seed or unrated or rank_is_found or single or cover
coverage: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -q --cov --cov-report=
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q --cov --cov-append --cov-report=term $(PLAIN) -k "not ($(LONG))"

# The source archive and the wheel, with the time of the last commit inside: the same sources give the same bytes.
dist: $(STAMP)
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --outdir dist

# Builds the wheel and the source archive, and installs the wheel alone in a clean environment.
package: $(STAMP)
	$(BIN)/python -m pytest -q -m slow tests/test_package.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group docs
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build/html
	! grep -rlE --include='*.html' '<(script|link)[^>]*="(https?:)?//' docs/_build/html  # nothing from the network

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lowdim needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# torch and torchvision come first and as an exact pair: resolved later, another package could pull a mismatched one.
$(STAMP): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev -e ".[all]"
	touch $@

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache
