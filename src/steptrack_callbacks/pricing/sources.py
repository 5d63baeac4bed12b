"""Whom to ask for a price, in which order, and for how long the answer stands."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, NamedTuple

from steptrack_callbacks import settings
from steptrack_callbacks.settings import Settings
from steptrack_callbacks.values.limits import check_mapping
from steptrack_callbacks.values.usage import DETAIL_NAMES, Usage

from . import genai
from .checks import check_question
from .entries import laid_over
from .litellm_cost import LiteLLMPrice
from .names import MAKERS, canonical, spellings, split
from .quotes import Asked, Bounded, Flat, Found, Listed, Quote
from .table import Entry, Row, Table, installed, live_entries, tables
from .terms import Terms
from .user import checked

_details_of = attrgetter(*DETAIL_NAMES)


class Question(NamedTuple):
    """What is asked: a model, and what decides at which of its rates it is billed.

    Attributes:
        model: By any name.
        provider: Who is called, by any name; `None` if nobody says.
        service_tier: See `Terms`, as the next three.
        speed: How fast.
        region: Where.
        search_context_size: With how much found.
        given: Rates that were given with the call itself.
    """

    model: str
    provider: str | None = None
    service_tier: str | None = None
    speed: str | None = None
    region: str | None = None
    search_context_size: str | None = None
    given: tuple[tuple[str, Any], ...] = ()

    @property
    def terms(self) -> Terms:
        """How the call is served."""
        return Terms(
            service_tier=self.service_tier,
            speed=self.speed,
            region=self.region,
            search_context_size=self.search_context_size,
        )


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of one model, as they were when it was looked up; amounts are units of 1e-24 US dollars.

    They are of all sources that know the model, best first, and say what these were read from.

    Attributes:
        quotes: The sources; none if nobody knows the model.
        own: The user's prices when it was asked.
        live: LiteLLM's living table when it was asked, `None` if LiteLLM was not imported.
        size: How many models that table had.
        row: The model's key there and what stood there, if it has one.
        flat: The rates of plain tokens, if they are the same for all calls; else `None`.
        dearest: The dearest rates that text may be billed at, or `None` if they are not as simple as that.
    """

    quotes: tuple[Quote, ...]
    own: Mapping[str, Entry]
    live: Mapping[str, Entry] | None
    size: int
    row: Row | None
    flat: Flat | None = None
    dearest: Flat | None = None

    def cost(self, usage: Usage, duration_s: float | None = None) -> int | None:
        """Price the usage of one call by the first source that can; `None` if unknown."""
        if self.flat is not None and (usage.is_text or not any(_details_of(usage))):
            return (
                usage.input_tokens * self.flat.sent + usage.output_tokens * self.flat.made + self.flat.request
            )
        for quote in self.quotes:
            units = quote.cost(usage, duration_s)
            if units is not None:
                return units
        return None

    def plain(self, sent: int, made: int) -> int | None:
        """Price so many tokens sent and made, of which no more is known; `None` if unknown."""
        for quote in self.quotes:
            units = quote.plain(sent, made)
            if units is not None:
                return units
        return None

    def most(self, sent: int, made: int, kinds: Collection[str] = ()) -> int | None:
        """Price so many tokens as dearly as they may be billed; `None` if unknown."""
        for quote in self.quotes:
            units = quote.most(sent, made, kinds)
            if units is not None:
                return units
        return None

    @property
    def by_second(self) -> bool:
        """Whether the time of a call is what it costs."""
        return any(isinstance(quote, Listed) and quote.rates.second is not None for quote in self.quotes[:1])

    @property
    def is_own(self) -> bool:
        """Whether the user has said these prices, in `install(prices=...)` or with the call."""
        return bool(self.quotes) and self.quotes[0].source in ("user", "the call")


_MOST_ANSWERS = 4096
_answers: dict[Question, Prices] = {}
_limits: dict[Question, tuple[Prices, int | None]] = {}


def look_up(question: Question) -> Prices:
    """Return the prices of a model, remembered until the user's prices or LiteLLM's table change."""
    try:
        known = _answers.get(question)
    except TypeError:  # what is asked, or given with the call, cannot be remembered
        check_question(question)
        return _ask(question)
    if known is not None:
        live, row = live_entries(), known.row
        if (
            live is known.live
            and known.own is settings.now.prices
            and (
                live is None or (len(live) == known.size and (row is None or live.get(row.key) == row.entry))
            )
        ):
            return known
    check_question(question)
    if len(_answers) >= _MOST_ANSWERS:  # model names may come from outside
        _answers.clear()
        _limits.clear()
    _answers[question] = known = _ask(question)
    return known


