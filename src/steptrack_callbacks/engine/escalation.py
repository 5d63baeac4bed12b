"""Escalation asks before it raises: one question per exhaustion, asked outside every lock."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Hashable
from typing import Any, cast

from steptrack_callbacks import hooks, settings
from steptrack_callbacks.concurrency.flow import Waitable
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.concurrency.tasks import current_owner, running_loop
from steptrack_callbacks.values.definitions import Escalation, Grant
from steptrack_callbacks.values.errors import BudgetExhausted

from .account import Account
from .queue import making_room

ASYNC_ONLY = "an async escalation function can only answer async calls; make it a plain function"


class Question:
    """What is being asked about one account; the first who is refused asks, the others wait.

    Both ways of waiting return whether to ask for room again: more was granted, or whoever asked went
    without an answer, so that the next one has to ask.

    Attributes:
        waiting: How many wait for the answer of another.
    """

    __slots__ = ("_account", "_answered", "_ask", "_asker", "_done", "_error", "_granted", "waiting")

    def __init__(self, account: Account, error: BudgetExhausted, ask: Escalation | None) -> None:
        self._account = account
        self._error = error
        self._ask = ask
        self._asker: Hashable = None
        self._done = threading.Event()
        self._granted = False
        self._answered = False
        self.waiting = 0

    def block(self) -> bool:
        """Ask, or wait for the answer, in a plain function."""
        ask = self._take()
        if ask is None:
            # Nothing may block a loop, nor whoever asks: a call of the escalation's own.
            if not self._done.is_set() and (running_loop() is not None or self._asker == current_owner()):
                return False
            self._done.wait()
            return self._granted or not self._answered
        try:
            answer = ask(self._error)
            if inspect.isawaitable(answer):
                _discard(answer)
                raise TypeError(ASYNC_ONLY)
            return self._answer(answer)
        finally:
            self._close()

    async def wait(self) -> bool:
        """Ask, or wait for the answer, in a coroutine; the function may be one too."""
        import asyncio  # noqa: PLC0415 - whoever runs a coroutine has it

        ask = self._take()
        if ask is None:
            if not self._done.is_set() and self._asker == current_owner():
                return False
            while not self._done.is_set():
                await asyncio.to_thread(self._done.wait, 1)
            return self._granted or not self._answered
        try:
            answer = ask(self._error)
            return self._answer(await answer if inspect.isawaitable(answer) else answer)
        finally:
            self._close()

    def answer_is_yes(self) -> None:
        """Answer it, for somebody else has."""
        self._granted = self._answered = True
        self._done.set()

    def _take(self) -> Escalation | None:
        with LOCK:
            ask, self._ask = self._ask, None
            if ask is not None:
                self._asker = current_owner()
            else:
                self.waiting += 1
        return ask

    def _answer(self, answer: Any) -> bool:
        if not (answer is None or answer is False or isinstance(answer, Grant)):
            raise TypeError(f"an escalation must answer with a Grant, or with None for no, not {answer!r}")
        account, grant = self._account, answer or None
        self._answered = True
        if grant is not None:
            with making_room:
                account.grant(grant)
        account.declined = no_in(grant, self._error)
        self._granted = not account.declined
        if hooks.wanted(hooks.Escalated):
            hooks.emit(hooks.Escalated(**account.ref.event_fields(), error=self._error, grant=grant))
        return self._granted

    def _close(self) -> None:
        with LOCK:
            self._account.question = None
        self._done.set()


def question_about(account: Account, error: BudgetExhausted) -> Waitable | None:
    """Return the open question about an exhaustion, or `None` if there is nobody to ask or they said no."""
    if account.ref.error_boundary != "escalate" or error.phase in ("busy", "closed"):
        return None
    with LOCK:
        ask = account.definition.escalation or settings.now.escalation
        if ask is None or account.declined:
            return None
        if account.limits.as_dict().get(error.limit) != error.limit_value:
            return _overtaken(account, error)
        if account.question is None:
            account.question = Question(account, error, ask)
        return cast(Question, account.question)


def _overtaken(account: Account, error: BudgetExhausted) -> Question:
    """Return a question that a grant has answered already: ask for room again."""
    question = Question(account, error, None)
    question.answer_is_yes()
    return question


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
