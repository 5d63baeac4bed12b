"""`StepBudgetMiddleware`: an agent's model calls and tools as steps of one budget."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Unpack

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ExtendedModelResponse, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import ensure_config
from langgraph.types import Command

from steptrack_callbacks.concurrency.flow import run_async, run_sync
from steptrack_callbacks.integrations.seams_langchain import CHILD_CONFIG
from steptrack_callbacks.langchain.async_handler import watched
from steptrack_callbacks.langchain.attachment import follow_agents
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.values.arguments import checks_arguments
from steptrack_callbacks.values.definitions import StepDefinition, StepOptions
from steptrack_callbacks.values.errors import BudgetExhausted, ToolDenied
from steptrack_callbacks.values.signatures import shows_options
from steptrack_callbacks.values.usage import Usage

from . import closing, tools
from .agent_step import STOPPED
from .attempts import Attempts
from .budget_message import Tell, told
from .running import AgentRun
from .swapping import called, called_async
from .terms import Limits, terms_of
from .visits import SpendingState, Visit, state_schema_for

_child_config = CHILD_CONFIG.get()


class StepBudgetMiddleware(AgentMiddleware[Any, Any, Any]):
    """Gives an agent of `create_agent` a budget over all its model calls and tools.

    The agent is a step; each model call is a step `model` in it, and each tool a step `tool:<name>`.
    Calls are counted whether `install()` was called or not, and on an event loop they wait for room. What
    was spent, and what was granted, is kept in the graph's state: with a checkpointer a thread continues
    from what it had spent. Put it first in the list, so that retrying middleware runs inside it.

    What happens at the limit: `fail` raises; `continue` ends the agent with a message, which is
    `default` or says what ran out; `escalate` pauses the graph before the call is sent, so that a
    person can grant more budget or refuse, unless `escalation=` is given. A graph without a checkpointer
    cannot pause: then the function of `install(escalation=...)` is asked, and `BudgetEscalated` is raised
    if there is none.

    The tool policy of the current stage applies: tools that it does not allow are not offered to the
    model, and are answered with an error if the model calls them nevertheless.

    Args:
        step: The agent's step: its name, or a `StepDefinition`, and then no other options are allowed.
        thread_limit: The limits of a thread: a number of calls, as in LangChain's own
            `ModelCallLimitMiddleware`, or several by name. It is another way to write `max_calls` and the
            like.
        run_limit: The limits of one run, which is a turn of the thread, in the same form; they start over
            with each run.
        tell: Whether the model is told how many calls, tokens and dollars are left, in the last message of
            each request: `True`, or a template with `{calls}`, `{tokens}`, `{usd}` and `{seconds}`, or a
            function of the remaining amounts by limit. It is neither in the system prompt nor kept in the
            state.
        closing_turn: Whether the agent gets one more turn when its ordinary budget is used up, to answer with
            what it has found. Its tools stay listed, but are not called. It is paid from what `wrap_up_usd`
            and `wrap_up_calls` keep back; without them, one call is kept back. The boundary acts only if
            there is no room for this turn either.
        **options: The limits and rules of `step()`, for the thread; `max_seconds` applies to one run.
            `models` are chat models, or names, which are set on copies of the agent's own model; that one
            has the preferred name.

    Raises:
        ValueError: An option is malformed; the message says which.
        TypeError: An option does not exist.

    Example:
        >>> from langchain.agents import create_agent
        >>> from langchain_core.language_models.fake_chat_models import FakeListChatModel
        >>> budget = StepBudgetMiddleware("research", max_calls=8, error_boundary="continue")
        >>> agent = create_agent(FakeListChatModel(responses=["done"]), middleware=[budget])
        >>> agent.invoke({"messages": [("user", "hello")]})["messages"][-1].text
        'done'
    """

    state_schema = SpendingState

    @shows_options
    @checks_arguments
    def __init__(
        self,
        step: str | StepDefinition = "agent",
        *,
        thread_limit: int | Limits | None = None,
        run_limit: int | Limits | None = None,
        tell: Tell = False,
        closing_turn: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        super().__init__()
        terms = terms_of(
            step,
            options,
            thread_limit=thread_limit,
            run_limit=run_limit,
            tell=tell,
            closing_turn=closing_turn,
        )
        self._tell = terms.tell
        self._models = terms.models
        self.definition = terms.definition
        self.state_schema = state_schema_for(terms)
        follow_agents()

    # The agent's step

    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        """Begin the agent's step, with what the thread has spent before."""
        run = self._run(state, runtime, anew=True)
        return {**_saved(run), "steptrack_turn": run.turn, STOPPED: None}

    async def abefore_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        """Do as `before_agent`, on the event loop."""
        return self.before_agent(state, runtime)

    def after_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        """End the agent's step.

        Raises:
            BudgetExhausted: What was spent is over a limit, and nobody was told so before.
        """
        run = self._run(state, runtime)
        return _ended(run, run_sync(run.end(state["steptrack_run"])), state)

    async def aafter_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        """Do as `after_agent`, on the event loop."""
        run = self._run(state, runtime)
        return _ended(run, await run_async(run.end(state["steptrack_run"])), state)

    def _run(self, state: Any, runtime: Any, *, anew: bool = False) -> AgentRun:
        visit: Visit = state["steptrack_run"]
        visit.see(state)
        return visit.run(state, runtime.execution_info.checkpoint_ns, anew=anew)

    # Model calls

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Call the model in a step of the agent's.

        Raises:
            BudgetExhausted: There is no room, and the boundary is not `continue`.
            UnpricedModel: A dollar limit is in force and the model's price is unknown.
        """
        __tracebackhide__ = True
        run = self._run(request.state, request.runtime)
        stopped = request.state.get(STOPPED)
        attempts = Attempts(run)
        for attempt in attempts if stopped is None else ():
            with attempt, run.inside("model") as step, _seen():
                asked = tools.offered(request, step.policy)
                if self._tell:
                    asked = told(asked, self._tell, run.step.remaining())
                response = called(asked, handler, step, self._models)
                return ExtendedModelResponse(response, Command(update=_saved(run)))
        last = Attempts(run, is_last=True)
        for attempt in last if run.last_turn.is_left else ():
            with attempt, run.closing() as step, _seen():
                asked = closing.last_turn(tools.offered(request, step.policy))
                response = called(asked, handler, step, self._models)
                return _closed_by(run, request, response, attempts.exhaustion)
        return _ended_by(run, request, _last_word(run, stopped, last.exhaustion or attempts.exhaustion))

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do as `wrap_model_call`, on the event loop, where it waits for room."""
        __tracebackhide__ = True
        run = self._run(request.state, request.runtime)
        stopped = request.state.get(STOPPED)
        attempts = Attempts(run)
        for attempt in attempts if stopped is None else ():
            with attempt:
                async with run.inside("model") as step:
                    asked = tools.offered(request, step.policy)
                    if self._tell:
                        asked = told(asked, self._tell, await run.step.aremaining())
                    with _seen(waiting=True):
                        response = await called_async(asked, handler, step, self._models)
                return ExtendedModelResponse(response, Command(update=_saved(run)))
        last = Attempts(run, is_last=True)
        for attempt in last if run.last_turn.is_left else ():
            with attempt:
                async with run.closing_async() as step:
                    asked = closing.last_turn(tools.offered(request, step.policy))
                    with _seen(waiting=True):
                        response = await called_async(asked, handler, step, self._models)
                return _closed_by(run, request, response, attempts.exhaustion)
        return _ended_by(run, request, _last_word(run, stopped, last.exhaustion or attempts.exhaustion))

    # Tools

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Run a tool in a step of the agent's, or answer with an error if the stage does not allow it.

        Raises:
            BudgetExhausted: A model call inside it has no room, and the boundary is not `continue`.
        """
        __tracebackhide__ = True
        run = self._run(request.state, request.runtime)
        if request.state.get(STOPPED) is not None:
            return closing.not_run(request.tool_call)
        attempts = Attempts(run)
        try:
            for attempt in attempts:
                with attempt:
                    with run.inside(tools.step_name(request)) as step, tools.seen(request):
                        tools.check(request, step)
                        result = handler(request)
                    return tools.saving(result, _saved_by(run, request, step))
        except ToolDenied as denial:
            return tools.refusal(request, tools.own_denial(request, denial))
        return tools.refusal(request, attempts.exhaustion)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do as `wrap_tool_call`, on the event loop, where calls inside the tool wait for room."""
        __tracebackhide__ = True
        run = self._run(request.state, request.runtime)
        if request.state.get(STOPPED) is not None:
            return closing.not_run(request.tool_call)
        attempts = Attempts(run)
        try:
            for attempt in attempts:
                with attempt:
                    async with run.inside(tools.step_name(request)) as step:
                        with tools.seen(request, waiting=True):
                            tools.check(request, step)
                            result = await handler(request)
                    return tools.saving(result, _saved_by(run, request, step))
        except ToolDenied as denial:
            return tools.refusal(request, tools.own_denial(request, denial))
        return tools.refusal(request, attempts.exhaustion)


