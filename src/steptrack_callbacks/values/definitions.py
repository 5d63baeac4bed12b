"""What people declare: steps, personas, stages, and the grants that answer an escalation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal, Self, TypedDict, TypeVar, cast, get_args

from .arguments import check_escalation
from .budgets import BudgetDefinition, checked_budgets
from .limits import (
    Declared,
    Enforce,
    check_choice,
    check_limits,
    check_name,
    checks_fields,
    from_mapping,
    seconds_of,
    unknown_option,
    usd_of,
)
from .money import count_of, plain
from .swaps import ModelList, model_list_of
from .tools import ToolLimit, checked_limit

D = TypeVar("D", bound="StepDefinition")

ErrorBoundary = Literal["continue", "escalate", "fail"]
Unpriced = Literal["warn", "free"]
LimitName = Literal["max_usd", "max_tokens", "max_calls", "max_seconds"]
SideEffectLevel = Literal["none", "read_only", "workspace_write", "process_exec", "network"]

Escalation = Callable[[Any], "Grant | Literal[False] | Awaitable[Grant | Literal[False] | None] | None"]
"""Asked with the `BudgetExhausted`; answers with a `Grant`, or with `None` or `False` for no."""


@checks_fields
@dataclass(frozen=True, slots=True, kw_only=True)
class Grant(Declared):
    """More budget for a step, returned by an escalation: each amount is added to the step's limit.

    Attributes:
        max_usd: US dollars to add to the step's `max_usd`; `None` adds nothing.
        max_tokens: Tokens to add to its `max_tokens`.
        max_calls: Calls to add to its `max_calls`.
        max_seconds: Seconds to add to its `max_seconds`.
        by: Who granted it; kept in the record.

    Raises:
        ValueError: An amount is negative or not a number, or nothing at all is granted.

    Example:
        >>> Grant(max_usd=0.10, by="ops")
        Grant(max_usd=Decimal('0.1'), max_tokens=None, max_calls=None, max_seconds=None, by='ops')
    """

    max_usd: Decimal | float | None = None
    max_tokens: int | None = None
    max_calls: int | None = None
    max_seconds: float | None = None
    by: str | None = None

    def __post_init__(self) -> None:
        check_limits(self, "a Grant's ")
        if not any(getattr(self, name) for name in get_args(LimitName)):
            raise ValueError("a Grant must add to at least one limit; answer None to grant nothing")

    def to_dict(self) -> dict[str, Any]:
        """Return what was granted, and by whom, as plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: plain(value) for name, value in values.items() if value is not None}


