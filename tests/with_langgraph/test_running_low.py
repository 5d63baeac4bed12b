"""An agent that knows what it has left, and ends with an answer."""

from __future__ import annotations

from typing import Any

import pytest
from agents import CALL_USD, HELLO, ScriptedChat, agent_of, asking_tool, by_path, last, look, scripted, thread
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel
from test_human_in_the_loop import paused
from test_other_calls import HOOKS, asking, calling, is_whole

from steptrack_callbacks import Budget, BudgetEscalated, BudgetExhausted, step
from steptrack_callbacks.langchain import budgeted
from steptrack_callbacks.langgraph import StepBudgetMiddleware, budget_left

Invoke = Any
CLOSING = "the last turn"


class Recording(ScriptedChat):
    """Keeps each request as it was sent; in a closing turn it says what it has found.

    Attributes:
        requests: The messages of each request, and how it might call tools.
        provider: Whose model it says to be.
        is_stubborn: Whether it calls tools whatever it is told.
    """

    requests: list[Any] = []
    provider: str = ""
    is_stubborn: bool = False

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        given = super()._get_ls_params(stop, **kwargs)
        return {**given, **({"ls_provider": self.provider} if self.provider else {})}

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **kwargs: Any) -> Any:
        named = [{"function": {"name": each.name}} for each in tools]
        return self.bind(tools=named, tool_choice=tool_choice, **kwargs)

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        assert is_whole(messages), "a provider refuses a history in which a tool call has no answer"
        self.requests.append((list(messages), kwargs.get("tool_choice"), [*kwargs.get("tools", ())]))
        if CLOSING not in messages[-1].text or self.is_stubborn:
            without_notes = [each for each in messages if not each.text.startswith(("Budget left", "Left:"))]
            answer = super()._generate(without_notes, *args, **kwargs)
            for number, call in enumerate(answer.generations[0].message.tool_calls):
                call["id"] = f"{len(messages)}-{number}"
            return answer
        self.sent.append(len(messages))
        usage: Any = {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}
        message = AIMessage(
            "found a little", usage_metadata=usage, response_metadata={"model_name": self.model}
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def recording(*script: list[str], **options: Any) -> Recording:
    """Make a model that calls these tools."""
    return Recording(script=list(script), sent=[], offered=[], requests=[], **options)


LOOKS = [["look"]] * 9


# What is left, said to the model


def test_the_model_is_told_what_is_left_as_the_last_message_of_each_request(invoke: Invoke) -> None:
    model = recording(["look"])
    answer = invoke(agent_of(model, look, max_calls=5, max_usd=1, max_tokens=1_000, tell=True), HELLO)
    told = [messages[-1].text for messages, _, _ in model.requests]
    assert told == [
        "Budget left: 5 model calls, this one included; 1,000 tokens; $1.0000.",
        f"Budget left: 4 model calls, this one included; 986 tokens; ${1 - CALL_USD:.4f}.",
    ]
    assert not [message for message in answer["messages"] if "Budget left" in message.text]


def test_the_prefix_before_it_stays_the_same_from_turn_to_turn(invoke: Invoke) -> None:
    model, saver = recording(*LOOKS[:3]), InMemorySaver()
    budget = StepBudgetMiddleware("research", max_calls=20, tell=True)
    agent = create_agent(model, [look], system_prompt="You look.", middleware=[budget], checkpointer=saver)
    invoke(agent, HELLO, thread())
    invoke(agent, HELLO, thread())
    sent = [messages for messages, _, _ in model.requests]
    for before, after in zip(sent, sent[1:], strict=False):
        prefix = before[:-1]
        assert after[: len(prefix)] == prefix
        assert [each.type for each in after].count("system") == 1
    assert len(sent) == 8


@pytest.mark.parametrize(
    ("tell", "says"),
    [
        ("Left: {usd}, {calls} calls, {tokens} tokens", "Left: no limit, 5 calls, no limit tokens"),
        (lambda rests: f"Left: {dict(rests)}", "Left: {'max_calls': 5}"),
    ],
)
def test_it_is_told_in_words_of_your_own(invoke: Invoke, tell: Any, says: str) -> None:
    model = recording()
    invoke(agent_of(model, max_calls=5, tell=tell), HELLO)
    assert model.requests[0][0][-1].text == says


def test_limits_around_the_agent_and_of_its_run_are_told_too(invoke: Invoke) -> None:
    model = recording()
    with step("answer", max_tokens=500, budgets=[Budget("team", max_usd=2)]):
        invoke(agent_of(model, max_calls=9, run_limit=3, tell=True), HELLO)
    assert model.requests[0][0][-1].text == (
        "Budget left: 3 model calls, this one included; 500 tokens; $2.0000."
    )


def test_the_last_call_is_told_that_it_is_one(invoke: Invoke) -> None:
    model = recording()
    invoke(agent_of(model, max_calls=1, tell=True), HELLO)
    assert model.requests[0][0][-1].text == "Budget left: 1 model call, this one included."


def test_nothing_is_told_where_nothing_is_limited(invoke: Invoke) -> None:
    model = recording()
    invoke(agent_of(model, tell=True), HELLO)
    assert [each.text for each in model.requests[0][0]] == ["hello"]


def test_the_model_may_ask_by_itself(invoke: Invoke) -> None:
    model = recording(["budget_left"])
    answer = invoke(agent_of(model, budget_left, max_calls=5, max_usd=1), HELLO)
    assert answer["messages"][2].text == (
        f"Budget left: 4 model calls, this one included; ${1 - CALL_USD:.4f}."
    )
    assert budget_left.invoke({}) == "There is no limit."


# A closing turn


@pytest.mark.parametrize("boundary", ["fail", "continue"])
@pytest.mark.parametrize(
    "options",
    [
        {"max_calls": 3, "wrap_up_calls": 1},
        {"max_calls": 3},
        {"run_limit": 3},
        {"run_limit": {"max_calls": 3}, "wrap_up_calls": 1},
        {"max_calls": 30, "run_limit": 3, "wrap_up_calls": 1},
    ],
)
def test_the_agent_ends_with_what_it_has_found(invoke: Invoke, boundary: Any, options: Any) -> None:
    model = recording(*LOOKS)
    answer = invoke(agent_of(model, look, closing_turn=True, error_boundary=boundary, **options), HELLO)
    assert last(answer) == "found a little"
    assert is_whole(answer["messages"])
    assert (len(model.sent), by_path()["research"].usage.calls) == (3, 3)
    assert by_path()["research"].status == {"fail": "exhausted", "continue": "continued"}[boundary]
    assert by_path()["research/closing"].usage.calls == 1
    messages, choice, tools = model.requests[-1]
    assert CLOSING in messages[-1].text
    assert (choice, len(tools)) == ("none", 1)
    assert not [message for message in answer["messages"] if CLOSING in message.text]


def test_it_is_paid_from_the_dollars_that_are_kept_back(invoke: Invoke) -> None:
    model = recording(*LOOKS)
    agent = agent_of(
        model,
        look,
        max_usd=CALL_USD * 30,
        wrap_up_usd=CALL_USD * 15,
        closing_turn=True,
        error_boundary="continue",
    )
    assert last(invoke(agent, HELLO)) == "found a little"
    record = by_path()["research"]
    ordinary = record.usage.cost_usd - by_path()["research/closing"].usage.cost_usd
    assert ordinary <= CALL_USD * 15 < record.limits["max_usd"]
    assert record.usage.cost_usd == len(model.sent) * CALL_USD


@pytest.mark.parametrize(
    ("provider", "choice", "tools"),
    [("openai", "none", 1), ("anthropic", {"type": "none"}, 1), ("amazon_bedrock", None, 1)],
)
def test_no_tool_is_to_be_called_in_the_words_of_each_provider(
    invoke: Invoke, provider: str, choice: Any, tools: int
) -> None:
    model = recording(*LOOKS, provider=provider)
    invoke(agent_of(model, look, max_calls=2, closing_turn=True), HELLO)
    assert model.requests[-1][1:] == (choice, [{"function": {"name": "look"}}] * tools)


def test_tools_are_left_out_where_none_can_be_forbidden_and_none_was_called(invoke: Invoke) -> None:
    model = recording(provider="amazon_bedrock")
    other = asking("before_model", scripted())
    invoke(agent_of(model, look, max_calls=2, closing_turn=True, middleware=[other]), HELLO)
    [(messages, choice, tools)] = model.requests
    assert (CLOSING in messages[-1].text, choice, tools) == (True, None, [])


def test_a_model_that_calls_tools_all_the_same_is_answered_and_ended(invoke: Invoke) -> None:
    model = recording(*LOOKS, is_stubborn=True)
    answer = invoke(agent_of(model, look, max_calls=2, closing_turn=True), HELLO)
    assert is_whole(answer["messages"])
    assert [each.text for each in answer["messages"][-2:]] == [
        "not run: budget",
        "Stopped: the budget is used up, and nothing was said of what had been found.",
    ]
    assert len(model.sent) == 2


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_meets_the_limit_leads_to_the_closing_turn(invoke: Invoke, hook: str) -> None:
    model, other = recording(["look"]), scripted()
    before = {"before_agent": 0, "before_model": 0, "after_model": 1, "after_agent": 2}[hook]

    def ask_twice() -> None:
        other.invoke("hello")
        other.invoke("hello")

    agent = agent_of(
        model,
        look,
        max_calls=before + 2,
        wrap_up_calls=1,
        closing_turn=True,
        error_boundary="continue",
        default="sorry",
        middleware=[calling(hook, ask_twice)],
    )
    answer = invoke(agent, HELLO)
    assert is_whole(answer["messages"])
    assert last(answer) == ("sorry" if hook == "after_agent" else "found a little")
    assert by_path()["research"].usage.calls <= before + 2
    assert len(other.sent) == 1


def test_pending_tool_calls_are_answered_first(invoke: Invoke) -> None:
    model = recording(["look", "look"])
    agent = agent_of(
        model, look, max_calls=2, closing_turn=True, middleware=[asking("after_model", scripted())]
    )
    answer = invoke(agent, HELLO)
    assert [message.text for message in answer["messages"][2:]] == [
        "not run: budget",
        "not run: budget",
        "found a little",
    ]


def test_a_tool_that_runs_out_is_answered_before_the_closing_turn(invoke: Invoke) -> None:
    model = recording(["ask"])
    answer = invoke(
        agent_of(model, asking_tool(scripted()), max_calls=2, closing_turn=True, error_boundary="fail"), HELLO
    )
    assert answer["messages"][2].status == "error"
    assert last(answer) == "found a little"


@pytest.mark.parametrize("boundary", ["fail", "continue", "escalate"])
def test_without_room_for_it_happens_what_happens_at_the_limit(invoke: Invoke, boundary: Any) -> None:
    model = recording(*[["look"]] * 40)
    agent = agent_of(
        model,
        look,
        max_usd=CALL_USD * 20,
        wrap_up_usd=CALL_USD / 1000,
        closing_turn=True,
        error_boundary=boundary,
        default="sorry" if boundary == "continue" else None,
    )
    if boundary == "continue":
        assert last(invoke(agent, HELLO)) == "sorry"
    else:
        with pytest.raises(BudgetEscalated if boundary == "escalate" else BudgetExhausted):
            invoke(agent, HELLO)
    assert "research/closing" in by_path()


def test_a_person_is_asked_before_the_closing_turn(invoke: Invoke) -> None:
    model = recording(*LOOKS)
    agent = agent_of(
        model,
        look,
        max_calls=2,
        closing_turn=True,
        error_boundary="escalate",
        checkpointer=InMemorySaver(),
    )
    assert paused(invoke(agent, HELLO, thread()))
    assert paused(invoke(agent, Command(resume=1), thread()))
    assert last(invoke(agent, Command(resume=False), thread())) == "found a little"
    assert len(model.sent) == 3


def test_an_agent_that_has_to_give_structured_output_closes_with_it(invoke: Invoke) -> None:
    class Answer(BaseModel):
        """An answer."""

        n: int

    class Structured(Recording):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            answer = super()._generate(messages, *args, **kwargs)
            if CLOSING in messages[-1].text:
                call = {"name": "Answer", "args": {"n": 5}, "id": "last"}
                answer.generations[0].message.tool_calls = [call]
            return answer

    model = Structured(script=LOOKS, sent=[], offered=[], requests=[])
    budget = StepBudgetMiddleware("research", max_calls=3, closing_turn=True)
    agent = create_agent(model, [look], middleware=[budget], response_format=ToolStrategy(Answer))
    answer = invoke(agent, HELLO)
    assert answer["structured_response"] == Answer(n=5)
    assert is_whole(answer["messages"])
    assert [each["function"]["name"] for each in model.requests[-1][2]] == ["Answer"]


def test_an_exhaustion_of_a_step_around_leads_to_no_closing_turn(invoke: Invoke) -> None:
    model = recording(*LOOKS)
    with pytest.raises(BudgetExhausted), step("answer", max_calls=1):
        invoke(agent_of(model, look, max_calls=5, closing_turn=True), HELLO)
    assert len(model.sent) == 1


@pytest.mark.parametrize("boundary", ["fail", "continue"])
def test_what_a_step_around_keeps_back_pays_its_closing_turn_too(invoke: Invoke, boundary: Any) -> None:
    model = recording(*LOOKS)
    budget = StepBudgetMiddleware("research", closing_turn=True)
    agent = create_agent(model, [look], middleware=[budget])
    limited = budgeted(agent, step="answer", max_calls=3, wrap_up_calls=1, error_boundary=boundary)
    answer = invoke(limited, HELLO)
    assert last(answer) == "found a little"
    assert is_whole(answer["messages"])
    assert (len(model.sent), by_path()["answer"].usage.calls) == (3, 3)
    assert by_path()["answer/research/closing"].usage.calls == 1


def test_each_turn_of_a_thread_has_a_closing_turn_of_its_own(invoke: Invoke) -> None:
    model = recording(*LOOKS)
    agent = agent_of(model, look, run_limit=2, closing_turn=True, checkpointer=InMemorySaver())
    for turn in (1, 2, 3):
        assert last(invoke(agent, HELLO, thread())) == "found a little"
        assert len(model.sent) == 2 * turn


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"closing_turn": True, "max_usd": 1},
            "closing_turn is paid from what is kept back for it: say wrap_up_usd",
        ),
        ({"closing_turn": 1, "max_calls": 5}, "closing_turn must be True or False"),
        ({"closing_turn": True, "max_calls": 1}, "wrap_up_calls=1 is kept back from max_calls"),
        ({"tell": 5}, "tell must be True, a template"),
        ({"tell": "{dollars}"}, "tell has no field 'dollars'; use calls, tokens, usd, seconds"),
        ({"tell": "{usd"}, "is not a template"),
        ({"run_limit": {"max_usd": 1}, "wrap_up_usd": 2}, "run_limit: .*wrap_up_usd=2"),
    ],
)
def test_malformed_options_are_errors_that_name_them(options: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        StepBudgetMiddleware("agent", **options)


def test_a_hook_that_is_refused_again_and_again_does_not_keep_the_agent_going(invoke: Invoke) -> None:
    refused: list[int] = []

    def ask() -> None:
        refused.append(1)
        scripted().invoke("hello")

    for hook in ("before_model", "after_model"):
        model = recording(*LOOKS)
        agent = agent_of(
            model,
            look,
            max_calls=3,
            closing_turn=True,
            error_boundary="continue",
            middleware=[calling(hook, ask)],
        )
        invoke(agent, HELLO)
        assert len(model.sent) <= 3
    assert len(refused) < 9
