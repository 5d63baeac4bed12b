"""How figures are written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from entrants import ALL

Results = dict[str, Any]
OURS = ("Ours", "OursDeep", "OursWaiting", "OursStrict")
NONE = "-"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def label(name: str) -> str:
    return ALL[name].label


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.1f}"


def can(cell: Results | None) -> bool:
    return cell is not None and "cannot" not in cell
