"""LangGraph: agents and nodes with budgets, kept in the graph's state, with a person in the loop.

`StepBudgetMiddleware` is for `langchain.agents.create_agent`, `budget_error_handler` for
`StateGraph.add_node(..., error_handler=...)`. Steps named by graph node need neither: see
`install(nodes=...)`.
"""

from typing import TYPE_CHECKING, Any

from steptrack_callbacks.integrations.compatibility import heed

if TYPE_CHECKING:
    from .budget_message import budget_left
    from .handling import budget_error_handler
    from .middleware import StepBudgetMiddleware

__all__ = ("StepBudgetMiddleware", "budget_error_handler", "budget_left")


def __getattr__(name: str) -> Any:
    """Import what is asked for: graphs without agents need no `langchain`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        if name == "StepBudgetMiddleware":
            from .middleware import StepBudgetMiddleware  # noqa: PLC0415

            return StepBudgetMiddleware
        if name == "budget_left":
            from .budget_message import budget_left  # noqa: PLC0415

            return budget_left
        from .handling import budget_error_handler  # noqa: PLC0415

        return budget_error_handler
    finally:  # also where it cannot be imported, to say why
        for package in ("langchain", "langgraph"):
            heed(package)
