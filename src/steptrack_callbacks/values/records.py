"""What a step leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, get_args

from .definitions import Grant, LimitName
from .formatting import Share, all_granted, difference, doubts_about, of_calls, shortened, spent
from .money import count_of, decimal_of
from .statuses import STATUS_MEANS, Status
from .swaps import ModelSwap
from .usage import LATER_COUNTS, Usage

Kind = Literal["step", "persona", "hook"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedStep:
    """The record of one activation of a step, or of a persona.

    Attributes:
        id: Unique to this activation.
        run_id: Shared by all steps under one outermost step.
        parent_id: The step around it, or `None`.
        path: Names from the outermost step to this one, joined with `/`.
        name: The step's name.
        kind: `step`, `persona`, or `hook` for calls made by a hook.
        function: The decorated function's name, or `None`.
        persona: The nearest persona around it (itself for a persona), or `None`.
        model: The model last used, else the declared one, else `None`.
        models: Own usage by model: what was charged to this step itself. Steps inside it have their own.
        limits: The limits in force at the end, grants included.
        own_usage: What was charged to this step itself.
        usage: The same with all steps inside it, which is what its limits count. For a resumed run
            (with a `run_id`) or thread of an agent, includes earlier spending, and spending elsewhere.
        denied_calls: Calls refused in it and inside it; nothing was sent for them.
        busy_calls: Those of them that would have fit if other calls in flight had not reserved the room.
        cut_calls: Answers in it and inside it that were cut short because the call was sent with what was
            left of a budget as its `max_tokens`.
        in_flight_calls: Calls still open when it ended, which are charged by estimate.
        late_calls: Calls in it and inside it whose usage arrived only after their step had ended.
        strict_breaches: Times a `strict` limit was exceeded, because a provider reported more than its bound.
        tool_calls: Tool uses that were allowed in this step.
        status: How it ended.
        error: The exception that left it or was handled by its boundary, as text; else `None`.
        grants: What escalations granted to it.
        swaps: Calls in it and inside it that were made with a different one of its models.
        budgets: The shared budgets attached to it, by name: `limits`, `spent`, `window` and `resets_at`.
        resumed_usage: The part of `usage` that had been spent before this activation began.
        here_usage: The part of `usage` that was charged in this activation; add this up over records.
        started_at: Seconds since the epoch.
        ended_at: Seconds since the epoch.
        duration_s: Seconds by the monotonic clock.
        revision: Incremented when a late settlement changes the record.
    """

    id: str
    run_id: str
    parent_id: str | None
    path: str
    name: str
    kind: Kind
    function: str | None
    persona: str | None
    model: str | None
    models: Mapping[str, Usage] = field(default_factory=dict)
    limits: Mapping[LimitName, Any] = field(default_factory=dict)
    own_usage: Usage
    usage: Usage
    here_usage: Usage
    denied_calls: int
    in_flight_calls: int
    late_calls: int
    strict_breaches: int
    tool_calls: int
    status: Status
    error: str | None
    grants: tuple[Grant, ...]
    started_at: float
    ended_at: float
    duration_s: float
    revision: int = 0
    budgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    resumed_usage: Usage = field(default_factory=Usage)
    busy_calls: int = 0
    cut_calls: int = 0
    swaps: tuple[ModelSwap, ...] = ()

    @property
    def llm_calls(self) -> int:
        """Requests sent in it and inside it, failed ones included."""
        return self.usage.calls

    def _repr_html_(self) -> str:
        from .cards import Card  # noqa: PLC0415 - only once somebody wants HTML

        return Card(
            name=self.path,
            status=self.status,
            took_s=self.duration_s,
            note="" if self.status in ("completed", "open") else STATUS_MEANS[self.status],
            error=shortened(self.error or ""),
            shares=shares_of(self),
            usage=self.usage,
            notes=list(self._notes()),
        ).to_html()

    def _notes(self) -> Iterator[str]:
        calls = doubts_about(self.usage)
        calls += [f"{self.denied_calls:,} refused"] if self.denied_calls else []
        calls += [f"{self.in_flight_calls:,} still in flight at the end"] if self.in_flight_calls else []
        if calls:
            yield of_calls(calls)
        yield from spent_elsewhere(self)
        yield from all_granted(self.grants)
        yield from map(str, self.swaps)
        for name, budget in self.budgets.items():
            if budget["resets_at"]:
                yield f"budget {name} resets at {budget['resets_at']}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; the top-level sums include the steps inside it."""
        usage = self.usage.to_dict()
        head = {"name": self.name, "function": self.function, "model": self.model}
        tail = {
            "kind": self.kind,
            "id": self.id,
            "run_id": self.run_id,
            "parent_id": self.parent_id,
            "path": self.path,
            "persona": self.persona,
            "models": {model: used.to_dict() for model, used in self.models.items()},
            "limits": {
                name: float(value) if name == "max_usd" else value for name, value in self.limits.items()
            },
            "own_usage": self.own_usage.to_dict(),
            "denied_calls": self.denied_calls,
            "busy_calls": self.busy_calls,
            "cut_calls": self.cut_calls,
            "in_flight_calls": self.in_flight_calls,
            "late_calls": self.late_calls,
            "strict_breaches": self.strict_breaches,
            "tool_calls": self.tool_calls,
            "grants": [grant.to_dict() for grant in self.grants],
            "swaps": [swap.to_dict() for swap in self.swaps],
            "budgets": {name: dict(budget) for name, budget in self.budgets.items()},
            "resumed_usage": self.resumed_usage.to_dict(),
            "here_usage": self.here_usage.to_dict(),
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "duration_s": self.duration_s,
            "revision": self.revision,
        }
        calls = usage.pop("calls")
        return head | usage | {"llm_calls": calls, "status": self.status, "error": self.error} | tail

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` has written, also after a trip through JSON.

        Money comes back as exactly as a float keeps it: to 15 digits.

        Args:
            data: The dict; names of newer versions are left out, and counts that older versions did not
                have are 0.

        Raises:
            ValueError: It is not such a dict; the message names what is wrong with it.

        Example:
            >>> from steptrack_callbacks import CompletedStep, drain_completed_steps, record_usage, step
            >>> with step("plan", max_usd=1):
            ...     record_usage("my-model", input_tokens=10, output_tokens=5, cost_usd=0.02)
            >>> (record,) = drain_completed_steps()
            >>> CompletedStep.from_dict(record.to_dict()) == record
            True
        """
        try:
            return cls(**_plain_fields(data), **_rebuilt_fields(data))
        except KeyError as error:
            raise ValueError(f"this is not a record of a step: {error.args[0]!r} is missing") from None
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"this is not a record of a step: {error}") from None


_USAGES = ("own_usage", "resumed_usage", "here_usage")
_REBUILT = (*_USAGES, "usage", "models", "limits", "grants", "budgets", "swaps")
_NAMES = ("id", "run_id", "path", "name")
_COUNTS = ("denied_calls", "in_flight_calls", "late_calls", "strict_breaches", "tool_calls", "revision")
_NEWER_COUNTS = ("busy_calls", "cut_calls")
_TIMES = ("started_at", "ended_at", "duration_s")
_LATEST = 1e11  # in the year 5138
_CHOICES = {"status": get_args(Status), "kind": get_args(Kind)}


def _plain_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Take what is written as it is, checked: somebody else may have had the file."""
    data = {**dict.fromkeys(_NEWER_COUNTS, 0), **data}
    plain = {each.name: data[each.name] for each in fields(CompletedStep) if each.name not in _REBUILT}
    for name, value in plain.items():
        _check(name, value)
    return plain


def _check(name: str, value: Any) -> None:
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r}")
    elif name in _COUNTS or name in _NEWER_COUNTS:
        count_of(value, name)
    elif name in _TIMES:
        if _number(value, name) > _LATEST:
            raise ValueError(f"{name} must be a number of seconds up to {_LATEST:g}, not {value!r}")
    elif value is not None or name in _NAMES:
        _text(value, name)


def _rebuilt_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: _usage_of(data[name]) for name in _USAGES},
        "usage": _usage_of({**data, "calls": data["llm_calls"]}),
        "models": {model: _usage_of(used) for model, used in data["models"].items()},
        "limits": _limits_of(data["limits"]),
        "grants": tuple(_grant_of(grant) for grant in data["grants"]),
        "swaps": tuple(ModelSwap.from_dict(swap) for swap in data.get("swaps", ())),
        "budgets": {name: _budget_of(budget) for name, budget in data["budgets"].items()},
    }


def _usage_of(data: Mapping[str, Any]) -> Usage:
    written = (each.name for each in fields(Usage) if each.name in data or each.name not in LATER_COUNTS)
    return Usage(**{name: data[name] for name in written})


def _limits_of(data: Mapping[Any, Any]) -> dict[LimitName, Any]:
    for name, value in data.items():
        if name not in get_args(LimitName):
            raise ValueError(f"there is no limit {name!r}")
        _number(value, name)
    return {**data, "max_usd": decimal_of(data["max_usd"], "max_usd")} if "max_usd" in data else {**data}


def _grant_of(data: Mapping[str, Any]) -> Grant:
    if "by" in data:
        _text(data["by"], "by")
    return Grant(**data)


def _budget_of(data: Mapping[str, Any]) -> dict[str, Any]:
    _limits_of(data["limits"])
    for name in data["limits"]:
        _number(data["spent"][name], name)
    for name in ("window", "resets_at"):
        if data[name] is not None:
            _text(data[name], name)
    return {name: data[name] for name in ("limits", "spent", "window", "resets_at")}


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{name} must be a number, not {value!r}")
    return float(decimal_of(value, name))


def _text(value: Any, name: str) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {value!r}")  # noqa: TRY004


def spent_elsewhere(record: CompletedStep) -> Iterator[str]:
    """Say which part of a record's sums was not charged in this activation of the step."""
    before = record.resumed_usage
    beside = difference(record.usage, before + record.here_usage)
    for part, whose in ((before, "before this start"), (beside, "by other starts since")):
        if part.calls or part.cost_usd:
            yield f"of which {spent(part)} {whose}"


def shares_of(record: CompletedStep) -> list[Share]:
    """Say how much of each limit of a step is used, and of the shared budgets that are bound to it."""
    consumed = {
        "max_usd": record.usage.cost_usd,
        "max_tokens": record.usage.total_tokens,
        "max_calls": record.usage.calls,
        "max_seconds": record.duration_s,
    }
    own = [Share(limit, value, consumed[limit]) for limit, value in record.limits.items()]
    shared = [
        Share(limit, value, budget["spent"][limit], name, budget["window"])
        for name, budget in record.budgets.items()
        for limit, value in budget["limits"].items()
    ]
    return own + shared
