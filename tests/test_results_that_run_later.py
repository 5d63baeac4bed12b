"""Decorated functions that return what has yet to run: its step is theirs, one and the same."""

import asyncio
import functools
import gc
import types
import warnings
from contextlib import asynccontextmanager, contextmanager

import pytest

from looking import path
from spending import ask, ask_async
from steptrack_callbacks import BudgetExhausted, LostStepWarning, current_step, drain_completed_steps, step
from steptrack_callbacks.steps import step as steps


def plainly(function):
    """Decorate as most decorators do, whatever kind of function it is."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        ask()
        return function(*args, **kwargs)

    return wrapper


@plainly
async def coroutine(times):
    """Ask so often."""
    for _ in range(times):
        await ask_async()
    return path()


@plainly
def generator(times):
    """Ask so often."""
    for _ in range(times):
        ask()
        yield path()
    return "end"


@plainly
async def async_generator(times):
    """Ask so often."""
    for _ in range(times):
        await ask_async()
        yield path()


@plainly
@types.coroutine
def old_coroutine(times):
    """Ask so often."""
    for _ in range(times):
        ask()
        yield
    return path()


KINDS = pytest.mark.parametrize(
    "function", [coroutine, generator, async_generator, old_coroutine], ids=lambda function: function.__name__
)


async def finish(result):
    if hasattr(result, "__aiter__"):
        return [item async for item in result][-1]
    if isinstance(result, types.GeneratorType):
        return list(result)[-1]
    return await result


@pytest.fixture(autouse=True)
def _no_step_left_open():
    yield
    gc.collect()
    assert steps.open_steps() == []


def records():
    return [(record.path, record.status, record.llm_calls) for record in drain_completed_steps()]


@KINDS
def test_what_a_plain_function_returns_runs_in_the_step_of_its_call(function):
    decorated = step("work")(function)

    async def main():
        with step("outer"):
            result = decorated(2)
            assert path() == "outer"
            assert result.__name__ == function.__name__
            ask()
            found = await finish(result)
            assert path() == "outer"
            return found

    assert asyncio.run(main()) == "outer/work"
    assert records() == [("outer/work", "completed", 3), ("outer", "completed", 4)]


@KINDS
def test_the_limits_of_a_plain_functions_step_hold_for_what_it_returns(function):
    decorated = step("work", max_calls=2)(function)
    with pytest.raises(BudgetExhausted, match="max_calls"):
        asyncio.run(finish(decorated(5)))
    assert records() == [("work", "failed", 2)]


def test_what_a_plain_functions_coroutine_does_not_finish_has_its_default():
    decorated = step("work", max_calls=2, error_boundary="continue", default="none")(coroutine)
    assert asyncio.run(decorated(5)) == "none"
    assert asyncio.run(decorated(1)) == "work"
    assert records() == [("work", "continued", 2), ("work", "completed", 2)]


def test_an_error_of_a_returned_coroutine_leaves_its_step():
    async def broken(key):
        raise KeyError(key)

    with pytest.raises(KeyError):
        asyncio.run(step("work")(lambda: broken("gone"))())
    assert records() == [("work", "error", 0)]


def test_a_lambda_that_returns_a_coroutine_is_one_step_in_each_of_many_tasks():
    decorated = step("work", max_calls=1)(lambda tokens=10: ask_async(tokens, 5))

    async def main():
        with step("outer"):
            return await asyncio.gather(*(decorated() for _ in range(3)))

    assert asyncio.run(main()) == ["the answer"] * 3
    assert records() == [("outer/work", "completed", 1)] * 3 + [("outer", "completed", 3)]


@KINDS
def test_what_is_returned_and_never_asked_to_run_ends_its_step_when_it_is_dropped(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Python's own: it was never awaited
        step("work")(function)(2)
        gc.collect()
    assert current_step() is None
    assert records() == [("work", "cancelled", 1)]


def test_a_task_that_is_cancelled_before_it_runs_a_returned_coroutine_leaves_no_step_open():
    async def main():
        task = asyncio.create_task(step("work")(coroutine)(2))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    gc.collect()
    assert records() == [("work", "cancelled", 1)]


def test_a_returned_generator_that_is_broken_off_ends_its_step_once():
    items = step("work")(generator)(5)
    next(items)
    items.close()
    started = step("other")(generator)(5)
    next(started)
    del started
    gc.collect()
    assert records() == [("work", "cancelled", 2), ("other", "cancelled", 2)]


def test_a_step_around_a_context_manager_warns_that_the_block_is_not_in_it():
    @step("managed")
    @contextmanager
    def manager():
        yield path()

    @step("managed")
    @asynccontextmanager
    async def async_manager():
        yield path()

    async def main():
        async with async_manager() as inside:
            return inside

    cure = r"context manager that {}\(\) returns.*write `with step\('managed'\)` around the yield"
    with pytest.warns(LostStepWarning, match=cure.format("manager")) as warned, manager() as inside:
        assert inside is None
    assert warned[0].filename == __file__
    with pytest.warns(LostStepWarning, match=cure.format("async_manager")):
        assert asyncio.run(main()) is None


def test_the_cure_that_the_warning_names_works():
    @contextmanager
    def manager():
        with step("managed", max_calls=1):
            yield

    with pytest.raises(BudgetExhausted), manager():
        ask()
        ask()
    assert records() == [("managed", "failed", 1)]
