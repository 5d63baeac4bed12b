"""The tables of what calls, scopes and imports cost."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from cases import CASES
from entrants import ALL
from overhead import added
from tables import NONE, OURS, Results, can, label, number, table

FRAMEWORKS_OWN = ("Nothing", "DoesNothing")


def calls(overhead: Results, framework: str) -> str:
    cases = {case: found for case, found in overhead.items() if case.startswith(framework)}
    return table(["", "does", *(CASES[case].title for case in cases)], _rows(cases))


def _rows(cases: Results) -> Iterator[list[str]]:
    yield ["a bare call, in all", "", *(_bare(found) for found in cases.values())]
    for name in ALL:
        cells = [_cell(found.get(name)) for found in cases.values()]
        if name != "Nothing" and set(cells) != {NONE}:
            yield [label(name), ALL[name].does, *cells]


def _bare(found: Results) -> str:
    return number(statistics.median(us for each in found.values() for us in each.get("bare", [])))


def _cell(samples: Results | None) -> str:
    if samples is None or not can(samples):
        return NONE
    low, middle, high = map(number, added(samples))
    return f"{middle} ({low} to {high}){' †' if samples['seen'] == 0 else ''}"


def scopes(overhead: Results) -> str:
    rows = [
        [label(name), *(_cell(overhead[case].get(name)) for case in ("scope", "scope_in_three"))]
        for name in ALL
        if can(overhead["scope"].get(name)) and name != "OursDeep"
    ]
    return table(["", "one", "inside three others"], rows)


def ratios(overhead: Results) -> str:
    rows = []
    for case, found in overhead.items():
        ours, handler = found.get("OursDeep"), found.get("UsageHandler")
        if case.startswith("langchain_") and can(ours) and can(handler):
            share = added(ours)[1] / added(handler)[1]
            rows.append([CASES[case].title, f"{_whole(ours) / _whole(handler):.2f}", f"{share:.2f}"])
    return table(["", "whole call", "added"], rows)


def _whole(samples: Results) -> float:
    both = zip(samples["bare"], samples["attached"], strict=True)
    return statistics.median(attached / bare for bare, attached in both)


def imports(found: dict[str, list[float]]) -> str:
    return table(["", "ms"], ([title, _ms(samples)] for title, samples in found.items()))


def _ms(samples: list[float]) -> str:
    low, middle, high = (1e3 * value for value in statistics.quantiles(samples, n=4))
    return f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def cheaper(overhead: Results) -> Iterator[str]:
    """Say which others cost less than one step of ours, case by case."""
    for case, found in overhead.items():
        ours = found.get("Ours")
        if not can(ours):
            continue
        names = [name for name, samples in found.items() if _beats(name, samples, ours)]
        if names:
            told = ", ".join(f"{label(name)} {number(added(found[name])[1])}" for name in names)
            yield f"- Cheaper, {_kind(case)}{CASES[case].title}; ours {number(added(ours)[1])}: {told}."


def _kind(case: str) -> str:
    kinds = {"langchain": "LangChain ", "litellm": "LiteLLM ", "scope": "a scope, "}
    return kinds.get(case.split("_", maxsplit=1)[0], "")


def _beats(name: str, samples: Results, ours: Results) -> bool:
    if name in (*OURS, *FRAMEWORKS_OWN) or not can(samples) or samples["seen"] == 0:
        return False
    return added(samples)[1] < added(ours)[0]  # not where the spread of ours covers it