@checks_fields
@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Declared):
    """What a persona allows in the step of the same name.

    Attributes:
        name: The name of the steps that it applies to.
        allowed_tools: The only tools that may run there; empty allows none, `None` does not restrict them.
        side_effect_level: The strongest side effect that a tool may have there; `None` does not restrict it.
        max_iterations: Maximum number of model calls in that step; the smaller of it and `max_calls` applies.

    Raises:
        ValueError: A field is malformed; the message names the field and the fix.
    """

    name: str = field(kw_only=False)
    allowed_tools: Collection[str] | None = None
    side_effect_level: SideEffectLevel | None = None
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "stage")
        tools = self.allowed_tools
        if tools is not None:
            if not _is_list_of_names(tools):
                raise ValueError(f"stage {self.name!r}: allowed_tools must be a list of names, not {tools!r}")
            object.__setattr__(self, "allowed_tools", tuple(tools))
        if self.side_effect_level is not None:
            check_choice(self.side_effect_level, SideEffectLevel, f"stage {self.name!r}: side_effect_level")
        if self.max_iterations is not None:
            count_of(self.max_iterations, f"stage {self.name!r}: max_iterations")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read a stage from plain data.

        Raises:
            ValueError: A field is unknown, missing or malformed; the message names it and the fix.
        """
        return from_mapping(cls, data, "stage")


class StepOptions(TypedDict, total=False):
    """The options of a step, by name; `step()` documents each."""

    model: str | None
    models: Sequence[Any]
    downgrade_at: Decimal | float | None
    max_usd: Decimal | float | None
    max_tokens: int | None
    max_calls: int | None
    max_seconds: float | None
    max_tool_calls: ToolLimit | None
    error_boundary: ErrorBoundary
    default: Any
    enforce: Enforce
    wait_s: float
    clamp: bool
    cut_streams: bool
    wrap_up_usd: Decimal | float | None
    wrap_up_calls: int | None
    unpriced: Unpriced | None
    escalation: Escalation | None
    budgets: Sequence[BudgetDefinition | str]


@checks_fields
@dataclass(frozen=True, slots=True, kw_only=True)
class StepDefinition:
    """What is declared about a step; `step()` documents each field.

    Attributes:
        name: The step's name.
        function: The decorated function's name, or `None` for a `with` block.

    Raises:
        ValueError: A field is malformed; the message names the field and the fix.
    """

    name: str
    function: str | None = None
    model: str | None = None
    models: tuple[str, ...] = ()
    downgrade_at: Decimal | float | None = None
    max_usd: Decimal | float | None = None
    max_tokens: int | None = None
    max_calls: int | None = None
    max_seconds: float | None = None
    max_tool_calls: ToolLimit | None = None
    error_boundary: ErrorBoundary = "fail"
    default: Any = None
    enforce: Enforce = "estimate"
    wait_s: float = 30.0
    clamp: bool = True
    cut_streams: bool = True
    wrap_up_usd: Decimal | float | None = None
    wrap_up_calls: int | None = None
    unpriced: Unpriced | None = None
    escalation: Escalation | None = None
    budgets: tuple[BudgetDefinition | str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name, "step")
        where = f"step {self.name!r}: "
        check_limits(self, where)
        check_choice(self.error_boundary, ErrorBoundary, f"{where}error_boundary")
        check_choice(self.enforce, Enforce, f"{where}enforce")
        if self.unpriced is not None:
            check_choice(self.unpriced, Unpriced, f"{where}unpriced")
        self._check_types(where)
        self._check_wrap_up(where)
        object.__setattr__(self, "budgets", checked_budgets(self.budgets, where))
        listed = model_list_of(self.models, self.downgrade_at, where)
        object.__setattr__(self, "models", listed.models if listed else ())
        object.__setattr__(self, "downgrade_at", listed.downgrade_at if listed else None)
        object.__setattr__(self, "max_tool_calls", checked_limit(self.max_tool_calls, where))

    @property
    def model_list(self) -> ModelList | None:
        """What is said of the models of its calls; `None` if nothing is."""
        return ModelList(self.models, self.downgrade_at) if self.models else None

    def _check_types(self, where: str) -> None:
        for name in ("clamp", "cut_streams"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{where}{name} must be True or False, not {getattr(self, name)!r}")  # noqa: TRY004
        for name in ("function", "model"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"{where}{name} must be a string or None, not {getattr(self, name)!r}")  # noqa: TRY004
        seconds_of(self.wait_s, f"{where}wait_s")
        if self.escalation is not None:
            check_escalation(self.escalation, where)
        if self.escalation is not None and self.error_boundary != "escalate":
            raise ValueError(
                f"{where}escalation is asked under error_boundary='escalate' only, and here it is"
                f" {self.error_boundary!r}: say both, or neither"
            )
        if self.default is not None and self.error_boundary != "continue":
            raise ValueError(
                f"{where}default is returned under error_boundary='continue' only, and here it is"
                f" {self.error_boundary!r}: say both, or neither"
            )

    def _check_wrap_up(self, where: str) -> None:
        if self.wrap_up_calls is not None:
            calls = count_of(self.wrap_up_calls, f"{where}wrap_up_calls")
            if self.max_calls is None or calls >= self.max_calls:
                kept = f"wrap_up_calls={calls} is kept back from max_calls"
                raise ValueError(f"{where}{kept}, so max_calls must be set and larger")
        if self.wrap_up_usd is None:
            return
        kept_back = usd_of(self.wrap_up_usd, f"{where}wrap_up_usd")
        if self.max_usd is None or kept_back >= self.max_usd:
            raise ValueError(
                f"{where}wrap_up_usd={kept_back} is kept back from max_usd, so max_usd must be set and larger"
            )
        object.__setattr__(self, "wrap_up_usd", kept_back)

    @property
    def limits(self) -> dict[LimitName, Any]:
        """The limits that are set, by name."""
        return {name: getattr(self, name) for name in get_args(LimitName) if getattr(self, name) is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read a declaration from plain data, with limits at the top or under `"budget"`.

        Args:
            data: `{"name": ..., "function": ..., "model": ..., "error_boundary": ...,
                "budget": {"max_tokens": ..., "max_usd": ...}}`; any other field of this class
                may stand beside them.

        Raises:
            ValueError: A field is unknown, missing or malformed; the message names it and the fix.

        Example:
            >>> StepDefinition.from_dict({"name": "plan", "budget": {"max_usd": 0.05}}).max_usd
            Decimal('0.05')
        """
        return from_mapping(cls, _flatten_budget(data, "step"), "step")


