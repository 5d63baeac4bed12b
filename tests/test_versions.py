"""What README and the package's metadata say of versions is what is tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from steptrack_callbacks.integrations.versions import TESTED

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()


def pinned(name: str) -> dict[str, str]:
    """Read one file of constraints: what it pins, by package."""
    lines = (ROOT / "constraints" / name).read_text().splitlines()
    rows = (re.match(r"([\w.-]+)(?:\[[\w,]+\])?[=>]=([\w.]+)", line) for line in lines)
    return {row[1]: row[2] for row in rows if row}


def table() -> dict[str, tuple[str, str]]:
    """Read README's table: oldest and newest by package, as pip names it."""
    section = README.split("## Versions\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) \|$", section, re.MULTILINE)
    named = {(re.findall(r"`(.+?)`", label) or [label.lower()])[0]: (old, new) for label, old, new in rows}
    assert len(named) == len(rows) >= 6
    return named


PACKAGES = sorted(set(table()) - {"python"})


@pytest.mark.parametrize("package", PACKAGES)
def test_readme_names_the_oldest_and_the_newest_that_are_tested(package: str) -> None:
    assert table()[package] == (pinned("oldest.txt")[package], pinned("newest.txt")[package])


def test_the_package_knows_the_same_versions_as_readme() -> None:
    assert {package: tuple(known) for package, known in TESTED.items()} == {
        package: versions for package, versions in table().items() if package != "python"
    }


def test_readme_says_which_litellm_comes_with_the_proxy() -> None:
    assert f"With the `[proxy]` extra pip picks LiteLLM {pinned('tested.txt')['litellm']}" in README


def test_the_package_asks_for_no_less_than_the_oldest_that_is_tested() -> None:
    asked = PROJECT["project"]["dependencies"] + sum(PROJECT["project"]["optional-dependencies"].values(), [])
    oldest = pinned("oldest.txt")
    for requirement in asked:
        name, least = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement).groups()
        if name in oldest:
            assert oldest[name].startswith(least), f"{requirement}, tested with {oldest[name]}"


def test_the_classifiers_name_the_pythons_of_readme() -> None:
    stated = [text.rsplit(" ", 1)[1] for text in PROJECT["project"]["classifiers"] if ":: 3." in text]
    oldest, newest = table()["python"]
    assert stated[0] == oldest == PROJECT["project"]["requires-python"].removeprefix(">=")
    assert stated[-1] == newest


@pytest.mark.parametrize("name", ["tested.txt", "newest.txt"])
def test_what_the_tests_need_is_pinned(name: str) -> None:
    needed = PROJECT["dependency-groups"]["test"] + PROJECT["project"]["dependencies"]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in needed}
    assert names <= set(pinned(name))
