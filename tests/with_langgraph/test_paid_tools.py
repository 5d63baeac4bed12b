"""Tools whose use costs money, and how often tools may be used: by LangChain, an agent and a graph's tool node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from agents import HELLO, by_path, last, scripted
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import StructuredTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

import steptrack_callbacks as steptrack
from steptrack_callbacks import BudgetExhausted, ToolDenied, check_tool, drain_completed_steps, step
from steptrack_callbacks.config import ConfigError, parse
from steptrack_callbacks.engine.queue import QUEUE
from steptrack_callbacks.langgraph import StepBudgetMiddleware

CALL_USD = 10 * Decimal("2.5e-6") + 4 * Decimal("1e-5")


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    steptrack.install(tools={"search": {"usd": 0.01, "side_effect_level": "network"}})
    yield
    steptrack.uninstall()


RAN: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@tool
def search(query: str = "a") -> str:
    """Search."""
    RAN.append(query)
    return "found"


def use(each: Any, mode: str, **arguments: Any) -> Any:
    return each.invoke(arguments) if mode == "invoke" else asyncio.run(each.ainvoke(arguments))


MODES = pytest.mark.parametrize("mode", ["invoke", "ainvoke"])


@MODES
def test_the_use_of_a_tool_is_charged_to_its_step_and_is_no_call_of_a_model(mode: str) -> None:
    with step("answer", max_usd=1, max_calls=0) as answer, step("look"):
        use(search, mode)
        use(search, mode)
        assert (answer.cost_usd, answer.usage.calls) == (Decimal("0.02"), 0)
    look, whole = drain_completed_steps()
    assert look.models["tool:search"].cost_usd == Decimal("0.02")
    assert (look.model, look.tool_calls, whole.usage.calls) == (None, 2, 0)


@MODES
def test_a_tool_that_has_no_room_is_refused_before_it_runs(mode: str) -> None:
    with step("answer", max_usd=0.015) as answer:
        use(search, mode)
        with pytest.raises(BudgetExhausted, match="max_usd"):
            use(search, mode)
        assert answer.record().denied_calls == 1
    assert RAN == ["a"]


@MODES
def test_what_it_costs_may_depend_on_its_arguments_or_be_said_by_itself(mode: str) -> None:
    steptrack.install(tools={"search": {"usd": lambda arguments: 0.001 * len(arguments["query"])}})
    own = StructuredTool.from_function(search.func, name="own", description="Search.", metadata={"usd": 0.5})
    with step("answer", max_usd=1) as answer:
        use(search, mode, query="four")
        assert answer.cost_usd == Decimal("0.004")
        use(own, mode, query="x")
        assert answer.cost_usd == Decimal("0.504")


@MODES
def test_a_price_that_depends_on_the_arguments_is_told_of_a_plain_string(mode: str) -> None:
    asked: list[Any] = []
    steptrack.install(
        tools={"search": {"usd": lambda given: asked.append(given) or 0.001 * len(given["input"])}}
    )
    with step("answer", max_usd=1, max_calls=0) as answer:
        _ = search.invoke("sky") if mode == "invoke" else asyncio.run(search.ainvoke("sky"))
        assert (asked, answer.cost_usd) == ([{"input": "sky"}], Decimal("0.003"))


@MODES
def test_a_price_that_depends_on_the_arguments_is_told_of_them_in_a_tool_node(mode: str) -> None:
    asked: list[Any] = []
    steptrack.install(tools={"search": {"usd": lambda given: asked.append(given) or 0.01}})
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([search]))
    graph.add_edge(START, "tools")
    calls = [{"name": "search", "args": args, "id": str(args)} for args in ({"query": "sky"}, {})]
    with step("answer", max_usd=1):
        use(graph.compile(), mode, messages=[AIMessage("", tool_calls=calls)])
    assert sorted(asked, key=len) == [{}, {"query": "sky"}]


@tool(response_format="content_and_artifact")
def fetch() -> tuple[str, dict[str, Any]]:
    """Fetch."""
    return "page", {"cost_usd": 0.002}


@tool
def broken() -> str:
    """Fail."""
    raise KeyError("gone")


def test_a_tool_is_charged_what_its_result_says_and_nothing_if_it_fails() -> None:
    steptrack.install(tools={"fetch": {"usd": 0.01}, "broken": {"usd": 0.01}})
    with step("answer", max_usd=0.011) as answer:
        message = fetch.invoke({"name": "fetch", "args": {}, "id": "1", "type": "tool_call"})
        assert isinstance(message, ToolMessage)
        assert answer.cost_usd == Decimal("0.002")
        with pytest.raises(BudgetExhausted):
            fetch.invoke({})
    with step("other", max_usd=0.011) as other:
        for _ in range(3):
            with pytest.raises(KeyError):
                broken.invoke({})
        assert other.cost_usd == 0


def test_tools_used_at_once_on_an_event_loop_wait_for_what_others_hold() -> None:
    @tool
    async def fetch() -> dict[str, float]:
        """Fetch."""
        await asyncio.sleep(0)
        return {"cost_usd": 0.001}

    async def at_once() -> None:
        await asyncio.gather(*(fetch.ainvoke({}) for _ in range(6)))

    steptrack.install(tools={"fetch": {"usd": 0.01}})
    with step("answer", max_usd=0.02) as answer:
        asyncio.run(at_once())
    assert (answer.cost_usd, answer.record().denied_calls) == (Decimal("0.006"), 0)


@tool
def free() -> str:
    """Do something for nothing."""
    RAN.append("free")
    return "done"


@MODES
@pytest.mark.parametrize("limit", [2, {"search": 2, "free": 1}])
def test_a_use_that_is_refused_for_money_is_none_of_max_tool_calls(mode: str, limit: Any) -> None:
    with step("answer", max_tool_calls=limit), step("look", max_usd=0.015) as look:
        use(search, mode)
        for _ in range(3):
            with pytest.raises(BudgetExhausted):
                use(search, mode)
        use(free, mode)
        assert look.record().tool_calls == 2
        with pytest.raises(ToolDenied, match="max_tool_calls"):
            use(free, mode)
        assert look.record().tool_calls == 2
    assert RAN == ["a", "free"]


@MODES
def test_a_use_whose_price_cannot_be_told_is_none_of_max_tool_calls(mode: str) -> None:
    steptrack.install(tools={"search": {"usd": lambda _: -1}})
    with step("answer", max_usd=1, max_tool_calls=1) as answer:
        with pytest.raises(ValueError, match="usd"):
            use(search, mode)
        use(free, mode)
        assert (RAN, answer.record().tool_calls) == (["free"], 1)


def test_a_use_that_is_cancelled_while_it_waits_is_none_of_max_tool_calls() -> None:
    has_begun, held = asyncio.Event(), asyncio.Event()

    @tool
    async def fetch() -> str:
        """Hold the room."""
        has_begun.set()
        await held.wait()
        return "page"

    @tool
    async def look() -> str:
        """Wait for that; a plain function would wait in a thread, which nobody can cancel."""
        RAN.append("look")
        return "found"

    async def main() -> None:
        holder = asyncio.create_task(fetch.ainvoke({}))
        await has_begun.wait()
        waiting = asyncio.create_task(look.ainvoke({}))
        while not QUEUE:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        held.set()
        await holder
        await free.ainvoke({})

    steptrack.install(tools={"fetch": {"usd": 0.01}, "look": {"usd": 0.01}})
    with step("answer", max_usd=0.01, max_tool_calls=2) as answer:
        asyncio.run(main())
    assert (RAN, answer.record().tool_calls) == (["free"], 2)


def test_what_a_tool_holds_while_it_runs_is_kept_from_others() -> None:
    @tool
    def outer() -> str:
        """Use another one."""
        with pytest.raises(BudgetExhausted, match="reserved"):
            search.invoke({})
        return "done"

    steptrack.install(tools={"outer": {"usd": 0.9}, "search": {"usd": 0.2}})
    with step("answer", max_usd=1, wait_s=0) as answer:
        outer.invoke({})
    assert answer.cost_usd == Decimal("0.9")


def spend(agent: Any, mode: str) -> Any:
    return agent.invoke(HELLO) if mode == "invoke" else asyncio.run(agent.ainvoke(HELLO))


@MODES
def test_an_agent_is_told_of_a_tool_that_has_no_room_and_goes_on(mode: str) -> None:
    model = scripted(["search"], ["search"], ["search"])
    budget = StepBudgetMiddleware("research", max_usd=0.025, error_boundary="continue")
    answer = spend(create_agent(model, [search], middleware=[budget]), mode)
    record = by_path()["research"]
    assert RAN == ["a", "a"]
    assert record.usage.cost_usd == 4 * CALL_USD + Decimal("0.02")
    assert last(answer) == "done"
    texts = [message.text for message in answer["messages"] if message.type == "tool"]
    assert texts[:2] == ["found", "found"]
    assert "no room under max_usd" in texts[2]


@MODES
@pytest.mark.parametrize("limit", [2, {"search": 2}])
def test_an_agent_may_use_a_tool_so_often_and_is_told_so(mode: str, limit: Any) -> None:
    model = scripted(["search"], ["search"], ["search"])
    budget = StepBudgetMiddleware("research", max_tool_calls=limit)
    answer = spend(create_agent(model, [search], middleware=[budget]), mode)
    assert RAN == ["a", "a"]
    assert last(answer) == "done"
    assert "max_tool_calls" in answer["messages"][-2].text


def test_a_tool_node_of_a_graph_of_ones_own_is_gated_as_well() -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([search]))
    graph.add_edge(START, "tools")
    call = {"name": "search", "args": {}, "id": "1"}
    asked = {"messages": [AIMessage("", tool_calls=[call])]}
    with step("answer", max_usd=0.015) as answer:
        graph.compile().invoke(asked)
        assert answer.cost_usd == Decimal("0.01")
        with pytest.raises(BudgetExhausted):
            graph.compile().invoke(asked)
    assert len(RAN) == 1


def test_tools_are_counted_for_all_steps_around_and_by_name() -> None:
    with step("answer", max_tool_calls={"search": 1, "fetch": 2}), step("part", max_tool_calls=3):
        check_tool("search")
        with pytest.raises(ToolDenied, match="max_tool_calls of 'search' in step 'answer' is 1"):
            check_tool("search")
        check_tool("other")
        check_tool("other")
        with pytest.raises(ToolDenied, match="max_tool_calls in step 'answer/part' is 3"):
            check_tool("other")
    part, answer = drain_completed_steps()
    assert (part.tool_calls, answer.tool_calls) == (3, 0)


def test_a_file_says_it_too() -> None:
    config = parse("""
[tools]
search = {usd = 0.02, side_effect_level = "read_only"}
look = "none"
[steps.a]
max_tool_calls = 3
[steps.b]
max_tool_calls = {search = 1}
""")
    assert config.steps["a"].max_tool_calls == 3
    assert config.steps["b"].max_tool_calls == {"search": 1}
    assert config.tools["search"]["usd"] == 0.02
    with pytest.raises(ConfigError, match=r"tools\.search\.usdd: is unknown"):
        parse("[tools]\nsearch = {usdd = 1}\n")
    with pytest.raises(ConfigError, match="max_tool_calls"):
        parse("[steps.a]\nmax_tool_calls = -1\n")


@pytest.mark.parametrize(
    "tools",
    [
        {"a": {"usd": -1}},
        {"a": {"usd": "1"}},
        {"a": {"price": 1}},
        {"a": {"side_effect_level": "all"}},
        {"a": "all"},
    ],
)
def test_nonsense_is_said_at_once(tools: Any) -> None:
    with pytest.raises(ValueError, match="tool 'a'"):
        steptrack.install(tools=tools)
