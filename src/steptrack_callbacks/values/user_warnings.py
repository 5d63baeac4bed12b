"""Warnings that name the user's own line, however many frames of ours and of other packages lie between."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

_BETWEEN = sys.stdlib_module_names | {"litellm", "pydantic", "steptrack_callbacks", "tenacity"}
_FAMILIES = ("langchain", "langgraph")


def warn(message: str, category: type[Warning]) -> None:
    """Warn of the innermost line outside of this package, LangChain, LiteLLM and the standard library."""
    frame = _users_frame(sys._getframe(1))  # noqa: SLF001 - skip_file_prefixes came with Python 3.12
    warnings.warn_explicit(
        message,
        category,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=_module_of(frame),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _users_frame(nearest: FrameType) -> FrameType:
    frame: FrameType | None = nearest
    while frame is not None and _is_between(_module_of(frame).partition(".")[0]):
        frame = frame.f_back
    return frame or nearest


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _is_between(package: str) -> bool:
    return package in _BETWEEN or package.startswith(_FAMILIES)
