"""One request of a client: the calls that it comes to, one for each attempt, and how each is charged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any

from steptrack_callbacks.concurrency.contexts import run_finalizer
from steptrack_callbacks.concurrency.flow import run_async
from steptrack_callbacks.engine import lease
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.chain import AccountChain
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.engine.room import about_left
from steptrack_callbacks.engine.swapping import Swap
from steptrack_callbacks.litellm import batches, charging
from steptrack_callbacks.litellm.call_types import Kind
from steptrack_callbacks.values.copying import CopiedAsItself
from steptrack_callbacks.values.definitions import LimitName
from steptrack_callbacks.values.errors import LedgerError, StepDenied, StepTrackError
from steptrack_callbacks.values.usage import Usage

from . import reading
from .accounts import Accounts, ProxyAccount
from .connections import Connections
from .runs import close_overdue

TICKET = "steptrack_ticket"
"""Where a request is found again, in LiteLLM's own account of it."""

_NAMED: tuple[LimitName, ...] = ("max_usd", "max_tokens", "max_calls")
_request: ContextVar[Ticket | None] = ContextVar("steptrack_proxy_request", default=None)
_attempt: ContextVar[Call | None] = ContextVar("steptrack_proxy_attempt", default=None)


def current_attempt() -> Call | None:
    """Return the call whose attempt this context was made in."""
    return _attempt.get()


def ticket_of(data: Mapping[str, Any] | None) -> Ticket | None:
    """Find the ticket of a request, by what LiteLLM knows of it, else by the context."""
    logged = data.get("litellm_logging_obj") if data else None
    details = getattr(logged, "model_call_details", None)
    ticket: Ticket | None = details.get(TICKET) if details else None
    return _request.get() if ticket is None else ticket


