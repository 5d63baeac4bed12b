"""A step: it begins, is charged, ends at its boundary, and leaves a record."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from decimal import Decimal
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, overload

from steptrack_callbacks import attachments, hooks
from steptrack_callbacks.concurrency.contexts import Stack
from steptrack_callbacks.concurrency.flow import Flow, run_async, run_leaving, run_sync
from steptrack_callbacks.concurrency.tasks import current_owner
from steptrack_callbacks.engine import budget_binding
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.budget_account import BudgetAccount
from steptrack_callbacks.engine.budget_binding import checked_run_id
from steptrack_callbacks.engine.chain import AccountChain
from steptrack_callbacks.engine.open_call import close_and_sweep
from steptrack_callbacks.values.arguments import checks_arguments
from steptrack_callbacks.values.definitions import LimitName, StepDefinition
from steptrack_callbacks.values.errors import BudgetExhausted
from steptrack_callbacks.values.money import to_usd
from steptrack_callbacks.values.records import CompletedStep, Kind
from steptrack_callbacks.values.signatures import ShowsPublicNames
from steptrack_callbacks.values.statuses import Status
from steptrack_callbacks.values.usage import Usage

from . import active, beginning, ending, recording, remaining, shown
from .boundary import Ending, decide, leave, pass_on, status_of
from .decorators import decorate
from .placement import Placement, place
from .recording import Recording
from .tool_policy import ToolPolicy

P = ParamSpec("P")
R = TypeVar("R")

_NO_ACCOUNTS = AccountChain(())
_MOST_FAILURES = 16
wrapping: Stack[Account] = Stack("steptrack_wrapping_up")


class Step(metaclass=ShowsPublicNames):
    """One activation of a step or persona: a context manager and a decorator; `step()` makes them.

    It can be used in one `with` only (or `async with`, which also awaits what is still being
    settled). As a decorator it makes a new one for each call.

    Attributes:
        definition: What was declared.
        kind: `step`, `persona`, or `hook`.
        parent: The step around it, once it has begun, or `None`.
        status: How it ended; `open` while it runs, `new` before.
        exhaustion: The exhaustion that its boundary has handled, or `None`.
    """

    _public = shown.PUBLIC
    said: Collection[str] = ()  # the options that the code gives, though some may be as by default
    holds_runs = False  # whether steps right inside may name runs: it is around a whole program

    def __init__(
        self,
        definition: StepDefinition,
        *,
        kind: Kind = "step",
        parent: Step | None = None,
        run_id: str | None = None,
    ) -> None:
        self.definition = definition
        self.kind: Kind = kind
        self.parent = parent
        self.status: Status = "new"
        self.exhaustion: BudgetExhausted | None = None
        self.times = (0.0, 0.0)
        self.errors: tuple[str | None, str | None] = (None, None)
        self.recording: Recording | None = None
        self.tool_calls = 0
        self.tool_uses: dict[str, int] = {}
        self.stages_met: set[str] = set()
        self.entered_by: object = None  # the task or thread, if it can be exhausted
        self.put_away: tuple[Step, ...] = ()
        self.finished = self.left_elsewhere = False
        self._result: Any = None
        self._run_id = None if run_id is None else checked_run_id(run_id, definition.name)
        self.placement: Placement | None = None
        self.chain = _NO_ACCOUNTS  # what `accounts` was when it was last sorted out
        self.chain_until: float | None = None  # until when that holds; `None` for as long as it runs
        self.failures: deque[tuple[BaseException, BudgetExhausted | None]] = deque(maxlen=_MOST_FAILURES)

    def __dir__(self) -> list[str]:
        return type(self).shown(super().__dir__())

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    @property
    def id(self) -> str:
        """Unique to this activation; empty before it begins."""
        return self.placement.account.ref.step_id or "" if self.placement else ""

    @property
    def run_id(self) -> str:
        """Shared by all steps under one outermost step; empty before it begins."""
        return self.placement.account.ref.run_id if self.placement else self._run_id or ""

    @property
    def path(self) -> str:
        """Names from the outermost step to this one, joined with `/`."""
        return self.placement.account.ref.path if self.placement else self.name

    @property
    def policy(self) -> ToolPolicy:
        """The tools that may run in it."""
        return self.placement.policy if self.placement else ToolPolicy()

    @property
    def persona(self) -> Step | None:
        """The nearest persona around it; itself for a persona."""
        return self.placement.personas[-1] if self.placement and self.placement.personas else None

    @property
    def model(self) -> str | None:
        """The `model` of the innermost step that names one; see `current_model`."""
        if self.definition.model is not None or self.parent is None:
            return self.definition.model
        return self.parent.model

    # What it has spent, and may

    @property
    def account(self) -> Account:
        """What is charged; there is one from the beginning of the step."""
        if self.placement is None:
            raise RuntimeError(f"step {self.name!r} has not begun: use it with `with`, or as a decorator")
        return self.placement.account

    @property
    def accounts(self) -> AccountChain:
        """What a call in this step is charged to now, innermost first."""
        if self.chain_until is not None and budget_binding.clock() >= self.chain_until:
            self._gather_accounts()  # the window of a budget is over
        return self.chain

    @property
    def budgets(self) -> list[BudgetAccount]:
        """The accounts of the budgets attached to this step itself."""
        return [binding.account() for binding in self.placement.bindings] if self.placement else []

    @property
    def usage(self) -> Usage:
        """What was charged to it and to the steps inside it."""
        return self.placement.account.settled.usage() if self.placement else Usage()

    @property
    def own_usage(self) -> Usage:
        """What was charged to it, and not to a step inside it."""
        return self.placement.account.own.usage() if self.placement else Usage()

    @property
    def cost_usd(self) -> Decimal:
        """US dollars charged to it and to the steps inside it.

        Calls of unknown price are not included: if `usage.unpriced_calls` is not 0 it is a lower bound,
        and 0 may mean that nothing is known.
        """
        return to_usd(self.placement.account.settled.cost) if self.placement else Decimal(0)

    @property
    def limits(self) -> dict[LimitName, Any]:
        """The limits that are set, grants included."""
        return self.placement.account.limits.as_dict() if self.placement else self.definition.limits

    @property
    def exhausted(self) -> bool:
        """Whether a limit of it has been reached, or has refused a call."""
        if self.exhaustion is not None or self.placement is None:
            return self.exhaustion is not None
        return any(each.raised or each.full_limits() for each in (self.placement.account, *self.budgets))

    @overload
    def remaining(self, limit: LimitName) -> Decimal | float | None: ...
    @overload
    def remaining(self, limit: None = None) -> dict[LimitName, Decimal | float]: ...
    @checks_arguments
    def remaining(self, limit: LimitName | None = None) -> Any:
        """Return what is left for a call in it, after what is spent and what is reserved, at least 0.

        All limits of that name count that apply to it: of this step, of the steps and personas around it, and
        of budgets, for which the ledger is asked. The smallest remaining amount is returned.

        Args:
            limit: `max_usd`, `max_tokens`, `max_calls` or `max_seconds`; `None` returns all.

        Returns:
            The amount in the limit's unit; `None` if none of them sets that limit. Without a name, a dict
            of all limits that are set. What is kept back for wrapping up counts only inside `wrap_up()`.

        Raises:
            ValueError: There is no limit of that name.
            LedgerError: The ledger of a budget cannot be reached.
        """
        return run_sync(remaining.of(self, limit, wrapping))

    @overload
    async def aremaining(self, limit: LimitName) -> Decimal | float | None: ...
    @overload
    async def aremaining(self, limit: None = None) -> dict[LimitName, Decimal | float]: ...
    async def aremaining(self, limit: LimitName | None = None) -> Any:
        """Async version of `remaining`."""
        return await run_async(remaining.of(self, limit, wrapping))

    def record(self) -> CompletedStep:
        """Return its record; for a running step, as if it had ended now.

        Raises:
            RuntimeError: The step has not begun.
        """
        account = self.account
        return (self.recording or ending.recording_of(self)).build(account)()

    def records(self) -> list[CompletedStep]:
        """Return the records of the steps that ended inside it, and its own, in the order of ending.

        Records that were drained, or that the ledger has dropped, are missing, and so are those inside them.
        """
        return recording.records_inside(self.id, None if self.holds_runs else self.run_id, active.running())

    def _repr_html_(self) -> str:
        return self.record()._repr_html_() if self.status != "new" else shown.card_of(self)

    def __repr__(self) -> str:
        return shown.in_words(self)

    def __enter__(self) -> Self:
        __tracebackhide__ = True
        if "default" in self.said:
            raise beginning.nowhere_for_default(self.name)
        self.begin()
        active.stack.push(self)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        __tracebackhide__ = True
        active.leave(self)
        return leave(error, run_sync(self.end(error)))

    async def __aenter__(self) -> Self:
        __tracebackhide__ = True
        return self.__enter__()

    async def __aexit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        __tracebackhide__ = True
        active.leave(self)
        try:
            if not isinstance(error, GeneratorExit):  # what is being closed must not await
                await ending.late_reports(self.account)
        except BaseException as cancelled:  # noqa: BLE001 - it ends the step, and is passed on
            pass_on(await run_leaving(self.end(cancelled), cancelled), cancelled)
        return leave(error, await run_leaving(self.end(error), error))

    def fresh(self, definition: StepDefinition) -> Step:
        """Return a step like this one, not begun, with another declaration."""
        fresh = Step(definition, kind=self.kind, parent=self.parent, run_id=self._run_id)
        fresh.said = frozenset(self.said) - {"default"}  # a function can return it
        return fresh

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, coroutine function, generator or async generator function.

        Each call of it runs in a new step. The function's `step_definition` is the declaration.

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
        if self.placement is None or self.placement.account.closed:
            raise RuntimeError(f"step {self.path!r} is not running: use wrap_up() inside its block")
        wrapping.push(self.account)
        try:
            yield self
        finally:
            wrapping.remove(self.account)

    def returned(self, result: Any) -> None:
        """Note that the body has finished by itself, and with what."""
        self.finished, self._result = True, result

    def value(self) -> Any:
        """Return the body's own value if it finished, else the `default`."""
        if self.finished:
            return self._result
        default = self.definition.default
        return default(self.exhaustion) if callable(default) else default

    # Its beginning and its end; the stack is the caller's business

    @checks_arguments
    def begin(self) -> None:
        """Take its place among the steps around it.

        Raises:
            RuntimeError: It has begun before, or the given parent has ended.
            ValueError: A `run_id` was given to a step that is not the outermost, or is around it already;
                or one of its budgets is attached to an enclosing step with other limits.
            StepDenied: A hook said no.
            LedgerError: The ledger that its budgets or its `run_id` need cannot be asked.
            StepTrackError: It has limits, and no call of a package that is imported could be refused.
        """
        __tracebackhide__ = True
        beginning.check_unbegun(self)
        before = self.parent, self.definition
        try:
            self.parent = self.parent or (None if self.kind == "hook" else active.innermost())
            self.definition = beginning.checked(self, self._run_id)
            self._take_place()
        except BaseException:
            self.parent, self.definition = before  # it may still begin elsewhere
            raise
        if hooks.registered:
            ending.end_if_unwanted(self)

    def _take_place(self) -> None:
        """Open its account: from now on it is running."""
        around = self.parent.placement if self.parent else None
        account = (placement := place(self, within=around, run_id=self._run_id)).account
        if account.limited:
            attachments.warn_if_unwatched(account.ref.path)  # which may be an error: it has not begun then
        self.placement = placement
        self.entered_by = current_owner() if account.limited or placement.bindings else None
        self._gather_accounts()
        self.times, self.status = (time.time(), time.monotonic()), "open"
        active.by_id[account.ref.step_id] = self

    def _gather_accounts(self) -> None:
        assert self.placement is not None  # it has begun
        account, bindings = self.placement.account, self.placement.bindings
        around = self.parent.accounts if self.parent else _NO_ACCOUNTS
        budgets = [binding.account() for binding in bindings]
        self.chain = AccountChain((account, *budgets, *around)) if budgets else around.with_inner(account)
        if self.placement.around:
            self.chain_until = min([binding.ends_at for binding in self.placement.around])

    def end(self, error: BaseException | None) -> Flow[BaseException | None]:
        """End the step: close its account, let its boundary act, leave its record.

        Returns:
            What must be raised now: `None` for nothing, the very error for passing it on.
        """
        account = self.account
        if self.failures:
            error = active.hidden_exhaustion(self, error) or error
            self.failures.clear()  # errors hold the frames that they have passed
        end = Ending("completed", None, None)
        try:
            close_and_sweep(account)
            budgets = self.budgets
            if error is not None or account.limited or account.raised or budgets:
                end = yield from decide(
                    account, error, finished=self.finished, result=self._result, budgets=budgets
                )
        except BaseException as failure:  # an escalation has failed, or something was interrupted
            yield from ending.finish(self, Ending(status_of(account, failure), failure, None))
            raise
        yield from ending.finish(self, end)
        return end.leaving


def current_step() -> Step | None:
    """Return the innermost step that is running here, or `None`.

    Example:
        >>> from steptrack_callbacks import current_step, step
        >>> with step("outer"), step("inner"):
        ...     current_step().path
        'outer/inner'
    """
    step: Step | None = active.innermost()
    return step


open_steps: Callable[[], list[Step]] = active.running
"""Returns the steps of this process that are running, in the order in which they began."""
