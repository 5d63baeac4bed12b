"""An agent's model calls and tools are steps of one budget."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import (
    CALL_USD,
    HELLO,
    agent_of,
    asking_tool,
    by_path,
    gated,
    last,
    look,
    paths,
    scripted,
    shell,
    thread,
)
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRetryMiddleware, ToolRetryMiddleware
from langchain_core.tools import tool

from left_out import RETRIES
from steptrack_callbacks import (
    BudgetExhausted,
    PersonaDefinition,
    Stage,
    StepDefinition,
    StepDenied,
    UnpricedModel,
    peek_completed_steps,
    persona,
    step,
)
from steptrack_callbacks.hooks import CallDenied, StepStarted, on
from steptrack_callbacks.langgraph import StepBudgetMiddleware
from steptrack_callbacks.steps.attribution import unattributed_usage

Invoke = Any
BOTH = pytest.mark.parametrize("attached", ["attached", "by hand"], indirect=True)


@BOTH
def test_model_calls_and_tools_are_steps_of_the_agents(invoke: Invoke, attached: bool) -> None:
    model = scripted(["look", "look"])
    assert last(invoke(agent_of(model, look, max_usd=1), HELLO)) == "done"
    assert paths() == [
        "research/model",
        "research/tool:look",
        "research/tool:look",
        "research/model",
        "research",
    ]
    record = by_path()["research"]
    assert (record.status, record.usage.calls, record.usage.cost_usd) == ("completed", 2, 2 * CALL_USD)
    assert by_path()["research/tool:look"].tool_calls == 1
    assert unattributed_usage().calls == 0


@BOTH
def test_fail_raises_before_the_call_is_sent(invoke: Invoke, attached: bool) -> None:
    model = scripted(["look"], ["look"])
    with pytest.raises(BudgetExhausted) as refusal:
        invoke(agent_of(model, look, max_calls=1), HELLO)
    assert (refusal.value.path, refusal.value.phase) == ("research", "denied")
    assert (len(model.sent), by_path()["research"].status) == (1, "failed")


@BOTH
@pytest.mark.parametrize(
    ("default", "says"),
    [
        (None, "Stopped: step 'research' has no room under max_calls: 1 call spent of 1"),
        ("out of money", "out of money"),
        (lambda error: f"no {error.limit}", "no max_calls"),
    ],
)
def test_continue_ends_the_agent_with_a_message(
    invoke: Invoke, attached: bool, default: Any, says: str
) -> None:
    model = scripted(["look"], ["look"])
    agent = agent_of(model, look, max_calls=1, error_boundary="continue", default=default)
    answer = invoke(agent, HELLO)
    assert last(answer) == says
    assert set(answer) == {"messages"}
    assert (len(model.sent), by_path()["research"].status) == (1, "continued")


def test_continue_ends_an_agent_that_has_to_give_structured_output(invoke: Invoke) -> None:
    budget = StepBudgetMiddleware("research", max_calls=0, error_boundary="continue")
    schema = {"title": "Answer", "description": "a", "type": "object", "properties": {}}
    agent = create_agent(scripted(), middleware=[budget], response_format=schema)
    assert last(invoke(agent, HELLO)).startswith("Stopped:")


def test_the_exhaustion_of_a_step_around_the_agent_passes_through_its_continue(invoke: Invoke) -> None:
    agent = agent_of(scripted(["look"]), look, max_calls=5, error_boundary="continue")
    with pytest.raises(BudgetExhausted) as refusal, step("answer", max_calls=1):
        invoke(agent, HELLO)
    assert refusal.value.path == "answer"
    assert by_path()["answer/research"].status == "stopped"


@pytest.mark.parametrize("boundary", ["fail", "continue"])
def test_an_agent_that_ends_over_its_limit_says_so_with_its_answer(invoke: Invoke, boundary: Any) -> None:
    agent = agent_of(scripted(), max_tokens=12, error_boundary=boundary)
    if boundary == "continue":
        assert last(invoke(agent, HELLO)) == "done"
    else:
        with pytest.raises(BudgetExhausted) as exhaustion:
            invoke(agent, HELLO)
        assert exhaustion.value.phase == "settled"
        assert exhaustion.value.response.text == "done"
    assert by_path()["research"].status == {"fail": "failed", "continue": "continued"}[boundary]


@BOTH
def test_a_tool_that_calls_a_model_is_charged_to_its_step_and_the_agent(
    invoke: Invoke, attached: bool
) -> None:
    inner = scripted()
    invoke(agent_of(scripted(["ask"]), asking_tool(inner), max_calls=9), HELLO)
    assert by_path()["research/tool:ask"].usage.calls == len(inner.sent) == 1
    assert by_path()["research"].usage.calls == 3
    assert unattributed_usage().calls == 0


@pytest.mark.parametrize("boundary", ["fail", "continue"])
def test_a_refusal_inside_a_tool_is_the_agents_to_act_on(invoke: Invoke, boundary: Any) -> None:
    inner = scripted()
    agent = agent_of(scripted(["ask"]), asking_tool(inner), max_calls=1, error_boundary=boundary)
    if boundary == "fail":
        with pytest.raises(BudgetExhausted):
            invoke(agent, HELLO)
    else:
        answer = invoke(agent, HELLO)
        assert answer["messages"][-2].status == "error"
        assert last(answer).startswith("Stopped:")
    assert inner.sent == []


def test_tools_that_the_stage_forbids_are_neither_offered_nor_run(invoke: Invoke) -> None:
    model = scripted(["shell", "look"])
    agent = agent_of(model, look, shell)
    with persona("team", stages=[Stage("research", allowed_tools=["look"])]):
        answer = invoke(agent, HELLO)
    assert model.offered == [["look"], ["look"]]
    denied, ran = answer["messages"][2:4]
    assert (denied.status, ran.status, ran.text) == ("error", "success", "seen")
    assert denied.text == "tool 'shell' is not allowed in step 'team/research/tool:shell': allowed are look"
    assert by_path()["team/research/tool:shell"].tool_calls == 0


def test_a_tools_own_level_is_held_against_the_stages_ceiling(invoke: Invoke) -> None:
    @tool
    def read() -> str:
        """Read."""
        return "read"

    read.metadata = {"side_effect_level": "read_only"}
    model = scripted(["read", "look"])
    with persona("team", stages=[Stage("research", side_effect_level="read_only")]):
        answer = invoke(agent_of(model, look, read), HELLO)
    assert model.offered[0] == ["read"]
    assert [message.status for message in answer["messages"][2:4]] == ["success", "error"]


def test_a_choice_of_a_tool_that_is_not_offered_is_dropped() -> None:
    class Choosing(AgentMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(tool_choice="shell"))

    seen: list[Any] = []

    class Looking(AgentMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            seen.append(request.tool_choice)
            return handler(request)

    budget = StepBudgetMiddleware("research")
    agent = create_agent(scripted(), [look, shell], middleware=[Choosing(), budget, Looking()])
    agent.invoke(HELLO)
    with persona("team", stages=[Stage("research", allowed_tools=["look"])]):
        agent.invoke(HELLO)
    assert seen == ["shell", None]


def test_a_stages_iterations_limit_the_agent(invoke: Invoke) -> None:
    model = scripted(["look"], ["look"])
    with persona("team", stages=[Stage("research", max_iterations=1)]):
        answer = invoke(agent_of(model, look, error_boundary="continue"), HELLO)
    assert last(answer).startswith("Stopped:")
    assert len(model.sent) == 1


def test_50_runs_of_one_agent_at_once_are_apart() -> None:
    model = scripted(["look"])
    agent = agent_of(model, look, max_calls=2)

    async def main() -> list[Any]:
        return await asyncio.gather(*(agent.ainvoke(HELLO) for _ in range(50)))

    assert {last(answer) for answer in asyncio.run(main())} == {"done"}
    assert len(model.sent) == 100
    runs = [record for record in peek_completed_steps() if record.path == "research"]
    assert [record.usage.calls for record in runs] == [2] * 50


@BOTH
@pytest.mark.parametrize("where", ["model", "tool"])
def test_on_an_event_loop_calls_wait_for_room_that_is_merely_reserved(where: str, attached: bool) -> None:
    async def main() -> set[str]:
        inner = gated()
        agent = agent_of(inner) if where == "model" else agent_of(scripted(["ask"]), asking_tool(inner))
        with step("answer", max_usd=1) as answer:  # of a model that was never seen, one call goes first
            asking = [asyncio.create_task(agent.ainvoke(HELLO)) for _ in range(3)]
            while not answer.account.waiting:
                await asyncio.sleep(0)
            inner.gate.set()
            return {last(each) for each in await asyncio.gather(*asking)}

    assert asyncio.run(main()) == {"done"}
    assert by_path()["answer"].denied_calls == 0


def test_without_the_middleware_they_wait_as_well_once_installed() -> None:
    async def main() -> set[str]:
        inner = gated()
        agent = create_agent(inner)
        with step("answer", max_usd=1) as answer:
            asking = [asyncio.create_task(agent.ainvoke(HELLO)) for _ in range(3)]
            while not answer.account.waiting:
                await asyncio.sleep(0)
            inner.gate.set()
            return {last(each) for each in await asyncio.gather(*asking)}

    assert asyncio.run(main()) == {"done"}
    assert by_path()["answer"].denied_calls == 0


@RETRIES
@pytest.mark.parametrize("order", ["first", "last"])
def test_neither_a_models_nor_a_tools_refusal_is_retried(invoke: Invoke, order: str) -> None:
    denied: list[Any] = []
    off = on(CallDenied, denied.append)
    retrying = [
        ModelRetryMiddleware(max_retries=2, initial_delay=0),
        ToolRetryMiddleware(max_retries=2, initial_delay=0),
    ]
    for limit in (0, 1):
        budget = StepBudgetMiddleware("research", max_calls=limit)
        middleware = [budget, *retrying] if order == "first" else [*retrying, budget]
        agent = create_agent(scripted(["ask"]), [asking_tool(scripted())], middleware=middleware)
        with pytest.raises(BudgetExhausted):
            invoke(agent, HELLO)
    off()
    assert len(denied) == 2


def test_what_other_middleware_asks_a_model_in_nodes_of_its_own_is_the_agents(invoke: Invoke) -> None:
    other = scripted()

    class Summarising(AgentMiddleware):
        def before_model(self, state: Any, runtime: Any) -> None:
            other.invoke("hello")

    invoke(agent_of(scripted(["look"]), look, max_calls=9, middleware=[Summarising()]), HELLO)
    record = by_path()["research"]
    assert (record.usage.calls, record.own_usage.calls) == (4, 2)
    assert unattributed_usage().calls == 0


def test_an_agent_that_is_a_tool_of_another_is_inside_its_step(invoke: Invoke) -> None:
    inner = agent_of(scripted(["look"]), look, max_calls=5)

    @tool
    def delegate() -> str:
        """Delegate."""
        return last(inner.invoke(HELLO))

    outer = create_agent(
        scripted(["delegate"]), [delegate], middleware=[StepBudgetMiddleware("lead", max_calls=9)]
    )
    assert last(invoke(outer, HELLO)) == "done"
    assert by_path()["lead/tool:delegate/research"].usage.calls == 2
    assert by_path()["lead"].usage.calls == 4


@pytest.mark.parametrize("mode", ["values", "updates", "messages", ["messages", "updates"]])
def test_streams_of_the_graph_are_charged_once(mode: Any) -> None:
    agent = agent_of(scripted(["look"]), look, max_calls=3)
    list(agent.stream(HELLO, stream_mode=mode))

    async def read() -> None:
        async for _ in agent.astream(HELLO, stream_mode=mode):
            pass

    asyncio.run(read())
    assert [record.usage.calls for record in peek_completed_steps() if record.path == "research"] == [2, 2]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke"])
def test_an_agent_that_fails_leaves_its_record(mode: str) -> None:
    @tool
    def fail() -> str:
        """Fail."""
        raise ZeroDivisionError

    agent = agent_of(scripted(["fail"]), fail, max_calls=3)
    with pytest.raises(ZeroDivisionError):
        agent.invoke(HELLO) if mode == "invoke" else asyncio.run(agent.ainvoke(HELLO))
    assert by_path()["research"].status == by_path()["research/tool:fail"].status == "error"
    assert by_path()["research"].usage.calls == 1


def test_a_cancelled_agent_is_charged_an_estimate_and_leaves_its_record() -> None:
    async def main() -> None:
        model = gated()
        task = asyncio.create_task(agent_of(model, max_calls=3).ainvoke(HELLO))
        await model.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    record = by_path()["research"]
    assert (record.status, record.usage.calls, record.usage.estimated_calls) == ("cancelled", 1, 1)


def test_a_model_of_unknown_price_is_refused_under_a_dollar_limit(invoke: Invoke) -> None:
    model = scripted(model="nobody-knows")
    with pytest.raises(UnpricedModel):
        invoke(agent_of(model, max_usd=1, error_boundary="continue"), HELLO)
    assert model.sent == []


def test_a_hook_may_keep_the_agent_from_beginning(invoke: Invoke) -> None:
    def refuse(_: Any) -> None:
        raise StepDenied("not today")

    for name in ("research", "model"):
        off = on(StepStarted, refuse, step=name)
        with pytest.raises(StepDenied, match="not today"):
            invoke(agent_of(scripted()), HELLO)
        off()


@pytest.mark.parametrize(
    ("given", "options", "problem"),
    [
        ("", {}, "needs a name"),
        (None, {}, "needs a name"),
        ("a", {"max_usd": -1}, "max_usd"),
        ("a", {"error_boundary": "stop"}, "error_boundary"),
        ("a", {"max_usdd": 1}, r"StepBudgetMiddleware\(\).*max_usdd.*did you mean 'max_usd'"),
        ("a", {"default": 5}, "default must be the text that the agent ends with"),
        (StepDefinition(name="a"), {"max_usd": 1}, "say it in the definition"),
        (PersonaDefinition(name="a"), {}, "is a persona"),
    ],
)
def test_a_malformed_option_is_an_error_that_names_it(given: Any, options: Any, problem: str) -> None:
    with pytest.raises((ValueError, TypeError), match=problem):
        StepBudgetMiddleware(given, **options)


def test_two_budgets_of_one_agent_are_an_error() -> None:
    with pytest.raises(AssertionError, match="duplicate middleware"):
        create_agent(scripted(), middleware=[StepBudgetMiddleware("a"), StepBudgetMiddleware("b")])


def test_nothing_of_it_is_in_what_the_agent_returns_or_the_graph_takes() -> None:
    agent = agent_of(scripted())
    assert set(agent.invoke(HELLO, thread())) == {"messages"}
    names = set(agent.get_input_jsonschema()["properties"]) | set(agent.get_output_jsonschema()["properties"])
    assert not [name for name in names if name.startswith("steptrack")]
