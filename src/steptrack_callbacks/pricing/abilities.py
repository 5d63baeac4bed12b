"""What a model takes and gives, as far as LiteLLM's price table says it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from . import genai
from .sources import Question, entries_of, owner_of

_SUPPORTS = "supports_"
_MODES = {"responses": "chat"}  # which LiteLLM translates into each other


class Abilities(NamedTuple):
    """What is known of one model.

    Attributes:
        owner: Who serves it, in the table's one name for each; `None` if nobody says.
        supports: What it supports, such as `vision`; `None` if nobody says.
        mode: What sort of calls it answers, such as `chat` or `embedding`; empty if nobody says.
        max_input_tokens: The longest input that it takes; `None` if nobody says.
        max_output_tokens: The longest answer that it gives; `None` likewise.
    """

    owner: str | None = None
    supports: frozenset[str] | None = None
    mode: str = ""
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None

    def lack(self, needs: Collection[str], input_tokens: int, output_tokens: int | None) -> str:
        """Say what of a request the model does not take; empty if it takes all, as far as anybody knows."""
        missing = () if self.supports is None else sorted(set(needs) - self.supports)
        if missing:
            return f"it has no {missing[0]}".replace("_", " ")
        if self.max_input_tokens is not None and input_tokens > self.max_input_tokens:
            return f"it takes {self.max_input_tokens:,} tokens of input at most"
        if self.max_output_tokens is not None and (output_tokens or 0) > self.max_output_tokens:
            return f"it answers with {self.max_output_tokens:,} tokens at most"
        return ""


def abilities_of(model: str, *, provider: str | None = None) -> Abilities:
    """Return what is known of a model.

    Example:
        >>> abilities_of("gpt-4o-mini").owner, "vision" in abilities_of("gpt-4o-mini").supports
        ('openai', True)
    """
    question = Question(model, provider)
    entries = [entry for entry in entries_of(question) if "max_input_tokens" in entry or _said_of(entry)]
    if not entries:
        return Abilities(_owner_of(question))
    said = _said_of(entries[0])
    return Abilities(
        _owner_of(question),
        frozenset(said) if said or any(key.startswith(_SUPPORTS) for key in entries[0]) else None,
        _MODES.get(mode := str(entries[0].get("mode") or ""), mode),
        _count(entries[0].get("max_input_tokens")),
        _count(entries[0].get("max_output_tokens")),
    )


def _owner_of(question: Question) -> str | None:
    """Name who serves a model; one that LiteLLM's table no longer lists may be known to genai-prices."""
    owner = owner_of(question)
    if owner is None and (found := genai.find(question.model, question.provider, None)) is not None:
        return found.owner
    return owner


def _said_of(entry: Any) -> list[str]:
    return [
        key.removeprefix(_SUPPORTS) for key, value in entry.items() if key.startswith(_SUPPORTS) and value
    ]


def _count(value: Any) -> int | None:
    return (
        int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
    )
