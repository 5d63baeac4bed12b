"""`steptrack prices`: what models cost, by asking the pricer as a call would."""

from __future__ import annotations

import sys
from argparse import Namespace
from decimal import Decimal
from typing import Any

from steptrack_callbacks import pricing
from steptrack_callbacks.values.money import format_usd, to_units, to_usd
from steptrack_callbacks.values.usage import Usage

from .errors import OK, UNKNOWN, CommandError
from .output import print_json, table

_KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    # kind of token: what it costs if it has no rate of its own, and what it counts in
    "input": ("", ("input_tokens",)),
    "output": ("", ("output_tokens",)),
    "cache_read": ("", ("input_tokens", "cache_read_tokens")),
    "cache_write": ("", ("input_tokens", "cache_write_tokens")),
    "cache_write_1h": ("cache_write", ("input_tokens", "cache_write_tokens", "cache_write_1h_tokens")),
    "reasoning": ("output", ("output_tokens", "reasoning_tokens")),
    "input_audio": ("input", ("input_tokens", "input_audio_tokens")),
    "output_audio": ("output", ("output_tokens", "output_audio_tokens")),
    "input_image": ("input", ("input_tokens", "input_image_tokens")),
    "output_image": ("output", ("output_tokens", "output_image_tokens")),
}
_LARGEST_PROMPT = 16_000_000
_MOST_TIERS = 6
_MTOK = 10**6


def go(options: Namespace) -> int:
    """Print the price of each model; code 1 if that of any is unknown."""
    if options.config:
        _take_prices(options.config)
    found = [priced(model, options.provider, options.usage) for model in options.models]
    if options.json:
        print_json(found[0] if len(found) == 1 else found)
    for each in found:
        if not each["known"]:
            print(f"steptrack prices: {_advice(each)}", file=sys.stderr)
    known = [each for each in found if each["known"]]
    if known and not options.json:
        _print(known)
    return OK if len(known) == len(found) else UNKNOWN


def _take_prices(file: str) -> None:
    from steptrack_callbacks.config import ConfigError, load  # noqa: PLC0415

    try:
        pricing.set_prices(load(file).prices)
    except ConfigError as error:
        raise CommandError(str(error)) from None


def priced(model: str, provider: str | None = None, usage: dict[str, int] | None = None) -> dict[str, Any]:
    """Say what a model costs, as plain values; rates are in US dollars per million tokens.

    Example:
        >>> found = priced("gpt-4o-mini", usage={"input_tokens": 1000})
        >>> found["tiers"][0]["input"], found["cost_usd"]
        (0.15, 0.00015)
    """
    asked = _Model(model, provider)
    source = pricing.source_of(model, provider=provider)
    found: dict[str, Any] = {
        "model": model,
        "provider": provider,
        "known": source is not None,
        "source": source,
    }
    if source is not None:
        found["source_version"] = _version(source)
        found["max_output_tokens"] = pricing.max_output_tokens(model, provider=provider)
        found["tiers"] = asked.tiers()
    if usage is not None:
        cost = pricing.cost_usd(model, _usage(usage), provider=provider)
        found["usage"] = usage
        found["cost_usd"] = None if cost is None else float(cost)
    return found


def _usage(counts: dict[str, Any]) -> Usage:
    return Usage(**counts)