@checks_fields
@dataclass(frozen=True, slots=True, kw_only=True)
class PersonaDefinition(StepDefinition):
    """What is declared about a persona: a step's fields, and its stages."""

    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        StepDefinition.__post_init__(self)
        where = f"persona {self.name!r}: "
        stages = _checked_stages(self.stages, where)
        names = [stage.name for stage in stages]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{where}stage {name!r} is declared twice; keep one")
        object.__setattr__(self, "stages", stages)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read a persona from plain data: a step's fields, and `"stages"` as a list of tables.

        Raises:
            ValueError: A field is unknown, missing or malformed; the message names it and the fix.

        Example:
            >>> PersonaDefinition.from_dict({"name": "editor", "stages": [{"name": "plan"}]}).stages[0].name
            'plan'
        """
        data = _flatten_budget(data, "persona")
        stages = data.get("stages", [])
        if not isinstance(stages, list | tuple):
            raise ValueError(f"persona: stages must be a list of tables, not {stages!r}")  # noqa: TRY004
        data["stages"] = tuple(Stage.from_dict(stage) for stage in stages)
        return from_mapping(cls, data, "persona")


def _checked_stages(stages: object, where: str) -> tuple[Stage, ...]:
    if isinstance(stages, Stage):
        raise ValueError(f"{where}stages must be a list: write stages=[{stages!r}]")  # noqa: TRY004
    listed = tuple(stages) if isinstance(stages, Iterable) else None
    if listed is None or not all(isinstance(stage, Stage) for stage in listed):
        raise ValueError(f"{where}stages must be a list of Stage(...), not {listed or stages!r}")
    return listed


_PLAIN_VALUES = frozenset({str, int, float, bool, Decimal, type(None)})
_MOST_DECLARED = 1_000
_declared: dict[tuple[Any, ...], StepDefinition] = {}
"""Definitions that were made and checked: a `with` block declares its step each time that it is entered."""


def defined(kind: type[D], said: object, options: Mapping[str, Any], verb: str) -> D:
    """Return a definition that was given as such, or make one of a name and options.

    Args:
        kind: What is to be defined.
        said: A definition, or a name.
        options: The fields that were said beside it.
        verb: What was called, for messages.

    Raises:
        ValueError: An option is malformed, or there are some beside a definition.
        TypeError: There is no such option.
    """
    __tracebackhide__ = True
    known = _key_of(kind, said, options)
    if known is not None and known in _declared:
        return cast(D, _declared[known])
    made = _defined(kind, said, options, verb)
    if known is not None:
        if len(_declared) >= _MOST_DECLARED:
            _declared.clear()
        _declared[known] = made
    return made


def _key_of(kind: type, said: object, options: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return what the same declaration would have again; `None` if it keeps objects of the user's."""
    if type(said) is not str:
        return None
    key: list[Any] = [kind, said]
    for name, value in options.items():
        if type(value) not in _PLAIN_VALUES:
            return None
        key += (name, type(value), value)
    return tuple(key)


def _defined(kind: type[D], said: object, options: Mapping[str, Any], verb: str) -> D:
    __tracebackhide__ = True
    if isinstance(said, kind):
        if options:
            raise ValueError(f"{', '.join(options)}: say it in the definition, not beside it")
        return said
    if isinstance(said, StepDefinition):
        raise ValueError(f"{verb}() needs a {kind.__name__}, not {said!r}")  # noqa: TRY004
    try:
        return kind(name=said, **options)  # type: ignore[arg-type]
    except TypeError:
        if error := unknown_option(options, [field.name for field in fields(kind)], verb):
            raise error from None
        raise


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(
        isinstance(name, str) and name for name in value
    )


def _flatten_budget(data: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ValueError(f"a {kind} must be a table of fields, not {data!r}")  # noqa: TRY004
    flat = dict(data)
    budget = flat.pop("budget", {})
    if not isinstance(budget, Mapping):
        raise ValueError(f"{kind}: budget must be a table such as {{'max_usd': 0.05}}, not {budget!r}")  # noqa: TRY004
    for name, value in budget.items():
        if name not in get_args(LimitName):
            raise ValueError(f"{kind}: budget has no limit {name!r}; use {', '.join(get_args(LimitName))}")
        if name in flat:
            raise ValueError(f"{kind}: {name} is given twice, in budget and beside it; keep one")
        flat[name] = value
    return flat
