"""Whom a price comes from: a table's entry, LiteLLM itself, genai-prices, or a bound where nobody is sure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.usage import Usage

from .doubts import doubts_of
from .entries import habits_of, rates_of
from .fees import Fees, uses_tools
from .rates import Rates, TokenRates
from .terms import Terms

Entry = Mapping[str, Any]

_MOST_CHARACTERS = 16
"""No token of Google's models, the only ones that are priced by the character, is longer."""
_ANY_UNIT = "{}_cost_per_"
_BY_CHARACTER = {"input": "input_cost_per_character", "output": "output_cost_per_character"}


class Flat(NamedTuple):
    """Rates by which tokens cost the same, however many there are; in units.

    Attributes:
        sent: Of a token of input.
        made: Of a token of output.
        request: Of a request, whatever is in it.
    """

    sent: int
    made: int
    request: int


class Quote(Protocol):
    """One source's answer to what a model costs; amounts are units, `None` is unknown.

    Attributes:
        source: Who says it, for people.
        is_complete: It knows the rates of input and output, so that no other table needs to be asked.
    """

    @property
    def source(self) -> str: ...  # noqa: D102

    @property
    def is_complete(self) -> bool: ...  # noqa: D102

    def cost(self, usage: Usage, duration_s: float | None = None) -> int | None:
        """Price the usage of one call."""

    def plain(self, sent: int, made: int) -> int | None:
        """Price so many tokens sent and made, of which no more is known."""

    def most(self, sent: int, made: int, kinds: Collection[str]) -> int | None:
        """Price so many tokens as dearly as they may be billed, `kinds` being what may be among them."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a table knows about a model.

    Attributes:
        source: Whose table it is.
        key: The model's key there.
        entry: What stands there.
        owner: The provider by which it was found.
        table: The whole table.
    """

    source: str
    key: str
    entry: Entry
    owner: str
    table: Mapping[str, Entry]

    def fees(self, terms: Terms) -> Fees:
        """Return what the provider's tools cost with this model."""
        return Fees.of(self.entry, self.owner, terms.search_context_size, self.table)


class Listed:
    """The price of an entry, for all calls that cannot meet what is not understood of it.

    Args:
        found: The entry.
        terms: How the call is served.

    Raises:
        ValueError: A rate is negative or not a number.
        TypeError: The entry is not of the form that LiteLLM has.
    """

    def __init__(self, found: Found, terms: Terms) -> None:
        self.source = found.source
        self.rates = rates_of(found.entry, terms)
        self.doubts = doubts_of(found.entry, terms.service_tier)
        self._found, self._terms = found, terms

    @property
    def is_complete(self) -> bool:
        """See `Quote`."""
        return self.rates.second is not None or (self.rates.is_complete and not self.doubts)

    def cost(self, usage: Usage, duration_s: float | None = None) -> int | None:
        """See `Quote`."""
        if self.doubts and any(doubt.is_met(usage) for doubt in self.doubts):
            return None
        return self._with_fees(self.rates.cost(usage, duration_s), usage)

    def plain(self, sent: int, made: int) -> int | None:
        """See `Quote`."""
        if self.doubts:
            return self.cost(Usage(input_tokens=sent, output_tokens=made))
        return self.rates.plain(sent, made)

    def most(self, sent: int, made: int, kinds: Collection[str]) -> int | None:
        """See `Quote`."""
        bounds = [rates.most(sent, made, kinds) for rates in self._dearest]
        more = [doubt.rate and doubt.rate * max(sent, made) for doubt in self.doubts]
        if bounds[0] is None or None in more:
            return None
        return max(bound or 0 for bound in bounds) + sum(each or 0 for each in more)

    @cached_property
    def _dearest(self) -> tuple[Rates, ...]:
        """These rates, plain ones, which a call may fall back to, and those that `auto` may come to."""
        is_auto = (self._terms.service_tier or "").lower() == "auto"
        tiers = {None, habits_of(self._found.entry).auto_tier if is_auto else None}
        others = [replace(self._terms, service_tier=tier) for tier in tiers]
        return (self.rates, *(rates_of(self._found.entry, terms) for terms in others))

    @cached_property
    def flat(self) -> Flat | None:
        """The rates of plain tokens, if they are the same for all calls at all hours."""
        rates = self.rates
        if self.doubts or rates.second is not None or rates.steps or rates.off_peak is not None:
            return None
        return None if rates.base.input is None or rates.base.output is None else _plain(rates.base)

    @cached_property
    def dearest(self) -> Flat | None:
        """The dearest rates that text may be billed at, however long, kept or thought about."""
        if not self.is_complete or self.rates.second is not None:
            return None
        found = [rates.base for rates in self._dearest]
        found += [higher for rates in self._dearest for _, higher in rates.steps]
        return Flat(*map(max, zip(*map(_dear_text, found), strict=True)))

    def bound(self, usage: Usage) -> int | None:
        """Price a usage with every rate that is not understood on top."""
        units = self._with_fees(self._by_character(self.rates).cost(usage), usage)
        more = [doubt.most(usage) for doubt in self.doubts if doubt.is_met(usage)]
        return None if units is None or None in more else units + sum(each or 0 for each in more)

    def _by_character(self, rates: Rates) -> Rates:
        base = rates.base
        stated = {name: self._found.entry.get(key) for name, key in _BY_CHARACTER.items()}
        for name, value in stated.items():
            if value is not None and getattr(base, name) is None:
                base = replace(base, **{name: to_units(value, _BY_CHARACTER[name]) * _MOST_CHARACTERS})
        return replace(rates, base=base)

    def _with_fees(self, units: int | None, usage: Usage) -> int | None:
        if units is None or not uses_tools(usage):
            return units
        fee = self._found.fees(self._terms).cost(usage)
        return None if fee is None else units + fee

    @property
    def needs_help(self) -> bool:
        """Whether some calls need another source: a rate is not understood, or is of another unit."""
        missing = [each for each in _BY_CHARACTER if getattr(self.rates.base, each) is None]
        other_units = [
            key for key in self._found.entry if key.startswith(tuple(map(_ANY_UNIT.format, missing)))
        ]
        return bool(self.doubts or (missing and other_units))


