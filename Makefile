# Everything a person types here. `make help` lists it.
SHELL := /bin/sh
PYTHON ?= python3
LIFEBOAT_CACHE ?= $(HOME)/.cache/lifeboat
PULUMI_VERSION := 3.259.0
export LIFEBOAT_CACHE
# Hundreds of short processes start from this checkout: let them keep what they compiled.
unexport PYTHONDONTWRITEBYTECODE
# Pulumi's language host takes the first Python on PATH, so the environment comes first.
export PATH := $(CURDIR)/.venv/bin:$(LIFEBOAT_CACHE)/pulumi-$(PULUMI_VERSION)/bin:$(PATH)
WORKERS ?= 2
# Real tests wait for each other's parts more than they compute.
REAL_WORKERS ?= 3
PYTEST := .venv/bin/python -m pytest -q -p no:cacheprovider

.PHONY: help setup check lint quick test test-long demo prove-tracking prove-points prove-matrix bench lock format clean
DURATION ?= 60
POINTS ?= 300
SIZE ?= full
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

setup: ## make this machine ready (idempotent; says what it does)
	@$(PYTHON) -m tools.setup

demo: setup ## protect a real server, burn its site, run it again; TAMPER=1 and LEAK=1 must fail
	@.venv/bin/python -m demo

prove-tracking: setup ## lose no write for DURATION seconds, whoever is killed; MUTANT=name (tests/mutants) must fail
	@.venv/bin/python -m tests.tracking --seconds $(DURATION) $(if $(MUTANT),--mutant $(MUTANT))

prove-points: setup ## each of POINTS recovery points is one instant and whole, also after power cuts; MUTANT=name must fail
	@.venv/bin/python -m tests.points --points $(POINTS) $(if $(MUTANT),--mutant $(MUTANT))

check: setup lint quick ## lint, types, import rules, quick tests

lint:
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --cache-dir .import_linter_cache

# A time-out that is raised inside an event loop may leave it waiting for ever: there a worker ends instead.
quick:
	$(PYTEST) -m "not thorough and not real and not vm and not matrix" -n $(WORKERS) --timeout 60 --timeout-method thread

# A batch of shapes keeps two emulating cores busy by itself: beside other machines they would starve each other.
test: check ## check, and the tests on real machines, six shapes among them, and on real machinery
	$(PYTEST) -m "vm and not matrix and not long" -n $(WORKERS) --dist loadfile --timeout 3600
	$(PYTEST) -m matrix --timeout 3600
	$(PYTEST) -m "(real or thorough) and not vm and not matrix" -n $(REAL_WORKERS) --dist loadfile --no-loadscope-reorder --timeout 600

test-long: setup ## a whole life, and kills of every part, on a real machine; half an hour
	$(PYTEST) -m long --timeout 3600

prove-matrix: setup ## servers of all shapes (SHAPES=short or "NAME NAME"), failed over and booted; writes docs/support.md
	LIFEBOAT_MATRIX="$(or $(SHAPES),all)" $(PYTEST) -m matrix --timeout 7200 tests/end_to_end/test_matrix.py

bench: setup ## measure replication beside what a person would use instead; SIZE=short in minutes, writes nothing
	@.venv/bin/python -m bench.tools
	@.venv/bin/python -m bench --size $(SIZE)

format: ## format all files
	.venv/bin/ruff check --fix-only
	.venv/bin/ruff format

lock: ## write the locks again: sums, no addresses
	$(PYTHON) -m tools.setup.lock

clean: ## remove what tools left in the checkout; the cache stays
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
