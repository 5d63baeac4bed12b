"""A name for this process that no other has, not even its own children."""

from __future__ import annotations

import os

_name = os.urandom(8).hex()


def process_name() -> str:
    """Return the name; what is numbered in this process is unique with it."""
    return _name


def _rename() -> None:
    global _name
    _name = os.urandom(8).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_rename)
