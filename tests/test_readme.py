"""The README's blocks run as they stand, and print what it says."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import pytest

import steptrack_callbacks as steptrack
from steptrack_callbacks.cli import main
from steptrack_callbacks.testing import reset

README = Path(__file__).parents[1] / "README.md"
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


DOCS = README.parent / "docs"
SHOWING = {README: 2, DOCS / "tutorial.md": 19, DOCS / "migrating.md": 7, DOCS / "running-low.md": 3}
"""Pages whose `text` blocks are what the block above them prints, and how many they have."""
FROM = "langchain_community"
"""The package that `py` blocks of these pages are migrated from: they run where it is installed."""
PAGES = sorted(set(DOCS.glob("*.md")) - set(SHOWING))


def blocks(page: Path = README) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def run(text: str, page: Path, names: dict[str, object]) -> str:
    output = io.StringIO()
    with redirect_stdout(output):
        exec(compile(text, str(page), "exec"), names)
    return output.getvalue()


@pytest.mark.filterwarnings("ignore:`langchain-community` is being sunset")
@pytest.mark.parametrize("page", SHOWING, ids=lambda page: page.stem)
def test_every_python_block_of_a_page_runs_and_prints_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.box", None)  # the plain table is shown, as after a bare install
    monkeypatch.chdir(tmp_path)
    reset()
    names: dict[str, object] = {}
    printed, shown, there = None, 0, find_spec(FROM) is not None
    try:
        for language, text in blocks(page):
            if language == "python" or (language == "py" and there):
                printed = run(text, page, names)
            elif language == "py":
                printed = None
            elif language == "text" and printed is not None:
                assert printed == text
                shown += 1
    finally:
        steptrack.uninstall()
    assert shown == SHOWING[page] + there * [language for language, _ in blocks(page)].count("py")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_python_block_of_the_docs_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    try:
        for language, text in blocks(page):
            if language == "python":
                exec(compile(text, str(page), "exec"), names)
    finally:
        steptrack.uninstall()


def test_the_readme_shows_what_the_demo_prints(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.box", None)
    assert main(["demo"]) == 0
    shown = next(text for language, text in blocks() if language == "text")
    assert shown == capsys.readouterr().out


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) < 200


@pytest.mark.parametrize(
    "page", [*README.parent.glob("*.md"), *DOCS.glob("*.md")], ids=lambda page: page.stem
)
def test_what_a_page_links_to_exists(page):
    for link in re.findall(r"\]\(([\w/.#-]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