@contextmanager
def _seen(*, waiting: bool = False) -> Generator[None]:
    """Let what is called in this block be seen, installed or not, and wait if it may."""
    if _child_config is None:
        yield
        return
    token = _child_config.set(watched(ensure_config(), waiting=waiting))
    try:
        yield
    finally:
        _child_config.reset(token)


def _saved(run: AgentRun) -> dict[str, Any]:
    return {"steptrack_spent": run.state()}


def _saved_by(run: AgentRun, request: Any, tool: Step) -> dict[str, Any]:
    """Return what a tool has to save: mostly nothing, since most tools call no model."""
    known = (request.state.get("steptrack_spent") or {}).get("runs", {})
    return {} if run.step.id in known and tool.usage == Usage() else _saved(run)


def _last_word(run: AgentRun, stopped: Any, exhaustion: BudgetExhausted | None) -> Any:
    if exhaustion is None or stopped is not None:
        return stopped
    return run.last_word(exhaustion)


def _closed_by(run: AgentRun, request: Any, response: Any, exhaustion: BudgetExhausted | None) -> Any:
    """End the agent with the answer of its closing turn."""
    run.has_closed(exhaustion)
    messages: list[BaseMessage] = [
        *closing.unanswered(request.state["messages"]),
        *closing.closed(response.result),
    ]
    update = {**_saved(run), STOPPED: None, "jump_to": "end"}
    answer = ModelResponse(result=messages, structured_response=response.structured_response)
    return ExtendedModelResponse(answer, Command(update=update))


def _ended_by(run: AgentRun, request: Any, text: Any) -> Any:
    """End the agent with its last word, and what its history lacks before."""
    run.last_turn.has_answered = True
    messages = [*closing.unanswered(request.state["messages"]), AIMessage(text)]
    update = {**_saved(run), STOPPED: None, "jump_to": "end"}
    return ExtendedModelResponse(ModelResponse(result=messages), Command(update=update))


def _ended(run: AgentRun, leaving: BaseException | None, state: Any) -> dict[str, Any]:
    if leaving is not None:
        raise leaving
    if (stopped := state.get(STOPPED)) is None:
        return _saved(run)
    messages = [*closing.unanswered(state["messages"]), AIMessage(stopped)]
    return {**_saved(run), STOPPED: None, "messages": messages}
