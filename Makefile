# make demo   an honest ROAR curve on real MNIST, from nothing
# make test   ruff, mypy, the rules of import and the tests, in minutes
# make test-long   the tests that take long: processes killed in the middle, a full disk, notebooks executed
# make test-cluster   the tests of --engine=ray, on clusters of several nodes on this machine; installs Ray
# make reproduce   all that the published tables need, many hours on two cores; OPTIONS=--quick in small, OPTIONS=--dry-run how long
# make notebooks   execute every notebook, into results/notebooks
# make benchmark   speed, side by side with other people's code
PYTHON ?= python3
BIN := .venv/bin

BENCHMARKS := start_up "training --to-accuracy" explaining selectivity side_by_side retrainings imputation large_images

.PHONY: demo test test-long test-cluster reproduce notebooks benchmark clean

demo: .venv/run
	$(BIN)/python main.py --eval=ROAR --method=GC --target=mnist --quick

test: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest

test-long: .venv/dev
	$(BIN)/python -m pytest -m long

test-cluster: .venv/cluster
	$(BIN)/python -m pytest -m cluster

reproduce: .venv/run
	$(BIN)/python main.py --reproduce $(OPTIONS)

notebooks: .venv/notebooks
	for name in notebooks/*.ipynb; do \
		$(BIN)/python -m nbconvert --to notebook --execute --log-level=WARN --output-dir=results/notebooks $$name || exit 1; \
	done

# In an environment of its own, with the libraries that are compared with.
benchmark: .venv-benchmark/run
	for script in $(BENCHMARKS); do .venv-benchmark/bin/python -m benchmarks.$$script || exit 1; done

# The stamps are touched last: an installation that was cut off is done again.
.venv/run: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/dev: requirements-dev.txt requirements-methods.txt requirements-networks.txt .venv/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

.venv/cluster: requirements-cluster.txt .venv/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-cluster.txt
	touch $@

.venv/notebooks: requirements-notebooks.txt requirements-networks.txt .venv/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-notebooks.txt
	touch $@

.venv-benchmark/run: requirements.txt requirements-benchmark.txt
	$(PYTHON) -m venv .venv-benchmark
	.venv-benchmark/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-benchmark.txt
	touch $@

clean:
	rm -rf .venv .venv-benchmark .mypy_cache .pytest_cache .ruff_cache
