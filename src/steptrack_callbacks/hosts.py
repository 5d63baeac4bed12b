"""Which hosts are watched in this process, and a word of warning when none is."""

from __future__ import annotations

import sys
import warnings

from .errors import LostStepWarning

KNOWN_HOSTS = ("litellm", "langchain_core")

_attached: set[str] = set()
_warned = False


def attach(host: str) -> None:
    """Note that calls of a host are seen from now on."""
    _attached.add(host)


def detach(host: str) -> None:
    """Note that they are no longer."""
    _attached.discard(host)


def is_attached(host: str) -> bool:
    """Tell whether calls of a host are seen."""
    return host in _attached


def warn_if_unwatched(path: str) -> None:
    """Warn, once, that a limited step sees no call because nothing is attached to any host."""
    global _warned
    if _warned or _attached:
        return
    imported = [host for host in KNOWN_HOSTS if host in sys.modules]
    if imported:
        _warned = True
        warnings.warn(
            f"step {path!r} has limits, but nothing watches {' and '.join(imported)}: call"
            " steptrack_callbacks.install() first, or record_usage() after each call",
            LostStepWarning,
            stacklevel=5,
        )


def reset() -> None:
    """Let the warning come again."""
    global _warned
    _warned = False
