"""Attaching to LangChain: one handler, in every run of the process."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from steptrack_callbacks.integrations.seams_langchain import HOOK

from .handler import StepTrackHandler
from .refusals import restore_refusal_logs, silence_refusal_logs

_attached = StepTrackHandler()
_attached.is_off = True
_variable: ContextVar[StepTrackHandler | None] = ContextVar("steptrack_handler", default=_attached)
_registered = False


def attach() -> Callable[[], None]:
    """See all that LangChain does from now on; returns what stops it.

    LangChain's hooks cannot be taken off again, so one is registered for the whole process, with a
    handler that can be switched off.
    """
    _register()
    silence_refusal_logs()
    _attached.is_off = False
    return _detach


def follow_agents() -> None:
    """See what happens in agents that have a budget, attached or not; of all else nothing is seen so."""
    _register()
    silence_refusal_logs()
    _attached.follows_agents = True


def _detach() -> None:
    _attached.is_off = True
    if not _attached.follows_agents:
        restore_refusal_logs()


def _register() -> None:
    global _registered
    if _registered:
        return
    register = HOOK.get()  # not before it is needed: it imports LangSmith, as the first call of a model would
    if register is not None:
        register(_variable, inheritable=True, handle_class=StepTrackHandler)
        _registered = True
