# Everything starts here: `make help`.
PYTHON  ?= python3
VENV    ?= .venv
EXTRAS  ?= text,image,viz,report,onnx,dashboards,docs,sweep,bench,dev
DATA    ?= data/beauty
METHODS ?=
PARTS   ?=
SEEDS   ?=
JOBS    ?=
ARGS    ?=

# torch: the CUDA build where there is a GPU, else the CPU build. A folder of wheels that pip is configured to look
# in (PIP_FIND_LINKS or pip.conf) is used; without one, uv's --torch-backend picks the right index.
GPU     := $(shell command -v nvidia-smi 2>/dev/null)
LINKS   := $(shell echo "$${PIP_FIND_LINKS:-$$($(PYTHON) -m pip config get global.find-links 2>/dev/null)}")
TORCH   ?= $(if $(GPU),torch>=2.11$(comma)<2.16,torch==2.13.0)
BACKEND ?= $(if $(LINKS),,--torch-backend $(if $(GPU),auto,cpu))
comma   := ,
BIN     := $(VENV)/bin
INSTALL  = $(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python $(if $(LINKS),--find-links $(LINKS)) -c constraints.txt "$(TORCH)" -e ".[$(EXTRAS)]"
RUN      = OMP_NUM_THREADS=1 $(BIN)/python -m adasid_exp

# DATA: `toy`, `logs:` and a folder of sharded logs (or a URL), or a folder with Beauty in either form.
LOGS := $(patsubst logs:%,%,$(filter logs:%,$(DATA)))
ifeq ($(DATA),toy)
  WHAT = data=toy
else ifneq ($(LOGS),)
  WHAT = data=logs data.root=$(if $(findstring ://,$(LOGS)),$(LOGS),$(abspath $(LOGS)))
else
  WHAT = data=beauty data.root=$(abspath $(DATA))
endif
CHOSEN = $(if $(METHODS),stage.methods=[$(METHODS)]) $(if $(PARTS),stage.parts=[$(PARTS)]) $(if $(SEEDS),stage.seeds=[$(SEEDS)]) $(if $(JOBS),stage.jobs=$(JOBS)) $(ARGS)

HAVE_DATA = test "$(DATA)" = toy || test -d "$(if $(LOGS),$(LOGS),$(DATA))" $(if $(findstring ://,$(LOGS)),|| true )|| { echo "no data in $(DATA): get Amazon Beauty with 'make data-beauty', or name its folder: make $@ DATA=path/to/beauty (DATA=toy needs none)"; exit 2; }

.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[36m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: DATA=toy|FOLDER|logs:FOLDER (default data/beauty)  METHODS=rq_vae,ada_sid  PARTS=retrieval  SEEDS=0,1,2  JOBS=2  ARGS='any=override'"

.PHONY: setup
setup: $(VENV)/.stamp  ## make .venv with everything in it

$(VENV)/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@echo "setting up $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check "uv>=0.9"
	@$(INSTALL) $(BACKEND) || $(INSTALL)
	@touch $@

.PHONY: quickstart
quickstart: setup  ## the whole of Table 2's pipeline on the embedded toy data, in minutes
	$(RUN) stage=reproduce stage.grid=table2 data=toy stage.results=results/toy $(if $(SEEDS),stage.seeds=[$(SEEDS)],stage.seeds=[0]) $(if $(JOBS),stage.jobs=$(JOBS)) $(ARGS)

.PHONY: reproduce-table1
reproduce-table1: setup  ## Table 1 on DATA: sizes, popularity, history lengths
	@$(HAVE_DATA)
	$(RUN) stage=reproduce stage.grid=table1 $(WHAT) $(CHOSEN)

.PHONY: reproduce-table2
reproduce-table2: setup  ## Table 2 on DATA (METHODS, SEEDS choose; a killed run goes on where it was)
	@$(HAVE_DATA)
	$(RUN) stage=reproduce stage.grid=table2 $(WHAT) $(CHOSEN)

.PHONY: reproduce-table3
reproduce-table3: setup  ## Table 3: the ablations of ADA-SID
	@$(HAVE_DATA)
	$(RUN) stage=reproduce stage.grid=table3 $(WHAT) $(CHOSEN)

.PHONY: reproduce-table4
reproduce-table4: setup  ## Table 4: alignment strength (alpha, beta)
	@$(HAVE_DATA)
	$(RUN) stage=reproduce stage.grid=table4 $(WHAT) $(CHOSEN)

.PHONY: figures
figures: figure3 figure4 figure5  ## figures 3, 4 and 5

.PHONY: figure3
figure3: setup  ## sparsity and the number of behavior experts
	@$(HAVE_DATA)
	$(RUN) stage=reproduce stage.grid=figure3 $(WHAT) $(CHOSEN)

.PHONY: figure4
figure4: setup  ## the alignment weight over richness (nothing is trained)
	$(RUN) stage=reproduce stage.grid=figure4 data=toy $(ARGS)

.PHONY: figure5
figure5: setup  ## head and tail of the catalogue, on the runs of Table 2
	@$(HAVE_DATA)
	$(RUN) stage=reproduce stage.grid=figure5 $(WHAT) $(CHOSEN)

.PHONY: reproduce-behavior
reproduce-behavior: setup  ## four ways to train SASRec on DATA: quality on validation, norm against popularity
	@$(HAVE_DATA)
	$(RUN) stage=reproduce stage.grid=behavior $(WHAT) $(CHOSEN)

.PHONY: premise
premise: setup  ## beyond the paper: does the norm follow popularity, and what ADA-SID does when not
	@$(HAVE_DATA)
	$(RUN) stage=reproduce stage.grid=premise $(WHAT) $(CHOSEN)

.PHONY: readings
readings: setup  ## beyond the paper: every disputed reading of an equation, one at a time
	@$(HAVE_DATA)
	$(RUN) stage=reproduce stage.grid=readings $(WHAT) $(CHOSEN)

.PHONY: decoders
decoders: setup  ## beyond the paper: three ways to decode
	@$(HAVE_DATA)
	$(RUN) stage=reproduce stage.grid=decoders $(WHAT) $(CHOSEN)

.PHONY: objectives
objectives: setup  ## beyond the paper: the generator trained on slots, and on items
	@$(HAVE_DATA)
	$(RUN) stage=reproduce stage.grid=objectives $(WHAT) $(CHOSEN)

.PHONY: noise
noise: setup  ## beyond the paper: the tail's behavior corrupted by a growing amount (toy data)
	$(RUN) stage=reproduce stage.grid=noise data=toy $(CHOSEN)

.PHONY: dashboards
dashboards: setup  ## make or update the wandb workspace that conf/dashboard describes (needs a login)
	$(RUN) stage=dashboards $(ARGS)

.PHONY: report
report: setup  ## one HTML page of what has run on DATA: tables, figures, curves, codebooks, provenance (results/report.html)
	@$(HAVE_DATA)
	$(RUN) stage=report $(WHAT) $(if $(SEEDS),stage.seeds=[$(SEEDS)]) $(ARGS)

.PHONY: data-beauty
data-beauty: setup  ## download the public Amazon Beauty files into data/beauty
	$(BIN)/python -m adasid_exp.data.download --to data/beauty

.PHONY: test
test: setup  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: check
check: setup  ## style, types, import contracts
	$(BIN)/ruff check --no-cache src tests
	$(BIN)/ruff format --no-cache --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: bench
bench: setup  ## measure the hot paths as ratios to a floor or a reference (about ten minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/bench -o python_files='bench_*.py' --benchmark-only --benchmark-autosave -p no:xdist

.PHONY: format
format: setup  ## let ruff put the code in shape
	$(BIN)/ruff check --fix src tests
	$(BIN)/ruff format src tests

.PHONY: lock
lock: setup  ## write constraints.txt from what is installed
	$(BIN)/uv pip freeze --exclude-editable --python $(BIN)/python | grep -v -E '^(torch|uv|pip|setuptools|triton)==|^(nvidia-|cuda-)|://' > constraints.txt

.PHONY: docs
docs: setup  ## build the documentation site into site/ (strict: a dead link is an error)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

.PHONY: docs-serve
docs-serve: setup  ## show the documentation while it is written, at http://127.0.0.1:8000
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

.PHONY: wheel
wheel: setup  ## build the wheel into dist/
	$(BIN)/uv build --wheel -q -o dist

.PHONY: clean
clean:  ## remove caches and built files, keep runs and results
	rm -rf dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
