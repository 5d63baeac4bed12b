"""Prose is spelled right and says what other people say: pages, docstrings, and messages to users."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

spellchecker = pytest.importorskip("spellchecker")

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
FIELD = set((Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split())
"""Words of this field, and names, that no dictionary has."""

HOUSE_WORDS = {
    r"\b(?<!the )edges?\b|\b(?:this|no|the [A-Z]\w+) edge\b|\bthe edges\b(?! of)": "integration",
    r"\bhosts?\b": "the package's name, or: package, framework",
    r"\bon a no\b": "if it is refused, if the answer is no",
    r"\bbuys? nothing\b": "does not help",
    r"\banew\b": "again, starts over",
    r"\bgone on with\b": "continue, resume",
    r"\bthe books\b": "the accounts, the sums",
    r"\ball the same\b": "nevertheless",
    r"\b(?:be it|though it be)\b": "whether ... or",
    r"(?<!here )\b(?:is|are) no (?!longer\b|more\b)\w+": "is not a ...",
}
"""What nobody else says, and what they say."""


def prose_of_page(text: str) -> str:
    """Leave out code, links' addresses and HTML."""
    text = re.sub(r"^( *)```.*?^\1```$", " ", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"``.+?``|`[^`]*`", " ", text)
    text = re.sub(r"\]\([^)]*\)", "] ", text)
    text = re.sub(r"\btests/[\w/.*]+(?: \(\*.*?\*\))?", " ", text)
    return re.sub(r"https?://\S+|<[^>]+>", " ", text)


def prose_of_source(text: str) -> str:
    """Take the docstrings, without examples, code and the names of parameters."""
    texts = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            texts.append(ast.get_docstring(node) or "")
    prose = re.sub(r"^ *>>> .*?(?=^\s*$|\Z)", " ", "\n\n".join(texts), flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ +\**\w+: ", " ", prose, flags=re.MULTILINE)
    return prose_of_page(prose)


def prose(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return prose_of_source(text) if path.suffix == ".py" else prose_of_page(text)


def words(text: str) -> Iterator[str]:
    """Take plain words: no identifiers, numbers, abbreviations in capitals or names in CamelCase."""
    for word in re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", re.sub(r"\S*[\d_@]\S*|\S+\.\S+(?=\s)", " ", text)):
        if not word.isupper() and not re.search(r"[a-z][A-Z]", word):
            yield re.sub(r"['’]s?$", "", word).lower()


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def dictionary():
    return spellchecker.SpellChecker(language="en", distance=1)


@pytest.mark.parametrize("path", [*PAGES, ROOT / "src"], ids=name_of)
def test_every_word_is_in_a_dictionary_or_one_of_this_field(path, dictionary):
    text = prose(path) if path.is_file() else "\n".join(map(prose, SOURCES))
    unknown = dictionary.unknown(set(words(text)) - FIELD)
    assert sorted(unknown) == []


def test_the_words_of_the_field_are_sorted():
    lines = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split()
    assert lines == sorted(set(lines))


SERVERS = ("pricing", "urls.py", "opening.py", "proxy_client.py", "settings.py")
"""Files and folders whose hosts are servers."""


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=name_of)
def test_prose_uses_words_that_others_use(path):
    text = re.sub(r"\s+", " ", prose(path))
    if set(path.parts) & set(SERVERS):
        text = re.sub(r"\bhosts?\b", "server", text, flags=re.IGNORECASE)
    found = {
        match[0]: instead
        for said, instead in HOUSE_WORDS.items()
        for match in re.finditer(said, text, re.IGNORECASE)
    }
    assert found == {}
