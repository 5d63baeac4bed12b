"""A call that LangChain has admitted and LiteLLM sends: charged once.

A LangChain model may reach its provider through LiteLLM. Both integrations see the call; they share no id,
only the context. So the first *offers* the call there, and the second, finding it unsent, *takes* it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar

from steptrack_callbacks.concurrency.contexts import carried
from steptrack_callbacks.engine.call import Call


def _anywhere() -> bool:
    return True


class Handoff:
    """A call that was begun here and may be sent by an integration further down.

    Attributes:
        call: The call.
        taken: Whether an integration further down has taken it, which then charges it.
        sent: Whether its answer has begun, so that whatever is sent now is another call.
        is_within: Tells whether what runs now may be sending it, and not what comes after it.
    """

    __slots__ = ("call", "is_within", "sent", "taken")

    def __init__(self, call: Call, is_within: Callable[[], bool]) -> None:
        self.call = call
        self.is_within = is_within
        self.sent = False
        self.taken = False

    @property
    def stands(self) -> bool:
        """Whether it can still be taken."""
        return not (self.sent or self.taken) and self.call.is_open


# Offers are never taken out of a context, which may be a copy; they go stale.
_offers: ContextVar[tuple[Handoff, ...]] = ContextVar("steptrack_offers", default=())


class _Offers:
    """Lets threads that a model starts take what was offered to the model."""

    @staticmethod
    def taken() -> tuple[Handoff, ...] | None:
        made_here = _offers.get()
        return tuple([made for made in made_here if made.stands and made.is_within()]) or None

    @staticmethod
    def put(taken: tuple[Handoff, ...] | None, *, for_good: bool) -> Callable[[], None]:  # noqa: ARG004
        before = _offers.get()
        _offers.set(taken or ())

        def undo() -> None:
            _offers.set(before)

        return undo


carried.append(_Offers())

elsewhere: list[Callable[[], Iterable[Handoff]]] = []
"""What finds offers that were made in another context than the one that goes on to send the call."""


def offer(call: Call, is_within: Callable[[], bool] = _anywhere) -> Handoff:
    """Offer a call to whatever this context goes on to."""
    made = Handoff(call, is_within)
    before = _offers.get()
    _offers.set(
        (*[other for other in before if not other.sent and other.stands], made) if before else (made,)
    )
    return made


def take() -> Call | None:
    """Take the first call that is on offer here, or return `None`; who takes it must charge it."""
    for offers in (_offers.get, *elsewhere):
        for made in offers():
            if made.stands and made.is_within():
                made.taken = True
                return made.call
    return None
