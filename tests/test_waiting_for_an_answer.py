"""Tasks that wait on event loops for the answer to a question that another one has asked."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from spending import ask, ask_async
from steptrack_callbacks import BudgetExhausted, Grant, step
from steptrack_callbacks.engine.escalation import Question

TIMEOUT_S = 60


class CountingPool(ThreadPoolExecutor):
    """The threads of an event loop, which counts the jobs that it is given."""

    jobs = 0

    def submit(self, *args, **options):
        self.jobs += 1
        return super().submit(*args, **options)


async def turns(condition):
    """Let other tasks go on until a condition holds."""
    while not condition():
        await asyncio.sleep(0)


def test_tasks_that_wait_for_an_answer_take_no_thread_of_the_event_loop():
    async def main():
        pool, answer = CountingPool(), asyncio.Event()
        asyncio.get_running_loop().set_default_executor(pool)

        async def grant(_):
            await answer.wait()
            return Grant(max_calls=10)

        async with step("plan", max_calls=1, error_boundary="escalate", escalation=grant) as plan:
            ask()
            tasks = [asyncio.create_task(ask_async()) for _ in range(10)]
            await turns(lambda: plan.account.question is not None and plan.account.question.waiting == 9)
            await asyncio.sleep(0)
            answer.set()
            assert await asyncio.gather(*tasks) == ["the answer"] * 10
        assert pool.jobs == 0

    asyncio.run(asyncio.wait_for(main(), TIMEOUT_S))


def test_a_task_that_is_cancelled_while_it_waits_for_an_answer_leaves_nothing_behind():
    async def main():
        answer = asyncio.Event()

        async def refuse(_):
            await answer.wait()

        async with step("plan", max_calls=1, error_boundary="escalate", escalation=refuse) as plan:
            ask()
            asking = asyncio.create_task(ask_async())
            await turns(lambda: plan.account.question is not None)
            question = plan.account.question
            waiting = asyncio.create_task(ask_async())
            await turns(lambda: question._awaiting)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not question._awaiting
            answer.set()
            with pytest.raises(BudgetExhausted):
                await asking
            assert plan.account.question is None

    asyncio.run(asyncio.wait_for(main(), TIMEOUT_S))


def test_an_event_loop_that_has_closed_does_not_keep_others_from_hearing_the_answer():
    loops = asker, *others = [asyncio.new_event_loop() for _ in range(8)]
    answer = asyncio.Event()

    async def ask_somebody():
        await answer.wait()
        return Grant(max_calls=1)

    def take_turn(loop, task):
        loop.run_until_complete(asyncio.sleep(0))
        assert not task.done()

    question = Question(ask_somebody, take_answer=bool, close=lambda: None)
    tasks = [loop.create_task(question.wait()) for loop in loops]
    for loop, task in zip(loops, tasks, strict=True):
        take_turn(loop, task)
    assert question.waiting == len(question._awaiting) == 7
    for loop in others[::2]:
        loop.close()
    answer.set()
    asker.run_until_complete(asyncio.wait_for(tasks[0], TIMEOUT_S))
    for loop, task in list(zip(others, tasks[1:], strict=True))[1::2]:
        assert loop.run_until_complete(asyncio.wait_for(task, TIMEOUT_S)) is True
    for loop in loops:
        loop.close()
    for task in tasks:
        task._log_destroy_pending = False  # those on the closed loops cannot end
