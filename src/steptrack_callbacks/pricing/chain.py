"""Whom to ask for a price, in which order, and for how long the answer stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from steptrack_callbacks.values.usage import Usage

from . import genai
from .handover import Handover
from .names import MAKERS, canonical, spellings, split
from .rates import is_understood, rates_of
from .table import Entry, Row, Table, installed, live_entries
from .user import checked


@dataclass(frozen=True, slots=True)
class Quote:
    """One source's answer to what a model costs.

    Attributes:
        source: Who says it, for people.
        cost: Prices the usage of one call, in units; `None` if a rate that it needs is not known.
        is_complete: It knows the rates of input and output, so nobody else needs to be asked.
        plain: Prices so many tokens sent and made, of which no more is known.
    """

    source: str
    cost: Callable[[Usage], int | None]
    is_complete: bool
    plain: Callable[[int, int], int | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """All sources that know a model, best first, and what they were read from.

    Attributes:
        quotes: The sources; none if nobody knows the model.
        own: The user's prices when it was asked.
        live: LiteLLM's living table when it was asked, `None` if LiteLLM was not imported.
        size: How many models that table had.
        row: The model's entry there, if it has one.
        copy: What was in that entry: `litellm.register_model` changes entries in place.
    """

    quotes: tuple[Quote, ...]
    own: Mapping[str, Entry]
    live: Mapping[str, Entry] | None
    size: int
    row: Row | None
    copy: Entry | None

    def cost(self, usage: Usage) -> int | None:
        """Price the usage of one call, in units, by the first source that can."""
        for quote in self.quotes:
            units = quote.cost(usage)
            if units is not None:
                return units
        return None

    def plain(self, sent: int, made: int) -> int | None:
        """Price so many tokens sent and made, of which no more is known."""
        for quote in self.quotes:
            units = quote.plain(sent, made)
            if units is not None:
                return units
        return None

    def stands(self) -> bool:
        """Tell whether the user's prices and LiteLLM's table are still what they were."""
        live = live_entries()
        if live is not self.live or self.own is not _own[0]:
            return False
        if live is None:
            return True
        row = self.row
        return len(live) == self.size and (row is None or live.get(row.key) == self.copy)


Key = tuple[str, str | None, str | None]
Found = tuple[str, Row, str]
"""What a table knows about a model: the source, the entry, and by which provider it was found."""

_MOST_ANSWERS = 4096
_answers: dict[Key, Answer] = {}
_limits: dict[Key, tuple[Answer, int | None]] = {}
_own: list[Mapping[str, Entry]] = [{}]  # replaced whole, so that an answer knows which it saw


def answer(model: str, provider: str | None, service_tier: str | None) -> Answer:
    """Return who knows the price of a model, remembered until a table changes."""
    key = (model, provider, service_tier)
    known = _answers.get(key)
    if known is not None and known.stands():
        return known
    if len(_answers) >= _MOST_ANSWERS:  # model names may come from outside
        _answers.clear()
        _limits.clear()
    _answers[key] = known = _ask(key)
    return known


def max_output(model: str, provider: str | None) -> int | None:
    """Return how many tokens a model can answer at most, if a table says it."""
    key, now = (model, provider, None), answer(model, provider, None)
    known = _limits.get(key)
    if known is None or known[0] is not now:
        limits = (row.entry.get("max_output_tokens") for _, row, _ in _rows(model, provider))
        stated = (int(limit) for limit in limits if isinstance(limit, int | float) and limit > 0)
        _limits[key] = known = (now, next(stated, None))
    return known[1]


def set_own(prices: Mapping[str, Mapping[str, object]]) -> None:
    """Take prices from the user, all or none; see `steptrack_callbacks.pricing.set_prices`."""
    checked_prices = {model: checked(model, price) for model, price in prices.items()}
    _own[0] = {**_own[0], **checked_prices}


def forget() -> None:
    """Drop the user's prices and every answer."""
    _own[0] = {}
    _answers.clear()
    _limits.clear()


def _ask(key: Key) -> Answer:
    model, provider, service_tier = key
    own, live = _own[0], live_entries()
    size = len(live or ())
    quotes: list[Quote] = []
    watched: Row | None = None
    for source, row, owner in _rows(model, provider):
        if live is not None and live.get(row.key) is row.entry:
            watched = row
        quote = _quote(source, row, owner, service_tier)
        quotes.append(quote)
        if quote.is_complete:
            break
    else:
        if other := genai.find(*key):
            quotes.append(Quote("genai-prices", other.cost, is_complete=True, plain=_by_usage(other.cost)))
    return Answer(tuple(quotes), own, live, size, watched, dict(watched.entry) if watched else None)


def _quote(source: str, row: Row, owner: str, service_tier: str | None) -> Quote:
    if not is_understood(row.entry):
        price = Handover(row.key, owner, service_tier).cost
        return Quote(source, price, is_complete=False, plain=_by_usage(price))
    try:
        rates = rates_of(row.entry, service_tier)
    except (TypeError, ValueError):  # a number that is none, in a table that anybody can write to
        return Quote(source, _unknown, is_complete=False, plain=_by_usage(_unknown))
    return Quote(source, rates.cost, rates.is_complete, rates.plain)


def _by_usage(price: Callable[[Usage], int | None]) -> Callable[[int, int], int | None]:
    return lambda sent, made: price(Usage(input_tokens=sent, output_tokens=made))


def _unknown(_: Usage) -> None:
    return None


def _rows(model: str, provider: str | None) -> Iterator[Found]:
    host, name = split(model, provider)
    if own := Table(_own[0]).find((model, f"{host}/{name}", name), host or ""):
        yield "user", own, host or ""
    for table in _tables():
        owner = host or _maker(name, table)
        if owner and (row := table.find((*spellings(name, owner), model), owner)):
            yield "litellm", row, owner


def _tables() -> Iterator[Table]:
    live = live_entries()
    if live is not None:
        yield Table(live)
    yield installed()


def _maker(name: str, table: Table) -> str | None:
    row = table.row(name)
    if row is not None and isinstance(owner := row.entry.get("litellm_provider"), str):
        return canonical(owner)
    return next((maker for maker in MAKERS if table.find(spellings(name, maker), maker)), None)
