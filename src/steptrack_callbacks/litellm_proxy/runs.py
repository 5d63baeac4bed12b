"""The steps of a run, as the ledger has them: shown, and closed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from steptrack_callbacks.ledgers.protocol import COST, Store, Totals, pico_to_usd

_TOKENS = ("input_tokens", "output_tokens")


def members_of(store: Store, group: str, prefix: str) -> dict[str, Totals]:
    """Return the accounts of a run by path, the oldest first."""
    found = [totals for totals in store.members(group) if totals.key.startswith(prefix)]
    return {totals.key.removeprefix(prefix): totals for totals in found}


def close_step(store: Store, group: str, prefix: str, path: str) -> list[str]:
    """Close a step and all that is under it, for good; returns their paths."""
    inside = [each for each in members_of(store, group, prefix) if each.startswith(f"{path}/")]
    paths = [path, *inside]
    store.close([prefix + each for each in paths])
    return paths


def close_overdue(store: Store, group: str, ttl_s: float) -> int:
    """Close the steps of a key whose time is over; returns how many they were."""
    before = time.time() - ttl_s
    overdue = [each.key for each in store.members(group) if not each.closed and each.opened_at <= before]
    store.close(overdue)
    return len(overdue)


def tree_of(run: str, members: dict[str, Totals], ttl_s: float) -> dict[str, Any]:
    """Return a run as plain JSON values: each step with what it and those inside it have spent."""
    tops = [path for path in members if path.rpartition("/")[0] not in members]
    return {"run": run, "steps": [_branch(path, members, ttl_s) for path in tops]}


def _branch(path: str, members: dict[str, Totals], ttl_s: float) -> dict[str, Any]:
    totals = members[path]
    inside: Sequence[str] = [each for each in members if each.rpartition("/")[0] == path]
    overdue = totals.opened_at + ttl_s <= time.time()
    return {
        "name": path.rpartition("/")[2],
        "path": path,
        "status": "closed" if totals.closed or overdue else "open",
        "cost_usd": float(pico_to_usd(totals.settled.get(COST, 0))),
        "calls": totals.settled.get("calls", 0),
        **{name: totals.settled.get(name, 0) for name in _TOKENS},
        "in_flight_calls": totals.held_calls,
        "opened_at": totals.opened_at,
        "steps": [_branch(each, members, ttl_s) for each in inside],
    }
