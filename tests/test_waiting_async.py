"""Calls that wait on an event loop, which is never blocked."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest

from fake_framework import CALL_TOKENS, FakeFramework, open_elsewhere, until, until_async
from internals import assert_nothing_left
from steptrack_callbacks import BudgetExhausted, Grant, bind, step
from steptrack_callbacks.concurrency import loop_pool
from steptrack_callbacks.engine.queue import QUEUE

TWO_CALLS = 2 * CALL_TOKENS


@pytest.fixture
def framework() -> FakeFramework:
    return FakeFramework()


def test_coroutines_wait_on_their_loop_and_go_in_order(framework):
    async def main():
        order = []

        async def ask(number):
            call = await framework.open_async()
            order.append(number)
            await asyncio.sleep(0)
            framework.answer(call)

        with step("plan", max_tokens=10 * CALL_TOKENS) as plan:
            framework.ask()
            plan.account.limits.tokens = 5 * CALL_TOKENS
            await asyncio.gather(*(ask(number) for number in range(4)))
        assert order == sorted(order)
        assert plan.usage.calls == 5

    asyncio.run(main())


def test_room_that_comes_free_wakes_a_coroutine_at_once(framework):
    async def main():
        with step("plan", max_tokens=TWO_CALLS - 1, wait_s=3600) as plan:
            first = open_elsewhere(framework)
            second = asyncio.ensure_future(framework.open_async())
            await until_async(lambda: plan.account.waiting)
            framework.answer(first, output_tokens=50)
            framework.answer(await asyncio.wait_for(second, 20), output_tokens=50)

    asyncio.run(main())


def test_a_cancelled_waiter_leaves_no_trace_and_lets_the_next_one_through(framework):
    async def main():
        with step("plan", max_tokens=1000, enforce="strict", error_boundary="continue") as plan:
            framework.ask(max_output_tokens=1)
            stream = await asyncio.ensure_future(framework.open_async(500))
            big = asyncio.ensure_future(framework.open_async(700))
            await until_async(lambda: plan.account.waiting == 1)
            small = asyncio.ensure_future(framework.open_async(10))
            await until_async(lambda: plan.account.waiting == 2)
            big.cancel()
            await asyncio.wait([big])
            assert big.cancelled()
            framework.answer(await small)
            framework.answer(stream)
            assert_nothing_left(plan)

    asyncio.run(main())


def test_a_waiter_cancelled_at_the_moment_of_being_let_through_gives_its_room_back(framework):
    async def main():
        with step("plan", max_tokens=TWO_CALLS - 1) as plan:
            first = await asyncio.ensure_future(framework.open_async())
            second = asyncio.ensure_future(framework.open_async())
            await until_async(lambda: plan.account.waiting)
            third = asyncio.ensure_future(framework.open_async())
            await until_async(lambda: plan.account.waiting == 2)
            framework.answer(first)
            assert plan.account.held_calls == 1  # the second is let through, and does not know it yet
            second.cancel()
            await asyncio.wait([second])
            assert second.cancelled()
            framework.answer(await third, output_tokens=50)
            assert_nothing_left(plan)
        assert framework.sent == 2

    asyncio.run(main())


def test_a_waiter_thrown_away_with_its_loop_leaves_no_trace(framework):
    with step("plan", max_tokens=TWO_CALLS - 1) as plan:
        first = open_elsewhere(framework)
        loop = asyncio.new_event_loop()
        coroutine = framework.open_async()
        loop.call_soon(loop.stop)
        task = loop.create_task(coroutine)
        loop.run_forever()
        assert plan.account.waiting == 1
        coroutine.close()
        assert plan.account.waiting == 0
        task._log_destroy_pending = False
        loop.close()
        del task
        gc.collect()
        framework.answer(first)
        assert_nothing_left(plan)


def test_a_task_is_refused_at_once_if_only_its_own_stream_is_in_the_way(framework):
    async def main():
        with step("plan", max_tokens=TWO_CALLS - 1):
            await framework.open_async()
            with pytest.raises(BudgetExhausted) as refusal:
                await framework.open_async()
        assert refusal.value.phase == "busy"

    asyncio.run(main())


def test_a_thread_with_a_running_loop_never_blocks(framework):
    async def main():
        with step("plan", max_tokens=TWO_CALLS - 1):
            await asyncio.ensure_future(framework.open_async())
            with pytest.raises(BudgetExhausted) as refusal:
                framework.open(patient=True)
        assert refusal.value.phase == "busy"
        assert "event loop" in refusal.value.hint

    asyncio.run(main())


def test_threads_and_coroutines_wait_in_one_line(framework):
    async def main():
        with step("plan", max_tokens=TWO_CALLS - 1) as plan:
            first = open_elsewhere(framework)
            asking = asyncio.ensure_future(asyncio.to_thread(framework.open))
            await until_async(lambda: plan.account.waiting == 1)
            on_loop = asyncio.ensure_future(framework.open_async())
            await until_async(lambda: plan.account.waiting == 2)
            framework.answer(first, output_tokens=0)
            framework.answer(await asking, output_tokens=0)
            framework.answer(await on_loop, output_tokens=0)
            assert_nothing_left(plan)

    asyncio.run(main())


@pytest.mark.parametrize("waiting", [1, 3])
def test_calls_that_wait_in_threads_of_the_loop_leave_it_one_to_go_on_with(framework, waiting):
    async def main():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1, thread_name_prefix="asyncio"))
        with step("plan", max_tokens=CALL_TOKENS * (waiting + 1), wait_s=60) as plan:
            framework.ask()
            plan.account.limits.tokens = 2 * CALL_TOKENS
            first = await framework.open_async()
            asked = [asyncio.create_task(asyncio.to_thread(framework.open)) for _ in range(waiting)]
            await until_async(lambda: plan.account.waiting == waiting)
            await asyncio.wait_for(asyncio.to_thread(framework.answer, first, 0), 20)
            plan.account.grant(Grant(max_tokens=waiting * CALL_TOKENS))
            QUEUE.move_on()
            for call in await asyncio.wait_for(asyncio.gather(*asked), 20):
                framework.answer(call)
            assert_nothing_left(plan)
        assert loop_pool._spare == 0

    asyncio.run(main())


def test_a_pool_of_the_users_own_keeps_its_size(framework):
    pool = ThreadPoolExecutor(1, thread_name_prefix="mine")
    with pool, step("plan", max_tokens=2 * CALL_TOKENS - 1, wait_s=60) as plan:
        first = open_elsewhere(framework)
        asked = pool.submit(bind(framework.open))
        until(lambda: plan.account.waiting)
        assert (pool._max_workers, loop_pool._spare) == (1, 0)
        framework.answer(first, 0)
        framework.answer(asked.result(20))
