"""Where LangChain calls our handlers from: in which task, and inside of what."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FrameType

from steptrack_callbacks.concurrency.tasks import current_owner
from steptrack_callbacks.integrations.seams import Seam
from steptrack_callbacks.integrations.seams_langchain import STARTS_CHATS, STARTS_COMPLETIONS


def code_of(seam: Seam) -> CodeType | None:
    """Return the code of a function whose frames are looked for; `None` if it is not as it was known."""
    function = seam.get()
    return None if function is None else getattr(inspect.unwrap(function), "__code__", None)


_starting_completions, _starting_chats = code_of(STARTS_COMPLETIONS), code_of(STARTS_CHATS)
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


def discard_unasked() -> None:
    """Close what LangChain has made to tell other handlers of a call, and awaits no more once it is refused.

    Python would warn of each that it was never awaited, though nobody has forgotten anything. Where they
    are awaited all together they are tasks, and LangChain's frame does not stand above ours.
    """
    for frame in frames():
        if frame.f_code in (_starting_completions, _starting_chats):
            for value in frame.f_locals.values():
                for made in value if isinstance(value, list) else ():
                    if inspect.iscoroutine(made) and inspect.getcoroutinestate(made) == inspect.CORO_CREATED:
                        made.close()
            return


def inside_model() -> Callable[[], bool]:
    """Return what tells whether a call of the model that starts here may still be going on.

    A run that was cancelled is told nothing, and lives as long as somebody keeps its error. In its own task
    or thread, only what is called from inside its model's methods belongs to it.
    """
    owner, methods = current_owner(), set[int]()
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - a traceback would have to be raised for it
    while frame is not None:  # the model's methods stand together above LangChain's callbacks
        if _is_of_model(frame.f_code.co_filename):
            methods.add(id(frame))
        elif methods:
            break
        frame = frame.f_back

    def is_within() -> bool:
        return current_owner() != owner or any(id(frame) in methods for frame in frames())

    return is_within


def frames() -> Iterator[FrameType]:
    """Yield the frames that this is called from, innermost first."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - a traceback would have to be raised for it
    while frame is not None:
        yield frame
        frame = frame.f_back


@cache
def _is_of_model(file: str) -> bool:
    return "/langchain_core/language_models/" in file.replace("\\", "/")
