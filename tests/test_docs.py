"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

import steptrack_callbacks

FOLDER = Path(steptrack_callbacks.__file__).parent


def modules_with_examples():
    """Name the modules by their files, so that only those with examples are imported."""
    files = [path for path in sorted(FOLDER.rglob("*.py")) if ">>> " in path.read_text()]
    parts = [path.relative_to(FOLDER.parent).with_suffix("").parts for path in files]
    return [".".join(part for part in each if part != "__init__") for each in parts]


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_run(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert (result.failed, result.attempted > 0) == (0, True)


def test_the_rooms_that_people_start_from_have_examples():
    started_from = {
        "steps.verbs",
        "hooks",
        "testing",
        "reports.views",
        "concurrency.contexts",
        "values.usage",
        "values.definitions",
        "installation",
        "pricing",
    }
    assert started_from <= {name.removeprefix("steptrack_callbacks.") for name in modules_with_examples()}
