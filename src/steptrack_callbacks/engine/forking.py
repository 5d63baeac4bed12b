"""What a forked child leaves to its parent: a call belongs to the process that sent it.

The answer comes to the parent, which charges it. In the child the call holds nothing and is charged to
nobody, whatever becomes of the copies of its step and of its stream there.
"""

from __future__ import annotations

from steptrack_callbacks.concurrency.lock import LOCK

from .escalation import leave_questions_to_parent
from .fast_path import asking
from .open_call import OpenCall, open_calls
from .queue import QUEUE
from .reservation import owners, reservations_of


def leave_to_parent() -> None:
    """Forget the calls of the parent, and whoever waits or asks in a thread that did not come along."""
    with LOCK:
        QUEUE.empty()
        leave_questions_to_parent()
        for call in list(open_calls):
            _leave(call)
        for call in list(asking):
            call.accounts.allowance.give_back(call)
        for reservation in [each for owner in owners() for each in reservations_of(owner)]:
            reservation.release()


def _leave(call: OpenCall) -> None:
    call.release()
    call.state = "withdrawn"
    if call.lease is not None:
        call.lease.leave_to_parent()
