"""Which hosts are watched in this process, and a word of warning when none is."""

from __future__ import annotations

import sys

from .values import user_warnings
from .values.errors import LostStepWarning

_EDGES = {"litellm": f"{__package__}.litellm", "langchain_core": f"{__package__}.langchain"}
KNOWN_HOSTS = tuple(_EDGES)

_attached: set[str] = set()
_attached_before: set[str] = set()
_failed: set[str] = set()
_warned = False


def attach(host: str) -> None:
    """Note that calls of a host are seen from now on."""
    _attached.add(host)
    _attached_before.add(host)
    _failed.discard(host)


def is_first_failure(host: str) -> bool:
    """Note that a host could not be attached to, and say whether it was not so before."""
    is_first = host not in _failed
    _failed.add(host)
    return is_first


def detach(host: str) -> None:
    """Note that they are no longer."""
    _attached.discard(host)


def is_attached(host: str) -> bool:
    """Tell whether calls of a host are seen."""
    return host in _attached


def warn_if_unwatched(path: str) -> None:
    """Warn, once, that a limited step sees no call because nothing is attached to any host.

    Whoever imports an edge does so for its handlers, `budgeted` or a middleware, which may still come.
    """
    global _warned
    if _warned or _attached or _has_edge_by_hand():
        return
    imported = [host for host in KNOWN_HOSTS if host in sys.modules]
    if imported:
        _warned = True
        user_warnings.warn(
            f"step {path!r} has limits, but nothing watches {' and '.join(imported)}: call"
            " steptrack_callbacks.install() first, or record_usage() after each call",
            LostStepWarning,
        )


def _has_edge_by_hand() -> bool:
    return any(edge in sys.modules and host not in _attached_before for host, edge in _EDGES.items())


def reset() -> None:
    """Let the warning come again."""
    global _warned
    _warned = False
