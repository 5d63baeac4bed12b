"""Tests that the installed packages have nothing for: left out, by name and with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

RETRIES = pytest.mark.needs(
    "langchain>=1.4", "before, its retries do not ask an error whether it may be retried"
)
FASTAPI = pytest.mark.needs("fastapi", "LiteLLM imports a part of its proxy for it since 1.109")


MODULES = {
    "test_both_layers.py": ("langchain-litellm", "its models call LiteLLM inside"),
    "test_closing_histories.py": ("langchain-anthropic", "what it sends is looked at"),
}
"""Whole files, which import what they need."""


_reason_of: dict[str, str] = {}


def is_whole(path: Path) -> bool:
    """Tell whether a file is to be left out as a whole."""
    requirement, why = MODULES.get(path.name, ("", ""))
    if not requirement or _is_installed(Requirement(requirement)):
        return False
    _reason_of[path.name] = f"{requirement} is not installed ({why})"
    return True


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take tests out that need what is not installed."""
    reasons = {item: reason for item in items for reason in _reasons(item)}
    if reasons:
        items[:] = [item for item in items if item not in reasons]
        config.hook.pytest_deselected(items=list(reasons))
    _reason_of.update({item.nodeid.partition("[")[0]: reason for item, reason in reasons.items()})


def hand_over(config: pytest.Config) -> None:
    """Tell the process that has started this one, if this is a worker of pytest-xdist's."""
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = dict(_reason_of)


def take_over(said: Mapping[str, Any]) -> None:
    """Take what a worker has handed over; one that has crashed has said nothing."""
    _reason_of.update(said.get("left_out", {}))


def report() -> Iterator[str]:
    """List what was left out, by reason."""
    for reason in dict.fromkeys(_reason_of.values()):
        yield f"left out, since {reason}:"
        yield from (f"  {name}" for name, why in _reason_of.items() if why == reason)


def _reasons(item: pytest.Item) -> Iterator[str]:
    for mark in item.iter_markers("needs"):
        requirement, why = mark.args
        if not _is_installed(Requirement(requirement)):
            yield f"{requirement} is not installed ({why})"


def _is_installed(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
