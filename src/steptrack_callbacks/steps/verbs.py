"""The verbs of the package: `step()`, `persona()`, and what can be asked of the stack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values.arguments import checks_arguments
from steptrack_callbacks.values.budgets import BudgetDefinition
from steptrack_callbacks.values.definitions import (
    ErrorBoundary,
    Escalation,
    LimitName,
    PersonaDefinition,
    SideEffectLevel,
    Stage,
    StepDefinition,
    StepOptions,
    Unpriced,
    defined,
)
from steptrack_callbacks.values.errors import ToolDenied
from steptrack_callbacks.values.limits import Enforce
from steptrack_callbacks.values.money import decimal_of
from steptrack_callbacks.values.signatures import shows_options
from steptrack_callbacks.values.tools import ToolLimit

from .attribution import new_call
from .decorators import UNNAMED
from .said_usage import check_said, one_calls_usage
from .step import Step, current_step
from .tool_policy import ToolPolicy, objection_to_use

_NO_LIMITS = StepDefinition(name=UNNAMED)

P = ParamSpec("P")
R = TypeVar("R")


@overload
def step(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def step(
    name: str | StepDefinition | None = None,
    *,
    model: str | None = None,
    models: Sequence[str] = (),
    downgrade_at: Decimal | float | None = None,
    max_usd: Decimal | float | None = None,
    max_tokens: int | None = None,
    max_calls: int | None = None,
    max_seconds: float | None = None,
    max_tool_calls: ToolLimit | None = None,
    error_boundary: ErrorBoundary = "fail",
    default: Any = None,
    enforce: Enforce = "estimate",
    wait_s: float = 30.0,
    clamp: bool = True,
    cut_streams: bool = True,
    wrap_up_usd: Decimal | float | None = None,
    wrap_up_calls: int | None = None,
    unpriced: Unpriced | None = None,
    escalation: Escalation | None = None,
    budgets: Sequence[BudgetDefinition | str] = (),
    parent: Step | None = None,
    run_id: str | None = None,
) -> Step: ...
@shows_options
@checks_arguments
def step(
    name: str | StepDefinition | Callable[..., Any] | None = None,
    *,
    parent: Step | None = None,
    run_id: str | None = None,
    **options: Unpack[StepOptions],
) -> Any:
    """Name a stretch of work, limit what its model calls may use, and say what happens at the limit.

    Use it with `with` (or `async with`), or as a decorator (also without parentheses) on a function,
    coroutine function, generator or async generator. Steps nest: a call counts in the innermost step and in
    every step around it, and is sent only if all of them have room.

    Args:
        name: Non-empty, without `/`, which joins names into a path; defaults to the decorated function's
            name. A `StepDefinition` may be given instead, and then no other options are allowed.
        model: What `current_model()` returns inside the step; it changes no call.
        models: Names of models, the preferred one first. A call of one of them that does not fit is
            made with the next model that fits and supports the request, before anything is sent; such calls
            are sent only if expected to fit. This works for LiteLLM's calls, and for LangChain's in
            `budgeted` and `StepBudgetMiddleware`.
        downgrade_at: Fraction of any enclosing `max_usd`, from 0 to 1, at which calls of `models` switch to
            the next model.
        max_usd: Maximum spend in US dollars; `None` sets no limit. The prices of the models must be known:
            see `unpriced`.
        max_tokens: Maximum number of input and output tokens together, over all calls.
        max_calls: Maximum number of requests. Failed and abandoned ones count; refused ones and cache
            hits do not.
        max_seconds: Seconds after which calls are refused and streams cut; nothing is cancelled.
        max_tool_calls: How often tools may be used in the step and in steps inside it: in total, or by name,
            as in `{"search": 3}`. Any further use raises `ToolDenied`, which is reported to the agent's
            model.
        error_boundary: What happens when this step is exhausted: `fail` raises the error, `continue` leaves
            the block quietly, `escalate` asks `escalation`, and raises `BudgetEscalated` if nothing is
            granted.
        default: What a decorated function returns under `continue` if it did not finish: a value, handed
            out as it is, or a function of the exception, called each time: `lambda _: []` rather than `[]`,
            which all calls would share. A generator that has yielded nothing yields it as one item; not
            available for a `with` block.
        enforce: `estimate` reserves what a call will probably use; `strict` the most that it can
            use, so that only a provider's report above that bound can exceed the limit; `observe` refuses
            nothing.
        wait_s: Maximum number of seconds that a call waits for room that other calls have reserved.
        clamp: Whether a request without `max_tokens` is given what is left as its `max_tokens`: under
            `estimate` the last call of a budget, under `strict` each. This works for LiteLLM's requests, and
            for LangChain's in `budgeted` and `StepBudgetMiddleware`; elsewhere `strict` reserves the model's
            longest answer.
        cut_streams: Whether a stream is cut when it exceeds a limit.
        wrap_up_usd: US dollars of `max_usd` kept back for calls inside `with step.wrap_up()`.
        wrap_up_calls: Calls of `max_calls` kept back likewise.
        unpriced: What happens to a call of unknown price under a `max_usd`: `None` refuses it, `warn` sends
            it with a warning, `free` sends it.
        escalation: Under `escalate`, a function of the exception that returns a `Grant`, or `None`
            or `False` for no; it may be a coroutine function where calls are async.
        budgets: Shared limits that this step's calls are charged to as well: each a `Budget`, or the name of
            one in `steptrack.toml`. If one is exhausted, this step's `error_boundary` applies.
        parent: The step to begin in, for threads that have no context of their own.
        run_id: Non-empty name of the run, for the outermost step only; `None` generates one. A step that is
            started again under the same name continues from the spending recorded in the ledger, and is
            shared by all who use that name at the same time. The default ledger is this process's memory: use
            `install(ledger=...)` with a file or a server for a run to outlive its process.

    Returns:
        A step that can be used in one `with` only; as a decorator it makes a new one for each call.

    Raises:
        ValueError: The name, a limit or another option is malformed; the message says which.
        LedgerError: Not raised here, but when the step begins or a call is made in it: the ledger needed
            for its budgets or its `run_id` cannot be reached.
        BudgetExhausted: Not raised here, but inside the block, when a call has no room; and at its end, if
            a limit was exceeded and nothing inside the block had raised it yet.

    Example:
        >>> from steptrack_callbacks import record_usage, step
        >>> with step("research", max_tokens=1_000) as research:
        ...     with step("plan"):
        ...         record_usage("gpt-4o-mini", input_tokens=200, output_tokens=50)
        >>> research.usage.total_tokens, research.remaining("max_tokens")
        (250, 750)
    """
    __tracebackhide__ = True
    if callable(name) and not isinstance(name, StepDefinition):
        return Step(StepDefinition(name=UNNAMED))(name)
    definition = defined(StepDefinition, UNNAMED if name is None else name, options, "step")
    made = Step(definition, parent=_checked(parent), run_id=run_id)
    made.said = _given(options)
    return made


@shows_options
@checks_arguments
def persona(
    name: str | PersonaDefinition,
    *,
    stages: Sequence[Stage] = (),
    parent: Step | None = None,
    run_id: str | None = None,
    **options: Unpack[StepOptions],
) -> Step:
    """Name an actor around steps: a step with limits over all its work, and stages.

    A step inside it that has the name of a stage may use only the tools that the stage allows, and only make
    as many model calls. Stages narrow what applies around them, and never widen it.

    Args:
        name: As for `step`; a `PersonaDefinition` may be given instead, and then no other options are
            allowed.
        stages: What is allowed in the steps of these names. If no step ran under a stage, a warning is issued
            when the persona ends.
        parent: As for `step`.
        run_id: As for `step`.
        **options: The limits and rules of `step`.

    Returns:
        A `Step` of the kind `persona`.

    Raises:
        ValueError: An option is malformed; the message says which.

    Example:
        >>> from steptrack_callbacks import Stage, current_policy, persona, step
        >>> with persona("editor", stages=[Stage("plan", allowed_tools=["search"])]), step("plan"):
        ...     current_policy().allows("search"), current_policy().allows("shell")
        (True, False)
    """
    __tracebackhide__ = True
    staged: Mapping[str, Any] = {**options, "stages": stages} if stages else options
    definition = defined(PersonaDefinition, name, staged, "persona")
    made = Step(definition, kind="persona", parent=_checked(parent), run_id=run_id)
    made.said = _given(options)
    return made


def _checked(parent: object) -> Step | None:
    if parent is None or isinstance(parent, Step):
        return parent
    raise ValueError(
        f"parent must be a step itself, such as the `outer` of `with step(...) as outer`, not {parent!r}"
    )


def _given(options: Mapping[str, Any]) -> frozenset[str]:
    """Name the options that say something: `None` leaves it to a file."""
    return frozenset({name for name, value in options.items() if value is not None})


def current_persona() -> Step | None:
    """Return the nearest persona that is running here, or `None`.

    Example:
        >>> from steptrack_callbacks import current_persona, persona, step
        >>> with persona("writer"), step("draft"):
        ...     current_persona().name
        'writer'
    """
    active = current_step()
    return active.persona if active else None


@checks_arguments
def remaining(limit: LimitName) -> Decimal | float | None:
    """Return what is left for a call made here, under all enclosing limits: of steps, personas and budgets.

    Args:
        limit: `max_usd`, `max_tokens`, `max_calls` or `max_seconds`.

    Returns:
        The smallest remaining amount, in the limit's unit; `None` if nothing around sets that limit.

    Raises:
        ValueError: There is no limit of that name.
        LedgerError: The ledger of a budget cannot be asked.

    Example:
        >>> from steptrack_callbacks import remaining, step
        >>> with step("answer", max_calls=3), step("plan", max_calls=5):
        ...     remaining("max_calls"), remaining("max_usd")
        (3, None)
    """
    return (current_step() or Step(_NO_LIMITS)).remaining(limit)


async def aremaining(limit: LimitName) -> Decimal | float | None:
    """Do as `remaining`, and await a ledger that has to be asked.

    Args:
        limit: As for `remaining`.

    Returns:
        What `remaining` returns.

    Raises:
        ValueError: There is no limit of that name.
        LedgerError: The ledger of a budget cannot be asked.

    Example:
        >>> import asyncio
        >>> from steptrack_callbacks import aremaining, step
        >>> async def main():
        ...     async with step("answer", max_calls=3):
        ...         return await aremaining("max_calls")
        >>> asyncio.run(main())
        3
    """
    return await (current_step() or Step(_NO_LIMITS)).aremaining(limit)


def current_model() -> str | None:
    """Return the `model` of the innermost step here that names one, or `None`.

    Example:
        >>> from steptrack_callbacks import current_model, step
        >>> with step("plan", model="gpt-4o-mini"), step("draft"):
        ...     current_model()
        'gpt-4o-mini'
    """
    active = current_step()
    return active.model if active else None


def current_policy() -> ToolPolicy:
    """Return which tools may run here; outside of stages, all of them may.

    Example:
        >>> from steptrack_callbacks import Stage, current_policy, persona, step
        >>> with persona("writer", stages=[Stage("research", allowed_tools=["search"])]):
        ...     with step("research"):
        ...         current_policy().objection("search") is None, current_policy().objection("delete") is None
        (True, False)
    """
    active = current_step()
    return active.policy if active else ToolPolicy()


@checks_arguments
def check_tool(name: str, side_effect_level: SideEffectLevel | None = None) -> None:
    """Raise if the current stage does not allow a tool, otherwise count its use; for agent loops of your own.

    Args:
        name: The tool's name.
        side_effect_level: The side effect that it has; `None` takes the level registered with
            `install(tools=...)`, or `network` if there is none.

    Raises:
        ToolDenied: The stage does not allow it, or an enclosing `max_tool_calls` is reached.
        ValueError: The level is not one of the five.

    Example:
        >>> from steptrack_callbacks import check_tool, step
        >>> with step("answer", max_tool_calls=1):
        ...     check_tool("search")
        ...     check_tool("search")
        Traceback (most recent call last):
        ...
        steptrack_callbacks...ToolDenied: ...
    """
    __tracebackhide__ = True
    count_use(current_step(), name, side_effect_level)


def count_use(
    active: Step | None, tool: str, level: SideEffectLevel | None, within: Step | None = None
) -> None:
    """Do as `check_tool`, in a step and another one that the tool runs in, if there are any."""
    __tracebackhide__ = True
    why = current_policy().objection(tool, level)
    if active is not None and (why := why or objection_to_use(active, tool, within)) is not None:
        raise ToolDenied(tool=tool, path=active.path, why=why)


@checks_arguments
def record_usage(
    model: str,
    *,
    input_tokens: int,
    output_tokens: int,
    cost_usd: Decimal | float | None = None,
    provider: str | None = None,
    service_tier: str | None = None,
    estimated: bool = False,
    **details: int,
) -> None:
    """Charge the current step for a call made with another client.

    Args:
        model: The model's name.
        input_tokens: All input tokens, cached ones included.
        output_tokens: All output tokens, reasoning included.
        cost_usd: What it cost in US dollars; `None` calculates it from the tokens.
        provider: The provider, if the model's name alone does not tell.
        service_tier: The tier that it was processed on, such as `flex`.
        estimated: Whether the tokens are your own count, not the provider's.
        **details: Other token counts of `Usage`, such as `cache_read_tokens`.

    Raises:
        BudgetExhausted: A step has now used more than its limit. Using exactly the limit is
            allowed, but leaves no room for another call. The usage is charged either way.
        UnpricedModel: A `max_usd` applies and the price is unknown. The tokens are charged.
        ValueError: A count or the cost is negative, not finite, or of the wrong type; the model, provider or
            tier is not a string; or a count is given that is of whole calls, such as `calls`.

    Example:
        >>> from steptrack_callbacks import record_usage, step
        >>> with step("plan", max_usd=0.05) as plan:
        ...     record_usage("my-model", input_tokens=10, output_tokens=5, cost_usd=0.02)
        >>> plan.cost_usd
        Decimal('0.02')
    """
    __tracebackhide__ = True
    check_said(model=model, provider=provider, service_tier=service_tier, estimated=estimated)
    usage = one_calls_usage(input_tokens, output_tokens, details)
    stated = None if cost_usd is None else decimal_of(cost_usd, "cost_usd")
    request = Request(
        model=model,
        provider=provider,
        service_tier=service_tier,
        count_input=lambda: InputCount(tokens=input_tokens, upper_bound=input_tokens),
    )
    call = new_call(request, sent=True)
    call.begin()
    call.settle(usage, cost_usd=stated, estimated=estimated)
    call.check_overrun()
    call.check_price()
