# Everything a reader, a teacher or a contributor runs. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
EMBEDDED := PEEK_PROFILE=embedded TQDM_DISABLE=1

# Where results of training and factorizing are kept, for tests and builds alike
export PEEK_CACHE ?= $(CURDIR)/_build/results

# uv takes less than half of pip's processor time; it does not read pip's configuration, so pip follows where it fails
PIP := $(BIN)/python -m pip install -q
UV = $(PIP) uv && $(BIN)/uv pip install -q --python $(BIN)/python -r requirements.txt
INSTALL = $(UV) || $(PIP) --no-compile -r requirements.txt
ifdef CPU  # 1 GB in place of 6; pip finds this build only if its own configuration names where, so it does not follow
export UV_TORCH_BACKEND := cpu
INSTALL = $(UV)
endif

# Where nothing is installed yet, writing notebooks and addresses takes a small environment of its own
SYNC := $(if $(wildcard .venv/ready),.venv,_build/sync)

.PHONY: help setup book test unit matrix notebooks evidence zoo bench devices sync offline lint lock clean distclean

help:  ## list the commands
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready  ## install everything into .venv; CPU=1 takes PyTorch without CUDA

.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	{ echo "Peek needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 book"; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL)
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

book: setup  ## test the notebooks, run them in full, build the site into _build/html
	@$(MAKE) --no-print-directory notebooks || failed=1; $(BIN)/python book/build.py && test -z "$$failed"

test: notebooks  ## notebooks, pairs, unit tests, and the built pages in a browser; no network
	$(BIN)/python book/sync.py --check
	$(EMBEDDED) $(BIN)/python book/build.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra -n 2 --dist worksteal

unit: setup  ## unit tests alone: no notebook, no page, no browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal --ignore=tests/test_book.py tests

matrix: setup  ## unit tests and notebooks in other versions, or in one: make matrix ENV=colab
	$(BIN)/python tests/matrix.py $(ENV)

notebooks: setup  ## run every notebook as a test, in its small version, if what it uses has changed
	@$(EMBEDDED) $(BIN)/python book/shelf.py || \
	$(EMBEDDED) OMP_NUM_THREADS=1 PYTHONPATH=book $(BIN)/python -m pytest -q -n 2 --dist loadfile -p nbval_shelf \
	--nbval-lax --nbval-cell-timeout=600 notebooks

evidence: setup  ## train the many networks behind the tables of evidence anew (hours)
	$(BIN)/python book/evidence.py

zoo: setup  ## train and score the networks behind chapter 14 (an hour on two cores; goes on where it was stopped)
	OMP_NUM_THREADS=1 $(BIN)/python book/zoo.py

bench: setup  ## time our factorization beside other people's, on this machine (an hour)
	$(BIN)/python benchmarks/run.py

devices: setup  ## run every notebook on a simulated GPU (half an hour); `benchmarks/gpu.sh` is for a real one
	$(BIN)/python -m pytest -ra -m slow tests/test_pages_on_gpu.py

sync: $(SYNC)/ready  ## write each notebook from its .py, and this copy's address; needs no PyTorch
	$(SYNC)/bin/python book/sync.py

_build/sync/ready: requirements.txt
	$(PYTHON) -m venv _build/sync
	_build/sync/bin/python -m pip install -q $$(grep -E '^(jupytext|pybtex|pyyaml)==' requirements.txt)
	touch $@

offline:  ## _build/peek-offline.zip: the site, the wheel and the notebooks, for a memory stick
	@$(MAKE) --no-print-directory book || failed=1; $(BIN)/python book/publish.py && test -z "$$failed"

lint: setup  ## style, types, spelling, and whether each notebook is its script's
	$(BIN)/ruff check .
	$(BIN)/ruff format --check peeklib tests book benchmarks
	$(BIN)/ruff format --check --line-length 88 notebooks/*.py
	$(BIN)/basedpyright
	$(BIN)/codespell
	$(BIN)/python book/sync.py --check

lock: setup  ## resolve requirements.txt anew, without what PyTorch pins by itself
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --no-annotate --no-header pyproject.toml --group book -o requirements.txt
	sed -i.old -E '/^(nvidia-|cuda-|triton)/d' requirements.txt && rm requirements.txt.old

clean:  ## remove what was built
	rm -rf _build .pytest_cache .ruff_cache

distclean: clean  ## remove the installed environment too
	rm -rf .venv *.egg-info
