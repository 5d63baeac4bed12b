"""A step as people hold it: a context manager and a decorator that shows what it has spent."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from decimal import Decimal
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast, get_args, overload

from steptrack_callbacks.concurrency.contexts import Stack
from steptrack_callbacks.concurrency.flow import run_async, run_sync
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.call import open_calls_of
from steptrack_callbacks.engine.lease import look
from steptrack_callbacks.engine.room import remaining
from steptrack_callbacks.values.definitions import LimitName, StepDefinition
from steptrack_callbacks.values.money import to_usd
from steptrack_callbacks.values.records import CompletedStep
from steptrack_callbacks.values.signatures import ShowsPublicNames
from steptrack_callbacks.values.words import amount_of

from .activation import Activation, innermost, running, stack
from .boundary import pass_on
from .decorators import decorate
from .recording import ledger

P = ParamSpec("P")
R = TypeVar("R")

_SETTLING_TURNS = 50

wrapping: Stack[Account] = Stack("steptrack_wrapping_up")


_PUBLIC = frozenset(
    {
        "aremaining",
        "budgets",
        "cost_usd",
        "definition",
        "exhausted",
        "exhaustion",
        "id",
        "kind",
        "limits",
        "model",
        "name",
        "own_usage",
        "parent",
        "path",
        "persona",
        "policy",
        "record",
        "records",
        "remaining",
        "run_id",
        "status",
        "usage",
        "wrap_up",
    }
)


class Step(Activation, metaclass=ShowsPublicNames):
    """One activation of a step or persona: a context manager and a decorator; `step()` makes them.

    It is good for one `with` (or `async with`, which is the same and also awaits what is still being
    settled). As a decorator it makes a fresh one per call.

    Attributes:
        definition: What was declared.
        kind: `step`, `persona`, or `hook`.
        parent: The step around it, once it has begun, or `None`.
        policy: The tools that may run in it.
        exhaustion: The exhaustion that its boundary has acted on, or `None`.
    """

    parent: Step | None
    _public = _PUBLIC

    def __dir__(self) -> list[str]:
        return type(self).shown(super().__dir__())

    @property
    def persona(self) -> Step | None:
        """The nearest persona around it; itself for a persona."""
        return self._personas[-1] if self._personas else None

    @property
    def model(self) -> str | None:
        """The model that code without one of its own should use here; see `current_model`."""
        if self.definition.model is not None or self.parent is None:
            return self.definition.model
        return self.parent.model

    @property
    def cost_usd(self) -> Decimal:
        """US dollars charged to it and to the steps inside it.

        Calls of unknown price are not in it: where `usage.unpriced_calls` is not 0 it is a lower bound,
        and 0 may mean that nothing is known.
        """
        return to_usd(self._account.settled.cost) if self._account else Decimal(0)

    @property
    def limits(self) -> dict[LimitName, Any]:
        """The limits that are set, grants included."""
        return self._account.limits.as_dict() if self._account else self.definition.limits

    @overload
    def remaining(self, limit: LimitName) -> Decimal | float | None: ...
    @overload
    def remaining(self, limit: None = None) -> dict[LimitName, Decimal | float]: ...
    def remaining(self, limit: LimitName | None = None) -> Any:
        """Return what is left for a call in it, after what is settled and what is reserved, at least 0.

        All limits of that name count that hold such a call: its own, those of the steps and personas around
        it, and those of budgets, which the ledger is asked for. The least rest of them is returned.

        Args:
            limit: `max_usd`, `max_tokens`, `max_calls` or `max_seconds`; `None` asks for all.

        Returns:
            The rest in the limit's unit; `None` if none of them sets that limit. Without a name, the rests of
            all limits that are set, by name. What is kept back for wrapping up counts only while wrapping up.

        Raises:
            ValueError: There is no limit of that name.
            LedgerError: The ledger of a budget cannot be asked.
        """
        self._check_limit(limit)
        if shared := self.accounts.shared:
            run_sync(look(shared))
        return self._rest(limit)

    @overload
    async def aremaining(self, limit: LimitName) -> Decimal | float | None: ...
    @overload
    async def aremaining(self, limit: None = None) -> dict[LimitName, Decimal | float]: ...
    async def aremaining(self, limit: LimitName | None = None) -> Any:
        """Do as `remaining`, on the event loop."""
        self._check_limit(limit)
        if shared := self.accounts.shared:
            await run_async(look(shared))
        return self._rest(limit)

    @staticmethod
    def _check_limit(limit: object) -> None:
        if limit is not None and limit not in get_args(LimitName):
            raise ValueError(f"there is no limit {limit!r}; use {', '.join(get_args(LimitName))}")

    def _rest(self, limit: LimitName | None) -> Any:
        if limit is not None:
            return self._least(limit)
        rests = {name: self._least(name) for name in get_args(LimitName)}
        return {name: rest for name, rest in rests.items() if rest is not None}

    def _least(self, limit: LimitName) -> Decimal | float | None:
        if self._account is None:
            return self.definition.limits.get(limit)
        with LOCK:
            wrapped_up = wrapping.entries()
            rests = [remaining(each, limit, wrapping=each in wrapped_up) for each in self.accounts]
        return min((rest for rest in rests if rest is not None), default=None)

    def records(self) -> list[CompletedStep]:
        """Return the records of the steps that ended inside it, and its own, in the order of ending.

        Records that were drained, or that the ledger let go, are missing, and so are those inside them.
        """
        records = ledger.peek(None if self.holds_runs else self.run_id)
        parents = {step.id: step.parent.id for step in open_steps() if step.parent}
        parents |= {record.id: record.parent_id for record in records if record.parent_id}

        def is_inside(step_id: str | None) -> bool:
            while step_id is not None and step_id != self.id:
                step_id = parents.get(step_id)
            return step_id is not None

        return [record for record in records if is_inside(record.id)]

    def _repr_html_(self) -> str:
        if self.status != "new":
            return self.record()._repr_html_()
        from steptrack_callbacks.values.cards import Card  # noqa: PLC0415 - only once somebody wants HTML

        limits = [f"{limit} {amount_of(limit, value)}" for limit, value in self.limits.items()]
        note = f"limits: {', '.join(limits)}" if limits else "without limits"
        return Card(name=self.name, note=note).to_html()

    def __repr__(self) -> str:
        limits = [f"{name}={value}" for name, value in self.limits.items()]
        return f"<{', '.join([f'{self.kind} {self.path!r} {self.status} {self._spent()}', *limits])}>"

    def _spent(self) -> str:
        """Put the cost in words, so that one that is not known whole does not look like one that is."""
        usage = self.usage
        if usage.unpriced_calls and not usage.cost_usd:
            return "unknown cost"
        return f"{'>=' if usage.unpriced_calls else ''}{usage.cost_usd} USD"

    def __enter__(self) -> Self:
        __tracebackhide__ = True
        if "default" in self.said:
            raise ValueError(
                f"step {self.name!r}: a `with` block has nowhere to put its default: decorate a function with"
                " the step, or set the value before the block"
            )
        self.begin()
        stack.push(self)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        __tracebackhide__ = True
        self.left_elsewhere = not stack.remove(self)
        return self._leave(error, run_sync(self.end(error)))

    async def __aenter__(self) -> Self:
        __tracebackhide__ = True
        return self.__enter__()

    async def __aexit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        __tracebackhide__ = True
        self.left_elsewhere = not stack.remove(self)
        try:
            if not isinstance(error, GeneratorExit):  # what is being closed must not await
                await self._late_reports()
        except BaseException as cancelled:  # noqa: BLE001 - it ends the step, and is passed on
            pass_on(run_sync(self.end(cancelled)), cancelled)
        return self._leave(error, await run_async(self.end(error)))

    async def _late_reports(self) -> None:
        """Give an event loop's callbacks the few turns after an answer in which they report it."""
        import asyncio  # noqa: PLC0415 - whoever runs a coroutine has it

        for _ in range(_SETTLING_TURNS):
            if all(call.admitted for call in open_calls_of(self.account)):
                break
            await asyncio.sleep(0)

    @staticmethod
    def _leave(error: BaseException | None, leaving: BaseException | None) -> bool:
        __tracebackhide__ = True
        if leaving is not error:
            pass_on(leaving, error)
        return leaving is None

    def fresh(self, definition: StepDefinition) -> Step:
        """Return a step like this one, not begun, with another declaration."""
        fresh = Step(definition, kind=self.kind, parent=self.parent, run_id=self._run_id)
        fresh.said = frozenset(self.said) - {"default"}  # a function can return it
        return fresh

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, coroutine function, generator or async generator function.

        Each call of it runs in a fresh step. Its declaration is the function's `step_definition`.

        Raises:
            ValueError: What is decorated is not a function.
        """
        return decorate(function, self)

    @contextmanager
    def wrap_up(self) -> Generator[Self]:
        """Let calls inside this block spend what `wrap_up_usd` and `wrap_up_calls` keep back.

        Raises:
            RuntimeError: The step is not running.
        """
        if self._account is None or self._account.closed:
            raise RuntimeError(f"step {self.path!r} is not running: use wrap_up() inside its block")
        wrapping.push(self._account)
        try:
            yield self
        finally:
            wrapping.remove(self._account)

    @contextmanager
    def turn(self) -> Generator[None]:
        """Make it the active step for one turn of a generator's body.

        Steps that the body has opened and is still inside are put away with it, for the next turn.
        """
        stack.push(self, *self._put_away)
        try:
            yield
        finally:
            self._put_away = stack.cut(self)

    @contextmanager
    def aside(self) -> Generator[None]:
        """Leave the stack while the body reads what was made outside of it."""
        if not any(entry is self for entry in stack.entries()):
            yield
            return
        above = stack.cut(self)
        try:
            yield
        finally:
            stack.push(self, *above)

    def value(self) -> Any:
        """Return the body's own value if it finished, else the `default`."""
        if self._finished:
            return self._result
        default = self.definition.default
        return default(self.exhaustion) if callable(default) else default


def current_step() -> Step | None:
    """Return the innermost step that is running here, or `None`.

    Example:
        >>> from steptrack_callbacks import current_step, step
        >>> with step("outer"), step("inner"):
        ...     current_step().path
        'outer/inner'
    """
    return cast("Step | None", innermost())


def open_steps() -> list[Step]:
    """Return the steps of this process that are running, in the order in which they began."""
    return cast("list[Step]", running())


def peek_completed_steps(run_id: str | None = None) -> list[CompletedStep]:
    """Return the records of the steps that have ended, inner ones first; `None` means all runs."""
    return ledger.peek(run_id)


def drain_completed_steps(run_id: str | None = None) -> list[CompletedStep]:
    """Return the records of the steps that have ended, and forget them; `None` means all runs.

    A late settlement puts the whole record back, with its next `revision`.
    """
    return ledger.drain(run_id)
