"""A call that one edge has admitted and another one sends: charged once.

A LangChain model may reach its provider through LiteLLM. Both edges see the call; they share no id,
only the context. So the first *offers* the call there, and the second, finding it unsent, *takes* it.
"""

from __future__ import annotations

from contextvars import ContextVar

from .call import Call


class Offer:
    """A call that was begun here and may be sent by an edge further down.

    Attributes:
        call: The call.
        taken: Whether an edge further down has taken it, which then charges it.
        sent: Whether its answer has begun, so that whatever is sent now is another call.
    """

    __slots__ = ("call", "sent", "taken")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.sent = False
        self.taken = False

    @property
    def stands(self) -> bool:
        """Whether it can still be taken."""
        return self.call.is_open and not (self.sent or self.taken)


# Offers are never taken out of a context, which may be a copy; they go stale.
_offers: ContextVar[tuple[Offer, ...]] = ContextVar("steptrack_offers", default=())


def offer(call: Call) -> Offer:
    """Offer a call to whatever this context goes on to."""
    made = Offer(call)
    standing = tuple(before for before in _offers.get() if before.stands)
    _offers.set((*standing, made))
    return made


def take() -> Call | None:
    """Take the first call that is on offer here, or return `None`; who takes it must charge it."""
    for made in _offers.get():
        if made.stands:
            made.taken = True
            return made.call
    return None
