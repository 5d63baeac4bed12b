# Every target works from a bare clone: the first one run makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
VENV_LOCK := .venv-lock
VENV_MIN := .venv-min
VENV_NEWEST := .venv-newest
VENV_NEWEST_PROXY := .venv-newest-proxy
BIN := $(VENV)/bin
PIP := -m pip --quiet --disable-pip-version-check
export LITELLM_LOCAL_MODEL_COST_MAP = True
export PYTHONDONTWRITEBYTECODE =  # the programs that tests start would compile everything each time

.PHONY: demo proxy test coverage lock newest newest-proxy test-newest contract test-min fuzz soak audit lint format bench mutate clean help

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

# The newest set of packages with which everything passes. `make lock` renews it.
$(VENV)/.installed: pyproject.toml constraints/tested.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) install --upgrade 'pip>=25.1'
	$(BIN)/python $(PIP) install --constraint constraints/tested.txt --editable '.[otel,prices,proxy,redis,rich]' --group lint --group test
	@touch $@

# The HTML report is tested in a real browser. Without one those tests are skipped, but not in CI.
$(VENV)/.browser: $(VENV)/.installed
	@for name in chromium chromium-browser google-chrome; do command -v $$name && exit; done || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get -qq update && \
	    apt-get -qq install --yes --no-install-recommends chromium >/dev/null; } || \
	  echo 'no Chromium here: install it to test the HTML report'
	@touch $@

demo: $(VENV)/.installed  ## the main job: three budgeted steps through a real LiteLLM proxy, offline
	$(BIN)/steptrack demo --proxy

proxy: $(VENV)/.installed  ## a LiteLLM proxy with mock models and budgets, to try things on
	$(BIN)/python -m steptrack_callbacks.litellm_proxy.example examples/proxy

test: $(VENV)/.browser  ## all tests, on the packages of constraints/tested.txt
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

coverage: $(VENV)/.browser  ## the same with branch coverage, which takes half as long again
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --cov --cov-report term-missing:skip-covered

lock:  ## renew constraints/: the newest packages there are, with and without LiteLLM's proxy
	$(PYTHON) -m venv $(VENV_LOCK)
	$(VENV_LOCK)/bin/python $(PIP) install --upgrade 'pip>=25.1'
	$(VENV_LOCK)/bin/python $(PIP) install --group lock
	$(VENV_LOCK)/bin/python tools/lock.py

# The packages of the day that each is made anew, and this one as a wheel: what a user gets who installs today.
newest:  ## an environment with the newest of everything, without LiteLLM's proxy: .venv-newest
	$(PYTHON) -m venv --clear $(VENV_NEWEST)
	$(VENV_NEWEST)/bin/python $(PIP) install --upgrade 'pip>=25.1'
	$(VENV_NEWEST)/bin/python $(PIP) install '.[otel,prices,redis,rich]' --group test

newest-proxy:  ## the same with LiteLLM's proxy, whose own requirements may hold LiteLLM back: .venv-newest-proxy
	$(PYTHON) -m venv --clear $(VENV_NEWEST_PROXY)
	$(VENV_NEWEST_PROXY)/bin/python $(PIP) install --upgrade 'pip>=25.1'
	$(VENV_NEWEST_PROXY)/bin/python $(PIP) install '.[otel,prices,proxy,redis,rich]' --group test

INTEGRATIONS := tests/with_litellm tests/with_langchain tests/with_langgraph
SPREAD := --override-ini addopts= --numprocesses auto --dist loadfile --no-loadscope-reorder
test-newest: newest newest-proxy  ## the integrations' tests with the newest of everything, without the proxy and with it
	$(VENV_NEWEST)/bin/python -m pytest $(SPREAD) $(INTEGRATIONS)
	$(VENV_NEWEST_PROXY)/bin/python -m pytest $(SPREAD) $(INTEGRATIONS) tests/proxy

contract:  ## on .venv-newest: what users rely on, in two minutes (.ci/newest makes it first)
	$(VENV_NEWEST)/bin/steptrack doctor
	$(VENV_NEWEST)/bin/steptrack demo
	$(VENV_NEWEST)/bin/python -m pytest $(SPREAD) -m contract $(INTEGRATIONS) tests/test_pricing_against_litellm.py tests/test_every_row.py tests/test_steps_in_threads.py

$(VENV_MIN)/.installed: pyproject.toml constraints/oldest.txt
	$(PYTHON) -m venv $(VENV_MIN)
	$(VENV_MIN)/bin/python $(PIP) install --upgrade 'pip>=25.1'
	$(VENV_MIN)/bin/python $(PIP) install --editable . --requirement constraints/oldest.txt
	@touch $@

test-min: $(VENV_MIN)/.installed  ## the integrations' tests, with the oldest packages that are supported
	$(VENV_MIN)/bin/python -m pytest $(SPREAD) $(INTEGRATIONS)

fuzz: $(VENV)/.installed  ## what comes from outside, made up: twenty times as much as the tests do, and other things each time
	STEPTRACK_FUZZ=20 $(BIN)/python -m pytest tests/fuzz

soak: $(VENV)/.installed  ## half an hour of mixed load; MINUTES=3 for less
	$(BIN)/python benchmarks/soak.py $(or $(MINUTES),30)

audit: $(VENV)/.installed  ## known vulnerabilities in all that is installed, where the data can be reached
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group audit
	$(BIN)/python tools/audit.py

lint: $(VENV)/.installed  ## ruff and mypy strict
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed  ## let ruff rewrite
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed  ## this package beside its peers, for docs/benchmarks.md; PARTS="overhead limits" for some of it
	$(BIN)/python benchmarks/run.py $(PARTS)

mutate: $(VENV)/.installed  ## which small changes of the machine no test notices; EVERY=5 for a fifth of them
	nice -n 19 $(BIN)/python benchmarks/mutate.py $(EVERY)

clean:  ## remove what the targets made
	rm -rf $(VENV) $(VENV_LOCK) $(VENV_MIN) $(VENV_NEWEST) $(VENV_NEWEST_PROXY) benchmarks/.venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage dist build
