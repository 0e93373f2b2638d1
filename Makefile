# make demo    trains, meta-tests, exports, counts and reports on glyphs, end to end
# make test    lint, types, and the whole test suite
# Both set up .venv first, whenever it is missing or the pins have changed.

VENV := .venv
PYTHON = $(firstword $(foreach name,python3.11 python3.10 python3,$(shell $(name) -c 'import sys; print(sys.executable if (3, 10) <= sys.version_info < (3, 12) else "")' 2>/dev/null)))
STAMP := $(VENV)/.installed
EXTRAS := cluster,dev,docs,loihi,meter,nengo,nir,report,tensorboard

.PHONY: setup demo test lint test-numpy2 docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "snn-anml needs Python 3.11 or 3.10 on the path (NengoDL's range); install one of them." >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt torch numpy
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	# Its metrics are what our counts must equal; what it asks for beside them asks for another numpy than Nengo's.
	$(VENV)/bin/python -m pip install --quiet --no-deps --constraint constraints.txt neurobench
	touch $@

demo: setup
	$(VENV)/bin/snn-anml run --config experiments/configs/demo.yaml --out runs/demo

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

test: lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist worksteal

# The learning library alone: numpy 2, neither Nengo nor TensorFlow.
test-numpy2: .venv-numpy2/.installed
	OMP_NUM_THREADS=1 .venv-numpy2/bin/python -m pytest -n 2 --dist worksteal

.venv-numpy2/.installed: pyproject.toml constraints-numpy2.txt
	$(PYTHON) -m venv --clear .venv-numpy2
	.venv-numpy2/bin/python -m pip install --quiet --constraint constraints-numpy2.txt torch numpy
	.venv-numpy2/bin/python -m pip install --quiet --constraint constraints-numpy2.txt --editable ".[report]" hypothesis pytest pytest-xdist
	touch $@

docs: setup
	$(VENV)/bin/mkdocs build --strict

clean:
	rm -rf $(VENV) .venv-numpy2 site build *.egg-info
