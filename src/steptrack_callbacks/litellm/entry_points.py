"""LiteLLM's public entry points, each inside one outermost wrapper: admit, call, settle."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import litellm

from steptrack_callbacks import settings
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations import handoff, proxy_client
from steptrack_callbacks.steps.attribution import new_call, refuse_if_exhausted, refuse_if_exhausted_async
from steptrack_callbacks.values.untrusted import is_late_answer

from . import batches, charging, custom
from .call_types import CALL_TYPES, EntryPoint, Kind
from .refusals import AttemptsByThemselves, RefusalsAsLiteLLMErrors, allow_advice, suppress_advice
from .requests import request_of
from .streams import is_from_cache, is_stream, metered
from .swapping import sent_with, swap_of, tell, with_models


class Gates:
    """Whether the wrappers gate; after `uninstall`, those that somebody still holds let through.

    Attributes:
        active: Whether they do.
        hears: Whether LiteLLM tells our callback of each request that it sends.
    """

    active = False
    hears = True


gates = Gates()
_inside: ContextVar[Call | None] = ContextVar("steptrack_litellm_call", default=None)
early_call: ContextVar[Call | None] = ContextVar("steptrack_litellm_early", default=None)
"""The last call that came past the entry points here; what LiteLLM translates it to is the same one."""
_refuses_stream_options: set[str] = set()


def enclosing_call() -> Call | None:
    """Return the call whose entry point this context was made in, in flight or not."""
    return _inside.get()


def active_call() -> Call | None:
    """Return the call whose entry point is running here."""
    call = _inside.get()
    return call if call is not None and call.is_open else None


def around(point: EntryPoint, function: Callable[..., Any], twin: Any) -> Callable[..., Any]:
    """Put an entry point inside its wrapper.

    Args:
        point: Which one it is.
        function: What is found there.
        twin: The sync function of the same name, if there is one; it names its parameters.
    """
    is_async, positional = inspect.iscoroutinefunction(function), _positional(point.kind, function, twin)
    if point.kind == "job":
        wrapper = _around_job_async(function) if is_async else _around_job(function)
    elif point.kind == "batch":
        wrapper = _around_batch_async(function) if is_async else _around_batch(function)
    else:
        wrap = _around_async if is_async else _around
        wrapper = wrap(point, positional, function)
    vars(wrapper)["steptrack_gate"] = positional
    return wrapper


def is_gated(function: Any) -> bool:
    """Tell whether one of our wrappers is in a function, under those of others perhaps."""
    return _gate_in(function) is not None


def parameters_of(function: Any) -> tuple[str, ...]:
    """Name the parameters of an entry point that may be given by position."""
    return _gate_in(function) or ()


def _gate_in(function: Any) -> tuple[str, ...] | None:
    while function is not None:
        if "steptrack_gate" in getattr(function, "__dict__", ()):
            positional: tuple[str, ...] = function.steptrack_gate
            return positional
        function = getattr(function, "__wrapped__", None)
    return None


def _positional(kind: Kind, function: Any, twin: Any) -> tuple[str, ...]:
    """Name the parameters that may be given by position; some functions take anything, and hand it on."""
    return _parameters(function) or _parameters(twin) or _HIDDEN_PARAMETERS.get(kind, ())


def _parameters(function: Any) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(
        parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    )


_HIDDEN_PARAMETERS: dict[Kind, tuple[str, ...]] = {
    "chat": ("model", "messages"),
    "ocr": ("model", "document"),
}
"""Of functions that take anything, and tell nobody what."""


def _around(
    point: EntryPoint, positional: tuple[str, ...], function: Callable[..., Any]
) -> Callable[..., Any]:
    kind = point.kind

    @wraps(function)
    def entry(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if not gates.active:
            return function(*args, **kwargs)
        if outer := _outer_call(kwargs):
            with within(outer):
                return function(*args, **kwargs)
        if is_shell(kind, kwargs):
            with AttemptsByThemselves():
                return function(*args, **kwargs)
        with RefusalsAsLiteLLMErrors():
            sending = _Sending(kind, positional, args, kwargs)
            if not sending.call.admitted:  # the LangChain integration has admitted it already
                sending.call.admit()
            sending.call.attempts += not point.tells
            while True:
                with sending:
                    answer = sending.sent_by(function)
                    return sending.later(answer) if inspect.iscoroutine(answer) else sending.receive(answer)

    return entry


def _around_async(
    point: EntryPoint, positional: tuple[str, ...], function: Callable[..., Any]
) -> Callable[..., Any]:
    kind = point.kind

    @wraps(function)
    async def entry(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if not gates.active:
            return await function(*args, **kwargs)
        if outer := _outer_call(kwargs):
            with within(outer):
                return await function(*args, **kwargs)
        if is_shell(kind, kwargs):
            with AttemptsByThemselves():
                return await function(*args, **kwargs)
        with RefusalsAsLiteLLMErrors():
            sending = _Sending(kind, positional, args, kwargs)
            if not sending.call.admitted:
                await sending.call.admit_async()
            while True:
                async with sending.call.telling_ledger():
                    with sending:
                        return sending.receive(await sending.sent_by(function))

    return entry


def _around_job(function: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse to begin what will be billed later, where a limit is reached already."""

    @wraps(function)
    def entry(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with RefusalsAsLiteLLMErrors():
            if gates.active:
                refuse_if_exhausted(kwargs.get("model"))
            return function(*args, **kwargs)

    return entry


def _around_job_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def entry(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with RefusalsAsLiteLLMErrors():
            if gates.active:
                await refuse_if_exhausted_async(kwargs.get("model"))
            return await function(*args, **kwargs)

    return entry


def _around_batch(function: Callable[..., Any]) -> Callable[..., Any]:
    """Charge a batch where it is first seen to be finished; asking for it is not a model call."""

    @wraps(function)
    def entry(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        answer = function(*args, **kwargs)
        if gates.active and not inspect.iscoroutine(answer):  # of the async twin, which charges it
            with RefusalsAsLiteLLMErrors():
                batches.charge(answer, kwargs)
        return answer

    return entry


def _around_batch_async(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def entry(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        answer = await function(*args, **kwargs)
        if gates.active:
            with RefusalsAsLiteLLMErrors():
                await batches.charge_async(answer, kwargs)
        return answer

    return entry


def begin(kind: Kind, arguments: Mapping[str, Any]) -> Call:
    """Make the call that is asked for, or take one that was begun further up."""
    call_type = CALL_TYPES[kind]
    model = str(arguments.get(call_type.model) or "")
    request = request_of(kind, model, arguments.get(call_type.content), arguments)
    return handoff.take() or custom.take(request) or new_call(with_models(request, kind, arguments))


@contextmanager
def within(call: Call) -> Generator[None]:
    """Run what belongs to a call."""
    before = _inside.get()
    _inside.set(call)
    try:
        yield
    finally:
        _inside.set(before)


class _Sending:
    """One call on its way: as a context manager it charges what becomes of it.

    It swallows one error: a server's refusal of the usage that we ask of a stream. The call is then
    sent again as the user made it.
    """

    def __init__(
        self, kind: Kind, names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._kind = kind
        self._names = names
        self._args = args
        self._kwargs = kwargs
        self._arguments = dict(zip(names, args, strict=False)) | kwargs
        self.call = begin(kind, self._arguments)
        self.call.attempts += not gates.hears  # nobody will say whether it is sent, so it is taken to be
        self._before: Call | None = None
        self._attempts_before = 0
        self._is_quiet = False
        self._has_asked_for_usage = False  # of the last attempt: other calls may learn meanwhile who minds

    @property
    def _may_ask_for_usage(self) -> bool:
        """Whether to ask for a stream's usage: where nobody did, and the server is not known to mind."""
        arguments = self._arguments
        return (
            self._kind in ("chat", "text")
            and bool(arguments.get("stream"))
            and arguments.get("stream_options") is None
            and self._server not in _refuses_stream_options
        )

    @property
    def _server(self) -> str:
        arguments = self._arguments
        model = str(arguments.get("model"))
        if model.startswith("oci/") or arguments.get("custom_llm_provider") == "oci":
            return "oci"  # LiteLLM itself refuses the option there
        return str(arguments.get("api_base") or arguments.get("base_url") or model)

    def sent_by(self, function: Callable[..., Any]) -> Any:
        """Send it, as the user made it but for the model, a cap or an option that a step needs."""
        __tracebackhide__ = True
        ours, cap = dict[str, Any](), CALL_TYPES[self._kind].cap
        if cap is not None and (most := self.call.max_tokens_to_set) is not None:
            ours[cap] = most
        self._has_asked_for_usage = self._may_ask_for_usage
        if self._has_asked_for_usage:
            ours["stream_options"] = {"include_usage": True}
        if swap_of(self.call) is not None:
            arguments = sent_with(self._kind, self.call.request.asked_for, self._arguments)
        elif ours.keys().isdisjoint(self._names[: len(self._args)]):
            return function(*self._args, **self._kwargs | ours)
        else:
            arguments = self._arguments
        return function(*self._args[len(self._names) :], **arguments | ours)

    def receive(self, response: Any) -> Any:
        """Settle with an answer, or meter a stream."""
        tell(response, swap_of(self.call))
        if not is_stream(response):
            charging.settle(self.call, self._kind, response)
            return response
        if is_from_cache(response):
            self.call.settle_free()
            return response
        is_mock = self._arguments.get("mock_response") is not None
        meter = charging.meter_for(self.call, self._kind, response, is_mock=is_mock)
        return metered(response, meter, hides_usage=self._has_asked_for_usage)

    async def later(self, answer: Coroutine[Any, Any, Any]) -> Any:
        """Settle with an answer that a sync function has left to be awaited."""
        with RefusalsAsLiteLLMErrors():
            async with self.call.telling_ledger():
                with self:
                    return self.receive(await answer)

    def __enter__(self) -> None:
        self._before, self._attempts_before = _inside.get(), self.call.attempts
        _inside.set(self.call)
        # LiteLLM would print advice about errors that nobody is to see, or that become refusals.
        self._is_quiet = self._may_ask_for_usage or settings.now.proxy is not None
        if self._is_quiet:
            suppress_advice()

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: object
    ) -> bool:
        __tracebackhide__ = True
        _inside.set(self._before)
        if self._is_quiet:
            allow_advice()
        if error is None:
            return False
        if self._has_asked_for_usage and _is_about_stream_options(error):
            _refuses_stream_options.add(self._server)
            self.call.attempts = self._attempts_before  # the user has not asked for this one
            return True
        refused = proxy_client.refusal_in(error)
        if refused is not None:
            self.call.withdraw()
            raise refused from error
        if not isinstance(error, Exception) or (self.call.attempts and is_late_answer(error)):
            self.call.abandon()
        elif self.call.attempts:
            self.call.fail()
        else:
            self.call.withdraw()  # LiteLLM said no before anything was sent
        return False


_refuses_stream_options.add("oci")
_BAD_REQUEST = (400, 422)


def _is_about_stream_options(error: BaseException) -> bool:
    return getattr(error, "status_code", None) in _BAD_REQUEST and "stream_options" in str(error)


def _outer_call(kwargs: Mapping[str, Any]) -> Call | None:
    """Return the call on whose behalf LiteLLM itself calls, if that is being accounted for.

    It then mostly hands its logging object on, and where it translates one API into another it is the
    caller itself. Either tells it from a call that the user's own callback makes.
    """
    call = active_call()
    if call is not None and kwargs.get("litellm_logging_obj") is not None:
        return call
    call = call or early_call.get()
    if call is None or not call.is_open:
        return None
    module = str(sys._getframe(2).f_globals.get("__name__"))  # noqa: SLF001 - who has called the entry point
    is_translated = module.startswith("litellm.") and any(part in module for part in _TRANSLATES)
    return call if is_translated else None


_TRANSLATES = ("adapters", "transformation", "google_genai", "experimental_pass_through", "interactions")
"""Parts of the names of LiteLLM's modules that ask one API what they were asked in the words of another."""


def is_shell(kind: Kind, kwargs: Mapping[str, Any]) -> bool:
    """Tell whether a call only comes back to the entry points, once for each model that it tries."""
    if kwargs.get("model_list"):
        return True
    return kind == "chat" and bool(kwargs.get("fallbacks") or getattr(litellm, "model_fallbacks", None))
