# make app    the studio in the browser          make test   everything that is tested
# make demo   the main job in the terminal       make check  lint and types
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
CHROMIUM := /usr/bin/chromium

.PHONY: app demo test check notebook screenshots clean

app: $(VENV)/.app
	$(BIN)/studio app

demo: $(VENV)/.app
	$(BIN)/studio run demo

notebook: $(VENV)/.app
	$(BIN)/pip install -q -c constraints.txt -e '.[notebook]'
	$(BIN)/jupyter lab examples/studio.ipynb

test: $(VENV)/.test $(CHROMIUM)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile -m "not slow"

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/.app: pyproject.toml constraints.txt
	$(PYTHON) -c 'import venv, ensurepip' || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq python3-venv; }
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/.app
	$(BIN)/pip install -q -c constraints.txt -e '.[test]'
	touch $@

$(CHROMIUM):
	$(SUDO) apt-get update -qq
	$(SUDO) apt-get install -y -qq chromium

screenshots: $(VENV)/.test $(CHROMIUM)
	$(BIN)/python tests/ui/screenshots.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache *.egg-info
