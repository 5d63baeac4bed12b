"""The model runs that are known here, found again by LangChain's own id."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from steptrack_callbacks.concurrency.contexts import run_finalizer
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations import handoff, stream_pacing
from steptrack_callbacks.integrations.handoff import Handoff, offer
from steptrack_callbacks.integrations.stream_text import StreamText
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.values.errors import BudgetExhausted

from .frames import frames, inside_model
from .refusals import LangChainStep, langchain_error, raised_in


class Batch:
    """What the runs of one request for several answers have in common.

    Attributes:
        params: The invocation's parameters: all of them have the same object.
        size: How many they are.
        begun: How many of them have begun; the others will, or one of them was refused.
    """

    __slots__ = ("__weakref__", "begun", "params", "size")

    def __init__(self, params: Mapping[str, Any], size: int) -> None:
        self.params = params
        self.size = size
        self.begun = 0

    @property
    def is_sent(self) -> bool:
        """Whether the request may have been sent: none is before all of its runs have begun."""
        return self.begun >= self.size


class Run:
    """One run of a model, and its call.

    Attributes:
        call: Its call; `None` once it is over, or if another integration has all to do with it.
        batch: What it has in common with the other runs of one request, if there are any.
        is_waiting: Whether it is still to be admitted, by a seam that can wait.
        has_reported: Whether its answer said what was used.
        offer: Its offer to an integration further down, which may send it and charge it.
        within: The step that it is in by the runs around it, if any; not by the stack.
    """

    # Without slots, as nearly all of it is for streams and what else is not usual.
    is_waiting = False
    has_reported = False
    offer: Handoff | None = None
    watch: _Watch | None = None
    _produced: StreamText | None = None  # both made when something of a stream is seen
    _pace: stream_pacing.Pace | None = None
    _has_chunks = False

    def __init__(self, call: Call | None, batch: Batch | None, within: Step | None = None) -> None:
        self.call = call
        self.within = within
        self.batch = batch

    def begun(self) -> None:
        """Note that it was admitted, in the context in which it will be sent."""
        self.is_waiting = False
        if self.call is None:
            return
        if "litellm" in sys.modules:
            self.offer = offer(self.call, inside_model())
        else:
            _last_begun.set(self)

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
        __tracebackhide__ = True
        self._has_chunks = True
        produced = self._produced
        if produced is None:
            produced = self._begin_stream()
        produced.parts.append(text)  # as `StreamText.add`, written out: most chunks need no more
        produced.uncounted += len(text) if text.isascii() else 4 * len(text)
        if self._pace is not None and produced.uncounted >= self._pace.stride:
            self._look(self._pace, produced)

    def _begin_stream(self) -> StreamText:
        if self.offer is not None:
            self.offer.sent = True
        self._pace = None if self.call is None else stream_pacing.Pace(self.call)
        self._produced = StreamText()
        return self._produced

    def _look(self, pace: stream_pacing.Pace, produced: StreamText) -> None:
        __tracebackhide__ = True
        call = self.call
        if call is None or self._is_metered_below:
            return
        try:
            call.progress(produced.tokens(call.request.model))
            pace.renew()
        except BudgetExhausted as error:
            error.response = produced.text
            self.abandon()
            raise raised_in(self.within, langchain_error(error)) from None

    @property
    def _is_metered_below(self) -> bool:
        return self.offer is not None and self.offer.taken

    def end(self) -> Call | None:
        """Take its call out, to be charged; `None` if that has happened."""
        call, self.call = self.call, None
        if self.offer is not None:
            self.offer.sent = True  # it would not stand anyway, but that takes longer to find
        if self._pace is not None:
            self._pace.end()
        if self._produced is not None:
            self._produced.forget()
        return call

    @property
    def has_text(self) -> bool:
        """Whether anything of its answer was seen."""
        return bool(self._produced)

    @property
    def seen(self) -> int:
        """Tokens that were seen of its answer."""
        if self.call is None or self._produced is None:
            return 0
        return self._produced.tokens(self.call.request.model)

    def withdraw(self) -> None:
        """Charge nothing: it was never sent."""
        call = self.end()
        if call is not None:
            call.withdraw()

    def abandon(self) -> None:
        """Charge what was seen of an answer that nobody will see more of."""
        if self.call is not None:
            self.call.abandon(self.seen if self._produced else None)
        self.hand_back()

    def miss(self) -> None:
        """Charge an answer that came and could not be used: what was seen of it, or was to be expected."""
        if self.call is not None:
            self.call.abandon(self.seen or None)
        self.hand_back()

    def fail(self) -> None:
        """Charge what was seen before the provider gave up."""
        if self.call is not None:
            seen = self.seen
            estimate = self.call.request.estimated_usage(seen).replace(estimated_calls=1)
            self.call.fail(estimate if seen else None)
        self.hand_back()

    def hand_back(self) -> None:
        """Let other streams share what is left, once it was charged."""
        call = self.end()
        if call is not None:
            stream_pacing.tighten(call)

    def tell_step(self) -> None:
        """Let the step that it is in by the runs around it know that it was charged."""
        if isinstance(self.within, LangChainStep):
            self.within.charged()

    def lose(self) -> None:
        """Charge an estimate, since nobody is left who could report the answer; its step may have done so."""
        if self.batch is not None and not self.batch.is_sent:
            self.withdraw()
        elif self.call is not None and self.call.state == "in flight":
            self.abandon()
        self.end()


class _Watch(weakref.ref[UUID]):
    """Notes when the last owner of a run's id is gone, such as a task that was cancelled.

    LangChain reports nothing then, and no longer can.
    """

    __slots__ = ("key",)
    key: int


_runs: dict[int, Run] = {}
_apart: list[Handoff] = []
"""Offers that were made in another context than that in which their models send."""
_batches: weakref.WeakValueDictionary[int, Batch] = weakref.WeakValueDictionary()
_last_begun: ContextVar[Run | None] = ContextVar("steptrack_last_begun", default=None)


def add(run_id: UUID, run: Run) -> None:
    """Keep a run for as long as anybody can report on it."""
    watch = run.watch = _Watch(run_id, _lost)
    watch.key = key = run_id.int
    _runs[key] = run
    if run.batch is not None:
        run.batch.begun += 1


find: Callable[[int], Run | None] = _runs.get
"""Returns a run that began here, over or not, by its number."""


def offer_apart(run: Run) -> None:
    """Let the offer of a run be found by its model's frames, since a task of its own has begun it."""
    if run.offer is not None:
        _apart[:] = [*(made for made in _apart if made.stands), run.offer]
        if _offered_around not in handoff.elsewhere:
            handoff.elsewhere.append(_offered_around)


