"""The HTTP clients that packages send through: one place to see what is sent, and how it is answered.

`httpx2` went on from `httpx` under a name of its own, and a process may well use both: the OpenAI client
sends through one, LiteLLM through the other. They have the same two classes, and nothing of them is
named here but those, so that whichever is imported is seen, before or after somebody begins to look.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any, Protocol

from . import compatibility, import_hooks
from .seams_others import SENDS

PACKAGES = tuple(SENDS)
_NOT_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"})


class Exchange(Protocol):
    """Wants to know what becomes of one request."""

    def answered(self, response: Any) -> None:
        """Take note of an answer that begins."""

    def failed(self, error: BaseException) -> None:
        """Take note that none will come."""


Observer = Callable[[Any], Exchange | None]
"""Is shown each request before it is sent, and may change its headers; `None` if it wants no more of it."""

_observers: list[Observer] = []
_put_back: dict[type, Callable[[], None]] = {}


def observe(observer: Observer) -> Callable[[], None]:
    """Show an observer every request from now on, whichever client sends it; returns what stops that."""
    _observers.append(observer)
    for package in PACKAGES:
        import_hooks.when_imported(package, partial(_attach, package))

    def stop() -> None:
        if observer in _observers:
            _observers.remove(observer)
        if not _observers:
            _detach()

    return stop


def was_never_sent(error: BaseException) -> bool:
    """Tell whether a request has reached nobody. Each client has classes of its own, with the same names."""
    return any(kind.__name__ in _NOT_SENT for kind in type(error).__mro__)


def _attach(package: str) -> bool:
    """See what a client sends, if somebody looks; says whether it is all there."""
    if not _observers:
        return True
    sends = SENDS[package]
    for name, seam in sends.items():
        client = getattr(sys.modules[package], name, None)
        if seam.look().value is not None and not _is_seen(client):
            _replace(client, _CLIENTS[name])
    compatibility.heed(package)
    return all(seam.look().value is not None for seam in sends.values())


def _detach() -> None:
    while _put_back:
        _put_back.popitem()[1]()


def _is_seen(client: Any) -> bool:
    send = client.send
    while send is not None:
        if hasattr(send, "steptrack_sees"):
            return True
        send = getattr(send, "__wrapped__", None)  # somebody may have wrapped it once more
    return False


def _replace(client: Any, around: Callable[[Any], Any]) -> None:
    original = client.send
    wrapper = around(original)
    wrapper.steptrack_sees = True
    client.send = wrapper

    def put_back() -> None:
        if client.send is wrapper:
            client.send = original

    _put_back[client] = put_back


def _sending(send: Callable[..., Any]) -> Any:
    @wraps(send)
    def sending(client: Any, request: Any, **options: Any) -> Any:
        exchanges = _begin(request)
        try:
            response = send(client, request, **options)
        except BaseException as error:
            _fail(exchanges, error)
            raise
        _answer(exchanges, response)
        return response

    return sending


def _sending_async(send: Callable[..., Any]) -> Any:
    @wraps(send)
    async def sending(client: Any, request: Any, **options: Any) -> Any:
        exchanges = _begin(request)
        try:
            response = await send(client, request, **options)
        except BaseException as error:
            _fail(exchanges, error)
            raise
        _answer(exchanges, response)
        return response

    return sending


_CLIENTS = {"Client": _sending, "AsyncClient": _sending_async}


def _begin(request: Any) -> list[Exchange]:
    begun = (observer(request) for observer in tuple(_observers))
    return [exchange for exchange in begun if exchange is not None]


def _answer(exchanges: Iterable[Exchange], response: Any) -> None:
    for exchange in exchanges:
        exchange.answered(response)


def _fail(exchanges: Iterable[Exchange], error: BaseException) -> None:
    for exchange in exchanges:
        exchange.failed(error)
