"""Where the active step reaches by itself, where it has to be carried, and where a loss is loud."""

import asyncio
import contextvars
import inspect
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looking import in_thread, path
from spending import spend
from steptrack_callbacks import bind, install, step, uninstall
from steptrack_callbacks.concurrency import contexts, threads
from steptrack_callbacks.concurrency.contexts import Stack
from steptrack_callbacks.steps import active
from steptrack_callbacks.steps import step as steps


@pytest.fixture
def carried():
    """Threads that begin with their starter's context."""
    install(threads=True)
    yield
    uninstall()


def test_the_step_reaches_tasks_and_to_thread_by_itself():
    async def child():
        spend()
        return path()

    async def main():
        async with step("outer") as outer:
            paths = await asyncio.gather(child(), asyncio.create_task(child()), asyncio.to_thread(path))
        return paths, outer.usage.calls

    assert asyncio.run(main()) == (["outer", "outer", "outer"], 2)


def test_tasks_do_not_see_each_others_steps():
    async def child(number, barrier):
        async with step(f"child {number}"):
            await barrier.wait()
            spend()
            await barrier.wait()
            return path()

    async def main():
        barrier = asyncio.Barrier(5)
        async with step("outer") as outer:
            return await asyncio.gather(*[child(number, barrier) for number in range(5)]), outer

    paths, outer = asyncio.run(main())
    assert paths == [f"outer/child {number}" for number in range(5)]
    assert outer.usage.calls == 5
    assert [record.own_usage.calls for record in outer.records()] == [1, 1, 1, 1, 1, 0]


def test_parallel_branches_share_what_the_step_around_them_has_left():
    async def child():
        spend(0, 1)

    async def main():
        async with (
            step("outer", max_calls=3, error_boundary="continue") as outer,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(10):
                tasks.create_task(child())
        return outer

    assert asyncio.run(main()).status == "continued"


def test_a_plain_thread_loses_the_step_and_bind_carries_it(plain_threads):
    with step("outer"):
        assert in_thread(path) is None
        assert in_thread(bind(path)) == "outer"
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(path).result() is None
            assert pool.submit(bind(path)).result() == "outer"


def test_a_bound_function_may_run_many_times_at_once():
    barrier = threading.Barrier(50)

    @step("inner")
    def work():
        barrier.wait(60)
        spend(1, 0)
        return path()

    with step("outer") as outer, ThreadPoolExecutor(50) as pool:
        bound = bind(work)
        paths = [future.result() for future in [pool.submit(bound) for _ in range(50)]]
    assert paths == ["outer/inner"] * 50
    assert (outer.usage.calls, outer.usage.input_tokens, outer.own_usage.calls) == (50, 50, 0)
    assert len(outer.records()) == 51


def test_running_steps_may_be_listed_while_other_threads_begin_and_end_theirs():
    def work():
        while not done.is_set():
            with step("inner"):
                pass

    done = threading.Event()
    threads = [threading.Thread(target=bind(work)) for _ in range(2)]
    interval = sys.getswitchinterval()
    with ExitStack() as opened:
        several = [opened.enter_context(step("outer")) for _ in range(100)]
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            assert all(steps.open_steps()[:100] == several for _ in range(5_000))
        finally:
            sys.setswitchinterval(interval)
            done.set()
            for thread in threads:
                thread.join()


def test_bind_carries_a_step_into_a_coroutine_on_another_loop():
    async def work(number, *, more):
        await asyncio.sleep(0)
        return path(), number + more

    with step("outer"):
        bound = bind(work)
    with step("elsewhere"):
        pass
    with step("outer") as outer:
        bound = bind(work)
        assert inspect.iscoroutinefunction(bound)
        assert in_thread(lambda: asyncio.run(bound(1, more=2))) == ("outer", 3)
        assert outer.status == "open"


def test_what_a_bound_function_leaves_on_the_stack_stays_in_its_own_run():
    opened = []

    def leave_open():
        opened.append(step("left").__enter__())
        return path()

    with step("outer"):
        bound = bind(leave_open)
        assert (in_thread(bound), in_thread(bound), path()) == ("outer/left", "outer/left", "outer")
    for left in opened:
        left.__exit__(None, None, None)


def test_threads_begin_with_their_starters_step_once_installed(carried):
    async def in_executor():
        return await asyncio.get_running_loop().run_in_executor(None, path)

    class Own(threading.Thread):
        def run(self):
            self.seen = path()

    with step("outer"):
        own = Own()
        own.start()
        own.join()
        with ThreadPoolExecutor(1) as pool:
            submitted = pool.submit(path).result()
        timer = threading.Timer(0, lambda: timed.append(path()))
        timed = []
        timer.start()
        timer.join()
        assert (in_thread(path), own.seen, submitted, timed) == ("outer", "outer", "outer", ["outer"])
        assert asyncio.run(in_executor()) == "outer"
    assert in_thread(path) is None


def test_a_pools_worker_belongs_to_no_step(carried):
    with ThreadPoolExecutor(1) as pool:
        with step("first"):
            assert pool.submit(path).result() == "first"
        assert pool.submit(path).result() is None
        with step("second"):
            assert pool.submit(path).result() == "second"
            uninstall()
            assert pool.submit(active.stack.entries).result() == ()


def test_a_job_that_fails_or_is_cancelled_is_as_without_us(carried):
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result()
        assert pool.submit(pow, 2, exp=3).result() == 8


def test_uninstall_restores_what_was_there_before():
    def other_start(thread):
        return before(thread)

    before, submit = threading.Thread.start, ThreadPoolExecutor.submit
    install(threads=True)
    install(threads=True)
    assert threading.Thread.start is not before
    uninstall()
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == (before, submit)
    threading.Thread.start = other_start
    try:
        install(threads=True)
        with step("outer"):
            assert in_thread(path) == "outer"
        uninstall()
        assert threading.Thread.start is other_start
    finally:
        threading.Thread.start = before


def test_uninstall_leaves_a_patch_that_came_later_alone():
    before = threading.Thread.start
    install(threads=True)
    ours = threading.Thread.start

    def later(thread):
        return ours(thread)

    threading.Thread.start = later
    try:
        threads.leave_threads_alone()
        assert threading.Thread.start is later
    finally:
        threading.Thread.start = ours
        uninstall()
    assert threading.Thread.start is before


@given(st.lists(st.tuples(st.sampled_from(["push", "remove", "cut"]), st.integers(0, 3))))
def test_a_stack_does_as_a_list_whatever_the_order_of_leaving(moves):
    def play():
        stack, model, entries = Stack("test"), [], [object() for _ in range(4)]
        contexts.carried.remove(stack)  # threads of other tests need not look at it
        for move, number in moves:
            entry = entries[number]
            place = max((index for index, other in enumerate(model) if other is entry), default=None)
            if move == "push":
                stack.push(entry)
                model.append(entry)
            elif move == "remove":
                assert stack.remove(entry) == (place is not None)
                model[:] = model if place is None else model[:place] + model[place + 1 :]
            else:
                assert stack.cut(entry) == (() if place is None else tuple(model[place + 1 :]))
                model[:] = model if place is None else model[:place]
            assert stack.entries() == tuple(model)

    contextvars.Context().run(play)
