"""The README's blocks run as they stand, and print what it says."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import steptrack_callbacks as steptrack
from steptrack_callbacks.testing import reset

README = Path(__file__).parents[1] / "README.md"
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


PAGES = sorted((README.parent / "docs").glob("*.md"))


def blocks(page: Path = README) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def test_every_python_block_of_the_readme_runs_and_prints_what_it_says(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.box", None)  # the plain table is shown, as after a bare install
    reset()
    names: dict[str, object] = {}
    printed = ""
    shown = 0
    try:
        for language, text in blocks():
            if language == "python":
                output = io.StringIO()
                with redirect_stdout(output):
                    exec(compile(text, str(README), "exec"), names)
                printed = output.getvalue()
            elif language == "text":
                assert printed == text
                shown += 1
    finally:
        steptrack.uninstall()
    assert shown == 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_python_block_of_the_docs_runs(page):
    names: dict[str, object] = {}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, str(page), "exec"), names)


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize("link", re.findall(r"\]\(([\w/.-]+)\)", README.read_text(encoding="utf-8")))
def test_what_the_readme_links_to_exists(link):
    assert (README.parent / link).is_file()
