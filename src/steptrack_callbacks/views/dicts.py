"""The report as rows for a data frame: flat, with columns that may be summed up."""

from __future__ import annotations

from typing import Any, get_args

from steptrack_callbacks.definitions import LimitName
from steptrack_callbacks.records import CompletedStep
from steptrack_callbacks.usage import Usage

from .marks import shares_of, sureness_of

_PART = ("input_tokens", "output_tokens", "calls", "estimated_calls", "unpriced_calls", "failed_calls")


def of_step(record: CompletedStep, depth: int) -> dict[str, Any]:
    """Return a record's dict with its depth in the tree, its limits, and its parts of the sums."""
    row = record.to_dict() | {"depth": depth}
    row |= _worth(record.usage)
    for part, used in (("own", record.own_usage), ("resumed", record.resumed_usage)):
        row |= {f"{part}_{name}": getattr(used, name) for name in _PART}
        row |= {f"{part}_{name}": value for name, value in _worth(used).items()}
    shares = {share.limit: share.fraction for share in shares_of(record) if share.budget is None}
    for share in shares_of(record):
        if share.budget is not None:
            row["budgets"][share.budget].setdefault("shares", {})[share.limit] = share.fraction
    for limit in get_args(LimitName):
        row[limit] = row["limits"].get(limit)
        row[f"share_of_{limit}"] = shares.get(limit)
    return row


def of_model(model: str, usage: Usage) -> dict[str, Any]:
    """Return what was used of a model."""
    return {"model": model} | usage.to_dict() | _worth(usage)


def _worth(usage: Usage) -> dict[str, Any]:
    sureness = sureness_of(usage)
    return {"cost_usd": None if sureness == "unknown" else float(usage.cost_usd), "cost_is": sureness}
