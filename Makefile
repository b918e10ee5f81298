# The notebooks on the drawn sample: `make run`. The tests: `make test`.
BIN := .venv/bin

# TensorFlow has wheels for Python 3.11 to 3.13. PYTHON=... names one; else the first that fits is taken, else uv fetches one.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
first = $(shell for p in $(1); do $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
uv = $(shell command -v uv >/dev/null && echo uv)
CHOICE = $(if $(PYTHON),\
	$(or $(call first,$(PYTHON)),$(error PYTHON=$(PYTHON) does not run Python 3.11, 3.12 or 3.13)),\
	$(or $(call first,python3 python3.13 python3.12 python3.11),$(uv),$(error Install Python 3.11, 3.12 or 3.13, or uv)))

help:  ## say what each target does
	@grep -E '^[a-z.]+:.*##' Makefile | sed 's/:.*##/ -/'

run: .venv  ## execute every notebook on the sample and print the table of results
	$(BIN)/bloodcell run --data sample

pages: .venv  ## the same, and runs/pages/index.html: lessons, glossary and search, to be read in a browser
	$(BIN)/bloodcell run --data sample --pages

slides: .venv  ## runs/pages/slides: the lessons as slides, with what they printed and drew if they were executed
	$(BIN)/bloodcell pages --slides

test: .venv  ## run the tests; those on the real archive need BLOODCELL_DATA
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lab: .venv  ## open the map of the lessons in JupyterLab
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/index.ipynb

lint: .venv  ## check the style and the types of the code, and the style of the notebooks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

lock: .venv  ## choose the newest versions of all packages anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --upgrade --python-version 3.11 --extra dev --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock

clean:  ## remove the environment and the results of runs
	rm -rf .venv runs

python:  ## say what .venv is made with: the Python that fits, or uv
	@echo $(CHOICE)

.venv: .venv/.complete  ## install every locked package into .venv

# The stamp, not the folder, says that the installation was finished.
.venv/.complete: requirements.lock pyproject.toml setup.py
	$(if $(filter uv,$(CHOICE)),test -x $(BIN)/python || uv venv --python 3.12 --seed .venv,$(venv))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Debian splits ensurepip from Python.
define venv
@$(CHOICE) -c 'import ensurepip' 2>/dev/null || [ "$$(id -u)" != 0 ] || \
	{ apt-get update -qq && apt-get install -y -qq $(notdir $(CHOICE))-venv; }
@$(CHOICE) -c 'import ensurepip' 2>/dev/null || { echo "First: apt install $(notdir $(CHOICE))-venv"; exit 1; }
$(CHOICE) -m venv .venv
endef

.PHONY: help run pages slides test lab lint lock clean python .venv