class Ticket(CopiedAsItself):
    """What is known of one request while it is served.

    Attributes:
        kind: What sort of call it asks for.
        around: The accounts that it is charged to.
        current: The call of the latest attempt.
        unsent: The call that was admitted and is not sent yet; `None` if there is none.
        swap: With which model it was admitted in place of which; `None` for the one that was asked for.
        hides_usage: Whether a stream's usage was asked for by us, so that the client must not see it.
    """

    def __init__(self, kind: Kind, around: AccountChain, accounts: Accounts) -> None:
        self.kind = kind
        self.around = around
        self.current: Call | None = None
        self.hides_usage = False
        self.swap: Swap | None = None
        self._accounts = accounts
        self.unsent: Call | None = None
        self._answers: dict[Call, Any] = {}
        self._calls: list[Call] = []
        self._connections: dict[Call, Connections] = {}

    def bind(self, data: Mapping[str, Any]) -> None:
        """Let it be found again."""
        _request.set(self)
        logged = data.get("litellm_logging_obj")
        if logged is not None:
            logged.model_call_details[TICKET] = self

    # Before an attempt

    async def admit(self, request: Request) -> Call:
        """Reserve room for one attempt.

        Raises:
            StepTrackError: There is none, or nobody can tell.
        """
        try:
            return await self._admit(request)
        except LedgerError as error:
            if not _came_late(error):
                raise
        # LiteLLM may have kept the event loop busy, as with its first request, while the answer was there.
        return await self._admit(request)

    async def _admit(self, request: Request) -> Call:
        await self._get_to_know()
        call = Call(self.around, request)
        try:
            await call.admit_async()
        except StepDenied:
            if not await self._end_overdue():
                raise
            call = Call(self.around, request)
            await call.admit_async()
        self._calls.append(call)
        self.unsent = self.current = call
        self.swap = call.swap or self.swap
        return call

    async def begin_attempt(self, exact: Request) -> Call | None:
        """Let an attempt be sent; `None` if it is part of one that is being sent.

        Raises:
            StepTrackError: It may not be sent.
        """
        running = _attempt.get()
        if running is not None and running.is_open and running in self._calls:
            return None
        call = self.unsent
        if call is None:
            call = await self.admit(exact)
        else:
            self._let_pass(call, exact)
        self.unsent = None
        self.current = call
        _attempt.set(call)
        self._connections[call] = Connections()
        self._connections[call].watch()
        return call

    def _let_pass(self, call: Call, exact: Request) -> None:
        """Go on with the deployment that was chosen; its price must be known as well."""
        admitted, call.request = call.request, exact
        if exact is not admitted:
            exact.take_over(admitted)
            blind = None if exact.is_priced or not self.around.watches_usd else self.around.blindness(exact)
            if blind is not None:
                self.unsent = None  # the next attempt needs a call of its own
                call.withdraw()
                raise blind
        if call.bound is None or admitted.model != exact.model:
            exact.counted  # noqa: B018 - what is learned of a model is learned against a count

    async def _get_to_know(self) -> None:
        """Ask the ledger about steps that are new to this worker: when they began, whether they ended."""
        new = [a for a in self.around.shared if isinstance(a, ProxyAccount) and not a.is_known]
        if new:
            await run_async(lease.look(new))
        for account in self.around.shared:
            if account.closed:
                raise account.exhaustion("closed", account.breaches(list(account.limits.as_dict())[:1]))

    async def _end_overdue(self) -> bool:
        """Close steps of this key whose time is over; tells whether there were any."""
        groups = {account.group for account in self.around.shared if account.group}
        store, ttl_s = self._accounts.ledger.store, self._accounts.ttl_s
        closed = [await asyncio.to_thread(close_overdue, store, group, ttl_s) for group in groups]
        return any(closed)

    # After it

    def note_answer(self, answer: Any) -> None:
        """Keep the answer of the attempt that this context was made in until the request is done."""
        call = _attempt.get()
        if call is not None and call in self._calls and reading.says_usage(answer, self._answers.get(call)):
            self._answers[call] = answer

    async def fail_attempt(self) -> None:
        """Charge an attempt that has come to nothing."""
        call = _attempt.get()
        if call is not None and call.is_open and call not in self._answers:
            await self.charge(call, partial(self._fail, call))

    async def finish(self, answer: Any, *, from_cache: bool = False) -> None:
        """Charge the answer that the client gets, and those of attempts beside it.

        Args:
            answer: What LiteLLM has returned.
            from_cache: Whether LiteLLM says, beside the answer, that it comes from its cache.
        """
        is_kept = isinstance(answer, list) or [kept for kept in self._answers.values() if kept is answer]
        if self.current is not None and not is_kept:
            self._answers[self.current] = answer
        await self.give_up(from_cache=from_cache)

    async def charge_batch(self, batch: Any, details: Mapping[str, Any]) -> None:
        """Charge a batch that LiteLLM reports, if it is finished and was not charged before."""
        finished = batches.reported(batch, details)
        if finished is not None:
            call = await self._begin_free(finished.request)
            await self.charge(call, partial(finished.settle, call))

    async def _begin_free(self, request: Request) -> Call:
        """Begin a call that was made already, and make the steps known that it is charged to."""
        price, request.price = request.price, _nothing
        try:
            call = await self.admit(request)
        except StepTrackError:  # there is no room, but it has to be charged nevertheless
            call = Call(self.around, request)
            call.begin()
        request.price = price
        return call

    async def settle_late(self, call: Call, answer: Any, cost: Any, *, from_cache: bool) -> None:
        """Charge what LiteLLM reports of an attempt that nothing else has charged."""
        if call.is_open:
            await self._settle(call, answer, cost=cost, from_cache=from_cache)

    async def give_up(self, *, gone: bool = False, from_cache: bool = False) -> None:
        """Charge what is left of a request that is over: answers as such, the rest by how far it came.

        Args:
            gone: Whether nobody was waiting for it any more.
            from_cache: As for `finish`.
        """
        for call in self._calls:
            if not call.is_open:
                continue
            if call in self._answers:
                is_free = from_cache and not call.attempts
                await self._settle(call, self._answers[call], from_cache=is_free)
            else:
                await self.charge(call, partial(self._fail, call, gone=gone))
        self.unsent = None

    def _fail(self, call: Call, *, gone: bool = False) -> None:
        """Charge a call without an answer: one that the provider has taken may be billed nevertheless."""
        connections = self._connections.get(call)
        taken = None if connections is None else connections.taken
        if not call.attempts:
            call.withdraw()
        elif gone if taken is None else taken:
            call.abandon()
        else:
            call.fail()

    def is_refused(self, call: Call) -> bool:
        """Tell whether a provider is known to have said no to a call."""
        connections = self._connections.get(call)
        return connections is not None and connections.taken is False

    def watch(self) -> None:
        """See what reading a stream sends: some are not even asked for before."""
        if self.current in self._connections:
            self._connections[self.current].watch()

    def hang_up(self) -> None:
        """Stop the providers that are still answering."""
        for connections in self._connections.values():
            connections.hang_up()

    async def _settle(self, call: Call, answer: Any, *, cost: Any = None, from_cache: bool = False) -> None:
        async with call.telling_ledger():
            if from_cache:
                call.settle_free()
            else:
                charging.settle(call, self.kind, answer, cost)

    async def charge(self, call: Call, charge: Callable[[], None]) -> None:
        """Charge, and await the ledger."""
        async with call.telling_ledger():
            charge()

    def __del__(self) -> None:
        # The request was cancelled, or its stream was never read: nobody will report it any more.
        if any(call.is_open for call in self._calls):
            run_finalizer(self._lose)

    def _lose(self) -> None:
        self.hang_up()
        for call in self._calls:
            if call.is_open:
                self._fail(call, gone=True)

    # What is left

    def remaining(self) -> dict[LimitName, Any]:
        """Return what is left under each sort of limit: the least of all accounts."""
        left: dict[LimitName, Any] = {}
        for account in self.around:
            for name, rest in about_left(account).items() if account.limited else ():
                left[name] = min(rest, left.get(name, rest))
        return {name: left[name] for name in _NAMED if name in left}


def _nothing(_usage: Usage) -> int:
    return 0


def _came_late(error: LedgerError) -> bool:
    """Tell whether a ledger's answer was not there in time, rather than refused."""
    return "Timeout" in type(error.__cause__).__name__
