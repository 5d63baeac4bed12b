"""What an answer says of its usage: one reading for whole answers and streams of all packages.

A stream is an answer that comes in pieces. So there is one reader that is shown the pieces, or the
whole as the only one, and what it has understood is one frozen value. Whatever a provider or a test
double puts there, reading it never fails: what makes no sense counts as not reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from steptrack_callbacks.pricing import Terms
from steptrack_callbacks.pricing.terms import NO_TERMS
from steptrack_callbacks.values.untrusted import field, fields_of, items
from steptrack_callbacks.values.usage import Usage

from . import server_tools, stated_cost
from .counts import PARTS, TOTAL, Counts, Sum, counts_in, over, sum_of

CUT = frozenset({"length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length"})
REASONS = frozenset({"finish_reason", "stop_reason", "done_reason"})
_SERVED_BY = ("service_tier", "trafficType", "traffic_type")
"""Where a usage names the tier that served; the others are Google's, which has tiers of more words."""
_SAID_IN_USAGE = stated_cost.FIELDS | {
    "iterations",
    "speed",
    "inference_geo",
    "search_context_size",
    *_SERVED_BY,
}
_UNTOLD = ("advisor_tool_result",)
_INNER = ("response", "message", "x_groq")
"""Where an event of responses or of Anthropic's has the answer so far, and a chunk of Groq's its usage."""

Part = tuple[str | None, Usage]
"""A model, `None` for the one that answered, and what it used."""


class Answer(NamedTuple):
    """What an answer says of itself.

    Attributes:
        usage: All that was used, whichever models used it; `None` if it says nothing of it.
        total_tokens: All tokens, where it tells no more of them than that; else 0.
        parts: Which model used what of it, if others than the one that answered did; else empty.
        model: The model that answered.
        terms: How it was served.
        cost_usd: What it cost, as the provider states it.
        computed_cost_usd: What it cost, as the package has worked out.
        unsure_cost_usd: What it cost, as it says itself, in whoever's words.
        is_cut: Whether it was cut short by its own `max_tokens`.
        is_corrected: Whether a total had left something out, which who worked out a cost may not have seen.
        is_contradictory: Whether the counts cannot all be true, or some are missing.
        tells_lifetimes: Whether it says for how long the cache keeps what was written to it.
    """

    usage: Usage | None = None
    total_tokens: int = 0
    parts: tuple[Part, ...] = ()
    model: str | None = None
    terms: Terms = NO_TERMS
    cost_usd: Decimal | None = None
    computed_cost_usd: Decimal | None = None
    unsure_cost_usd: Decimal | None = None
    is_cut: bool = False
    is_corrected: bool = False
    is_contradictory: bool = False
    tells_lifetimes: bool = False


