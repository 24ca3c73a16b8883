# make demo   an honest ROAR curve on real MNIST, from nothing
# make test   ruff, mypy and the tests
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/run
	$(BIN)/python main.py --eval=ROAR --method=GC --target=mnist --quick

test: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# The stamps are touched last: an installation that was cut off is done again.
.venv/run: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/dev: requirements-dev.txt .venv/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
