"""The names that we say are those of the conventions, as far as the locked package has them."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics

import steptrack_callbacks.opentelemetry as room
from steptrack_callbacks.opentelemetry import names

PAGE = (Path(__file__).parents[2] / "docs" / "opentelemetry.md").read_text()
ROWS = re.findall(r"^\| `(gen_ai\.[\w.]+)` \| (current|older) \| (yes|not yet) \|$", PAGE, re.MULTILINE)
STATED = {name: (state, there) for name, state, there in ROWS}
KNOWN = {
    value
    for module in (gen_ai_attributes, gen_ai_metrics)
    for name, value in vars(module).items()
    if name.startswith("GEN_AI") and isinstance(value, str)
}


def test_the_page_names_the_package_that_it_was_compared_with():
    assert (
        f"in `opentelemetry-semantic-conventions` {version('opentelemetry-semantic-conventions')} |" in PAGE
    )


def test_each_name_is_in_the_package_as_the_page_says():
    assert len(STATED) == len(ROWS) > 15
    assert {name for name, (_, there) in STATED.items() if there == "yes"} == STATED.keys() & KNOWN


def test_every_name_that_we_say_is_on_the_page():
    files = Path(room.__file__).parent.glob("*.py")
    said = {name for file in files for name in re.findall(r'"(gen_ai\.[\w.]+)"', file.read_text())}
    assert said == STATED.keys()


def test_the_older_names_are_those_that_are_said_by_choice_only():
    older = {*names.OLDER_ATTRIBUTES.values(), names.OLDER_HISTOGRAM, names.OLDER_TOKEN_TYPE}
    assert {name for name, (state, _) in STATED.items() if state == "older"} == older
