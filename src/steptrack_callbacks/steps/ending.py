"""What is done when a step has ended: its record is kept, and whoever wants to is told."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from steptrack_callbacks import hooks
from steptrack_callbacks.concurrency.flow import Flow, run_sync
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.open_call import open_calls_of
from steptrack_callbacks.values import user_warnings
from steptrack_callbacks.values.definitions import PersonaDefinition, StepDefinition
from steptrack_callbacks.values.errors import StepDenied, StepTrackError

from . import active
from .boundary import Ending, status_of
from .recording import Recording

_SETTLING_TURNS = 50
LONGEST_ERROR = 2_000
"""Characters of an error's text that a record keeps."""


async def late_reports(account: Account) -> None:
    """Give an event loop's callbacks the few turns after an answer in which they report it."""
    import asyncio  # noqa: PLC0415 - whoever runs a coroutine has it

    for _ in range(_SETTLING_TURNS):
        if all(call.admitted for call in open_calls_of(account)):
            break
        await asyncio.sleep(0)


def end_if_unwanted(step: Any) -> None:
    """Let hooks see that a step starts, and end it at once if one of them raises."""
    __tracebackhide__ = True
    if not hooks.wanted(hooks.StepStarted):
        return
    account = step.account
    try:
        hooks.emit(hooks.StepStarted(**account.ref.event_fields()))
    except BaseException as refusal:
        account.close()
        status = "denied" if isinstance(refusal, StepDenied) else status_of(account, refusal)
        run_sync(finish(step, Ending(status, refusal, None)))
        raise


def finish(step: Any, ending: Ending) -> Flow[None]:
    """Note how a step ended, and leave its record; hooks are told even if the ledger is away."""
    step.exhaustion, step.status = ending.exhaustion, ending.status
    cause = ending.leaving if ending.status == "error" else ending.exhaustion or ending.leaving
    if cause is not None:
        step.errors = _told(cause)
    account = step.placement.account
    recording = step.recording = recording_of(step)
    account.on_late_charge = recording.revise
    active.by_id.pop(account.ref.step_id, None)
    if step.kind == "hook" and not account.settled.calls and not account.denied:
        return  # most hooks make no calls, and leave nothing to tell
    try:
        yield from recording.put(account)
    finally:
        if hooks.registered and hooks.wanted(hooks.StepEnded):
            hooks.emit(hooks.StepEnded(**account.ref.event_fields(), record=step.record()))
    if ending.leaving is None and step.kind == "persona":
        _warn_of_unmet_stages(step.definition, step.stages_met)


def recording_of(step: Any) -> Recording:
    """Return the parts of a step's record that its account does not hold."""
    error, kept_error = step.errors
    return Recording(
        kind=step.kind,
        parent_id=step.parent.placement.account.ref.step_id if step.parent else None,
        function=step.definition.function,
        status=step.status,
        error=error,
        kept_error=kept_error,
        tool_calls=step.tool_calls,
        started_at=step.times[0],
        duration_s=time.monotonic() - step.times[1],
        bindings=step.placement.bindings,
        client=step.placement.ledger,
    )


def _told(error: BaseException) -> tuple[str, str]:
    """Put an error in words, even one that has none, or far too many: for people, and for a ledger."""
    try:
        told = f"{type(error).__name__}: {error}"[:LONGEST_ERROR]
    except Exception:  # noqa: BLE001 - its own text has failed; the error itself is on its way to the caller
        told = type(error).__name__
    # Somebody else's error may quote the prompt that it is about, which is not for a ledger.
    return told, told if isinstance(error, StepTrackError) else type(error).__name__


def _warn_of_unmet_stages(definition: StepDefinition, met: Collection[str]) -> None:
    """Warn of stages of a persona that no step ran under."""
    if not isinstance(definition, PersonaDefinition):
        return
    unmet = [stage.name for stage in definition.stages if stage.name not in met]
    if unmet:
        user_warnings.warn(
            f"persona {definition.name!r} has stages that no step of that name ran under: {', '.join(unmet)};"
            " check the spelling, since such a stage restricts nothing",
            UserWarning,
        )
