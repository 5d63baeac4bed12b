"""What a request needs of a model beside text, in the words of LiteLLM's price table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from steptrack_callbacks.values.untrusted import field

_OF_KINDS = {
    "input_image": "vision",
    "input_audio": "audio_input",
    "input_video": "video_input",
    "output_audio": "audio_output",
}
_FILES = frozenset({"file", "input_file", "document"})
_DEEPEST = 8
_WHOLE = ("response_format", "tools", "functions", "thinking", "reasoning_effort", "reasoning")
_MAY_NEED_WHOLE = frozenset({*_WHOLE, "text"})
READ = _MAY_NEED_WHOLE | {"tool_choice", "web_search_options"}
"""Options that are read here."""


def needs_whole_answer(options: Mapping[str, Any]) -> bool:
    """Tell whether an answer that is cut short would be of no use."""
    if _MAY_NEED_WHOLE.isdisjoint(options):
        return False
    return any(options.get(name) for name in _WHOLE) or bool(field(options.get("text"), "format"))


def needs_in(
    content: Any, options: Mapping[str, Any], kinds: Callable[[], Collection[str]]
) -> frozenset[str]:
    """List the needs of a request; nobody asks for them but where another model is looked at.

    Args:
        content: Messages, or a prompt.
        options: What is asked beside them.
        kinds: Lists the kinds of tokens that it may send or ask for beside text.
    """
    found = {_OF_KINDS[kind] for kind in kinds() if kind in _OF_KINDS}
    return frozenset(found | set(_of_options(options)) | ({"pdf_input"} if _has_file(content, 0) else set()))


def _of_options(options: Mapping[str, Any]) -> Iterator[str]:
    if options.get("tools") or options.get("functions"):
        yield "function_calling"
        if options.get("tool_choice") not in (None, "auto", "none"):
            yield "tool_choice"
    text = options.get("text")
    form = options.get("response_format") or field(text, "format")
    if form is not None and field(form, "type") not in ("text", "json_object"):
        yield "response_schema"
    if any(options.get(name) for name in ("reasoning_effort", "reasoning", "thinking")):
        yield "reasoning"
    if options.get("web_search_options"):
        yield "web_search"


def _has_file(part: Any, depth: int) -> bool:
    if depth > _DEEPEST or isinstance(part, str):
        return False
    if isinstance(part, list | tuple):
        return any(_has_file(each, depth + 1) for each in part)
    if isinstance(part, Mapping):
        return part.get("type") in _FILES or _has_file(part.get("content"), depth + 1)
    return hasattr(part, "content") and _has_file(part.content, depth + 1)
