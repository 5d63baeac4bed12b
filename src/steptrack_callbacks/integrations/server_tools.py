"""Tools that a provider runs for an answer, and bills apart from tokens, found in what it consists of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from steptrack_callbacks.values.untrusted import fields_of, items
from steptrack_callbacks.values.usage import Usage

_CALLS = {"web_search_call": "web_search_requests", "file_search_call": "file_search_requests"}
_CITATIONS = {"url_citation": "web_search_requests", "file_citation": "file_search_requests"}
_FREE_ACTIONS = ("open_page", "find_in_page", "find")


def used_in(content: Iterable[Mapping[Any, Any]]) -> dict[str, int]:
    """Count the tools in an answer's items or blocks, by the names of `Usage`."""
    used: dict[str, int] = {}
    containers = set[str]()
    for item in content:
        kind = _kind_of(item)
        if kind:
            used[kind] = used.get(kind, 0) + 1
        elif item.get("type") == "code_interpreter_call":
            containers.add(str(item.get("container_id")))
    if containers:
        used["code_interpreter_sessions"] = len(containers)
    return used


def cited_in(notes: Iterable[Mapping[Any, Any]]) -> dict[str, int]:
    """Count the search that a chat's annotations tell of, by the names of `Usage`; they say no number."""
    kinds = (note.get("type") for note in notes)
    return {_CITATIONS[kind]: 1 for kind in kinds if isinstance(kind, str) and kind in _CITATIONS}


def grounded_in(metadata: object) -> dict[str, int]:
    """Count the searches that Google says an answer is grounded in, by the names of `Usage`."""
    fields = fields_of(metadata)
    queries = items(fields.get("webSearchQueries") or fields.get("web_search_queries"))
    asked = len({query for query in queries if isinstance(query, str) and query})
    chunks = items(fields.get("groundingChunks") or fields.get("grounding_chunks"))
    kinds = {str(kind) for chunk in chunks for kind, found in fields_of(chunk).items() if found}
    if "maps" not in kinds:
        return {"web_search_requests": asked} if asked else {}
    if "web" in kinds and asked:
        return {"web_search_requests": asked, "google_maps_requests": 1}
    return {"google_maps_requests": max(asked, 1)}


def _kind_of(item: Mapping[Any, Any]) -> str | None:
    kind = item.get("type")
    if not isinstance(kind, str):
        return None
    if kind == "server_tool_use":
        return "web_search_requests" if item.get("name") == "web_search" else None
    if kind == "web_search_call" and fields_of(item.get("action")).get("type") in _FREE_ACTIONS:
        return None
    return _CALLS.get(kind)


def added(usage: Usage, tools: Mapping[str, int]) -> Usage:
    """Add tools that the usage itself does not count."""
    missing = {name: count for name, count in tools.items() if count and not getattr(usage, name)}
    return usage.replace(**missing) if missing else usage
