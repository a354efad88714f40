# Everything a reader, a teacher or a contributor runs. `make help` lists it.
PYTHON ?= python3
EMBEDDED := PEEK_PROFILE=embedded TQDM_DISABLE=1

# Where results of training and factorizing are kept, for tests and builds alike
export PEEK_CACHE ?= $(CURDIR)/_build/results

# Wheels alone, each with a hash that a lock knows: nothing runs while it is installed. uv takes less than half of pip's
# processor time; it does not read pip's configuration, so pip follows where it fails.
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q
UV := $(BIN)/uv pip install -q --python $(BIN)/python
LOCK := requirements.txt
LOCKED = --no-deps --require-hashes --only-binary :all: -r $(LOCK)
GET_UV := $(PIP) --require-hashes --only-binary :all: -r requirements/install.txt

# 1 GB in place of 6: PyTorch from its own index of CPU builds, or from CPU=<index>. The lock has the versions of these, not
# the hashes; all else comes from the lock, without CUDA. What was chosen once stands in $(VENV)/ready.
CPU := $(or $(CPU),$(shell cat $(VENV)/ready 2>/dev/null))
ifeq ($(CPU),1)
export UV_TORCH_BACKEND := cpu
endif
ifneq ($(CPU),)
export CPU
LOCK := _build/requirements.txt
FROM := $(if $(filter 1,$(CPU)),,--index-url $(CPU))
PYTORCH := $(GET_UV) && $(UV) --no-deps $(FROM) $$(grep -oE '^torch(vision)?==[^ ]+' requirements.txt)
endif

# Where nothing is installed yet, writing notebooks and addresses takes a small environment of its own
SYNC := $(if $(wildcard .venv/ready),.venv,_build/sync)

.PHONY: help setup book test unit matrix notebooks evidence zoo bench devices sync offline lint lock audit clean distclean

help:  ## list the commands
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/ready  ## install everything into .venv; CPU=1 takes PyTorch without CUDA

$(VENV)/ready: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	{ echo "Peek needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 book"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PYTORCH)
	($(GET_UV) && $(UV) $(LOCKED)) || $(PIP) --no-compile $(LOCKED)
	$(PIP) --no-deps --no-build-isolation -e .
	echo $(CPU) > $@

_build/requirements.txt: requirements.txt
	@mkdir -p _build
	grep -v '^-r ' requirements.txt > $@
	@touch -r requirements.txt $@  # as old: no reason to set up anew

book: setup  ## test the notebooks, run them in full, build the site into _build/html
	@$(MAKE) --no-print-directory notebooks || failed=1; $(BIN)/python book/build.py && test -z "$$failed"

test: notebooks  ## notebooks, pairs, unit tests, and the built pages in a browser; no network
	$(BIN)/python book/sync.py --check
	$(EMBEDDED) $(BIN)/python book/build.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra -n 2 --dist worksteal -p no:nbval

unit: setup  ## unit tests alone: no notebook, no page, no browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -p no:nbval --ignore=tests/test_book.py tests

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

devices: setup  ## run every notebook on a simulated GPU, compile the kernel in every size (half an hour); `benchmarks/gpu.sh` is for a real one
	$(BIN)/python -m pytest -ra -m slow tests/test_pages_on_gpu.py tests/test_gpu.py

sync: $(SYNC)/ready  ## write each notebook from its .py, and this copy's address; needs no PyTorch
	$(SYNC)/bin/python book/sync.py

_build/%/ready: requirements/%.txt
	$(PYTHON) -m venv _build/$*
	_build/$*/bin/python -m pip install -q --require-hashes --only-binary :all: -r $<
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

# One lock for every system and Python; what PyTorch pins for CUDA lies apart, for those who do without
COMPILE = $(BIN)/uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-annotate --no-header $(addprefix --upgrade-package ,$(UP))

lock: setup  ## resolve requirements.txt and requirements/ anew, and list licences; UP="pillow torch" takes their newest
	@mkdir -p _build
	grep -hv '^-r ' requirements.txt requirements/cuda.txt > _build/lock.txt
	$(COMPILE) pyproject.toml --group book -o _build/lock.txt
	awk '/^[a-z]/ {cuda = /^(nvidia-|cuda-|triton)/} {print > "requirements" (cuda ? "/cuda" : "") ".txt"} \
	END {print "-r requirements/cuda.txt" > "requirements.txt"}' _build/lock.txt
	for group in sync install audit; do $(COMPILE) --group $$group -c requirements.txt -o requirements/$$group.txt || exit; done
	$(BIN)/python book/licences.py

audit: _build/audit/ready  ## known holes in what is locked (asks the package index), and in the workflows
	_build/audit/bin/zizmor -q --offline --persona auditor --min-severity low .github
	_build/audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
	-r requirements.txt -r requirements/install.txt -r requirements/audit.txt

clean:  ## remove what was built
	rm -rf _build .pytest_cache .ruff_cache

distclean: clean  ## remove the installed environment too
	rm -rf .venv *.egg-info
