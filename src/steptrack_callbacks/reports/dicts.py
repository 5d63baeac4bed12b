"""The report as rows for data frames: flat, with columns that may be summed up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from steptrack_callbacks.values.definitions import LimitName
from steptrack_callbacks.values.formatting import sureness_of
from steptrack_callbacks.values.records import CompletedStep, shares_of
from steptrack_callbacks.values.usage import Usage

Table = Literal["steps", "calls", "models", "budgets", "grants"]

_LIMITS: tuple[LimitName, ...] = get_args(LimitName)
_SHARED_LIMITS: tuple[LimitName, ...] = ("max_usd", "max_tokens", "max_calls")
_PART = ("input_tokens", "output_tokens", "calls", "estimated_calls", "unpriced_calls", "failed_calls")


def of_step(record: CompletedStep, depth: int, own: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return the plain values of a record, its limits, and its parts of the sums.

    Args:
        record: The step.
        depth: Its place in the tree, from 0.
        own: By name of a count and by step, what of it is the step's own.
    """
    row = {name: value for name, value in record.to_dict().items() if not isinstance(value, dict | list)}
    row |= {"depth": depth} | _worth(record.usage)
    parts = {"own": record.own_usage, "resumed": record.resumed_usage, "here": record.here_usage}
    for part, used in parts.items():
        row |= {f"{part}_{name}": getattr(used, name) for name in _PART}
        row |= {f"{part}_{name}": value for name, value in _worth(used).items()}
    row |= {f"own_{name}": counts[record.id] for name, counts in own.items()}
    return row | _limits(record, _LIMITS)


def of_model(model: str, usage: Usage) -> dict[str, Any]:
    """Return what was used of a model."""
    return {"model": model} | usage.to_dict() | _worth(usage)


def of_budgets(record: CompletedStep) -> Iterator[dict[str, Any]]:
    """Yield the shared budgets that hang on a step, with what all who share them have spent."""
    for name, budget in record.budgets.items():
        about = {"budget": name, "window": budget["window"], "resets_at": budget["resets_at"]}
        spent = {limit.replace("max_", "spent_"): budget["spent"].get(limit) for limit in _SHARED_LIMITS}
        yield _whose(record) | about | _limits(record, _SHARED_LIMITS, name) | spent


def of_grants(record: CompletedStep) -> Iterator[dict[str, Any]]:
    """Yield what escalations granted to a step."""
    for grant in record.grants:
        yield _whose(record) | dict.fromkeys((*_LIMITS, "by")) | grant.to_dict()


def _whose(record: CompletedStep) -> dict[str, Any]:
    return {"step_id": record.id, "run_id": record.run_id, "path": record.path}


def _limits(record: CompletedStep, names: Iterable[LimitName], budget: str | None = None) -> dict[str, Any]:
    """Return each limit of a step or of a budget on it, and the share that is used; `None` for no limit."""
    shares = {share.limit: share for share in shares_of(record) if share.budget == budget}
    row: dict[str, Any] = {}
    for limit in names:
        share = shares.get(limit)
        value = None if share is None else share.value
        row[limit] = float(value) if limit == "max_usd" and value is not None else value
        row[f"share_of_{limit}"] = None if share is None else share.fraction
    return row


def _worth(usage: Usage) -> dict[str, Any]:
    sureness = sureness_of(usage)
    return {"cost_usd": None if sureness == "unknown" else float(usage.cost_usd), "cost_is": sureness}
