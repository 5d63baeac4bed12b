"""Streams of functions that somebody took from LiteLLM before `install()`: metered where LiteLLM makes them.

The function hands its stream to its holder past us. So a stream whose call came past the entry points
becomes one of a metered class as it is made: it is cut at a limit, and charged as every other stream is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations.seams import Seam
from steptrack_callbacks.integrations.seams_litellm import RESPONSES_STREAM, STREAM

from .streams import Meter, MeteredStream, is_from_cache, kept_by


def meter_streams(ticket: str, early: str) -> Callable[[], None]:
    """Meter such streams as they are made, and return what ends it.

    Args:
        ticket: Where LiteLLM's account of a call says which call of ours it is.
        early: Where it says that the call came past the entry points.
    """
    take = partial(_take, ticket=ticket, early=early)
    undo = [_after_init(seam, take) for seam in (STREAM, RESPONSES_STREAM)]

    def put_back() -> None:
        for each in undo:
            each()

    return put_back


def _after_init(seam: Seam, take: Callable[[Any], None]) -> Callable[[], None]:
    kind: Any = seam.get()
    if kind is None:
        return lambda: None
    init, hands_on = kind.__init__, seam is STREAM  # a class derived from the chat's hands another stream on

    @wraps(init)
    def init_and_take(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if not isinstance(self, MeteredStream) and (type(self) is kind or not hands_on):
            take(self)

    kind.__init__ = init_and_take

    def put_back() -> None:
        if kind.__init__ is init_and_take:  # somebody may have replaced it once more
            kind.__init__ = init

    return put_back


def _take(stream: Any, *, ticket: str, early: str) -> None:
    details = getattr(getattr(stream, "logging_obj", None), "model_call_details", None) or {}
    call = details.get(ticket)
    if early not in details or not isinstance(call, Call) or not call.is_open or is_from_cache(stream):
        return
    del details[early]  # what LiteLLM reports of it is not needed any more
    stream.__class__ = _metered_class(type(stream))  # type: ignore[arg-type] # classes are hashable
    stream.steptrack_meter = Meter(call, kept_by(stream))


@cache
def _metered_class(kind: type) -> Any:
    original = property(lambda stream: _Original(stream, kind))
    members = {name: member for name, member in vars(MeteredStream).items() if callable(member)}
    members |= {"__module__": kind.__module__, "__doc__": kind.__doc__, "steptrack_original": original}
    # An object can change to a class whose first base is its own, and which has no slots.
    return type(kind.__name__, (kind, MeteredStream), {"__slots__": (), **members})


class _Original:
    """What a stream was, and does, without the meter."""

    def __init__(self, stream: Any, kind: Any) -> None:
        self._stream, self._kind = stream, kind

    def __next__(self) -> Any:
        return self._kind.__next__(self._stream)

    async def __anext__(self) -> Any:
        return await self._kind.__anext__(self._stream)

    def close(self) -> None:
        """Close the connection, where this LiteLLM can."""
        if close := getattr(self._kind, "close", None):
            close(self._stream)

    async def aclose(self) -> None:
        """Close the connection, where this LiteLLM can."""
        if aclose := getattr(self._kind, "aclose", None):
            await aclose(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