class _Model:
    """One model, whose rates are found by pricing usages."""

    def __init__(self, model: str, provider: str | None) -> None:
        self._model, self._provider = model, provider

    def cost(self, **counts: int) -> int | None:
        return pricing.cost_units(self._model, _usage(counts), provider=self._provider)

    def tiers(self) -> list[dict[str, Any]]:
        """Return the rates for short prompts, then those from each threshold on."""
        tiers: list[dict[str, Any]] = []
        start: int | None = 1
        while start is not None and len(tiers) < _MOST_TIERS:
            tiers.append({"from_input_tokens": 0 if start == 1 else start, **self._rates(start)})
            start = self._next_threshold(start)
        return tiers

    def _rates(self, prompt: int) -> dict[str, float]:
        """Return the rates of their own that kinds of tokens have beside a prompt of a length."""
        rates: dict[str, Decimal] = {}
        for kind, (fallback, names) in _KINDS.items():
            rate = self._rate(prompt, names)
            if rate is not None and rate != rates.get(fallback):
                rates[kind] = rate
        fee = self._fee()
        return {kind: float(rate) for kind, rate in rates.items()} | ({"request_usd": fee} if fee else {})

    def _rate(self, prompt: int, names: tuple[str, ...]) -> Decimal | None:
        """Price a million tokens of a kind by what they add to a request."""
        base: dict[str, int] = {}
        amount = prompt
        if "input_tokens" not in names:
            base, amount = {"input_tokens": prompt}, 1
        cost, without = self.cost(**base, **dict.fromkeys(names, amount)), self.cost(**base)
        return None if cost is None or without is None else to_usd((cost - without) * _MTOK // amount)

    def _fee(self) -> float:
        """Return what a request costs whatever is in it."""
        return float(to_usd(self.cost() or 0))

    def _next_threshold(self, start: int) -> int | None:
        """Find by halving the shortest prompt that is priced at another rate than one of `start`."""
        if self._average(start) == self._average(_LARGEST_PROMPT):
            return None
        low, high = start, _LARGEST_PROMPT
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._average(middle) == self._average(start) else (low, middle)
        return high

    def _average(self, prompt: int) -> Decimal | None:
        cost, fee = self.cost(input_tokens=prompt), self.cost()
        return None if cost is None or fee is None else Decimal(cost - fee) / prompt


def _version(source: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return None if source == "user" else version(source)
    except PackageNotFoundError:
        return None


def _print(found: list[dict[str, Any]]) -> None:
    kinds = [kind for kind in _KINDS if any(kind in tier for each in found for tier in each["tiers"])]
    fees = any("request_usd" in tier for each in found for tier in each["tiers"])
    totals = any("cost_usd" in each for each in found)
    columns = ["model", *(kind.replace("_", " ") for kind in kinds), *(["a request"] if fees else [])]
    columns += [*(["this usage"] if totals else []), "price from"]
    rows = [row for each in found for row in _rows(each, kinds, fees=fees, totals=totals)]
    print(table(columns, rows, numbers=range(1, len(columns) - 1)))
    print("\nUS dollars per million tokens")


def _rows(each: dict[str, Any], kinds: list[str], *, fees: bool, totals: bool) -> list[list[str]]:
    rows = []
    for index, tier in enumerate(each["tiers"]):
        name = f"  from {tier['from_input_tokens']:,} input tokens" if index else each["model"]
        row = [name, *(f"{tier[kind]:,.10g}" if kind in tier else "-" for kind in kinds)]
        row += [f"${tier.get('request_usd', 0):.10g}"] if fees else []
        row += [_cost(each) if index == 0 else ""] if totals else []
        rows.append([*row, _origin(each) if index == 0 else ""])
    return rows


def _cost(each: dict[str, Any]) -> str:
    cost = each.get("cost_usd")
    return "unknown" if cost is None else format_usd(to_units(cost, "cost"))


def _origin(each: dict[str, Any]) -> str:
    version = f" {each['source_version']}" if each["source_version"] else ""
    named = {"litellm": "LiteLLM's table", "user": "the prices given"}
    return f"{named.get(each['source'], each['source'])}{version}"


def _advice(each: dict[str, Any]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - for errors only

    from steptrack_callbacks.pricing.table import installed  # noqa: PLC0415

    model = each["model"]
    near = get_close_matches(model.lower(), list(installed().entries), n=1, cutoff=0.8)
    hint = f"did you mean {near[0]!r}? Or give it" if near and near[0] != model else "give it"
    at = f" at provider {each['provider']!r}" if each["provider"] else ""
    return (
        f"nobody knows the price of {model!r}{at}: {hint} with install(prices={{{model!r}: {{...}}}}) or in"
        ' [prices."..."] of a steptrack.toml'
    )
