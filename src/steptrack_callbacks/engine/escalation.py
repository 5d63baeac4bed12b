"""Escalation asks before it raises: one question per exhaustion, asked outside every lock."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any

from steptrack_callbacks import hooks, settings
from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.concurrency.tasks import current_owner, running_loop, wake
from steptrack_callbacks.values.definitions import Escalation, Grant
from steptrack_callbacks.values.errors import BudgetExhausted

from .account import Account
from .queue import making_room

if TYPE_CHECKING:
    import asyncio

ASYNC_ONLY = "an async escalation function can only answer async calls; make it a plain function"


class Question:
    """One question, which the first who is refused asks, while the others wait for its answer.

    Both ways of waiting return whether to ask for room again: more was granted, or whoever asked went
    without an answer, so that the next one has to ask.

    Args:
        ask: Asks it; what it returns may have to be awaited.
        take_answer: Takes the answer over, and tells whether it is a yes.
        close: Called once nobody needs to wait for it any more, answered or not.

    Attributes:
        waiting: How many wait for the answer of another.
    """

    __slots__ = (
        "_answered",
        "_ask",
        "_asker",
        "_awaiting",
        "_close",
        "_done",
        "_granted",
        "_take_answer",
        "waiting",
    )

    def __init__(
        self, ask: Callable[[], Any], take_answer: Callable[[Any], bool], close: Callable[[], None]
    ) -> None:
        self._ask: Callable[[], Any] | None = ask
        self._take_answer = take_answer
        self._close = close
        self._asker: Hashable = None
        self._done = threading.Event()
        self._awaiting: set[asyncio.Future[None]] = set()
        self._granted = False
        self._answered = False
        self.waiting = 0

    def block(self) -> bool:
        """Ask, or wait for the answer, in a plain function."""
        ask = self._begin()
        if ask is None:
            # Nothing may block a loop, nor whoever asks: a call of the escalation's own.
            if not self._done.is_set() and (running_loop() is not None or self._asker == current_owner()):
                return False
            self._done.wait()
            return self._granted or not self._answered
        try:
            answer = ask()
            if inspect.isawaitable(answer):
                _discard(answer)
                raise TypeError(ASYNC_ONLY)
            return self._answer(answer)
        finally:
            self._end()

    async def wait(self) -> bool:
        """Ask, or wait for the answer, in a coroutine; the function may be one too."""
        ask = self._begin()
        if ask is None:
            if not self._done.is_set() and self._asker == current_owner():
                return False
            await self._until_done()
            return self._granted or not self._answered
        try:
            answer = ask()
            return self._answer(await answer if inspect.isawaitable(answer) else answer)
        finally:
            self._end()

    async def _until_done(self) -> None:
        import asyncio  # noqa: PLC0415 - whoever runs a coroutine has it

        future = asyncio.get_running_loop().create_future()
        self._awaiting.add(future)
        try:
            if not self._done.is_set():  # only now, so that it is either seen here or woken
                await future
        finally:
            self._awaiting.discard(future)

    def _begin(self) -> Callable[[], Any] | None:
        """Return how to ask, to the first who comes."""
        with LOCK:
            ask, self._ask = self._ask, None
            if ask is not None:
                self._asker = current_owner()
                _open[self] = None
            else:
                self.waiting += 1
        return ask

    def _answer(self, answer: Any) -> bool:
        if not (answer is None or answer is False or isinstance(answer, Grant)):
            raise TypeError(f"an escalation must answer with a Grant, or with None for no, not {answer!r}")
        self._granted = self._take_answer(answer or None)
        # If that raises, the others ask for room again, and see what it has come to.
        self._answered = True
        return self._granted

    def leave_to_parent(self) -> None:
        """Ask again in a forked child, if it was asked by a thread that did not come along."""
        if self._asker != current_owner():
            self._close()

    def _end(self) -> None:
        with LOCK:
            _open.pop(self, None)
            self._close()
        self._done.set()
        for future in list(self._awaiting):
            wake(future)


_open: dict[Question, None] = {}
"""Questions that somebody is being asked."""


def leave_questions_to_parent() -> None:
    """Let calls of a forked child ask for themselves what threads of the parent were asking."""
    for question in list(_open):
        question.leave_to_parent()


def consult(account: Account, error: BudgetExhausted) -> Flow[bool]:
    """Ask whoever can grant an account more; tells whether to ask for room again.

    There is one question at a time about an account, and none once somebody has said no.
    """
    __tracebackhide__ = True
    if account.ref.error_boundary != "escalate" or error.phase in ("busy", "closed"):
        return False
    with LOCK:
        ask = account.definition.escalation or settings.now.escalation
        if ask is None or account.declined:
            return False
        if account.limits.as_dict().get(error.limit) != error.limit_value:
            return True  # a grant has overtaken the refusal
        question = account.question
        if question is None:
            answered = partial(_take_answer, account, error)
            question = account.question = Question(partial(ask, error), answered, partial(_forget, account))
    return bool((yield question))


def _take_answer(account: Account, error: BudgetExhausted, grant: Grant | None) -> bool:
    granted = take_answer(account, error, grant)
    if hooks.wanted(hooks.Escalated):
        hooks.emit(hooks.Escalated(**account.ref.event_fields(), error=error, grant=grant))
    return granted


def take_answer(account: Account, error: BudgetExhausted, grant: Grant | None) -> bool:
    """Add what was granted for an exhaustion to its account's limits, or remember the no; tells which."""
    if grant is not None:
        with making_room:
            account.grant(grant)
    account.declined = no_in(grant, error)
    return not account.declined


def _forget(account: Account) -> None:
    with LOCK:
        account.question = None


def no_in(grant: Grant | None, error: BudgetExhausted) -> str:
    """Say why an answer to an exhaustion is a no, or return an empty string if it is none."""
    if grant is None:
        return "whoever was asked for more said no"
    return "" if getattr(grant, error.limit) else f"what was granted adds nothing to {error.limit}"


def why_not_granted(account: Account, error: BudgetExhausted) -> str:
    """Say why an exhaustion is handed on though its step escalates; empty if it speaks for itself."""
    if error.phase in ("busy", "closed"):
        return ""
    if account.definition.escalation is None and not has_default() and not account.declined:
        return "nobody could be asked for more: give the step an escalation, or install(escalation=...)"
    return account.declined


def has_default(ask: Escalation | None = None) -> bool:
    """Tell whether a function is set for steps that have none of their own; given one, whether it is that."""
    default = settings.now.escalation
    return default is not None if ask is None else default is ask


def _discard(answer: Any) -> None:
    if inspect.iscoroutine(answer):
        answer.close()
