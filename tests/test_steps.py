"""One activation of a step: how it begins, what it shows, what it leaves."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spending import ask, open_call, spend
from steptrack_callbacks import (
    BudgetExhausted,
    StepDefinition,
    Usage,
    current_model,
    current_persona,
    current_policy,
    current_step,
    drain_completed_steps,
    peek_completed_steps,
    record_usage,
    step,
    testing,
)
from steptrack_callbacks.steps import active
from steptrack_callbacks.steps import step as steps


def plain() -> str:
    spend()
    return current_step().path


async def coroutine() -> str:
    await asyncio.sleep(0)
    spend()
    return current_step().path


def generator() -> Iterator[str]:
    spend()
    yield current_step().path


async def async_generator() -> AsyncIterator[str]:
    await asyncio.sleep(0)
    spend()
    yield current_step().path


KINDS = [plain, coroutine, generator, async_generator]


def run(function, *args):
    """Run a function of any kind to its end, and return what it gives: one value."""
    made = function(*args)
    if inspect.isasyncgen(made):
        return asyncio.run(_collect(made))[0]
    if inspect.isgenerator(made):
        return list(made)[0]
    return asyncio.run(made) if inspect.iscoroutine(made) else made


async def _collect(items):
    return [item async for item in items]


def test_a_step_registers_and_pops():
    with step("plan") as plan:
        assert current_step() is plan
        assert plan in steps.open_steps()
    assert current_step() is None
    assert steps.open_steps() == []


def test_an_unregistered_function_pushes_nothing():
    def unregistered():
        return current_step()

    assert unregistered() is None
    with step("outer") as outer:
        assert unregistered() is outer
    assert [record.name for record in peek_completed_steps()] == ["outer"]


def test_the_fast_path_without_a_step_makes_no_step_and_no_record():
    stack = active.stack.entries()
    for _ in range(100):
        current_step(), current_persona(), current_model(), current_policy()
    assert active.stack.entries() is stack
    assert stack == ()
    assert (steps.open_steps(), peek_completed_steps()) == ([], [])


def test_an_async_with_is_the_same_step():
    async def main():
        async with step("plan", max_tokens=100) as plan:
            assert current_step() is plan
            spend()
        return plan

    plan = asyncio.run(main())
    assert (plan.status, plan.usage.total_tokens, current_step()) == ("completed", 15, None)


@pytest.mark.parametrize("function", KINDS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("decorator", [step, step(), step("own name")], ids=["bare", "empty", "named"])
def test_a_decorated_function_runs_each_call_in_a_fresh_step(function, decorator):
    decorated = decorator(function)
    name = "own name" if getattr(decorator, "name", None) == "own name" else function.__name__
    assert [run(decorated), run(decorated)] == [name, name]
    records = drain_completed_steps()
    assert [(record.name, record.function, record.status) for record in records] == [
        (name, function.__name__, "completed")
    ] * 2
    assert records[0].id != records[1].id
    assert [record.llm_calls for record in records] == [1, 1]


@pytest.mark.parametrize("function", KINDS, ids=lambda function: function.__name__)
def test_a_decorated_function_stays_what_it_was(function):
    decorated = step(function)
    tests = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    assert [test(decorated) for test in tests] == [test(function) for test in tests]
    assert (decorated.__name__, decorated.__wrapped__) == (function.__name__, function)
    assert decorated.step_definition == StepDefinition(name=function.__name__, function=function.__name__)


def test_methods_and_lambdas_can_be_decorated():
    class Agent:
        @step("method")
        def method(self):
            return current_step().path, self

        @staticmethod
        @step
        def static():
            return current_step().path

        @classmethod
        @step
        def of_class(cls):
            return current_step().path, cls

    agent = Agent()
    assert agent.method() == ("method", agent)
    assert (agent.static(), Agent.of_class()) == ("static", ("of_class", Agent))
    assert step(lambda: current_step().path)() == "lambda"


@pytest.mark.parametrize("thing", [3, int, object(), staticmethod(plain)])
def test_only_functions_can_be_decorated(thing):
    with pytest.raises(ValueError, match="a step decorates functions"):
        step("plan")(thing)


def test_recursion_gets_a_fresh_step_each_time():
    @step("down", max_calls=1)
    def down(depth):
        if depth:
            down(depth - 1)
        return current_step().path

    assert down(2) == "down"
    assert [record.path for record in peek_completed_steps()] == ["down/down/down", "down/down", "down"]


def test_a_step_is_good_for_one_with():
    once = step("once")
    with once, pytest.raises(RuntimeError, match=r"'once' was entered before.*make a fresh one"), once:
        pass
    with pytest.raises(RuntimeError, match="was entered before"), once:
        pass
    assert current_step() is None
    assert [record.status for record in peek_completed_steps()] == ["completed"]


def test_a_call_counts_in_every_step_around_it_and_own_and_total_are_kept_apart():
    with step("outer") as outer:
        spend(1, 1)
        with step("middle") as middle, step("inner") as inner:
            spend(10, 10)
        with step("sibling") as sibling:
            spend(100, 100)
    totals = [each.usage.total_tokens for each in (outer, middle, inner, sibling)]
    own = [each.own_usage.total_tokens for each in (outer, middle, inner, sibling)]
    assert totals == [222, 20, 20, 200]
    assert own == [2, 0, 20, 200]


TREES = st.recursive(st.integers(0, 9), lambda inside: st.lists(inside, max_size=4), max_leaves=25)


@given(TREES)
def test_in_any_tree_of_steps_a_total_is_the_own_usage_of_all_steps_inside(tree):
    testing.reset()

    def walk(node):
        if isinstance(node, int):
            spend(node, 1, cost_usd="0.1")
            return node + 1, 1
        with step("node") as here:
            sums = [walk(child) for child in node]
        tokens, calls = sum(part[0] for part in sums), sum(part[1] for part in sums)
        assert (here.usage.total_tokens, here.usage.calls) == (tokens, calls)
        assert here.cost_usd == calls * Decimal("0.1")
        return tokens, calls

    with step("root") as root:
        tokens, calls = walk(tree)
    records = root.records()
    assert records[-1].usage.total_tokens == tokens == sum(r.own_usage.total_tokens for r in records)
    assert sum((record.own_usage for record in records), Usage()) == root.usage
    for record in records:
        inside = [child for child in records if child.parent_id == record.id]
        assert record.usage == sum((child.usage for child in inside), record.own_usage)
    assert calls == root.usage.calls


def test_a_run_is_named_by_its_outermost_step_only():
    with step("outer", run_id="run-7") as outer, step("inner") as inner:
        assert outer.run_id == inner.run_id == "run-7"
        with pytest.raises(ValueError, match="run_id belongs to the outermost step"), step("bad", run_id="x"):
            pass
    with step("other") as other:
        assert other.run_id not in ("", "run-7")
    assert [record.name for record in peek_completed_steps("run-7")] == ["inner", "outer"]
    assert [record.name for record in drain_completed_steps("run-7")] == ["inner", "outer"]
    assert [record.name for record in peek_completed_steps()] == ["other"]


def test_a_step_may_be_told_its_parent():
    with step("outer") as outer, step("elsewhere"):
        with step("inner", parent=outer) as inner:
            spend()
            assert (inner.path, inner.parent) == ("outer/inner", outer)
        assert current_step().path == "outer/elsewhere"
    assert outer.usage.total_tokens == 15
    with pytest.raises(RuntimeError, match="'late' cannot begin inside 'outer', which is not running"):
        step("late", parent=outer).__enter__()
    with pytest.raises(RuntimeError, match="which is not running"):
        step("early", parent=step("not begun")).__enter__()


def test_a_step_that_could_not_begin_in_one_place_may_begin_in_another():
    inner = step("inner", run_id="run-7", max_calls=3)
    with step("outer"), pytest.raises(ValueError, match="run_id belongs to the outermost step"), inner:
        pass
    assert (inner.parent, inner.status) == (None, "new")
    with inner:
        spend()
        assert (inner.path, inner.parent) == ("inner", None)


def test_a_step_shows_itself_before_during_and_after_its_block():
    plan = step("plan", model="m", max_usd=50, max_calls=9)
    assert (plan.status, plan.id, plan.run_id, plan.path) == ("new", "", "", "plan")
    assert (plan.usage.calls, plan.remaining("max_usd"), plan.exhausted) == (0, Decimal(50), False)
    with plan:
        spend()
        assert (plan.status, plan.name, plan.kind, plan.model) == ("open", "plan", "step", "m")
        assert plan.id and plan.run_id == plan.id
        assert (plan.cost_usd, plan.remaining("max_usd")) == (15, 35)
    assert (plan.status, plan.cost_usd, plan.remaining("max_calls")) == ("completed", 15, 8)
    assert plan.limits == {"max_usd": 50, "max_calls": 9}
    assert repr(plan) == "<step 'plan': completed, 15 USD, max_usd=50, max_calls=9>"
    assert repr(step("new")) == "<step 'new': new, 0 USD>"


def test_a_step_does_not_show_an_unknown_cost_as_nothing():
    with step("plan") as plan:
        record_usage("nobody-knows", input_tokens=1, output_tokens=1)
        assert repr(plan) == "<step 'plan': open, cost unknown>"
        spend(cost_usd=2)
    assert repr(plan) == "<step 'plan': completed, >=2 USD>"


def test_a_step_that_has_not_begun_says_so():
    with pytest.raises(RuntimeError, match="step 'plan' has not begun: use it with `with`"):
        step("plan").record()


def test_remaining_is_never_negative_and_knows_its_limits():
    with step("plan", max_tokens=10, max_seconds=1000, error_boundary="continue") as plan:
        assert (plan.remaining("max_tokens"), plan.remaining("max_usd")) == (10, None)
        assert 0 < plan.remaining("max_seconds") <= 1000
        spend()
    assert plan.remaining("max_tokens") == 0
    with pytest.raises(ValueError, match="there is no limit 'max_cost'; use max_usd, max_tokens"):
        plan.remaining("max_cost")


def test_remaining_counts_what_calls_in_flight_have_reserved():
    with step("plan", max_tokens=100, max_calls=3) as plan:
        call = open_call(20, 10)
        assert (plan.remaining("max_tokens"), plan.remaining("max_calls")) == (70, 2)
        call.withdraw()
        assert (plan.remaining("max_tokens"), plan.remaining("max_calls")) == (100, 3)


def test_what_is_kept_back_is_for_wrapping_up_only():
    with step("research", max_usd=100, wrap_up_usd=30) as research:
        ask(65, 5)
        with pytest.raises(BudgetExhausted):
            ask()
        assert (research.remaining("max_usd"), research.exhausted) == (0, True)
        with research.wrap_up():
            assert research.remaining("max_usd") == 30
            ask()
    assert (research.cost_usd, research.status) == (85, "exhausted")
    with (
        pytest.raises(RuntimeError, match=r"'research' is not running: use wrap_up\(\) inside"),
        research.wrap_up(),
    ):
        pass
