"""What code in a node can know of the graph that it is in."""

from __future__ import annotations

from uuid import UUID

from langgraph.config import get_config

_CHECKPOINTER = "__pregel_checkpointer"  # LangGraph has no public word for it


def run_of_node() -> UUID | None:
    """Return the run of the node that this is in, or `None` if nobody reports the graph's runs."""
    return getattr(get_config().get("callbacks"), "parent_run_id", None)


def can_pause() -> bool:
    """Tell whether the graph has a checkpointer: without one, nobody can go on from a pause."""
    return get_config().get("configurable", {}).get(_CHECKPOINTER, True) is not None
