"""What is left, said to the model: as the last message of a request, or as a tool that it may call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.tools import StructuredTool

from steptrack_callbacks.steps.step import current_step

Rests = Mapping[Any, Any]
"""What is left, by limit."""
Tell = bool | str | Callable[[Rests], str]

_WORDS = {
    "max_calls": ("calls", "{} model calls, this one included"),
    "max_tokens": ("tokens", "{} tokens"),
    "max_usd": ("usd", "{}"),
    "max_seconds": ("seconds", "{} seconds"),
}
_FIELDS = tuple(field for field, _ in _WORDS.values())
_NO_LIMIT = "no limit"


def checked_tell(tell: Any) -> Tell:
    """Check how the model shall be told.

    Raises:
        ValueError: It is neither a yes nor a template of known fields nor a function.
    """
    if isinstance(tell, bool) or callable(tell):
        return tell  # type: ignore[no-any-return]
    if not isinstance(tell, str):
        wanted = "True, a template such as 'Left: {usd}', or a function"
        raise ValueError(f"tell must be {wanted}, not {tell!r}")  # noqa: TRY004
    try:
        used = {name for _, name, _, _ in Formatter().parse(tell) if name is not None}
    except ValueError as error:
        raise ValueError(f"tell={tell!r} is not a template: {error}") from None
    if unknown := used - set(_FIELDS):
        names = ", ".join(sorted(map(repr, unknown)))
        raise ValueError(f"tell has no field {names}; use {', '.join(_FIELDS)}")
    return tell


def told(request: Any, tell: Tell, rests: Rests) -> Any:
    """Append what is left to a request; nothing, where nothing is limited."""
    if not rests:
        return request
    text = tell(rests) if callable(tell) else _filled(tell, rests) if isinstance(tell, str) else line(rests)
    return request.override(messages=[*request.messages, HumanMessage(text)])


def line(rests: Rests) -> str:
    """Put what is left in one short line."""
    parts = [words.format(_amount(name, rests[name])) for name, (_, words) in _WORDS.items() if name in rests]
    text = f"Budget left: {'; '.join(parts)}." if parts else "There is no limit."
    return text.replace(" 1 model calls,", " 1 model call,")


def _filled(template: str, rests: Rests) -> str:
    values = {field: _amount(name, rests.get(name)) for name, (field, _) in _WORDS.items()}
    return template.format(**values)


def _amount(limit: str, rest: Any) -> str:
    if rest is None:
        return _NO_LIMIT
    if limit == "max_usd":
        return f"${rest:.4f}"
    return f"{rest:,.0f}"


def _left() -> str:
    step = current_step()
    return line({} if step is None else step.remaining())


async def _left_async() -> str:
    step = current_step()
    return line({} if step is None else await step.aremaining())


budget_left = StructuredTool.from_function(
    _left,
    coroutine=_left_async,
    name="budget_left",
    description="Say how many model calls, tokens and dollars are left for this task.",
    metadata={"side_effect_level": "none"},
)
"""A tool for an agent that shall ask for its budget by itself."""
