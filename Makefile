# make help lists what there is. Every target does its own set-up; nothing but Python 3.11, pip and make is needed. Only make gpu
# takes the Python that is there, with the torch that fits the GPU.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
TRIALS := .venv-trials
SITE := .venv-site
ARGS ?=
FAST := $(addprefix tests/,test_noise.py test_arguments.py test_abilities.py test_batches.py test_types.py distributions objectives nets data \
	$(addprefix inference/test_,chunks.py elbo.py hmc.py latents.py observed.py pixels.py quadrature.py))

.DEFAULT_GOAL := help
.PHONY: help docs site release weights engines lock audit test-exhaustive test-shuffled coverage mutants fuzz setup train test test-fast test-slow evaluate tensorboard notebooks lint types imports bench bench-scaling bench-quick speedrun bench-sweeps gpu gpu-pack hooks check clean

help: ## List all targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo '  make train ARGS="model=cvae_cnn3 trainer.gpus=1" passes anything on to train.py'

setup: $(VENV)/ready ## Create .venv and install the pinned requirements and this project

$(VENV)/ready: requirements.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

train: setup ## Train a VAE on binarized MNIST (fetches MNIST); ARGS="..." for anything else
	$(BIN)/python train.py $(ARGS)

evaluate: setup ## Evaluate the newest run, or ARGS="run=<folder>"
	$(BIN)/python evaluate.py $(or $(ARGS),run=latest)

tensorboard: setup ## Watch all runs at http://localhost:6006
	$(BIN)/tensorboard --logdir outputs

notebooks: setup ## Write the .ipynb of the notebooks, which are kept as text (ARGS=--run: run them anew)
	$(BIN)/python notebooks/pair.py $(ARGS)

test: setup ## Run the test suite, but for what takes long
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" $(ARGS)

test-fast: setup ## Run the tests of pure functions: noise, arguments, distributions, objectives, nets, data; under a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" $(FAST) $(ARGS)

test-slow: setup ## Run the tests that take long: real commands, one after the other
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "slow and not exhaustive" tests $(ARGS)

test-exhaustive: setup ## Run the tests of every combination, the longest real commands, and the whole of make gpu on a CPU: a quarter of an hour and more
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m exhaustive tests $(ARGS)

test-shuffled: setup $(TRIALS)/ready ## Run the test suite in a random order, or ARGS="--randomly-seed=3 tests/data"
	OMP_NUM_THREADS=1 $(TRIALS)/bin/python -m pytest -n auto --dist loadfile -m "not slow" $(ARGS)

coverage: setup $(TRIALS)/ready ## Measure which lines and branches of the package the tests execute; at least 95 %
	rm -f .coverage .coverage.*
	OMP_NUM_THREADS=1 $(TRIALS)/bin/python -m coverage run -m pytest -n auto --dist loadfile -p no:randomly -m "not exhaustive" $(ARGS)
	$(TRIALS)/bin/python -m coverage combine --quiet
	$(TRIALS)/bin/python -m coverage report

mutants: setup $(TRIALS)/ready ## Change the code at random places, and see whether its tests notice: ARGS="objectives --sample 80 --seed 0"
	$(TRIALS)/bin/python tests/mutation/mutants.py $(ARGS)

fuzz: setup $(TRIALS)/ready ## Fuzz the loaders and the checker of words by coverage, on Linux: ARGS="words array --seconds 600"
	OMP_NUM_THREADS=1 $(TRIALS)/bin/python tests/fuzz/guided.py $(ARGS)

docs: setup ## Write the tables and the code in README.md, docs/ and the help texts from the code
	$(BIN)/python -m vae_lightning.commands.reference --write
	$(BIN)/python docs/site/excerpts.py --write

site: $(SITE)/ready ## Build the documentation as a site in build/site, from docs/ and the docstrings; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict --quiet --config-file docs/site/mkdocs.yml $(ARGS) < /dev/null
	@echo "open build/site/index.html, or, to search in it: python3 -m http.server --directory build/site"

engines: setup ## Install launchers of sweeps and, as root where there is apt-get, Slurm: tests/test_clusters.py skips what is missing
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement tests/engines.txt --constraint requirements.txt
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && ! command -v slurmctld > /dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
			slurmctld slurmd slurm-client munge > /dev/null; fi

release: setup ## Build wheel and source distribution, try both in a new environment, date the changelog; nothing is uploaded
	$(BIN)/python .ci/release.py $(ARGS)

weights: setup ## Train, evaluate and export the models that come with a release, into weights/; ARGS="vae cvae_mlp" for some
	$(BIN)/python .ci/weights.py $(ARGS)

lint: setup ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## Check types
	$(BIN)/mypy

imports: setup ## Check that imports point one way
	$(BIN)/lint-imports

bench: setup $(PEERS)/ready ## Time this project and its peers: an hour, a table in benchmarks/results
	$(BIN)/python benchmarks/bench.py --peers $(PEERS)/bin/python $(ARGS)

bench-scaling: setup $(PEERS)/ready ## Time this project over batch sizes and widths: a quarter of an hour, a figure in benchmarks/results
	$(PEERS)/bin/python benchmarks/scaling.py --python $(BIN)/python $(ARGS)

bench-quick: setup ## Time this project against the typical loop, in minutes; warns if it fell behind
	$(BIN)/python benchmarks/bench.py --quick --rounds 2 $(ARGS)

speedrun: setup ## Train from scratch to a published likelihood, three seeds, timed: an hour and a half on two cores; ARGS="--seeds 0"
	$(BIN)/python benchmarks/speedrun.py $(ARGS)

bench-sweeps: setup ## Time a sweep of 16 jobs by each launcher: half an hour, a table in benchmarks/results
	$(BIN)/python benchmarks/sweeps.py $(ARGS)

gpu-pack: setup ## Pack what make gpu needs on a machine without a network into .gpu: two minutes, under 64 MiB with the repository
	$(BIN)/python benchmarks/pack.py $(ARGS)

gpu: ## On a machine with a GPU: its tests, contenders, a stack, an evaluation and long recipes, in under eight minutes
	$(PYTHON) benchmarks/gpu.py $(ARGS)

$(PEERS)/ready: benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(SITE)/ready: docs/requirements.txt
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

lock: ## Write requirements.lock: requirements.txt and what it needs on every platform, with the hashes of all files
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-lock/bin/uv pip compile requirements.txt --output-file requirements.lock --generate-hashes --universal --python-version 3.11 \
		--no-header --no-annotate --no-emit-index-url --quiet

audit: ## Ask whether anything in requirements.lock has a known vulnerability; needs a network, and fails where there is no answer
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	.venv-lock/bin/pip-audit --requirement requirements.lock --disable-pip --strict --progress-spinner off

# an environment that has all of the other one too
$(TRIALS)/ready: tests/requirements.txt $(VENV)/ready
	$(PYTHON) -m venv $(TRIALS)
	$(BIN)/python -c "import sysconfig; print(f'import site; site.addsitedir({sysconfig.get_path(\"purelib\")!r})')" > $(TRIALS)/beside.pth
	$(TRIALS)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" | xargs cp $(TRIALS)/beside.pth
	$(TRIALS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

hooks: setup ## Check style, types and imports before every commit
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pre-commit
	$(BIN)/pre-commit install

check: lint types imports site test test-slow ## Everything that continuous integration checks

clean: ## Remove the environment and all caches; data and outputs stay
	rm -rf $(VENV) $(PEERS) $(TRIALS) $(SITE) .venv-lock .gpu build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
