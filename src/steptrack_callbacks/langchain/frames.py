"""Where LangChain calls our handlers from: in which task, and inside of what."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import FrameType

from langchain_core.callbacks import AsyncCallbackManager

from steptrack_callbacks.concurrency.tasks import current_owner

_starting_completions = AsyncCallbackManager.on_llm_start.__code__
_COMPREHENSIONS = ("<listcomp>", "<genexpr>")  # frames of their own before Python 3.12


def is_inline() -> bool:
    """Tell whether our handlers are called in the caller's own task: yes, unless that would hurt others.

    When LangChain starts an async completion model it tells the inline handlers or, if there are
    none, the others. So whoever is alone in being inline takes the event away from the others.
    """
    asking = sys._getframe(2)  # noqa: SLF001 - there is nothing else that says who asks
    if asking.f_code.co_name in _COMPREHENSIONS and asking.f_back is not None:
        asking = asking.f_back
    if asking.f_code is not _starting_completions:
        return True
    handlers = asking.f_locals["self"].handlers
    return any(other.run_inline for other in handlers if not type(other).__module__.startswith(__package__))


def inside_model() -> Callable[[], bool]:
    """Return what tells whether a call of the model that starts here may still be going on.

    A run that was cancelled is told nothing, and lives as long as somebody keeps its error. In its own task
    or thread, only what is called from inside its model's methods belongs to it.
    """
    owner = current_owner()
    methods = frozenset(_methods_of_model())

    def is_within() -> bool:
        return current_owner() != owner or any(id(frame) in methods for frame in _frames())

    return is_within


def _methods_of_model() -> Iterator[int]:
    """Name the frames of the model's methods, which stand together above LangChain's callbacks."""
    found = False
    for frame in _frames():
        if _is_of_model(frame.f_code.co_filename):
            found = True
            yield id(frame)
        elif found:
            return


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - a traceback would have to be raised for it
    while frame is not None:
        yield frame
        frame = frame.f_back


@cache
def _is_of_model(file: str) -> bool:
    return "/langchain_core/language_models/" in file.replace("\\", "/")
