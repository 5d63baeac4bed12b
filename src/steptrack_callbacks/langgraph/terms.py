"""What is declared of an agent: its step, and the limits of each of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, TypedDict, get_args

from steptrack_callbacks.values.definitions import LimitName, PersonaDefinition, StepDefinition, defined


class Limits(TypedDict, total=False):
    """Limits by name; those that are left out are not set.

    Attributes:
        max_usd: Most US dollars to spend.
        max_tokens: Most input and output tokens together.
        max_calls: Most requests to send.
        max_seconds: Seconds after which calls are refused.
    """

    max_usd: Decimal | float
    max_tokens: int
    max_calls: int
    max_seconds: float


_NO_LIMITS: dict[str, Any] = dict.fromkeys(get_args(LimitName))


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What is declared of an agent.

    Attributes:
        definition: Its step.
        run: The limits of one run of it, as a step's; `None` if there are none.
    """

    definition: StepDefinition
    run: StepDefinition | None = None


def terms_of(step: object, thread_limit: Any, run_limit: Any, options: Mapping[str, Any]) -> Terms:
    """Check what was given to the middleware.

    Raises:
        ValueError: An option is malformed, or given twice; the message says which.
        TypeError: There is no such option.
    """
    if isinstance(step, PersonaDefinition):
        raise ValueError(f"{step.name!r} is a persona: put `with persona(...)` around the agent's calls")  # noqa: TRY004
    limits = _limits_of("thread_limit", thread_limit)
    if twice := [name for name in limits if options.get(name) is not None]:
        raise ValueError(f"{', '.join(twice)}: given in thread_limit and beside it; keep one")
    definition = defined(StepDefinition, step, {**options, **limits}, "StepBudgetMiddleware")
    text = definition.default
    if not (text is None or isinstance(text, str | list) or callable(text)):
        raise ValueError(f"default must be the text that the agent ends with, or a function, not {text!r}")
    return Terms(definition, _run_of(definition, _limits_of("run_limit", run_limit)))


def _limits_of(option: str, given: Any) -> Mapping[str, Any]:
    """Read limits: a number is one of calls, as in LangChain's own middlewares."""
    if given is None:
        return {}
    if isinstance(given, int) and not isinstance(given, bool):
        return {"max_calls": given}
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            f"{option} must be a number of calls, or limits such as {{'max_usd': 0.05}}, not {given!r}"
        )
    for name in given:
        if name not in get_args(LimitName):
            raise ValueError(f"{option} has no limit {name!r}; use {', '.join(get_args(LimitName))}")
    return given


def _run_of(definition: StepDefinition, limits: Mapping[str, Any]) -> StepDefinition | None:
    if not limits:
        return None
    try:
        return replace(definition, **{**_NO_LIMITS, **limits}, wrap_up_usd=None, budgets=())
    except ValueError as error:
        raise ValueError(f"run_limit: {error}") from None
