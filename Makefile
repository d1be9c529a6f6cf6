# Everything runs in .venv, which is made on first use (test-oldest in .venv-oldest). `make help` lists the targets.
PYTHON ?= python3
NAME ?=
BIN := .venv/bin
RUN ?=
BENCH = $(BIN)/mtlbench bench
# Otherwise it is a matter of chance whether tensors of some MB are returned to the system and zeroed anew in every step.
KEEP_MEMORY = MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_MMAP_THRESHOLD_=4294967296
PERF = $(KEEP_MEMORY) $(BIN)/python -m pytest tests/benchmarks -o addopts= \
	-W ignore::pytest_benchmark.logger.PytestBenchmarkWarning --tb=short --benchmark-disable-gc --benchmark-quiet
SETUPS = mnist mnist-aux-x100 mnist-aux-x0.01 mnist-aux-noise mnist-aux-random mnist-few-labels mnist-trunk-32 \
	mnist-8-tasks fashion-mnist

.DEFAULT_GOAL := help
.PHONY: help bench quick full tune stress test test-oldest lint docs perf growth readme toy perf-compare gpu-check soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

bench: .venv/run.stamp ## install, fetch MNIST, compare all strategies (12 seeds, 2 epochs)
	$(BENCH) --name $(or $(NAME),default)

quick: .venv/run.stamp ## a bench of about one minute (three strategies, 3 seeds, 1 epoch)
	$(BENCH) --name $(or $(NAME),quick) --strategies "fixed uncertainty gradnorm" --seeds 3 --epochs 1

full: .venv/run.stamp ## the tutorial's protocol (16 seeds, 10 epochs)
	$(BENCH) --name $(or $(NAME),full) --seeds 16 --epochs 10

tune: .venv/run.stamp ## tune every strategy under one budget, then compare tuned with untuned and with the front
	$(BIN)/mtlbench tune --name $(or $(NAME),tuned)
	$(BENCH) --name $(or $(NAME),tuned) --tuned --front

stress: .venv/run.stamp ## compare all strategies on MNIST and on the eight stress setups (some hours)
	$(BENCH) --name $(or $(NAME),stress) --setup "$(SETUPS)"

test: lint ## lint, then run all tests
	$(BIN)/python -m pytest

test-oldest: .venv-oldest/dev.stamp ## run all tests on Python 3.11 with the lower bounds of pyproject.toml, in .venv-oldest
	.venv-oldest/bin/python -m pytest

lint: .venv/dev.stamp ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: .venv/docs.stamp ## build the documentation into site/, to be read without a network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html"

perf: .venv/dev.stamp ## measure speed: limits, other loops, TorchJD, every strategy; stored under .benchmarks
	$(PERF) --benchmark-autosave

perf-compare: .venv/dev.stamp ## measure again and say what got slower than the last stored run, or than RUN=0003
	$(PERF) --benchmark-compare$(if $(RUN),=$(RUN))

gpu-check: .venv/dev.stamp ## compare CUDA with the CPU, every strategy step by step, and measure samples/s there
	$(BIN)/python -m tests.project.gpu_check

growth: .venv/dev.stamp ## measure how time and memory grow into docs/performance.md (REPLOT=1 only draws again)
	$(BIN)/python -m tests.project.growth $(if $(REPLOT),--replot)

soak: .venv/dev.stamp ## try 2,000 wrong inputs and files; kill a bench 50 times and compare what it leaves with one left in peace
	MTLBENCH_CASES=2000 $(BIN)/python -m pytest tests/cli/test_bad_input.py
	$(BIN)/python -m tests.helpers.kills

readme: .venv/dev.stamp ## write the tables of strategies in README and docs/faithful.md anew, after a change to strategies/
	$(BIN)/python -m tests.project.readme_table
	$(BIN)/python -m tests.project.faithful

toy: .venv/dev.stamp ## descend the two-task toy problem with every strategy into docs/toy-problem
	$(BIN)/python -m tests.helpers.trajectories

clean: ## remove the environments, caches and all benches but those kept in git
	rm -rf .venv .venv-oldest site .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find results -mindepth 1 -maxdepth 1 ! -name reference ! -name multimnist -exec rm -rf {} +

# If PYTHON is set, as in `make test PYTHON=python3.13`, a .venv with another version is replaced.
.venv/python.stamp: $(if $(filter-out file,$(origin PYTHON)),FORCE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "mtlbench needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python"; exit 2; }
	@version="$$($(PYTHON) --version)"; if [ "$$version" != "$$(cat $@ 2> /dev/null)" ]; then \
		echo "making .venv with $$version"; $(PYTHON) -m venv --clear .venv && echo "$$version" > $@; fi

.venv/run.stamp: .venv/python.stamp pyproject.toml
	@echo "installing mtlbench and torch into .venv (some minutes and gigabytes the first time)"
	$(BIN)/python -m pip install --disable-pip-version-check --editable .
	@touch $@

.venv/dev.stamp: .venv/run.stamp
	@echo "installing what tests need into .venv"
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'
	@touch $@

.venv/docs.stamp: .venv/run.stamp
	@echo "installing what the documentation needs into .venv"
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[docs]'
	@touch $@

.venv-oldest/dev.stamp: pyproject.toml tests/project/lower_bounds.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "test-oldest needs Python 3.11; name it with: make test-oldest PYTHON=/path/to/python3.11"; exit 2; }
	@echo "installing the oldest supported versions into .venv-oldest"
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m tests.project.lower_bounds > .venv-oldest/constraints.txt
	.venv-oldest/bin/python -m pip install --disable-pip-version-check --constraint .venv-oldest/constraints.txt \
		--editable '.[dev]'
	@touch $@

FORCE:
