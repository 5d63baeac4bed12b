"""Steps in generators: put away at each yield, and ended however the generator is."""

import asyncio
import contextvars
import gc
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spending import ask, spend
from steptrack_callbacks import current_step, drain_completed_steps, peek_completed_steps, step, testing
from steptrack_callbacks.steps import attribution
from steptrack_callbacks.steps import step as steps


def path():
    active = current_step()
    return active.path if active else None


def statuses():
    return [record.status for record in peek_completed_steps()]


@step("count")
def count(most=10):
    for number in range(most):
        spend()
        yield number, path()


@step("count")
async def acount(most=10):
    for number in range(most):
        await asyncio.sleep(0)
        spend()
        yield number, path()


async def first(items):
    return await anext(items)


@pytest.fixture(autouse=True)
def _no_step_left_open():
    yield
    gc.collect()
    assert steps.open_steps() == []


def test_a_step_is_put_away_at_each_yield_and_active_in_the_body():
    with step("consumer"):
        for _, inside in count(3):
            assert (inside, path()) == ("consumer/count", "consumer")
    assert path() is None


def test_an_async_generators_step_is_put_away_at_each_yield():
    async def main():
        async with step("consumer"):
            async for _, inside in acount(3):
                assert (inside, path()) == ("consumer/count", "consumer")

    asyncio.run(main())
    assert statuses() == ["completed", "completed"]


def test_a_call_of_the_consumer_is_not_charged_to_the_generator():
    with step("consumer") as consumer:
        for _ in count(3):
            spend(100, 0)
    records = {record.name: record for record in consumer.records()}
    assert records["count"].usage.total_tokens == 45
    assert records["consumer"].own_usage.total_tokens == 300


def test_a_generator_that_is_never_asked_begins_no_step():
    made = count()
    assert steps.open_steps() == []
    made.close()
    assert peek_completed_steps() == []


def test_a_generator_that_is_broken_off_and_closed_is_cancelled():
    items = count()
    for _ in items:
        break
    assert steps.open_steps()[0].status == "open"
    items.close()
    (record,) = peek_completed_steps()
    assert (record.status, record.llm_calls, record.error) == ("cancelled", 1, "GeneratorExit: ")


def test_a_suspended_generator_that_is_collected_ends_its_step():
    items = count()
    next(items)
    del items
    gc.collect()
    assert statuses() == ["cancelled"]


def test_a_suspended_async_generator_that_is_collected_ends_its_step():
    async def main():
        items = acount()
        await anext(items)
        del items
        gc.collect()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})  # the loop closes it in a task

    asyncio.run(main())
    assert statuses() == ["cancelled"]


def test_an_async_generator_that_outlives_its_loop_is_ended_with_it():
    async def main():
        items = acount()
        await anext(items)
        kept.append(items)

    kept = []
    asyncio.run(main())
    assert statuses() == ["cancelled"]


def test_a_generator_may_be_closed_in_another_context():
    items = contextvars.copy_context().run(_begun)
    contextvars.Context().run(items.close)
    assert (statuses(), path()) == (["cancelled"], None)


def _begun():
    items = count()
    next(items)
    return items


def test_a_generator_may_be_continued_and_closed_in_another_thread():
    seen = []

    def elsewhere():
        seen.append(next(items))
        items.close()

    with step("outer"):
        items = _begun()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert path() == "outer"
    assert seen == [(1, "outer/count")]
    assert [(record.path, record.llm_calls) for record in peek_completed_steps()] == [
        ("outer/count", 2),
        ("outer", 2),
    ]


def test_an_async_generator_may_be_closed_in_another_task():
    async def main():
        with step("outer"):
            items = acount()
            await asyncio.create_task(anext(items))
            await asyncio.create_task(items.aclose())
            assert path() == "outer"

    asyncio.run(main())
    assert statuses() == ["cancelled", "completed"]


