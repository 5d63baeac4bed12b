"""What a run is charged, by what LangChain reports of its end."""

from __future__ import annotations

from uuid import UUID

from langchain_core.outputs import LLMResult

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import UNKNOWN_MODEL
from steptrack_callbacks.integrations import stream_pacing
from steptrack_callbacks.values.errors import StepTrackError

from . import failures, runs, usage


def settle(run: runs.Run, call: Call, response: LLMResult, run_id: UUID) -> None:
    """Charge an answer, unless an integration further down has."""
    if call.state == "new":
        call.begin()  # nobody has asked its limiter, so it came from a cache, which is free
    if call.state != "in flight" and not call.is_open:  # nearly always it is
        return  # an integration further down has charged it
    if call.request.model == UNKNOWN_MODEL:
        call.request.rename(usage.model_of(response) or UNKNOWN_MODEL)
    elsewhere = run.batch is not None and _is_counted(run.batch, response)
    run.has_reported = usage.settle(call, response, run_id, counted_elsewhere=elsewhere)
    if stream_pacing.streams:
        stream_pacing.tighten(call)


def fail(run: runs.Run, error: BaseException, response: LLMResult | None) -> None:
    """Charge what was seen of an answer that has failed, was broken off, or could not be used."""
    if isinstance(error, StepTrackError) and not run.has_text:
        run.withdraw()  # refused further down, before anything was sent
    elif isinstance(error, StepTrackError) or not isinstance(error, Exception):
        run.abandon()
    elif failures.is_refusal(error):
        run.fail()
    elif run.call is not None and failures.settle_unread(run.call, error, response, seen=run.seen):
        run.hand_back()
    else:
        run.miss()


def _is_counted(batch: runs.Batch, response: LLMResult) -> bool:
    """Tell whether the usage of a completion stands on another one of the same request."""
    lost = usage.has_lost_its_usage(response)
    return lost and any(other.has_reported for other in runs.begun_with(batch))
