"""A name for this process that no other has, not even its own children."""

from __future__ import annotations

import os

process_name = os.urandom(8).hex()
"""What is numbered here is unique with it. A child has another: it is always read as `forks.process_name`."""


def _rename() -> None:
    global process_name
    process_name = os.urandom(8).hex()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_rename)
