# `make demo` and `make test` do everything on a fresh machine, set-up included.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# For the benchmarks (see benchmarks/README.md). {size} in a path stands for the size.
SIZE ?= 20k
PEERS ?= benchmarks/.peers
CENSUS ?=
H5AD ?=
MORE ?=

# Tests run in so many processes; each file in one of them.
JOBS ?= 2

.PHONY: demo test coverage test-tiledb test-newest test-lowest lint types wheel bench bench-stream bench-bulk bench-scaling bench-memory bench-groups bench-remote bench-scale bench-wide peers faults docs clean

demo: $(READY)
	$(BIN)/headrace demo --out demo

test: $(READY)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

# Which lines the tests run; a quarter slower.
coverage: $(READY)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term

# Under other Pythons, each in an environment of its own: the newest of everything, and the lowest that pyproject allows.
NEWEST ?= 3.12 3.13
LOWEST ?= anndata==0.11.* cellxgene-census==1.17.* tiledbsoma==1.17.* click==8.1.* h5py==3.15.* numba==0.60.* \
	numcodecs==0.13.* numpy==1.26.* pandas==2.2.* pyarrow==17.* scipy==1.12.* scanpy==1.11.2 isal==1.7.* platformdirs==4.2.*

test-newest:
	@set -e; for version in $(NEWEST); do \
	  python=$$(command -v python$$version || ls -d $$HOME/.pyenv/versions/$$version*/bin/python 2>/dev/null | tail -1); \
	  if [ -z "$$python" ]; then echo "Python $$version is missing: pyenv install $$version"; exit 1; fi; \
	  $$python -m venv .venv-newest-$$version; \
	  .venv-newest-$$version/bin/python -m pip install --quiet --upgrade -e '.[test]'; \
	  .venv-newest-$$version/bin/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder; \
	done

test-lowest:
	@set -e; \
	python=$$(command -v python3.11 || ls -d $$HOME/.pyenv/versions/3.11*/bin/python 2>/dev/null | tail -1); \
	if [ -z "$$python" ]; then echo "Python 3.11 is missing: pyenv install 3.11"; exit 1; fi; \
	$$python -m venv .venv-lowest; \
	.venv-lowest/bin/python -m pip install --quiet $(LOWEST) -e '.[test]'; \
	.venv-lowest/bin/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

# All that reads X of a Census, again with TileDB as its reader.
test-tiledb: $(READY)
	HEADRACE_READER=tiledb $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder $(addprefix tests/,sources/soma laws/test_plan.py::test_plan_on_a_census \
		engine cli/test_sources.py testing against/test_notebook.py against/test_scanpy_census.py) \
		--ignore=tests/engine/test_cluster.py \
		--ignore=tests/sources/soma/test_far.py --ignore=tests/sources/soma/test_filters.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(READY)
	$(BIN)/mypy

# What a user installs: from the wheel, in an empty environment, away from this folder.
wheel: $(READY)
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	rm -rf dist/venv && $(PYTHON) -m venv dist/venv
	dist/venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt dist/*.whl
	cd dist && venv/bin/headrace demo --out demo && venv/bin/headrace --version

# The documentation, warnings as errors; it lands in docs/_build/html, where links, anchors and search are tried. Nothing
# is fetched but packages.
docs: $(BIN)/.docs
	$(BIN)/python scripts/make_pictures.py
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	HEADRACE_DOCS=docs/_build/html $(BIN)/python -m pytest -q tests/docs/test_built.py

$(BIN)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

bench: bench-stream bench-bulk

bench-stream: $(READY)
	$(BIN)/python benchmarks/stream.py --size $(SIZE) --peers '$(PEERS)' --census '$(CENSUS)' --h5ad '$(H5AD)' $(MORE)

bench-bulk: $(READY)
	$(BIN)/python benchmarks/bulk.py

bench-scaling: $(READY)
	$(BIN)/python benchmarks/scaling.py --census '$(CENSUS)' --plot benchmarks/scaling.svg $(MORE)

bench-memory: $(READY)
	$(BIN)/python benchmarks/budgets.py --census '$(CENSUS)' $(MORE)

bench-groups: $(READY)
	$(BIN)/python benchmarks/groups.py $(MORE)

bench-remote: $(READY)
	$(BIN)/python benchmarks/remote.py --census '$(CENSUS)' $(MORE)

bench-scale: $(READY)
	$(BIN)/python benchmarks/scale.py compare --census '$(CENSUS)'
	$(BIN)/python benchmarks/scale.py scanpy --census '$(CENSUS)'
	$(BIN)/python benchmarks/scale.py tasks --n 5000

bench-wide: $(READY)
	$(BIN)/python benchmarks/wide.py --census '$(CENSUS)' $(MORE)

peers: $(READY)
	$(BIN)/python benchmarks/peers/install.py '$(PEERS)'

# Kills, calls that fail, full disks, flipped bits, faults of a line, in full: about two hours. The tests run a small part of it.
N ?= 200
faults: $(READY)
	$(BIN)/python tests/faults/campaign.py --kills $(N) --cli 20
	$(BIN)/python tests/faults/eio.py
	$(BIN)/python tests/faults/disk.py
	$(BIN)/python tests/faults/flips.py
	$(BIN)/python tests/faults/mutations.py --rounds 20000
	$(BIN)/python -m tests.faults.scale --kills 10
	$(BIN)/python tests/remote/campaign.py
	$(BIN)/python tests/remote/kills.py --kills 20 --census '$(CENSUS)'

clean:
	rm -rf $(VENV) demo dist build

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $@