class Reading:
    """What an answer has said so far.

    Attributes:
        is_cut: Whether it was cut short by its own `max_tokens`.
    """

    __slots__ = ("_counts", "_model", "_said", "_tier", "_tools", "_untold", "is_cut")

    def __init__(self) -> None:
        self._counts: Counts = {}
        self._said: dict[str, Any] = {}
        self._model = self._tier = ""
        self._tools: Counts = {}
        self.is_cut = self._untold = False

    @property
    def has_usage(self) -> bool:
        """Whether it has said anything of its usage."""
        return bool(self._counts) or "iterations" in self._said

    def add(self, piece: Any) -> None:
        """Read an answer, or its next piece: a chunk, an event, or what a message says of itself."""
        get = getter(piece)
        self._add_fields(get)
        for name in _INNER:
            inner = get(name)
            if inner is not None and not isinstance(inner, str):
                self._add_fields(getter(inner))

    def _add_fields(self, get: Callable[[str], Any]) -> None:
        if (usage := get("usage")) is not None:
            self.add_usage(usage)
        self.add_beside(get)

    def add_beside(self, get: Callable[[str], Any]) -> None:
        """Read what an answer, or a piece of it, says of itself beside its usage.

        Args:
            get: Returns a field of it.
        """
        model, tier = get("model"), get("service_tier")
        if not self._model and isinstance(model, str):
            self._model = model
        if tier is not None and isinstance(tier, str):
            self._tier = tier or self._tier
        if type(choices := get("choices")) is list:
            self._add_choices(choices)
        if not self.is_cut:
            self.is_cut = _says_cut(get)
        for name in ("output", "content"):
            if type(found := get(name)) is list:
                self.add_items(found)

    def _add_choices(self, choices: list[Any]) -> None:
        for choice in map(getter, choices):
            if not self.is_cut:
                self.is_cut = is_cut_by(choice)
            message = choice("delta") or choice("message")
            if message is not None and (notes := getter(message)("annotations")):
                self._tools = server_tools.cited_in(map(fields_of, items(notes))) | self._tools

    def add_usage(self, reported: Any) -> None:
        """Read a usage; where an earlier one told the same, this one is right."""
        fields = fields_of(reported)
        self._counts = over(self._counts, counts_in(fields))
        if not _SAID_IN_USAGE.isdisjoint(fields):
            self.add_said({name: fields[name] for name in _SAID_IN_USAGE & fields.keys()})

    def add_details(self, reported: Any) -> None:
        """Read the same usage in another's words: for what the first ones have left out."""
        fields = fields_of(reported)
        told = counts_in(fields)
        if not self._counts:
            self._counts = told
        known = self._counts
        known |= {kind: told[kind] for kind in PARTS & told.keys() if not known.get(kind)}
        self.add_said({name: fields[name] for name in _SAID_IN_USAGE & fields.keys()})

    def add_said(self, said: Mapping[str, Any]) -> None:
        """Take down what is said beside counts: costs, speed, parts of other models."""
        self._said |= {name: value for name, value in said.items() if value is not None}

    def add_items(self, content: Iterable[Any]) -> None:
        """Count the provider's own tools in what an answer consists of."""
        kinds = [fields_of(item) for item in items(content)]
        self._tools |= server_tools.used_in(kinds)
        self._untold |= any(kind.get("type") in _UNTOLD for kind in kinds)

    def add_grounding(self, metadata: Any) -> None:
        """Count what Google says that an answer is grounded in; a later piece has it all."""
        self._tools |= server_tools.grounded_in(metadata)

    def add_tools(self, other: Reading) -> None:
        """Count the tools that another reading of the same answer has found, where this one has not."""
        self._tools = other._tools | self._tools

    def name(self, *, model: str = "", tier: str | None = None) -> None:
        """Name the model that answered and the tier that served, where the package knows them better."""
        self._model = model or self._model
        self._tier = tier or self._tier

    def cut(self) -> None:
        """Note that the model did not end the answer itself."""
        self.is_cut = True

    def answer(self, *, is_from_provider: bool = False, computed_cost: Any = None) -> Answer:
        """Return what was understood.

        Args:
            is_from_provider: Whether a cost in it is known to be as the provider states it.
            computed_cost: What the package says, beside the answer, that it cost.
        """
        found, said = sum_of(self._counts), self._said
        usage, parts, is_doubtful = _with_parts(found, said.get("iterations"), self._model)
        if usage is not None and self._tools:
            usage = server_tools.added(usage, self._tools)
        cost = stated_cost.stated_cost(said, is_from_provider=is_from_provider) if said else None
        return Answer(
            usage=usage,
            total_tokens=self._counts.get(TOTAL, 0) if usage is None else 0,
            parts=parts,
            model=self._model or None,
            terms=self._terms(),
            cost_usd=cost.usd if cost is not None and cost.is_bill else None,
            computed_cost_usd=stated_cost.usd_in(computed_cost),
            unsure_cost_usd=None if cost is None else cost.usd,
            is_cut=self.is_cut,
            is_corrected=found is not None and found.is_corrected,
            is_contradictory=is_doubtful or (self._untold and not parts),
            tells_lifetimes=found is not None and found.tells_lifetimes,
        )

    def _terms(self) -> Terms:
        said, tier = self._said, self._tier
        if not said:
            return Terms(service_tier=tier) if tier else NO_TERMS
        names = {name: value for name, value in said.items() if isinstance(value, str) and value}
        in_usage = next((names[name] for name in _SERVED_BY if name in names), None)
        return Terms(
            service_tier=tier or in_usage,
            speed=names.get("speed"),
            region=names.get("inference_geo"),
            search_context_size=names.get("search_context_size"),
        )


def getter(piece: Any) -> Callable[[str], Any]:
    """Return what reads a field of somebody's object, and fast where it is a table or pydantic's."""
    if type(piece) is dict:
        return piece.get
    is_model = hasattr(type(piece), "__pydantic_fields__")  # of which a missing attribute is slow
    return fields_of(piece).get if is_model else partial(field, piece)


def read_usage(reported: Any) -> Usage | None:
    """Read a usage that stands alone; `None` if it says nothing."""
    found = sum_of(counts_in(fields_of(reported)))
    return None if found is None else found.usage


def _says_cut(get: Callable[[str], Any]) -> bool:
    """Tell whether an answer, or a piece of one, says that it was cut short by its own `max_tokens`."""
    if get("status") == "incomplete" or is_cut_by(get):
        return True
    delta = get("delta")
    return delta is not None and not isinstance(delta, str) and is_cut_by(getter(delta))


def is_cut_by(get: Callable[[str], Any]) -> bool:
    """Tell whether a reason to finish says that an answer was cut short by its own `max_tokens`."""
    for name in REASONS:
        reason = get(name)
        if reason is not None and isinstance(reason, str) and reason in CUT:
            return True
    return False


def _with_parts(
    found: Sum | None, iterations: Any, model: str
) -> tuple[Usage | None, tuple[Part, ...], bool]:
    """Add what an answer's rounds say to its totals, which leave some of them out.

    Returns:
        The usage, its parts if they are of several models, and whether it is doubtful.
    """
    is_doubtful = found is not None and found.is_contradictory
    usage = None if found is None else found.usage
    if iterations is None:
        return usage, (), is_doubtful
    rounds = _rounds(iterations, model)
    told = sum((used for _, used in rounds), Usage())
    if not told.total_tokens or (usage is not None and usage.total_tokens > told.total_tokens):
        return usage, (), is_doubtful or bool(rounds)
    own = sum((used for name, used in rounds if name is None), Usage())
    others = tuple((name, used) for name, used in rounds if name is not None)
    if usage is not None:
        own = _with_counts(usage, own)
    whole = own if not others else sum((used for _, used in others), own)
    return whole, ((None, own), *others) if others else (), is_doubtful


def _rounds(iterations: Any, model: str) -> list[Part]:
    rounds: list[Part] = []
    for each in map(fields_of, items(iterations)):
        found = sum_of(counts_in(each))
        name = each.get("model")
        if found is not None:
            rounds.append((name if isinstance(name, str) and name != model else None, found.usage))
    return rounds


def _with_counts(usage: Usage, own: Usage) -> Usage:
    names = (
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
    )
    return usage.replace(**{name: getattr(own, name) for name in names})
