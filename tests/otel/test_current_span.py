"""A step's span is current where the step is active, and nowhere else."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from telemetry import current

import steptrack_callbacks as steptrack
from looking import in_thread, path
from spending import spend
from steptrack_callbacks import bind, step
from steptrack_callbacks.hooks import StepEnded, on


def test_a_steps_span_is_current_in_its_body_and_gone_after_it(traces):
    with step("outer"):
        assert current() == "step outer"
        with step("inner"):
            assert current() == "step inner"
        assert current() == "step outer"
    assert current() is None
    assert traces.parent("step inner") == "step outer"
    assert traces.parent("step outer") is None


def test_a_span_of_the_framework_is_the_child_of_the_step_and_the_parent_of_the_steps_inside_it(traces):
    with traces.tracer.start_as_current_span("request"), step("plan"):
        with traces.tracer.start_as_current_span("model"), step("tool"):
            pass
    assert traces.parent("step plan") == "request"
    assert traces.parent("model") == "step plan"
    assert traces.parent("step tool") == "model"


def test_a_trace_that_the_body_begins_anew_is_gone_on_with(traces):
    with step("outer"):
        span = traces.tracer.start_span("elsewhere", context=otel_context.Context())
        with trace.use_span(span, end_on_exit=True), step("inner"):
            pass
    assert traces.parent("step inner") == "elsewhere"


def test_a_decorated_function_and_a_decorated_coroutine_run_in_their_spans(traces):
    @step("plain")
    def plain():
        return current()

    @step("coroutine")
    async def coroutine():
        await asyncio.sleep(0)
        return current()

    assert plain() == "step plain"
    assert asyncio.run(coroutine()) == "step coroutine"
    assert traces.names() == ["step plain", "step coroutine"]


def test_steps_of_concurrent_tasks_have_each_their_own_span_under_the_same_parent(traces):
    async def work(name, others):
        async with step(name):
            await others.wait()
            return current()

    async def main():
        others = asyncio.Barrier(3)
        async with step("outer"):
            return await asyncio.gather(*(work(name, others) for name in "abc")), current()

    assert asyncio.run(main()) == (["step a", "step b", "step c"], "step outer")
    assert {traces.parent(f"step {name}") for name in "abc"} == {"step outer"}


def test_what_is_bound_runs_under_the_steps_span_in_any_number_of_threads(traces):
    barrier = threading.Barrier(3)

    def work():
        assert current() == "step outer"
        with step("inside"), traces.tracer.start_as_current_span("framework"):
            barrier.wait(20)
        assert current() == "step outer"

    with step("outer"):
        threads = [threading.Thread(target=bind(work)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [traces.parent_of(span) for span in traces.all("step inside")] == ["step outer"] * 3
    assert [traces.parent_of(span) for span in traces.all("framework")] == ["step inside"] * 3


def test_a_step_that_is_given_its_parent_in_a_plain_thread_is_its_child(traces):
    with step("outer") as outer:

        def work():
            assert current() is None
            with step("inside", parent=outer), step("innermost"):
                assert current() == "step innermost"
            return current()

        assert in_thread(work) is None
    assert traces.parent("step inside") == "step outer"
    assert traces.parent("step innermost") == "step inside"


def test_a_step_that_is_given_another_parent_than_the_step_here_is_the_others_child(traces):
    with step("outer") as outer, step("here"), step("inside", parent=outer):
        assert current() == "step inside"
    assert traces.parent("step inside") == "step outer"


def test_a_generators_span_is_current_in_its_body_and_never_in_its_consumer(traces):
    @step("items")
    def items():
        yield current()
        with traces.tracer.start_as_current_span("around"):
            with step("part"), traces.tracer.start_as_current_span("framework"):
                yield current()
                yield current()
            yield current()
        yield current()

    with step("consumer"):
        seen = [(item, current()) for item in items()]
    assert seen == [
        ("step items", "step consumer"),
        ("framework", "step consumer"),
        ("framework", "step consumer"),
        ("around", "step consumer"),
        ("step items", "step consumer"),
    ]
    assert traces.parent("framework") == "step part"
    assert traces.parent("step part") == "around"
    assert traces.parent("around") == "step items"
    assert traces.parent("step items") == "step consumer"


def test_an_async_generator_may_be_read_and_closed_by_different_tasks(traces):
    @step("items")
    async def items():
        with step("part"):
            while True:
                yield current()

    async def main():
        stream = items()
        seen = [await asyncio.create_task(anext(stream)) for _ in range(3)]
        await asyncio.create_task(stream.aclose())
        return seen, current()

    assert asyncio.run(main()) == (["step part"] * 3, None)
    assert sorted(traces.names()) == ["step items", "step part"]
    assert traces.parent("step part") == "step items"


def test_a_generator_that_is_closed_in_another_context_leaves_both_contexts_alone(traces):
    @step("items")
    def items():
        yield 1
        yield 2

    stream = items()

    def begin():
        next(stream)
        return current()

    def close():
        with traces.tracer.start_as_current_span("elsewhere"):
            stream.close()
            return current()

    assert Context().run(begin) is None
    assert Context().run(close) == "elsewhere"
    assert traces.said("step items")["steptrack.status"] == "cancelled"


def test_a_step_that_is_left_in_another_context_ends_there_and_changes_nothing_there(traces):
    left = step("left")
    entered = Context()
    entered.run(left.__enter__)
    with traces.tracer.start_as_current_span("elsewhere"):
        left.__exit__(None, None, None)
        assert current() == "elsewhere"
    assert entered.run(current) == "step left"  # nobody could take it out of there
    assert traces.names() == ["step left", "elsewhere"]


def test_a_step_that_is_left_in_a_copy_of_its_context_is_left_in_the_copy(traces):
    with traces.tracer.start_as_current_span("request"):
        left = step("left")
        left.__enter__()

        def leave():
            left.__exit__(None, None, None)
            return current()

        assert copy_context().run(leave) == "request"
        assert current() == "step left"
        assert path() is None
        otel_context.attach(otel_context.Context())


def test_steps_may_be_left_in_any_order(traces):
    first, second = step("first"), step("second")
    with traces.tracer.start_as_current_span("request"):
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert current() == "step second"
        second.__exit__(None, None, None)
        assert current() == "request"
    assert traces.names() == ["step first", "step second", "request"]


def test_a_span_that_the_body_forgets_to_detach_is_not_current_after_the_step(traces):
    with step("outer"):
        with step("leaky"):
            otel_context.attach(trace.set_span_in_context(traces.tracer.start_span("leaked")))
            assert current() == "leaked"
        assert current() == "step outer"


def test_baggage_that_was_set_around_a_step_is_seen_in_its_body():
    token = otel_context.attach(otel_context.set_value("tenant", "blue"))
    with step("plan"):
        assert otel_context.get_value("tenant") == "blue"
    otel_context.detach(token)


def test_a_hook_that_calls_nothing_has_no_span_and_sees_that_of_the_step_around(traces):
    seen = []
    on(StepEnded, lambda event: seen.append(current()))
    with step("outer"), step("plan"):
        pass
    assert seen == ["step outer", None]
    assert traces.names() == ["step plan", "step outer"]


def test_what_a_hook_calls_is_a_span_under_the_step_that_it_was_told_of(traces):
    def speak(event):
        if event.step == "plan":
            spend()

    on(StepEnded, speak)
    with step("outer"), step("plan"):
        pass
    assert traces.names() == ["step plan", "hook:speak", "step outer"]
    assert traces.parent("hook:speak") == "step outer"
    assert traces.said("hook:speak")["gen_ai.usage.input_tokens"] == 10


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
def test_whatever_leaves_a_step_the_span_around_it_is_current_again(traces, error):
    with step("outer"):
        with pytest.raises(error), step("inner"):
            raise error
        assert current() == "step outer"
    assert traces.names() == ["step inner", "step outer"]


def test_a_steps_span_is_current_in_what_threads_and_pools_do_for_it_and_nowhere_else(traces):
    def elsewhere():
        with traces.tracer.start_as_current_span("model"):
            return current()

    steptrack.install()
    try:
        with ThreadPoolExecutor(1) as pool:
            with step("outer"), step("inner"):
                assert pool.submit(elsewhere).result() == "model"
                assert in_thread(current) == "step inner"
                with step("innermost"):
                    pass
                assert current() == "step inner"
            assert pool.submit(current).result() is None
    finally:
        steptrack.uninstall()
    assert traces.parent("model") == "step inner"
    assert traces.parent("step innermost") == "step inner"
