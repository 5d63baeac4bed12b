"""What code in a node can know of the graph that it is in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from langchain_core.runnables import ensure_config

from steptrack_callbacks.integrations.seams_langchain import INTERRUPT

try:
    from langgraph.config import get_config
except ImportError:  # the same, and ten times as slow
    get_config = ensure_config

# LangGraph has no public words for these.
_CHECKPOINTER = "__pregel_checkpointer"
_SEND = "__pregel_send"


def run_of_node() -> UUID | None:
    """Return the run of the node that this is in, or `None` if nobody reports the graph's runs."""
    return getattr(get_config().get("callbacks"), "parent_run_id", None)


def can_pause() -> bool:
    """Tell whether the graph has a checkpointer: without one, nobody can go on from a pause."""
    if INTERRUPT.get() is None:
        return False
    return get_config().get("configurable", {}).get(_CHECKPOINTER, True) is not None


def has_thread(graph: str) -> bool:
    """Tell whether a graph is the one whose thread a checkpointer remembers, and is in no other graph."""
    return not graph and get_config().get("configurable", {}).get(_CHECKPOINTER) is not None


def graph_of(node: str) -> str:
    """Return the path of the graph that a node is in; empty for an outermost graph's."""
    return node.rpartition("|")[0]


def name_of(node: str) -> str:
    """Return a node's name, given its path."""
    return node.rpartition("|")[2].partition(":")[0]


def current_node(graphs: Collection[str]) -> str | None:
    """Return the path of the node of these graphs that this is in, however deep inside; `None` if in none."""
    here = _path() or ""
    for graph in graphs:
        before = f"{graph}|" if graph else ""
        if here and here.startswith(before):
            return before + here[len(before) :].partition("|")[0]
    return None


def write(graphs: Collection[str], update: Mapping[str, Any]) -> None:
    """Save values in a graph's state with what this node saves, if this is right inside one of its nodes."""
    here = _path()
    if here and graph_of(here) in graphs:
        send = get_config().get("configurable", {}).get(_SEND)
        if send is not None:
            send(list(update.items()))


def _path() -> str | None:
    """Return the path of the node that this is in, or `None` if it is in none."""
    try:
        path = get_config().get("configurable", {}).get("checkpoint_ns")
    except RuntimeError:  # it is in no run at all
        return None
    return str(path) if path else None
