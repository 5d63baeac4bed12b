"""HTML that cannot be injected into: whatever is not markup already is escaped where it enters."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

from .formatting import printable


class Markup(str):
    """Text that is HTML already; only this file makes it."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"
Attribute = str | int | float | bool | None

_VOID = ("meta",)


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """Build an element; names of attributes have `_` for `-`, and `class_` stands for `class`.

    Args:
        name: The element's name.
        *children: Text, which is escaped; markup; or iterables of them. `None` is left out.
        **attributes: `True` writes the bare name; `None` and `False` leave it out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Child) -> Markup:
    """Join text and markup."""
    if children is None:
        return Markup()
    if isinstance(children, Markup):
        return children
    if isinstance(children, str | int):
        return Markup(_escaped(str(children)))
    return Markup("".join(map(join, children)))


def stylesheet(css: str) -> Markup:
    """Put our own style sheet into a page; nothing of anybody else's comes here."""
    return Markup(f"<style>{css}</style>")


def document(lang: str, *children: Child) -> Markup:
    """Build a whole page."""
    return Markup(f"<!doctype html>\n{tag('html', *children, lang=lang)}\n")


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_escaped(str(value))}"'


def _escaped(text: str) -> str:
    """Escape markup; control characters, and halves of characters that no file can hold, are spelled out."""
    return html.escape("\n".join(map(printable, text.split("\n"))))
