# dlagg's commands. Each makes the environment once (.venv, from requirements.lock) and then does its work.
# PYTHON=python3.12 make ... uses another Python; DLAGG_MIRROR=FOLDER reads the public data sets from a folder.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TORCH  := .venv-torch
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help env learn run test torch site notebooks exercises bench data lock clean

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(READY)  ## Make the environment (the other commands do it by themselves)

# uv where it is and works, else venv and pip. The stamp is written last, so a half-made environment is completed by the next call.
$(READY): requirements.lock pyproject.toml
	@echo "Making $(VENV) from requirements.lock ..."
	@( command -v uv >/dev/null 2>&1 && ( test -x $(BIN)/pip || uv venv -q --seed --python $(PYTHON) $(VENV) ) && uv pip install -q --python $(BIN)/python -r requirements.lock ) \
	  || ( ( test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) ) && $(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.lock )
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

learn: $(READY)  ## Open JupyterLab on the first lesson
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" "$(CURDIR)/nbs/0_course/01_tour.ipynb" $(LAB)

run: $(READY)  ## Analyse the bundled shop; writes dlagg-report/report.html
	$(BIN)/dlagg run $(RUN)

test: $(READY)  ## Run every test: the notebooks' cells, then tests/
	OPENBLAS_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --timing
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(TEST)

torch: $(TORCH)/.ready  ## Make .venv-torch (about 1 GB): PyTorch, so that the tests also run on that backend

# PyTorch of its own (pip chooses the build for this machine; uv does not find every one), all else from .venv through a .pth file. The import proves it before the stamp.
$(TORCH)/.ready: | $(READY)
	@echo "Making $(TORCH) ..."
	@$(BIN)/python -m venv --clear --without-pip $(TORCH)
	@$(BIN)/python -m pip --python $(TORCH)/bin/python install -q --disable-pip-version-check -c requirements.lock torch==2.13.0
	@$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > "$$($(TORCH)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/dlagg.pth"
	@KERAS_BACKEND=torch $(TORCH)/bin/python -c "import keras, torch; print('Keras', keras.__version__, 'on', keras.config.backend(), torch.__version__)"
	@touch $@

site: $(READY)  ## Build the documentation site into _docs/
	$(BIN)/python docs/readme.py --check
	$(BIN)/sphinx-build -E -q -b html -W --keep-going -c docs nbs _docs
	@echo "The site is in _docs/index.html"

notebooks: $(READY)  ## Run every notebook, keep its outputs, clean its metadata, export the package
	$(BIN)/python docs/notebooks.py $(NB)
	$(BIN)/python docs/readme.py

exercises: $(READY)  ## Write the exercises' cells into the lessons from their sources
	$(BIN)/python docs/exercises.py

bench: $(READY)  ## Measure against peers; writes bench/results/
	$(BIN)/python -m bench $(BENCH)

data: $(READY)  ## Make data/shop/ again from its generator
	$(BIN)/python -m dlagg.tables.datasets_shop data/shop

lock:  ## Resolve requirements.lock again (needs uv)
	uv pip compile --universal --python-version 3.11 --fork-strategy fewest --no-emit-index-url --no-annotate --no-header \
	  --extra site --extra dev --extra bench pyproject.toml -o requirements.lock -q

clean:  ## Remove what the other commands make
	rm -rf $(VENV) $(TORCH) _docs dist build dlagg-report .pytest_cache .hypothesis
