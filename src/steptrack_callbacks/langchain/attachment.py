"""Attaching to LangChain: one handler, in every run of the process."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat

from steptrack_callbacks.integrations.seams_langchain import HOOK

from .handler import StepTrackHandler
from .refusals import restore_refusal_logs, silence_refusal_logs


class _Hook:
    """Stands in for the context variable that LangChain asks in each run, and is the same in all contexts.

    A hook cannot be taken off again. While it offers none, LangChain does as it would without it.

    Attributes:
        name: As a context variable has one.
        get: Returns the handler, or `None`. No function of Python's, as every run asks it twice.
    """

    name = "steptrack_handler"
    get: Callable[[], StepTrackHandler | None] = repeat(None).__next__

    def offer(self, handler: StepTrackHandler | None) -> None:
        """Offer a handler to the runs that begin from now on, or none."""
        self.get = repeat(handler).__next__


_attached = StepTrackHandler()
_attached.is_off = True
_hook = _Hook()
_registered = False


def attach() -> Callable[[], None]:
    """See all that LangChain does from now on; returns what stops it."""
    _register()
    silence_refusal_logs()
    _attached.is_off = False
    _hook.offer(_attached)
    return _detach


def follow_agents() -> None:
    """See what happens in agents that have a budget, attached or not; of all else nothing is seen so."""
    _register()
    silence_refusal_logs()
    _attached.follows_agents = True
    _hook.offer(_attached)


def _detach() -> None:
    _attached.is_off = True
    if not _attached.follows_agents:
        _hook.offer(None)
        restore_refusal_logs()


def _register() -> None:
    global _registered
    if _registered:
        return
    register = HOOK.get()  # not before it is needed: it imports LangSmith, as the first call of a model would
    if register is not None:
        register(_hook, inheritable=True, handle_class=StepTrackHandler)
        _registered = True