def max_output(model: str, provider: str | None) -> int | None:
    """Return how many tokens a model can answer at most, if a table says it."""
    key = Question(model, provider)
    now = look_up(key)
    known = _limits.get(key)
    if known is None or known[0] is not now:
        limits = (found.entry.get("max_output_tokens") for found in _found(key))
        stated = (int(limit) for limit in limits if isinstance(limit, int | float) and limit > 0)
        _limits[key] = known = (now, next(stated, None))
    return known[1]


def entries_of(question: Question) -> Iterator[Entry]:
    """Yield what tables say of a model, the best first."""
    check_question(question)
    return (found.entry for found in _found(question))


def owner_of(question: Question) -> str | None:
    """Name who serves a model, in the one name that the table has for each; `None` if nobody says."""
    vendor, name = split(question.model, question.provider)
    return (
        canonical(vendor) if vendor else next((maker for t in tables() if (maker := maker_of(name, t))), None)
    )


def with_prices(before: Settings, prices: Mapping[str, Mapping[str, object]]) -> Settings:
    """Return settings with these prices of the user's too, all or none; see `pricing.set_prices`."""
    check_mapping(prices, "prices", "{'my-model': {'input_usd_per_mtok': 1.0, 'output_usd_per_mtok': 4.0}}")
    own = {model: checked(model, price) for model, price in prices.items()}
    return replace(before, prices={**before.prices, **own})


def forget() -> None:
    """Drop the user's prices and every answer."""
    settings.change(prices={})
    _answers.clear()
    _limits.clear()


def _ask(question: Question) -> Prices:
    own, live = settings.now.prices, live_entries()
    size = len(live or ())
    quotes: list[Quote] = []
    bounds: list[Quote] = []
    watched: Row | None = None
    for found in _found(question):
        if found.table is live and not question.given:
            watched = Row(found.key, found.entry)
        listed = _listed(found, question)
        if listed is None:
            continue
        quotes.append(listed)
        if listed.needs_help:
            quotes += _handed(found, question)
            bounds.append(Bounded(listed))
        if listed.is_complete:
            break
    else:
        quotes += _genai(question)
    first = quotes[0] if quotes else None
    flat, dearest = (first.flat, first.dearest) if isinstance(first, Listed) else (None, None)
    return Prices((*quotes, *bounds), own, live, size, watched, flat, dearest)


def _listed(found: Found, question: Question) -> Listed | None:
    try:
        return Listed(found, question.terms)
    except (TypeError, ValueError):  # a number that is none, in a table that anybody can write to
        return None


def _handed(found: Found, question: Question) -> Iterator[Quote]:
    """Let LiteLLM price what it has in its own table."""
    if found.source == "litellm" and not question.given:
        price = LiteLLMPrice(found.key, found.owner, question.terms).cost
        yield Asked(found.source, price, lambda: found.fees(question.terms), is_complete=False)


def _genai(question: Question) -> Iterator[Quote]:
    model, provider, service_tier, *_ = question
    if other := genai.find(model, provider, service_tier):
        nowhere = Found("genai-prices", model, {}, split(model, provider)[0] or "", installed().entries)
        yield Asked("genai-prices", other.cost, lambda: nowhere.fees(question.terms))


def _found(question: Question) -> Iterator[Found]:
    if not question.given:
        yield from _entries(question)
        return
    given, listed = dict(question.given), next(_entries(question), None)
    if listed is None:
        owner = split(question.model, question.provider)[0] or ""
        listed = Found("", question.model, {}, owner, installed().entries)
    yield replace(listed, source="the call", entry=laid_over(listed.entry, given))


def _entries(question: Question) -> Iterator[Found]:
    model, provider, *_ = question
    vendor, name = split(model, provider)
    if own := Table(settings.now.prices).find((model, f"{vendor}/{name}", name), vendor or ""):
        yield Found("user", own.key, own.entry, vendor or "", installed().entries)
    yield from published(question)


def published(question: Question) -> Iterator[Found]:
    """Find a model in LiteLLM's tables."""
    model, provider, *_ = question
    vendor, name = split(model, provider)
    region = (question.region or "").lower()
    for table in tables():
        owner = vendor or maker_of(name, table)
        if owner is None:
            continue
        local = (f"{owner}/{region}/{name}",) if region else ()
        if row := table.find((*local, *spellings(name, owner), model), owner):
            entry = dict(row.entry)  # `litellm.register_model` changes entries in place, in any thread
            yield Found("litellm", row.key, entry, owner, table.entries)


def maker_of(name: str, table: Table) -> str | None:
    """Name the provider whose model it is, where a table knows one of that name."""
    row = table.row(name)
    if row is not None and isinstance(owner := row.entry.get("litellm_provider"), str):
        return canonical(owner)
    return next((maker for maker in MAKERS if table.find(spellings(name, maker), maker)), None)
