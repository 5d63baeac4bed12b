"""One activation of a declaration: it begins, is charged, ends at its boundary, and leaves a record."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from typing import Any

from steptrack_callbacks import attachments, hooks
from steptrack_callbacks.concurrency.contexts import Stack
from steptrack_callbacks.concurrency.flow import Flow
from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.engine.call import open_calls_of
from steptrack_callbacks.engine.queue import QUEUE, advance_queue
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.values import user_warnings
from steptrack_callbacks.values.definitions import PersonaDefinition, StepDefinition
from steptrack_callbacks.values.errors import BudgetExhausted, StepDenied, StepTrackError
from steptrack_callbacks.values.records import CompletedStep, Kind
from steptrack_callbacks.values.statuses import Status

from .boundary import Ending, decide, status_of
from .failures import Failures
from .placement import Placed
from .recording import Recording, ledger
from .registry import completed
from .tool_policy import ToolUses

stack: Stack[Activation] = Stack("steptrack_steps")
_running: weakref.WeakValueDictionary[str, Activation] = weakref.WeakValueDictionary()

_COMPLETED = Ending("completed", None, None)
LONGEST_ERROR = 2_000
"""Characters of an error's text that a record keeps."""


class Activation(Placed):
    """The life of a step, without its face; see `Step`.

    Attributes:
        holds_runs: Whether steps right inside it may name runs, as if it were not there: it is around a
            whole program that knows nothing of it.
    """

    holds_runs = False
    parent: Activation | None

    def __init__(
        self,
        definition: StepDefinition,
        *,
        kind: Kind = "step",
        parent: Activation | None = None,
        run_id: str | None = None,
    ) -> None:
        super().__init__(definition, kind=kind, parent=parent, run_id=run_id)
        self.exhaustion: BudgetExhausted | None = None
        self.left_elsewhere = False
        self._status: Status = "new"
        self._error: str | None = None
        self._kept_error: str | None = None
        self._times = (0.0, 0.0)
        self._left: Recording | None = None
        self._tool_calls = 0
        self.tool_uses = ToolUses(definition.max_tool_calls)
        self._put_away: tuple[Activation, ...] = ()
        self._finished = False
        self._result: Any = None
        self._failures: Failures | None = None

    @property
    def status(self) -> Status:
        """How it ended; `open` while it runs, `new` before."""
        return self._status

    @property
    def exhausted(self) -> bool:
        """Whether a settled amount has reached its limit, or a refusal of this step has left its body."""
        if self.exhaustion is not None or self._account is None:
            return self.exhaustion is not None
        return any(account.full_limits() for account in (self._account, *self.budgets))

    def begin(self) -> None:
        """Take its place among the steps around it; the stack is the caller's business.

        Raises:
            RuntimeError: It has begun before, or the given parent has ended.
            ValueError: A `run_id` was given to a step that is not the outermost, or is around it already;
                or one of its budgets hangs on a step around with other limits.
            StepDenied: A hook said no.
            LedgerError: The ledger that its budgets or its `run_id` need cannot be asked.
            StepTrackError: It has limits, and no call of a package that is imported could be refused.
        """
        __tracebackhide__ = True
        self._check_unbegun()
        self.parent = self.parent or (None if self.kind == "hook" else innermost())
        if self.parent is not None and self._run_id is not None:
            self._check_run(self.parent)
        self._start()
        if hooks.registered and hooks.wanted(hooks.StepStarted):
            self._ask_hooks()

    def _check_unbegun(self) -> None:
        if self._account is not None:
            raise RuntimeError(
                f"step {self.path!r} was entered before: a Step is good for one `with`, so make a fresh one"
                " with step(...), or decorate a function with it"
            )
        if self.parent is not None and self.parent._status != "open":  # noqa: SLF001
            raise RuntimeError(
                f"step {self.name!r} cannot begin inside {self.parent.path!r}, which is not running"
            )

    def _check_run(self, parent: Activation) -> None:
        if not parent.holds_runs:
            raise ValueError(
                f"run_id belongs to the outermost step, and {self.name!r} is inside {parent.path!r}"
            )
        if parent.run_id == self._run_id:
            raise ValueError(
                f"run_id {self._run_id!r} of {self.name!r} is that of {parent.path!r} too: give it to one"
            )

    def _start(self) -> None:
        """Open its account: from now on it is running."""
        if attachments.is_any_distrusted() and self._would_refuse():
            raise attachments.cannot_keep_limits(self.name)
        account = self._open_account()
        if self.definition.max_tool_calls != self.tool_uses.limit:  # a file sets one
            self.tool_uses = ToolUses(self.definition.max_tool_calls)
        if account.limited:
            attachments.warn_if_unwatched(self.path)
        self._times = (time.time(), time.monotonic())
        self._status = "open"
        _running[account.ref.step_id or ""] = self

    def _would_refuse(self) -> bool:
        """Tell whether it is declared so that calls may be refused in it."""
        declared = completed(self.definition, self.said)
        limited = bool(declared.limits or declared.budgets)
        if isinstance(declared, PersonaDefinition):
            limited = limited or any(stage.max_iterations is not None for stage in declared.stages)
        return limited and declared.enforce != "observe"

    def _ask_hooks(self) -> None:
        """Let hooks see that it starts, and end it at once if one of them raises."""
        __tracebackhide__ = True
        try:
            hooks.emit(hooks.StepStarted(**self.account.ref.event_fields()))
        except BaseException as refusal:
            status = "denied" if isinstance(refusal, StepDenied) else status_of(self.account, refusal)
            self._finish(Ending(status, refusal, None))
            raise

    def end(self, error: BaseException | None) -> Flow[BaseException | None]:
        """End the step: close its books, let its boundary act, leave its record.

        Returns:
            What must be raised now: `None` for nothing, the very error for passing it on.
        """
        account = self.account
        if self._failures is not None:
            error = self.hidden_exhaustion(error) or error
            self._failures.forget()
        with LOCK:
            account.close()
        if account.open_calls:
            for call in open_calls_of(account):
                call.sweep()
        if QUEUE.waiters:
            advance_queue()
        if error is None and not (account.limited or account.raised or self.budgets):
            self._finish(_COMPLETED)
            return None
        try:
            ending = yield from decide(
                account, error, finished=self._finished, result=self._result, budgets=self.budgets
            )
        except BaseException as failure:  # an escalation has failed, or waiting for it was cancelled
            self._finish(Ending(status_of(account, failure), failure, None))
            raise
        self._finish(ending)
        return ending.leaving

    def hidden_exhaustion(self, error: BaseException | None) -> BudgetExhausted | None:
        """Return the exhaustion of this step that a fallback hides behind the failure of an earlier call."""
        return None if self._failures is None else self._failures.hidden(error, self.account.raised)

    def note_failure(self, error: BaseException) -> None:
        """Note what a call in it has failed with; only a step that raises it anyway need not know."""
        if self.status == "open" and self.definition.error_boundary != "fail":
            self._failures = self._failures or Failures()
            self._failures.note(error, self.account.raised)

    def _finish(self, ending: Ending) -> None:
        self.exhaustion = ending.exhaustion
        self._status = ending.status
        cause = ending.leaving if ending.status == "error" else ending.exhaustion or ending.leaving
        if cause is not None:
            self._error = _told(cause)
            # Somebody else's error may quote the prompt that it is about, which is not for a ledger.
            self._kept_error = self._error if isinstance(cause, StepTrackError) else type(cause).__name__
        account = self.account
        account.close()
        left = self._left = self._recording()
        account.on_late_charge = left.revise
        _running.pop(account.ref.step_id or "", None)
        if self.kind == "hook" and not self.usage.calls and not account.denied:
            return  # most hooks make no calls, and leave nothing to tell
        left.put(account)
        if hooks.registered and hooks.wanted(hooks.StepEnded):
            hooks.emit(hooks.StepEnded(**account.ref.event_fields(), record=self.record()))
        if ending.leaving is None and self.kind == "persona":
            self._warn_of_unmet_stages()

    def _warn_of_unmet_stages(self) -> None:
        if not isinstance(self.definition, PersonaDefinition):
            return
        unmet = [stage.name for stage in self.definition.stages if stage.name not in self._stages_met]
        if unmet:
            user_warnings.warn(
                f"persona {self.name!r} has stages that no step of that name ran under: {', '.join(unmet)};"
                " check the spelling, since such a stage restricts nothing",
                UserWarning,
            )

    def record(self) -> CompletedStep:
        """Return the record as it stands; for a running step, as if it had ended now.

        Raises:
            RuntimeError: The step has not begun.
        """
        account = self.account
        return (self._left or self._recording()).noted(account)()

    def _recording(self) -> Recording:
        return Recording(
            kind=self.kind,
            parent_id=self.parent.id if self.parent else None,
            function=self.definition.function,
            status=self._status,
            error=self._error,
            kept_error=self._kept_error,
            tool_calls=self._tool_calls,
            started_at=self._times[0],
            duration_s=time.monotonic() - self._times[1],
            bindings=self._bindings,
            client=self._ledger,
        )

    def let_through(self, tool: str) -> str | None:
        """Count the use of a tool, here and for all steps around; say why not if one of them has no more."""
        with LOCK:
            around = list(self._and_around())
            for step in around:
                if (why := step.tool_uses.objection(tool, step.path)) is not None:
                    return why
            for step in around:
                step.tool_uses.count(tool)
            self._tool_calls += 1
        return None

    def _and_around(self) -> Iterator[Activation]:
        step: Activation | None = self
        while step is not None:
            yield step
            step = step.parent

    @property
    def finished(self) -> bool:
        """Whether the body has finished by itself."""
        return self._finished

    def returned(self, result: Any) -> None:
        """Note that the body has finished, and with what."""
        self._finished, self._result = True, result


def _told(error: BaseException) -> str:
    """Put an error in words, even one that has none, or far too many."""
    try:
        return f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
    except Exception:  # noqa: BLE001 - its own text has failed; the error itself is on its way to the caller
        return type(error).__name__


def innermost() -> Activation | None:
    """Return the innermost activation that is running in this context, or `None`."""
    for activation in reversed(stack.entries()):
        if activation.status == "open":
            return activation
        if stack.is_started_in(activation):
            return None  # the thread has outlived the step that it was started in
    return None


def running() -> list[Activation]:
    """Return the activations of this process that are running, in the order in which they began."""
    found = [reference() for reference in _running.valuerefs()]  # a copy: other threads begin steps
    return [activation for activation in found if activation is not None and activation.status == "open"]


def note_failure(error: BaseException) -> None:
    """Let the steps that are active here know what a call in them has failed with."""
    step = innermost()
    while step is not None:
        step.note_failure(error)
        step = step.parent


def find(step_id: str) -> Activation | None:
    """Return the activation of that id, if it is running in this process."""
    return _running.get(step_id)


def reset() -> None:
    """Forget all records and running steps, for tests."""
    stack.replace(())
    _running.clear()
    ledger.clear()
    current.reset()
