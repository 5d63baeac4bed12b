"""In which task LangChain calls our handlers."""

from __future__ import annotations

import sys

from langchain_core.callbacks import AsyncCallbackManager

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