class Bounded:
    """The most that an entry may come to, where nobody can say what it does.

    Args:
        listed: The entry's own price.
    """

    is_complete = True

    def __init__(self, listed: Listed) -> None:
        self.source = listed.source
        self._listed = listed

    def cost(self, usage: Usage, duration_s: float | None = None) -> int | None:  # noqa: ARG002
        """See `Quote`."""
        return self._listed.bound(usage)

    def plain(self, sent: int, made: int) -> int | None:
        """See `Quote`."""
        return self._listed.bound(Usage(input_tokens=sent, output_tokens=made))

    def most(self, sent: int, made: int, kinds: Collection[str]) -> int | None:
        """See `Quote`."""
        return _dear(self, sent, made, kinds)


class Asked:
    """What another package answers that is asked for a price.

    Args:
        source: Its name, for people.
        price: Prices the tokens of a usage.
        fees: What the provider's tools cost.
        is_complete: Nobody needs to be asked after it.
    """

    def __init__(
        self,
        source: str,
        price: Callable[[Usage], int | None],
        fees: Callable[[], Fees],
        *,
        is_complete: bool = True,
    ) -> None:
        self.source = source
        self.is_complete = is_complete
        self._price, self._fees = price, fees

    def cost(self, usage: Usage, duration_s: float | None = None) -> int | None:  # noqa: ARG002
        """See `Quote`."""
        units = self._price(usage)
        if units is None or not uses_tools(usage):
            return units
        fee = self._fees().cost(usage)
        return None if fee is None else units + fee

    def plain(self, sent: int, made: int) -> int | None:
        """See `Quote`."""
        return self._price(Usage(input_tokens=sent, output_tokens=made))

    def most(self, sent: int, made: int, kinds: Collection[str]) -> int | None:
        """See `Quote`."""
        return _dear(self, sent, made, kinds)


def _plain(rates: TokenRates) -> Flat:
    return Flat(rates.input or 0, rates.output or 0, rates.request)


def _dear_text(rates: TokenRates) -> Flat:
    kept = (rates.cache_read, rates.cache_write, rates.cache_write_1h, rates.cache_write_12h)
    return Flat(max(rates.input or 0, *kept), max(rates.output or 0, rates.reasoning), rates.request)


def _dear(quote: Quote, sent: int, made: int, kinds: Collection[str]) -> int | None:
    """Price tokens as plain ones, and all of them as each dearer kind, and take the most."""
    whole = Usage(input_tokens=sent, output_tokens=made)
    usages = [whole, whole.replace(cache_write_tokens=sent, reasoning_tokens=made)]
    usages += [whole.replace(**_of_kind(kind, sent, made)) for kind in kinds]
    costs = [quote.cost(usage) for usage in usages]
    return None if costs[0] is None else max(cost or 0 for cost in costs)


def _of_kind(kind: str, sent: int, made: int) -> dict[str, int]:
    written = {"cache_write_tokens": sent} if kind.startswith("cache_write") else {}
    return {**written, f"{kind}_tokens": made if kind.startswith("output") else sent}
