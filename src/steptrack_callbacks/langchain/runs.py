"""The model runs that are known here, found again by LangChain's own id."""

from __future__ import annotations

import weakref
from typing import Any
from uuid import UUID

from steptrack_callbacks.call import Call
from steptrack_callbacks.errors import BudgetExhausted
from steptrack_callbacks.joining import Offer, offer
from steptrack_callbacks.tokens import count_text

from .inline import inside_model
from .refusals import host_error

_STRIDE, _LONGEST_STRIDE = 48, 4_096
"""Characters of a stream between two looks at its limits: a look costs as much as LangChain's own work."""


class Run:
    """One run of a model, and its call.

    Attributes:
        call: Its call; `None` once it is over, or if another edge has all to do with it.
        batch: What all runs of one request for several answers have in common.
        is_waiting: Whether it is still to be admitted, by a seam that can wait.
        has_reported: Whether its answer said what was used.
        offer: Its offer to an edge further down, which may send it and charge it.
    """

    __slots__ = (
        "_counted",
        "_has_chunks",
        "_stride",
        "_texts",
        "_uncounted",
        "batch",
        "call",
        "has_reported",
        "is_waiting",
        "offer",
        "watch",
    )

    def __init__(self, call: Call | None, batch: object) -> None:
        self.call = call
        self.batch = batch
        self.is_waiting = False
        self.has_reported = False
        self.offer: Offer | None = None
        self.watch: _Watch | None = None
        self._texts: list[str] = []
        self._uncounted = 0
        self._counted = 0
        self._stride = _STRIDE
        self._has_chunks = False

    def begun(self) -> None:
        """Note that it was admitted, in the context in which it will be sent."""
        self.is_waiting = False
        if self.call is not None:
            self.offer = offer(self.call, inside_model())

    def see_event(self, text: str) -> None:
        """Look at an event of a stream, unless its chunks are seen as well."""
        if not self._has_chunks:
            self.see(text)
            self._has_chunks = False

    def see(self, text: str) -> None:
        """Look at a chunk of a stream.

        Raises:
            BudgetExhausted: It has passed a limit. It is charged and over then.
        """
        if not self._has_chunks:
            self._has_chunks = True
            if self.offer is not None:
                self.offer.sent = True
        self._texts.append(text)
        self._uncounted += len(text)
        if self._uncounted >= self._stride:
            self._look()

    def _look(self) -> None:
        call = self.call
        if call is None or self._is_metered_below:
            return
        try:
            call.progress(self._count(call))
            self._stride = _stride(call)
        except BudgetExhausted as error:
            error.response = "".join(self._texts)
            self.abandon()
            raise host_error(error) from None

    @property
    def _is_metered_below(self) -> bool:
        return self.offer is not None and self.offer.taken

    def _count(self, call: Call) -> int:
        """Count the tokens produced so far; what was counted before is not counted again."""
        if self._uncounted:
            fresh = "".join(self._texts)[-self._uncounted :]
            self._counted += count_text(fresh, call.request.model)
            self._uncounted = 0
        return self._counted

    def end(self) -> Call | None:
        """Take its call out, to be charged; `None` if that has happened."""
        call, self.call = self.call, None
        self._texts.clear()
        return call

    @property
    def has_text(self) -> bool:
        """Whether anything of its answer was seen."""
        return bool(self._texts)

    def withdraw(self) -> None:
        """Charge nothing: it was never sent."""
        call = self.end()
        if call is not None:
            call.withdraw()

    def abandon(self) -> None:
        """Charge what was seen of an answer that nobody will see more of."""
        if self.call is not None:
            seen = self._count(self.call) if self._texts else None
            self.call.abandon(seen)
        self.end()

    def fail(self) -> None:
        """Charge what was seen before the provider, or the model, gave up."""
        if self.call is not None:
            seen = self._count(self.call)
            estimate = self.call.request.estimate(seen).replace(estimated_calls=1)
            self.call.fail(estimate if seen else None)
        self.end()

    def lose(self) -> None:
        """Charge an estimate, since nobody is left who could report the answer; its step may have done so."""
        if self.call is not None and self.call.state == "in flight":
            self.abandon()
        self.end()


def _stride(call: Call) -> int:
    """Say how soon to look again: in about an eighth of what is left, or of the time, soon."""
    limited = call.accounts.limited
    if any(account.max_seconds is not None for account in limited):
        return _STRIDE
    rooms = (call.request.output_room(account, wrapping=False) for account in limited)
    least = min((room for room in rooms if room is not None), default=_LONGEST_STRIDE)
    return max(_STRIDE, min(_LONGEST_STRIDE, least // 2))


class _Watch(weakref.ref[UUID]):
    """Notes when the last owner of a run's id is gone, such as a task that was cancelled.

    LangChain reports nothing then, and no longer can.
    """

    __slots__ = ("key",)
    key: int


_runs: dict[int, Run] = {}


def add(run_id: UUID, run: Run) -> None:
    """Keep a run for as long as anybody can report on it."""
    watch = run.watch = _Watch(run_id, _lost)
    watch.key = key = run_id.int
    _runs[key] = run


def find(run_id: UUID) -> Run | None:
    """Return a run that began here, be it over or not."""
    return _runs.get(run_id.int)


def batch_of(batch: object) -> list[Run]:
    """Return the runs that were begun with one request."""
    return [run for run in list(_runs.values()) if run.batch is batch]


def _lost(watch: Any) -> None:
    key: int = watch.key
    run = _runs.get(key)
    if run is not None and run.watch is watch:
        del _runs[key]
        run.lose()
