"""`budget_error_handler`: what a graph does when one of its nodes runs out of budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from langgraph.errors import NodeError
from langgraph.types import Command

from steptrack_callbacks.engine.escalation import no_in
from steptrack_callbacks.langchain import run_tree
from steptrack_callbacks.langchain.refusals import langchain_error
from steptrack_callbacks.steps.boundary import escalated
from steptrack_callbacks.steps.step import Step, current_step
from steptrack_callbacks.values.definitions import ErrorBoundary
from steptrack_callbacks.values.errors import BudgetExhausted, StepTrackError

from . import nodes
from .human_in_the_loop import NOBODY, pause

Update = Mapping[str, Any]

_HOW = "answer with Command(resume=...): the state update to go on with, as a mapping, or False for no"
_NO = (None, False, "no")

_asked: OrderedDict[str, BudgetExhausted] = OrderedDict()
_MOST_ASKED = 1_000


def budget_error_handler(
    default: Update | Callable[[BudgetExhausted], Update | None] | None = None,
    *,
    goto: str | Sequence[str] | None = None,
    error_boundary: ErrorBoundary = "continue",
) -> Callable[..., Any]:
    """Make an error handler for `StateGraph.add_node(..., error_handler=...)`.

    It acts on the exhaustion of a step that the node has opened, or that `install(nodes=...)` names.
    That of a step around the graph, and any other error, is raised on.

    Args:
        default: The state update to go on with, or a function of the exception that makes it; `None`
            changes nothing.
        goto: The node to go on to, or several; `None` follows the edges of the failed node.
        error_boundary: `continue` goes on with `default`; `escalate` pauses the graph, so that a person
            answers with the update, or with a no that raises `BudgetEscalated` (in another process a
            `StepTrackError`, since checkpoints keep the text of an error only), as it is raised at once
            in a graph without a checkpointer; `fail` raises.

    Returns:
        The handler.

    Raises:
        ValueError: The boundary is none of the three, or `default` is neither mapping nor function.

    Example:
        >>> from langgraph.graph import START, StateGraph
        >>> from steptrack_callbacks import record_usage, step
        >>> def plan(state):
        ...     with step("plan", max_calls=0):
        ...         record_usage("my-model", input_tokens=10, output_tokens=5)
        >>> graph = StateGraph(dict)
        >>> handler = budget_error_handler({"plan": "none"})
        >>> _ = graph.add_node("plan", plan, error_handler=handler).add_edge(START, "plan")
        >>> graph.compile().invoke({"question": "why?"})
        {'plan': 'none'}
    """
    if error_boundary not in get_args(ErrorBoundary):
        boundaries = ", ".join(map(repr, get_args(ErrorBoundary)))
        raise ValueError(f"error_boundary must be one of {boundaries}, not {error_boundary!r}")
    if not (default is None or callable(default) or isinstance(default, Mapping)):
        raise ValueError(f"default must be a state update such as {{'answer': ''}}, not {default!r}")

    def handle_budget_error(state: Any, error: NodeError) -> Any:  # noqa: ARG001 - LangGraph gives both
        own = _exhaustion(error)
        if error_boundary == "fail" or _is_around(own):
            raise own
        update = default(own) if callable(default) else default
        if error_boundary == "escalate":
            update = _answered(own, error.node)
        return dict(update or {}) if goto is None else Command(update=dict(update or {}), goto=goto)

    return handle_budget_error


def _exhaustion(error: NodeError) -> Any:
    """Return the exhaustion that a node has failed with; anything else is raised on.

    Of a graph that was paused or killed meanwhile, checkpoints keep the error's text only.
    """
    failure: Any = error.error
    if isinstance(failure, BudgetExhausted):
        return failure
    if isinstance(failure, BaseException):
        raise failure
    text = str(failure)
    if not text.startswith(f"{BudgetExhausted.__name__}("):
        raise RuntimeError(f"node {error.node!r} failed before the graph was resumed: {text}")
    return _asked.get(text) or StepTrackError(text)


def _is_around(error: Any) -> bool:
    """Tell whether a step around the graph owns an exhaustion, so that no node can help it."""
    if not isinstance(error, BudgetExhausted):
        return False
    return error.escalated or any(step.id == error.step_id for step in _steps_around())


def _steps_around() -> Iterator[Step]:
    """Go through the steps around the graph, those that names and metadata of runs have opened among them."""
    node = nodes.run_of_node()
    for innermost in (current_step(), None if node is None else run_tree.step_around(node)):
        step = innermost
        while step is not None:
            yield step
            step = step.parent


def _answered(error: Any, node: str) -> Update:
    """Pause the graph until a person has said what to go on with.

    Raises:
        BudgetEscalated: The answer is no, or nobody could answer, as the graph has no checkpointer; a
            `StepTrackError`, if a no came in another process.
    """
    if not nodes.can_pause():
        raise langchain_error(escalated(error, NOBODY))
    question = {"node": node, "answer": _HOW}
    if isinstance(error, BudgetExhausted):
        question |= error.to_dict()
        _remember(error)
    while True:
        answer = pause(question)
        if isinstance(answer, Mapping):
            return answer
        if any(answer is no or (isinstance(no, str) and answer == no) for no in _NO):
            if isinstance(error, BudgetExhausted):
                raise langchain_error(escalated(error, no_in(None, error)))
            raise error
        question = {**question, "problem": f"{answer!r} is neither a state update nor a no"}


def _remember(error: BudgetExhausted) -> None:
    _asked[repr(error)] = error
    while len(_asked) > _MOST_ASKED:
        _asked.popitem(last=False)
