"""Steps around functions of four kinds: plain, coroutine, generator and async generator."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial, wraps
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, ParamSpec, TypeVar, cast
from weakref import finalize

from steptrack_callbacks.concurrency.contexts import run_finalizer
from steptrack_callbacks.concurrency.flow import run_async, run_sync
from steptrack_callbacks.concurrency.tasks import current_owner
from steptrack_callbacks.values import user_warnings
from steptrack_callbacks.values.errors import LostStepWarning

from .active import stack
from .boundary import pass_on

P = ParamSpec("P")
R = TypeVar("R")

UNNAMED = "step"
"""The name of a step that was given none, until a function lends it its own."""
# Of the results of functions that contextlib decorates: it has no public names for them.
_MANAGERS: tuple[type, ...] = (type(contextmanager(iter)(())), type(asynccontextmanager(iter)(())))  # type: ignore[arg-type]
_RUN_LATER = frozenset((CoroutineType, GeneratorType, AsyncGeneratorType, *_MANAGERS))
"""Types of results whose work has yet to begin when the function has returned."""


def decorate(function: Callable[P, R], template: Any) -> Callable[P, R]:
    """Run each call of a function in a fresh step made like the template.

    Raises:
        ValueError: It is not a function.
    """
    if not inspect.isroutine(function) or isinstance(function, staticmethod | classmethod):
        raise ValueError(
            f"a step decorates functions (below @staticmethod and @classmethod), not {function!r}"
        )
    declared = template.definition
    name = function.__name__ if declared.name == UNNAMED else declared.name
    definition = replace(declared, name=name.strip("<>"), function=function.__name__)

    wrapper: Any = wraps(function)(_wrapper_for(function)(function, partial(template.fresh, definition)))
    wrapper.step_definition = definition
    return cast(Callable[P, R], wrapper)


def around(function: Callable[..., Any], fresh: Callable[[], Any]) -> Callable[..., Any]:
    """Run each call of a function in a fresh step, without making it look like the function."""
    wrapper: Callable[..., Any] = _wrapper_for(function)(function, fresh)
    return wrapper


def _wrapper_for(function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):
        return _around_async_generator
    if inspect.isgeneratorfunction(function):
        return _around_generator
    return _around_coroutine if inspect.iscoroutinefunction(function) else _around_function


def _around_function(function: Callable[..., Any], fresh: Callable[[], Any]) -> Callable[..., Any]:
    """Leave the step open if what the function returns has yet to run; else this is a `with` block."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        step = fresh()
        step.__enter__()
        try:
            result = function(*args, **kwargs)
            if type(result) in _RUN_LATER and (later := _put_off(step, result)) is not None:
                return later
            step.returned(result)
        except BaseException as error:
            if not step.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            step.__exit__(None, None, None)
        return step.value()

    return wrapper


def _put_off(step: Any, result: Any) -> Any:
    """Return what runs in a step, still open, when it is asked to; `None` if it cannot run there.

    A function that is not itself a coroutine function or a generator, such as a lambda or what another
    decorator has made, may return what one has.
    """
    around_it = _goes_on_with(result)
    if around_it is None:
        _warn_of_manager(step)
        return None
    pending = [step]
    later = around_it(lambda: result, pending.pop)()
    later.__name__, later.__qualname__ = result.__name__, result.__qualname__
    finalize(later, run_finalizer, _end_unasked, pending, result).atexit = False
    step.put_away = stack.cut(step)
    return later


def _goes_on_with(result: Any) -> Callable[..., Any] | None:
    if inspect.isawaitable(result):  # some generators are
        return _around_begun_coroutine
    if isinstance(result, GeneratorType):
        return _around_generator
    return _around_async_generator if isinstance(result, AsyncGeneratorType) else None


def _end_unasked(pending: list[Any], result: Any) -> None:
    """End the step of what was dropped before it was ever asked to run."""
    if not pending or pending[0].status != "open":
        return
    if not isinstance(result, AsyncGeneratorType):
        result.close()
    run_sync(pending.pop().end(GeneratorExit()))


def _warn_of_manager(step: Any) -> None:
    name, function = step.name, step.definition.function
    user_warnings.warn(
        f"step {name!r} ends before the block of the context manager that {function}() returns, so calls"
        f" in the block are not in the step: write `with step({name!r})` around the yield in {function}()",
        LostStepWarning,
    )


def _around_begun_coroutine(
    function: Callable[[], Any], begun: Callable[[], Any]
) -> Callable[[], Coroutine[Any, Any, Any]]:
    async def wrapper() -> Any:
        __tracebackhide__ = True
        step = begun()
        stack.push(step, *step.put_away)
        step.entered_by = current_owner()
        try:
            step.returned(await function())
        except BaseException as error:
            if not await step.__aexit__(type(error), error, error.__traceback__):
                raise
        else:
            await step.__aexit__(None, None, None)
        return step.value()

    return wrapper


def _around_coroutine(function: Callable[..., Any], fresh: Callable[[], Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        async with fresh() as step:
            step.returned(await function(*args, **kwargs))
        return step.value()

    return wrapper


def _around_generator(function: Callable[..., Any], fresh: Callable[[], Any]) -> Callable[..., Any]:
    """Drive the body turn by turn, so that the step is active in it and never in its consumer."""

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        __tracebackhide__ = True
        body = function(*args, **kwargs)  # wrong arguments are an error before there is a step to end
        step = fresh()
        if step.status == "new":
            step.begin()
        silent = True
        error: BaseException | None = None
        try:
            resume: Callable[[], Any] = partial(next, body)
            while True:
                with _turn(step):
                    item = resume()
                silent = False
                try:
                    resume = partial(body.send, (yield item))
                except GeneratorExit:
                    with _turn(step):
                        body.close()
                    raise
                except BaseException as thrown:  # noqa: BLE001 - it is the body's to handle
                    resume = partial(body.throw, thrown)
        except StopIteration as end:
            step.returned(end.value)
        except BaseException as raised:  # noqa: BLE001 - the boundary decides
            error = raised
        pass_on(run_sync(step.end(error)), error)
        if step.finished:
            return step.value()
        if silent and step.definition.default is not None:
            yield step.value()
        return None

    return wrapper


@contextmanager
def _turn(step: Any) -> Generator[None]:
    """Make it the active step for one turn of a generator's body.

    Steps that the body has opened and is still inside are put away with it, for the next turn.
    """
    stack.push(step, *step.put_away)
    try:
        yield
    finally:
        step.put_away = stack.cut(step)


def _around_async_generator(function: Callable[..., Any], fresh: Callable[[], Any]) -> Callable[..., Any]:
    """Drive the body turn by turn, each in the context of whoever asks for it."""

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        __tracebackhide__ = True
        body = function(*args, **kwargs)  # wrong arguments are an error before there is a step to end
        step = fresh()
        if step.status == "new":
            step.begin()
        silent = True
        error: BaseException | None = None
        try:
            resume: Callable[[], Any] = body.__anext__
            while True:
                with _turn(step):
                    item = await resume()
                silent = False
                try:
                    resume = partial(body.asend, (yield item))
                except GeneratorExit:
                    with _turn(step):
                        await body.aclose()
                    raise
                except BaseException as thrown:  # noqa: BLE001 - it is the body's to handle
                    resume = partial(body.athrow, thrown)
        except StopAsyncIteration:
            step.returned(None)
        except BaseException as raised:  # noqa: BLE001 - the boundary decides
            error = raised
        pass_on(await run_async(step.end(error)), error)
        if silent and not step.finished and step.definition.default is not None:
            yield step.value()

    return wrapper
