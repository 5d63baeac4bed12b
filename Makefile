# Every target works from a bare clone: the first one run makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
VENV_MIN := .venv-min
BIN := $(VENV)/bin
export LITELLM_LOCAL_MODEL_COST_MAP = True

.PHONY: demo proxy test test-min fuzz soak audit lint format bench mutate clean help

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[otel,prices,proxy,redis,rich]' --group lint --group test
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

test: $(VENV)/.browser  ## all tests, with branch coverage
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --cov --cov-report term-missing:skip-covered

$(VENV_MIN)/.installed: pyproject.toml tests/faults/minimum.txt
	$(PYTHON) -m venv $(VENV_MIN)
	$(VENV_MIN)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(VENV_MIN)/bin/python -m pip install --quiet --disable-pip-version-check --editable . --requirement tests/faults/minimum.txt
	@touch $@

# Left out: what tests langchain-litellm and the retries of `langchain` itself, which come in newer versions only.
NEWER = retry_middleware or refusal_is_retried or caught_by_a_middleware or out_of_a_step_of_its_own or what_budgeted_raises
test-min: $(VENV_MIN)/.installed  ## the edges' tests, with the oldest hosts that are supported
	$(VENV_MIN)/bin/python -m pytest --override-ini addopts= tests/litellm_edge tests/langchain_edge tests/langgraph_edge \
	  --ignore tests/langchain_edge/test_both_layers.py -k 'not ($(NEWER))'

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
	rm -rf $(VENV) $(VENV_MIN) benchmarks/.venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage dist build
