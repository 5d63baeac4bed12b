"""The second line: LiteLLM's own callbacks, for calls that reach it past the entry points."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import litellm

from steptrack_callbacks.concurrency.contexts import run_finalizer
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations import handoff
from steptrack_callbacks.integrations.seams_litellm import LOGGER
from steptrack_callbacks.steps.attribution import new_call, refuse_if_exhausted
from steptrack_callbacks.values.copying import CopiedAsItself
from steptrack_callbacks.values.errors import StepTrackError
from steptrack_callbacks.values.usage import Usage

from . import background, batches, early_calls
from . import usage as answers
from .call_types import CALL_TYPES, Kind, kind_named
from .entry_points import active_call, early_call, enclosing_call
from .refusals import litellm_error
from .requests import request_of

if TYPE_CHECKING:
    from litellm.integrations.custom_logger import CustomLogger
else:
    CustomLogger = LOGGER.get() or object

TICKET = "steptrack_call"
"""Where a call is found again, in LiteLLM's own account of it; its call id may repeat."""

_COUNTER = "steptrack_counter"
"""Which logger counts a call's attempts there, of several that are told of them."""

_APART = frozenset(call_type.operation for call_type in CALL_TYPES.values() if not call_type.answers_in_words)
"""What asks no chat model for words, and so is not part of a call that does."""

_LOST = "steptrack_lost"
"""What there charges a call that LiteLLM forgets without a word of its end."""

_UNGATED = Usage(ungated_calls=1)


class StepTrackLogger(CustomLogger):
    """Charges calls that LiteLLM reports, and refuses those of steps that are exhausted already.

    `install()` puts it behind the entry points, for functions that were imported by name before, and
    for what has no gate. Alone, in `litellm.callbacks`, it promises less: it learns of a call when it is
    sent and of its usage after the caller went on, so it reserves nothing, calls in flight together
    overshoot together, and sync calls are refused only if `refuse_exhausted` stands in
    `litellm.pre_call_rules`.

    Example:
        >>> import litellm
        >>> logger = StepTrackLogger()
        >>> litellm.callbacks.append(logger)
        >>> litellm.pre_call_rules.append(logger.refuse_exhausted)
        >>> logger.detach()
    """

    def __init__(self) -> None:
        super().__init__()
        self.instance_id = uuid.uuid4().hex  # LiteLLM drops a second callback that looks like the first

    def detach(self) -> None:
        """Hear of no call any more, and refuse none.

        LiteLLM copies a callback from the list that it was put in to others, where it goes on hearing.
        """
        _take_out(self)
        _take_out(self.refuse_exhausted)

    def refuse_exhausted(self, _text: str) -> bool:
        """Refuse a call in an exhausted step; a rule for `litellm.pre_call_rules`.

        Raises:
            BudgetExhausted: A limit around is reached.
        """
        __tracebackhide__ = True
        if active_call() is None:
            try:
                refuse_if_exhausted()
            except StepTrackError as error:
                raise litellm_error(error) from None
        return True

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """Refuse an async call that came past the entry points, where a step has no room for it.

        Raises:
            BudgetExhausted: A limit around is reached, or would be passed.
        """
        if getattr(call_type, "value", call_type) in background.NO_CALLS:
            return
        details = getattr(kwargs.get("litellm_logging_obj"), "model_call_details", None)
        if not await early_calls.admit(details, TICKET):
            self.refuse_exhausted("")

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """Stamp a request with its call as it is sent, in the caller's own context."""
        if kind_named(kwargs.get("call_type")) is None:
            return
        call = self.announce(model, messages, kwargs)
        if kwargs.setdefault(_COUNTER, self.instance_id) == self.instance_id:
            call.attempts += 1

    def announce(self, model: Any, messages: Any, details: dict[str, Any]) -> Call:
        """Find the call of a request, or make it, and keep it in LiteLLM's account of the request."""
        known: Call | None = details.get(TICKET)
        call = known if known is not None and known.state != "failed" else None  # it may be sent again
        call = call or _sharing(active_call(), details) or known or _offered(details)
        if call is None:
            call = new_call(
                request_of(_kind_of(details), str(model or ""), messages, _options_of(details)), sent=True
            )
            details[_LOST] = _LostReport(call)
        if call.state == "new":
            call.begin()
        details[TICKET] = call
        if call is early_call.get() and call.admitted:  # also what LiteLLM has translated it to
            details.setdefault(early_calls.EARLY, _kind_of(details))
        return call

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Charge a call that no entry point accounts for."""
        if kind_named(kwargs.get("call_type")) is None:
            if background.is_response(response_obj):
                background.charge_retrieved(response_obj)
            else:
                batches.charge_reported(response_obj, kwargs)
            return
        call = _call_of(kwargs)
        if call is not None and call.admitted and (kind := kwargs.get(early_calls.EARLY)):
            early_calls.settle(call, kind, response_obj, kwargs)
        if call is None or call.admitted:
            return
        if kwargs.get("cache_hit"):
            call.settle_free()
            return
        answers.settle_unseen(call, response_obj, kwargs.get("response_cost"))

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Do as `log_success_event`."""
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Count a failed call that no entry point accounts for."""
        call = kwargs.get(TICKET)
        if call is not None and not call.admitted:
            call.fail(_UNGATED)
        elif call is not None and early_calls.EARLY in kwargs:
            early_calls.fail(call, kwargs)

    async def async_log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Do as `log_failure_event`."""
        self.log_failure_event(kwargs, response_obj, start_time, end_time)


class _LostReport(CopiedAsItself):
    """Charges a call its estimate once LiteLLM's account of it is gone: nobody will report it any more.

    So it is with a stream that is not read to its end.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def __del__(self) -> None:
        if self._call.is_open:
            run_finalizer(self._call.abandon, reported=_UNGATED)


def _take_out(ours: Any) -> None:
    """Take a callback or a rule out of all the lists of LiteLLM's that it stands in."""
    for listeners in vars(litellm).copy().values():
        if type(listeners) is list and any(_is(ours, each) for each in listeners):
            listeners[:] = [each for each in listeners if not _is(ours, each)]


def _is(ours: Any, other: Any) -> bool:
    return other is ours or (type(other) is type(ours) and bool(other == ours))  # methods are made each time


def _call_of(details: dict[str, Any]) -> Call | None:
    """Find the call of an event; one that was never seen being sent begins here."""
    call: Call | None = details.get(TICKET) or _sharing(enclosing_call(), details)
    if call is None and not details.get("cache_hit"):
        content = details.get("messages") or details.get("input")
        call = new_call(
            request_of(_kind_of(details), str(details.get("model") or ""), content, _options_of(details)),
            sent=True,
        )
        call.begin()
    if call is not None:
        details[TICKET] = call  # LiteLLM may report the same call twice
    return call


def _sharing(call: Call | None, details: dict[str, Any]) -> Call | None:
    """Return the call if a request may be part of it: a rule or a callback may make another inside of one."""
    operation = CALL_TYPES[_kind_of(details)].operation
    if call is None or (operation in _APART and call.request.operation != operation):
        return None
    return call


def _offered(details: dict[str, Any]) -> Call | None:
    return None if CALL_TYPES[_kind_of(details)].operation in _APART else handoff.take()


def _options_of(details: dict[str, Any]) -> dict[str, Any]:
    options = dict(details.get("optional_params") or {})
    return options | {"custom_llm_provider": details.get("custom_llm_provider")}


def _kind_of(details: dict[str, Any]) -> Kind:
    return kind_named(details.get("call_type")) or "chat"
