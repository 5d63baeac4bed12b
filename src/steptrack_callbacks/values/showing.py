"""How values of the lower floors show themselves in a notebook: by the views above, opened on use."""

from __future__ import annotations

from importlib import import_module


def html_of(thing: object) -> str:
    """Return a value as HTML; nothing is imported for it until something is shown.

    The views stand above every value, so they are opened by name.
    """
    markup: str = import_module("steptrack_callbacks.reports.cards").card_of(thing)
    return markup
