"""Every line that the docs tell people to type into a shell does what it says."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from programs import SPENDER, steptrack

from steptrack_callbacks.cli.parser import build

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]
LINE = re.compile(r"^\$ (steptrack .*?)(?: +#.*)?$", re.MULTILINE)
LINES = list(dict.fromkeys(line for page in PAGES for line in LINE.findall(page.read_text(encoding="utf-8"))))
for own in ("steptrack demo", "steptrack doctor"):  # which have tests of their own
    LINES.remove(own)
MODEL = "[prices.my-model]\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 2\n"
REDIS = "redis://localhost:6379/0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the programs, files and ledgers that the docs speak of."""
    folder = tmp_path_factory.mktemp("docs")
    for program in ("agent.py", "my_agent.py", "nightly.py", "program.py"):
        (folder / program).write_text(f"{SPENDER}\nspend(1)\n", encoding="utf-8")
    for config in ("steptrack.toml", "limits.toml"):
        (folder / config).write_text(MODEL, encoding="utf-8")
    spend_in("sqlite:///steps.db", folder)
    return folder


def spend_in(url: str, folder: Path) -> None:
    done = steptrack("run", "--run-id", "2026-11-22", "--ledger", url, "nightly.py", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_the_docs_have_lines_for_the_shell():
    assert len(LINES) >= 18


@pytest.mark.parametrize("line", LINES)
def test_what_the_docs_say_can_be_typed(line, folder, tmp_path, request):
    here = tmp_path / "here"
    shutil.copytree(folder, here)
    if REDIS in line:
        url = request.getfixturevalue("redis_server").url(prefix=tmp_path.name)
        line = line.replace(REDIS, url)
        spend_in(url, folder)
    done = steptrack(*shlex.split(line.partition(" | ")[0])[1:], cwd=here)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert done.stdout or done.stderr


def test_the_docs_name_every_command():
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    commands = [action.choices for action in build()._actions if action.choices]
    for command in commands[0]:
        assert f"| `steptrack {command}` |" in text
