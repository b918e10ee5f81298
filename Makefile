# The notebooks on the drawn sample: `make run`. The tests: `make test`.
PYTHON ?= python3
BIN := .venv/bin

help:  ## say what each target does
	@grep -E '^[a-z.]+:.*##' Makefile | sed 's/:.*##/ -/'

run: .venv  ## execute every notebook on the sample and print the table of results
	$(BIN)/bloodcell run --data sample

test: .venv  ## run the tests; those on the real archive need BLOODCELL_DATA
	$(BIN)/python -m pytest

lab: .venv  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

lint: .venv  ## check the style of the code
	$(BIN)/ruff check bloodcell_lib tests benchmarks

lock: .venv  ## choose the newest versions of all packages anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --upgrade --python-version 3.11 --extra dev --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.lock

clean:  ## remove the environment and the results of runs
	rm -rf .venv runs

.venv: .venv/.complete  ## install every locked package into .venv

# The stamp, not the folder, says that the installation was finished.
.venv/.complete: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "$(PYTHON) must be Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || [ "$$(id -u)" != 0 ] || \
		{ apt-get update -qq && apt-get install -y -qq python3-venv; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "Install Python's venv first: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: help run test lab lint lock clean .venv
