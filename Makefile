# Everything a reader, a teacher or a contributor runs. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
EMBEDDED := PEEK_PROFILE=embedded TQDM_DISABLE=1

.PHONY: help setup book test sync lint lock clean

help:  ## list the commands
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready  ## install everything into .venv (uv if it is there, else pip)

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Peek needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv
	if command -v uv >/dev/null; then uv pip install --python $(BIN)/python -r requirements.txt; \
	else $(BIN)/python -m pip install -q -r requirements.txt; fi
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

book: setup notebooks-pass  ## test the notebooks, run them in full, build the site into _build/html
	$(BIN)/python book/build.py

test: setup notebooks-pass  ## unit tests, notebooks, pairs, and the built pages in a browser; no network
	$(BIN)/python book/sync.py --check
	$(EMBEDDED) $(BIN)/python -W ignore book/build.py
	$(BIN)/python -m pytest -ra

.PHONY: notebooks-pass
notebooks-pass:
	$(EMBEDDED) $(BIN)/python -m pytest -q --nbval-lax --nbval-cell-timeout=600 --durations=8 --durations-min=4 notebooks

sync:  ## write each notebook from its .py, and the repository's address from _config.yml
	$(BIN)/python book/sync.py

lint:  ## check style with ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check peeklib tests book

lock:  ## resolve requirements.txt anew (needs uv)
	uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --no-annotate --no-header pyproject.toml --group book -o requirements.txt

clean:  ## remove what was built, and the installed environment
	rm -rf _build .venv *.egg-info .pytest_cache .ruff_cache