def test_a_cancelled_consumer_leaves_no_step_open():
    async def consume(begun):
        async for _ in acount():
            begun.set()
            await asyncio.Event().wait()

    async def main():
        begun = asyncio.Event()
        task = asyncio.create_task(consume(begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert statuses() == ["cancelled"]


def test_two_generators_may_be_interleaved():
    with step("one"):
        first = count(3)
        next(first)
        with step("two"):
            second = count(3)
            assert (next(second)[1], next(first)[1], next(second)[1]) == (
                "one/two/count",
                "one/count",
                "one/two/count",
            )
        assert (len(list(first)), len(list(second))) == (1, 1)
    assert path() is None
    assert {record.path: record.llm_calls for record in peek_completed_steps()} == {
        "one": 6,
        "one/two": 3,
        "one/count": 3,
        "one/two/count": 3,
    }


@given(st.lists(st.integers(0, 3), max_size=40))
def test_however_generators_are_interleaved_each_call_counts_in_its_own_step(turns):
    testing.reset()

    @step
    def worker(number):
        while True:
            with step(f"inner {number}"):
                spend()
                yield path()
                spend()
                yield path()

    workers = [worker(number) for number in range(4)]
    for turn in turns:
        assert next(workers[turn]) == f"worker/inner {turn}"
        assert path() is None
    for each in workers:
        each.close()
    drained = drain_completed_steps()
    for number in range(4):
        mine = [record for record in drained if record.name == f"inner {number}"]
        assert sum(record.own_usage.calls for record in mine) == turns.count(number)
    assert all(record.own_usage.calls == 0 for record in drained if record.name == "worker")


def test_a_step_inside_a_generators_step_is_put_away_with_it():
    @step("outer")
    def body():
        with step("inner", max_calls=1, error_boundary="continue"):
            ask()
            yield path()
            ask()
        yield path()

    items = body()
    assert (next(items), path()) == ("outer/inner", None)
    with step("consumer"):
        assert (next(items), path()) == ("outer", "consumer")
    items.close()
    assert [(record.name, record.status) for record in peek_completed_steps()] == [
        ("inner", "continued"),
        ("consumer", "completed"),
        ("outer", "cancelled"),
    ]


def test_what_is_sent_and_thrown_reaches_the_body():
    @step("echo")
    def echo():
        received = yield "ready"
        try:
            yield received
        except ValueError as error:
            yield f"{error} in {path()}"
        return "done"

    items = echo()
    assert (next(items), items.send("a"), items.throw(ValueError("b"))) == ("ready", "a", "b in echo")
    with pytest.raises(StopIteration) as end:
        next(items)
    assert (end.value.value, statuses()) == ("done", ["completed"])


def test_what_is_asent_and_athrown_reaches_the_body():
    @step("echo")
    async def echo():
        received = yield "ready"
        try:
            yield received
        except ValueError as error:
            yield f"{error} in {path()}"

    async def main():
        items = echo()
        got = [await anext(items), await items.asend("a"), await items.athrow(ValueError("b"))]
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        return got

    assert asyncio.run(main()) == ["ready", "a", "b in echo"]
    assert statuses() == ["completed"]


def test_an_error_that_the_body_does_not_handle_comes_out_with_its_cause():
    cause = OSError("the cause")
    error = ValueError("x")
    error.__cause__ = cause
    items = _begun()
    with pytest.raises(ValueError) as caught:
        items.throw(error)
    assert (caught.value, caught.value.__cause__, statuses()) == (error, cause, ["error"])


def test_what_the_body_does_while_it_is_closed_is_charged_to_its_step():
    @step("tidy")
    def tidy():
        try:
            yield
        finally:
            spend()

    items = tidy()
    next(items)
    items.close()
    (record,) = peek_completed_steps()
    assert (record.name, record.llm_calls, record.status) == ("tidy", 1, "cancelled")


def test_a_with_block_in_a_plain_generator_ends_however_the_generator_does():
    def body():
        with step("plain") as plain:
            spend()
            yield plain

    for end in (list, lambda items: items.close(), lambda items: contextvars.Context().run(items.close)):
        items = body()
        plain = next(items)
        end(items)
        assert plain.status in ("completed", "cancelled")
        assert current_step() is None  # what was left on the stack has ended, and is passed over
    items = body()
    plain = next(items)
    del items
    gc.collect()
    assert plain.status == "cancelled"


def test_an_ended_step_that_was_left_on_a_stack_refuses_nobody():
    def body():
        with step("plain", max_calls=1):
            ask()
            yield

    items = body()
    next(items)
    contextvars.Context().run(items.close)
    with step("next", max_calls=1) as following:
        ask()
    ask()
    assert (following.status, attribution.unattributed_usage().calls) == ("completed", 1)


def test_a_generator_that_is_called_with_wrong_arguments_begins_no_step():
    with pytest.raises(TypeError, match="least") as wrong:
        next(count(least=0))
    assert steps.open_steps() == []
    assert wrong.tb is not None  # it would hold the step


def test_an_async_generator_that_is_called_with_wrong_arguments_begins_no_step():
    with pytest.raises(TypeError, match="least") as wrong:
        asyncio.run(first(acount(least=0)))
    assert steps.open_steps() == []
    assert wrong.tb is not None
