# make repro              everything that is out of date, from data to report
# make repro PROFILE=name the same with profiles/name.yaml as params.yaml
# make test               the tests; make test OPTIONS="-k arm --arm" hands options to pytest
# make arm                what the tests on an emulated ARM processor need, by apt-get where it is and we may
# make ui                 MLflow's page over all runs (PORT=5001 where 5000 is taken)
# make exps               dvc exp show, with the params that differ and the scores only
# make check | clean | lock

PYTHON ?= python3
PORT ?= 5000

# The stages' commands begin with `python`: let it be the virtual environment's, as after `. .venv/bin/activate`.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv

# What the pipeline needs, and what only tests and checks need besides. Both take their versions from requirements.lock.
installed := .venv/installed
developed := .venv/developed
INSTALL := .venv/bin/python -m pip install --constraint requirements.lock

.PHONY: repro test arm check exps ui clean lock

repro: $(installed)
ifdef PROFILE
	.venv/bin/minimind profile $(PROFILE)
endif
	@.venv/bin/minimind check
	@.venv/bin/minimind estimate || true
	.venv/bin/dvc repro
	@.venv/bin/minimind next

# Files of tests go to two workers, so each computes on one core. A thread that waits must not spin on the other's.
test: $(developed)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE .venv/bin/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(OPTIONS)

arm_packages := gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
arm:
	@if command -v aarch64-linux-gnu-gcc > /dev/null && command -v qemu-aarch64 > /dev/null; then :; \
	elif command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -qq && apt-get install -qq $(arm_packages) > /dev/null || echo "$(arm_packages): not installed"; \
	else echo "for the tests on an emulated ARM processor, install $(arm_packages)"; fi

check: $(developed)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest tests/test_house.py tests/test_dvc.py

# All runs that DVC knows, with the params that differ and the scores: `dvc exp show` alone has hundreds of columns.
noise := ^(minimind|stages|data|models|presets)/|^runtime|^held_out|^metrics/[a-z]+(\.json)?$$|^metrics/[a-z]+\.json:
noise := $(noise)|^metrics/scores/(pretrain|sft|control)|^(vocab_size|preference_loss|nll|accuracy|margin|divergence)$$
noise := $(noise)|.*_reward$$|^validation_
exps: $(installed)
	@.venv/bin/dvc exp show --only-changed --drop '$(noise)'

ui: $(installed)
	@.venv/bin/minimind ui --port $(PORT)

# Outputs and interim states. DVC's cache stays (`dvc checkout` restores the outputs), as do data/own and MLflow's store.
clean:
	rm -rf data/raw data/clean data/tokenizer data/packed data/reference data/teacher models metrics
	rm -rf .resume .mypy_cache .pytest_cache .ruff_cache dvc_plots

$(installed): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	@echo 'packages for the pipeline: about 450 MB to download, and where torch comes with CUDA some gigabytes more'
	$(INSTALL) setuptools
	$(INSTALL) --no-build-isolation --editable .
	touch $@

$(developed): $(installed)
	@echo 'packages for tests and checks: about 280 MB more to download'
	$(INSTALL) --no-build-isolation --editable '.[dev]'
	touch $@

# Pins for what pyproject.toml asks for; pins that exist stay, `make lock UPGRADE=--upgrade` moves them to the newest.
# Builds of torch for different devices share one pin, so the build's name is cut off.
lock: $(developed)
	.venv/bin/pip-compile --quiet $(UPGRADE) --extra dev --strip-extras --unsafe-package pip --no-header --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --no-emit-options --output-file requirements.lock pyproject.toml
	sed -i.partial -E 's/^(torch==[0-9.]+)\+.*/\1/' requirements.lock
	rm requirements.lock.partial
