"""What tests take from inside the package, in one place, so that a part may be rebuilt and its tests stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steptrack_callbacks import Step, settings
from steptrack_callbacks.engine import open_call, reservation
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.queue import QUEUE
from steptrack_callbacks.integrations import proxy_client
from steptrack_callbacks.steps import registry
from steptrack_callbacks.steps.tool_policy import with_tools

_blamed: list[open_call.OpenCall] = []
_WATCHED = ("held_cost", "held_tokens", "held_calls", "open_calls", "waiting")


def left_on(account: Account) -> dict[str, object]:
    """Return everything on an account that must be gone once no call is in flight; empty if it is."""
    held = account.in_flight
    held.count_all()  # gives back what is set aside for calls to come
    beside = {"cold": held.cold, "running": any(held.running), "aside": any(held.aside)}
    found = {name: getattr(account, name) for name in _WATCHED} | beside
    return {name: value for name, value in found.items() if value}


def assert_nothing_left(*steps: Step) -> None:
    """No reservation, no open call, nobody in line: neither on these steps nor anywhere."""
    for step in steps:
        assert left_on(step.account) == {}, step.path
    left = [call for call in open_call.open_calls if call not in _blamed]
    _blamed.extend(left)  # the tests that follow are not to blame
    assert not left, f"calls were left open: {[vars(call) | vars(call.request) for call in left]}"
    assert not reservation._reservations, "room was left reserved"
    assert not QUEUE, "somebody was left in line"


def declare(steps: Mapping[str, Any]) -> None:
    """Give names their limits, as `install(steps=...)` does, attaching to nothing."""
    settings.put_in_force(registry.with_steps(settings.now, steps))


def declare_nodes(nodes: Mapping[str, Any]) -> None:
    """Give nodes of graphs their limits, as `install(nodes=...)` does, attaching to nothing."""
    settings.put_in_force(registry.with_nodes(settings.now, nodes))


def set_tool_levels(levels: Mapping[str, Any]) -> None:
    """Say what tools do to the world, as `install(tools=...)` does, attaching to nothing."""
    settings.put_in_force(with_tools(settings.now, levels))


def point_at(url: str | None) -> None:
    """Send headers to a proxy at this address, as `install(proxy_url=...)` does, attaching to nothing."""
    settings.change(proxy=None if url is None else proxy_client.address_of(url))