def _offered_around() -> Iterator[Handoff]:
    """Yield what is offered by the run whose model calls this, and by the others of its request."""
    if not any(made.stands for made in _apart):
        _apart.clear()
        with suppress(ValueError):  # another thread was faster
            handoff.elsewhere.remove(_offered_around)
        return
    for frame in frames():
        run_id = getattr(frame.f_locals.get("run_manager"), "run_id", None)
        run = find(run_id.int) if isinstance(run_id, UUID) else None
        if run is not None:
            together = [run] if run.batch is None else begun_with(run.batch)
            yield from [each.offer for each in together if each.offer is not None]
            return


def telling_ledger(number: int) -> AbstractAsyncContextManager[object]:
    """Await at the end of this block what a ledger is to be told of a run, if one has to be."""
    run = find(number)
    return nullcontext() if run is None or run.call is None else run.call.telling_ledger()


def offer_last() -> None:
    """Offer the run that was begun here to LiteLLM, which the model has just imported."""
    run = _last_begun.get()
    if run is not None and run.call is not None and run.offer is None:
        run.offer = offer(run.call, inside_model())


def batch_of(params: Mapping[str, Any] | None, size: int) -> Batch | None:
    """Return what the runs of one request have in common; `None` if it has one run only."""
    if params is None or size < 2:  # noqa: PLR2004 - two is a batch
        return None
    batch = _batches.get(id(params))
    if batch is None:
        batch = _batches[id(params)] = Batch(params, size)
    return batch


def begun_with(batch: Batch) -> list[Run]:
    """Return the runs of a batch that have begun."""
    return [run for run in list(_runs.values()) if run.batch is batch]


def _lost(watch: Any) -> None:
    key: int = watch.key
    run = _runs.get(key)
    if run is not None and run.watch is watch:
        del _runs[key]
        if run.call is not None:
            run_finalizer(run.lose)
