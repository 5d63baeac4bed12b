"""What the tools of a provider cost beside tokens: searches of the web, maps and files, code containers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from steptrack_callbacks.values.money import to_units
from steptrack_callbacks.values.usage import Usage

Entry = Mapping[str, Any]

_SEARCH = "search_context_cost_per_query"
_MAPS = "google_maps_grounding_cost_per_query"
_SESSION = "code_interpreter_cost_per_session"
_GOOGLE = ("gemini", "vertex_ai")
# List prices that the table does not have, in US dollars for one; those that it has go first.
_SEARCH_USD = {"gemini": "0.035", "vertex_ai": "0.035", "xai": "0.005"}
_MAPS_USD = {"per_query": "0.014", "per_prompt": "0.025"}
_FILE_SEARCH_USD = {"openai": "0.0025", "azure": "0"}  # Azure charges for what is stored instead


@dataclass(frozen=True, slots=True)
class Fees:
    """What each use of a tool costs for one model, in units; `None` where nobody says.

    Attributes:
        web_search: A search of the web, of the size that was asked for.
        maps: A question to Google Maps.
        file_search: A search of files that are stored with the provider.
        session: A container for code.
        by_prompt: Searches of the web and of maps are paid once an answer, however many it needed.
    """

    web_search: int | None
    maps: int | None
    file_search: int | None
    session: int | None
    by_prompt: bool

    @classmethod
    def of(cls, entry: Entry, owner: str, size: str | None, table: Mapping[str, Entry]) -> Self:
        """Read the fees of a model.

        Args:
            entry: What the table says about it.
            owner: Whose model it is, as LiteLLM calls it.
            size: How much context a search brings in, if that was asked for.
            table: All models, for what is listed of the provider alone.

        Raises:
            ValueError: A fee is negative or not a number.
        """
        is_google = owner in _GOOGLE and "anthropic" not in str(entry.get("litellm_provider"))
        unit = str(entry.get("web_search_billing_unit") or "per_prompt")
        container = table.get(f"{owner}/container") or {}
        session = entry.get(_SESSION, container.get(_SESSION))
        return cls(
            web_search=_units(_web_search(entry, owner, size, table)),
            maps=_units(entry.get(_MAPS, _MAPS_USD.get(unit))) if is_google else None,
            file_search=_units(_FILE_SEARCH_USD.get(owner)),
            session=_units(session),
            by_prompt=is_google and unit == "per_prompt",
        )

    def cost(self, usage: Usage) -> int | None:
        """Price what a call used of the tools; `None` if it used one whose fee nobody knows."""
        searches, maps = usage.web_search_requests, usage.google_maps_requests
        if self.by_prompt:
            searches, maps = min(searches, 1), min(maps, 1)
        used = (
            (searches, self.web_search),
            (maps, self.maps),
            (usage.file_search_requests, self.file_search),
            (usage.code_interpreter_sessions, self.session),
        )
        if any(count and fee is None for count, fee in used):
            return None
        return sum(count * (fee or 0) for count, fee in used)


def uses_tools(usage: Usage) -> bool:
    """Tell whether a call used a tool that is billed beside tokens."""
    return bool(
        usage.web_search_requests
        or usage.google_maps_requests
        or usage.file_search_requests
        or usage.code_interpreter_sessions
    )


def _web_search(entry: Entry, owner: str, size: str | None, table: Mapping[str, Entry]) -> object:
    listed = _of_size(entry.get(_SEARCH), owner, size)
    if listed is not None:
        return listed
    return _SEARCH_USD.get(owner) or _dearest(owner, size, table)


def _of_size(fees: object, owner: str, size: str | None) -> object:
    """Read the fee of a size; where none was asked for, that which the provider takes then."""
    if not isinstance(fees, Mapping):
        return fees
    usual = "low" if owner == "perplexity" else "medium"
    asked = (size or usual).lower()
    found = (fees.get(f"search_context_size_{each}") for each in (asked, usual, "medium", "low", "high"))
    return next((fee for fee in found if fee is not None), None)


def _dearest(owner: str, size: str | None, table: Mapping[str, Entry]) -> object:
    """Take the most that a provider's models cost where one of them states no fee of its own."""
    entries = list(table.values())  # another thread may add a model meanwhile
    listed = (_of_size(each.get(_SEARCH), owner, size) for each in entries if _is_of(each, owner))
    return max((fee for fee in listed if isinstance(fee, int | float)), default=None)


def _is_of(entry: Entry, owner: str) -> bool:
    return str(entry.get("litellm_provider")).startswith(owner)


def _units(value: object) -> int | None:
    return None if value is None else to_units(value, "a fee of the price table")
