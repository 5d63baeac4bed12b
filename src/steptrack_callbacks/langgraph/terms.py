"""What is declared of an agent: its step, and the limits of each of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, TypedDict, get_args

from steptrack_callbacks.langchain.swapping import models_of
from steptrack_callbacks.values.definitions import LimitName, PersonaDefinition, StepDefinition, defined

from .budget_message import Tell, checked_tell


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


_KEPT_FROM = {"wrap_up_usd": "max_usd", "wrap_up_calls": "max_calls"}
_NO_LIMITS: dict[str, Any] = dict.fromkeys((*get_args(LimitName), *_KEPT_FROM))


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What is declared of an agent.

    Attributes:
        definition: Its step.
        run: The limits of one run of it, as a step's; `None` if there are none.
        tell: Whether and how the model is told what is left.
        closing_turn: Whether it gets one more turn when its ordinary room is gone.
        models: Models of its step's list that were given as such, by name.
    """

    definition: StepDefinition
    run: StepDefinition | None = None
    tell: Tell = False
    closing_turn: bool = False
    models: Mapping[str, Any] = field(default_factory=dict)


def terms_of(
    step: object,
    options: Mapping[str, Any],
    *,
    thread_limit: Any = None,
    run_limit: Any = None,
    tell: Any = False,
    closing_turn: Any = False,
) -> Terms:
    """Check what was given to the middleware.

    Raises:
        ValueError: An option is malformed, or given twice; the message says which.
        TypeError: There is no such option.
    """
    if isinstance(step, PersonaDefinition):
        raise ValueError(f"{step.name!r} is a persona: put `with persona(...)` around the agent's calls")  # noqa: TRY004
    names, models = models_of(options.get("models"), "StepBudgetMiddleware()")
    options = {**options, "models": names} if names else options
    limits = _limits_of("thread_limit", thread_limit)
    if twice := [name for name in limits if options.get(name) is not None]:
        raise ValueError(f"{', '.join(twice)}: given in thread_limit and beside it; keep one")
    if not isinstance(closing_turn, bool):
        raise ValueError(f"closing_turn must be True or False, not {closing_turn!r}")  # noqa: TRY004
    of_run = _limits_of("run_limit", run_limit)
    of_thread, kept = _sorted_out({**options, **limits}, of_run, closing_turn=closing_turn)
    _check_text(options.get("default"))
    definition = defined(StepDefinition, step, of_thread, "StepBudgetMiddleware")
    _check_text(definition.default)
    of_each_run = _run_of(definition, of_run, kept)
    terms = Terms(definition, of_each_run, checked_tell(tell), closing_turn, models)
    limited = bool(definition.limits or of_run)  # without limits of its own it closes for those around it
    if closing_turn and limited and not any(map(_keeps_back, (terms.definition, terms.run))):
        raise ValueError(
            "closing_turn is paid from what is kept back for it: say wrap_up_usd, a part of max_usd, or"
            " wrap_up_calls, a part of max_calls"
        )
    return terms


def _sorted_out(
    options: dict[str, Any], of_run: Mapping[str, Any], *, closing_turn: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell what is kept back of the thread's limits from what is kept back of a run's.

    A closing turn for which nothing is said to be kept back takes the last one of the calls.
    """
    given = {name: options[name] for name in _KEPT_FROM if options.get(name) is not None}
    if closing_turn and not given:
        given = {"wrap_up_calls": 1}
        options = options | (given if options.get("max_calls") else {})
    kept = {name: value for name, value in given.items() if of_run.get(_KEPT_FROM[name])}
    only_of_run = [name for name in kept if options.get(_KEPT_FROM[name]) is None]
    return {name: value for name, value in options.items() if name not in only_of_run}, kept


def _check_text(text: Any) -> None:
    if not (text is None or isinstance(text, str | list) or callable(text)):
        raise ValueError(f"default must be the text that the agent ends with, or a function, not {text!r}")


def _keeps_back(definition: StepDefinition | None) -> bool:
    return definition is not None and any(getattr(definition, name) for name in _KEPT_FROM)


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


def _run_of(
    definition: StepDefinition, limits: Mapping[str, Any], kept: Mapping[str, Any]
) -> StepDefinition | None:
    if not limits:
        return None
    try:
        return replace(definition, **{**_NO_LIMITS, **limits, **kept}, budgets=())
    except ValueError as error:
        raise ValueError(f"run_limit: {error}") from None
