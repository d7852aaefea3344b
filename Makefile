# Every target creates what it needs. `make` alone lists the targets.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Python encodes a path of any characters as an address.
STORE = $$($(BIN)/python -c 'from pipelines.tracking.address import EMBEDDED_URI; print(EMBEDDED_URI)')
# Overrides and options: make run ARGS="model=resnet50 dataset=cifar10"
ARGS ?=
PORT ?= 5000
SOURCES := pipelines tests benchmarks hydra_plugins handbook

.DEFAULT_GOAL := help
.PHONY: help setup run sweep server sync ui compare report measure promote pull docs pictures site test test-fast check lint format bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

# uv installs the versions of uv.lock. Without uv, pip installs the newest versions that pyproject.toml allows.
UV := $(shell command -v uv)
comma := ,
blank := $(subst ,, )
ifdef UV
environment = test -x $(BIN)/python || $(UV) venv --quiet --seed --python $(PYTHON) $(VENV)
install = UV_PROJECT_ENVIRONMENT=$(VENV) $(UV) sync --quiet --locked --inexact $(addprefix --extra ,$(1))
else
# Where it was broken off, as on a system without python3-venv, its Python is there and its pip is not.
environment = test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
install = $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$(subst $(blank),$(comma),$(1))]'
endif

# A stamp file means that the environment matches pyproject.toml and uv.lock.
$(VENV)/runtime: pyproject.toml uv.lock
	$(environment)
	$(call install,train)
	@touch $@

$(VENV)/dev: $(VENV)/runtime
	$(call install,dev pretrained)
	@touch $@

setup: $(VENV)/dev ## create .venv with all development dependencies

run: $(VENV)/runtime ## run one cell: make run ARGS="model=resnet50 dataset=cifar10 technique=transfer"
	$(BIN)/python -m pipelines run $(ARGS)

sweep: $(VENV)/runtime ## run a grid: make sweep ARGS="technique=baseline,quantize_int8 seed=0,1"
	$(BIN)/python -m pipelines run --multirun $(or $(ARGS),technique=baseline$(comma)quantize_int8)

$(VENV)/server: $(VENV)/runtime
	$(call install,server)
	@touch $@

server: $(VENV)/server ## serve MLflow on PostgreSQL at http://127.0.0.1:5000: make server PORT=5001
	$(BIN)/python -m pipelines server --port $(PORT) $(ARGS)

sync: $(VENV)/runtime ## send finished cells that a tracking server missed: make sync ARGS=multirun
	$(BIN)/python -m pipelines sync $(ARGS)

ui: $(VENV)/runtime ## open MLflow's UI on the embedded store: http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --backend-store-uri "$(STORE)" --host 127.0.0.1 --port $(PORT)

compare: $(VENV)/runtime ## compare recorded cells, the highest score first: make compare ARGS="--sweep last"
	$(BIN)/python -m pipelines compare $(ARGS)

report: $(VENV)/runtime ## write an HTML report with figures: make report ARGS="--sweep last --out report"
	$(BIN)/python -m pipelines report $(ARGS)

measure: $(VENV)/runtime ## measure exported models on this machine: make measure ARGS="--sweep last --profile thorough"
	$(BIN)/python -m pipelines measure $(ARGS)

promote: $(VENV)/runtime ## make the fittest cell champion: make promote ARGS="--dataset cifar10 --dry-run"
	$(BIN)/python -m pipelines promote $(ARGS)

pull: $(VENV)/runtime ## download the champion with its model card: make pull ARGS="--dataset cifar10"
	$(BIN)/python -m pipelines pull $(ARGS)

docs: $(VENV)/runtime ## update the generated tables of README and docs
	$(BIN)/python -m handbook

pictures: $(VENV)/runtime ## draw the pictures of README and docs: make pictures ARGS="--experiment article"
	$(BIN)/python -m handbook.pictures $(ARGS)

$(VENV)/docs: $(VENV)/runtime
	$(call install,docs)
	@touch $@

# Not with --quiet: `strict` of mkdocs.yml would count no warning.
site: $(VENV)/docs ## build the documentation as web pages in site/; a broken link is an error
	$(BIN)/python -m mkdocs build

test: $(VENV)/dev ## run all tests
	$(BIN)/python -m pytest -m ""

test-fast: $(VENV)/dev ## run all tests but those with the mark `slow`
	$(BIN)/python -m pytest

lint: $(VENV)/dev ## check format, style, types and spelling
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/codespell

check: lint test ## lint and run all tests, as before a push

format: $(VENV)/dev ## format the code and apply ruff's fixes
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

bench: $(VENV)/dev ## run the benchmarks; with PyTorch and images: make bench TORCH=../torch/bin/python NPZ=cifar10.npz
	$(BIN)/python -m benchmarks.training
	$(if $(TORCH),$(BIN)/python -m benchmarks.torch_training --torch-python $(TORCH))
	$(BIN)/python -m benchmarks.convolutions
	$(BIN)/python -m benchmarks.settings
	$(BIN)/python -m benchmarks.limits
	$(BIN)/python -m benchmarks.conversion
	$(BIN)/python -m benchmarks.acceleration
	$(if $(NPZ),$(BIN)/python -m benchmarks.post_training $(NPZ))
	$(if $(NPZ),$(BIN)/python -m benchmarks.proof $(NPZ))
	$(BIN)/python -m benchmarks.first_batch
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.to_answer
	$(BIN)/python -m benchmarks.tracking
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.reuse
	$(BIN)/python -m benchmarks.folder

clean: ## remove caches and job folders, but not .venv and mlruns
	rm -rf outputs multirun build site .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find pipelines tests benchmarks hydra_plugins handbook -name __pycache__ -type d -exec rm -rf {} +
