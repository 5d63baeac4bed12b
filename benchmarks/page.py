"""Fills `template.md` with what was measured: the page `docs/benchmarks.md`."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import page_admission
import page_costs
import page_ledgers
import page_limits
from cases import CASES
from overhead import ROUNDS
from tables import NONE, Results, label, number, table

TEMPLATE = Path(__file__).with_name("template.md")
MARKS = (1_000, 10_000, 100_000, 1_000_000)
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
FILES = 10
NOT_MEASURED = "*Not measured in this run.*"


def written(results: Results) -> str:
    blocks = {name: _block(results, *source) for name, source in BLOCKS.items()}
    blocks |= {"about": _about(results), "rounds": str(ROUNDS), "better": _better(results)}
    return TEMPLATE.read_text(encoding="utf-8").format(**blocks)


def _block(results: Results, part: str, make: Callable[[Any], str]) -> str:
    return make(results[part]) if part in results else NOT_MEASURED


def _about(results: Results) -> str:
    about = dict(results["machine"])
    lines = [
        f"- {about.pop('machine')}; load when it began: {about.pop('load')}",
        f"- {about.pop('python')}, steptrack-callbacks {about.pop('steptrack-callbacks')}",
        f"- measured with: {', '.join(f'{name} {version}' for name, version in about.items())}",
        f"- others: {', '.join(f'{name} {version}' for name, version in results['packages'].items())}",
    ]
    return "\n".join(lines)


def _growth(found: list[Results]) -> str:
    rows = [
        [f"{each['what']}: {label(each['name'])}", *_at(each, MARKS), _memory(each)]
        for each in found
        if each["what"] != "depth" and each.get("at")
    ]
    return table(["", *(f"{mark:,}" for mark in MARKS), "MiB, first to last"], rows)


def _depth(found: list[Results]) -> str:
    deep = [each for each in found if each["what"] == "depth" and each.get("at")]
    rows = [[label(each["name"]), *_at(each, DEPTHS), _slope(each)] for each in deep]
    return table(["", *map(str, DEPTHS), "a scope more"], rows)


def _at(found: Results, marks: tuple[int, ...]) -> list[str]:
    us = dict(zip(found["at"], found["us"], strict=True))
    return [number(us[mark]) if mark in us else NONE for mark in marks]


def _memory(found: Results) -> str:
    return NONE if None in found["MiB"] else f"{found['MiB'][0]:.0f} to {found['MiB'][-1]:.0f}"


def _slope(found: Results) -> str:
    if len(found["at"]) == 1:
        return NONE
    return f"{statistics.linear_regression(found['at'], found['us']).slope:.1f}"


def _proxy(found: Results) -> str:
    """Make a table for each kind of row that the program tells of."""
    kinds = dict.fromkeys(tuple(figures) for figures in found.values())
    return "\n\n".join(_proxy_table(found, kind) for kind in kinds)


def _proxy_table(found: Results, heads: tuple[str, ...]) -> str:
    rows = {name: figures for name, figures in found.items() if tuple(figures) == heads}
    return table(["", *heads], ([name, *map(str, figures.values())] for name, figures in rows.items()))


def _profile(found: Results) -> str:
    lines = []
    for case, each in found.items():
        framework = "LangChain" if case.startswith("langchain") else "LiteLLM"
        what = f"{framework} {CASES[case].title.removesuffix(', a chunk')}"
        share = each["ours_us"] / each["whole_us"]
        files = ", ".join(f"`{file}` {us:.0f}" for file, us in list(each["files_us"].items())[:FILES])
        lines.append(f"- {what}: {share:.0%} of {each['whole_us']:,.0f} us is this package's: {files}.")
    return "\n".join(lines)


def _better(results: Results) -> str:
    lines = [
        *page_costs.cheaper(results.get("overhead", {})),
        *page_limits.nearer(results.get("limits", [])),
    ]
    return "\n".join(lines) or "Nowhere in this run."


BLOCKS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "langchain": ("overhead", lambda found: page_costs.calls(found, "langchain_")),
    "litellm": ("overhead", lambda found: page_costs.calls(found, "litellm_")),
    "openai": ("overhead", lambda found: page_costs.calls(found, "openai_")),
    "scopes": ("overhead", page_costs.scopes),
    "ratios": ("overhead", page_costs.ratios),
    "imports": ("imports", page_costs.imports),
    "limits_langchain": ("limits", lambda found: page_limits.at_once(found, "langchain")),
    "limits_litellm": ("limits", lambda found: page_limits.at_once(found, "litellm")),
    "limits_openai": ("limits", lambda found: page_limits.at_once(found, "openai")),
    "varied": ("limits", page_limits.varied),
    "shared": ("shared", page_limits.in_a_row),
    "admission": ("admission", page_admission.written),
    "growth": ("growth", _growth),
    "depth": ("growth", _depth),
    "ledgers": ("ledgers", page_ledgers.written),
    "proxy": ("proxy", _proxy),
    "profile": ("profile", _profile),
}
