"""The most tokens that a chat request may send, found without counting them.

A token is at least a byte, so a text has no more tokens than bytes. What is around it has the margins of
`tokens`, so that the bound is never below the upper bound that counting gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from steptrack_callbacks.tokens import (
    FOREIGN_MARGIN,
    FOREIGN_SLACK_TOKENS,
    MEDIA_KEYS,
    MESSAGE_TOKENS,
    NAME_TOKENS,
    OWN_MESSAGE_SLACK_TOKENS,
    OWN_SLACK_TOKENS,
    REPLY_TOKENS,
    TOOL_MARGIN,
    TOOL_PROMPT_AT_MOST,
    TOOL_TOKENS,
)
from steptrack_callbacks.values.untrusted import to_json

_UNKNOWN_SIZE = 10**9  # of what cannot be written down
_AROUND = MESSAGE_TOKENS + max(MESSAGE_TOKENS, OWN_MESSAGE_SLACK_TOKENS)
_AROUND_ALL = REPLY_TOKENS + max(OWN_SLACK_TOKENS, FOREIGN_SLACK_TOKENS)
_IN_MESSAGES = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "cache_control"})
_BESIDE = ("name", "tool_calls", "function_call", "additional_kwargs")
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", None})
UNSEEN = frozenset(
    {"audio", "conversation", "mcp_servers", "modalities", "previous_response_id", "web_search_options"}
)
"""Options by which more may be charged as input than the request itself has."""
READ = UNSEEN | {"tools"}
"""Options that are read here."""
_OF_USERS = frozenset({None, "function", "custom"})
_NAMING = frozenset({"function", "function_declarations", "name"})


def is_all_sent(options: Mapping[str, Any]) -> bool:
    """Tell whether a request has all that is charged as its input: no server adds to it by itself.

    Servers add what they hold of a conversation, and what tools of their own bring in.
    """
    if not UNSEEN.isdisjoint(options) and any(options.get(name) for name in UNSEEN):
        return False
    tools = options.get("tools")
    if not tools:
        return True
    return type(tools) is list and all(type(each) is dict and _is_of_user(each) for each in tools)


def _is_of_user(tool: Mapping[Any, Any]) -> bool:
    """Tell a function of the user's from what the provider runs itself."""
    return tool.get("type") in _OF_USERS and not _NAMING.isdisjoint(tool)


def bound_messages(messages: object, *, tools: Sequence[Any] | None = None) -> int | None:
    """Bound a chat request by its bytes, in a fraction of the time that it takes to count it.

    Args:
        messages: As for `count_messages`.
        tools: Likewise.

    Returns:
        No less than the upper bound that counting would give; `None` if there is something in it other
        than text and calls of tools.

    Example:
        >>> bound_messages([{"role": "user", "content": "Why is the sky blue?"}])
        138
    """
    if type(messages) is not list and type(messages) is not tuple:
        return None
    size, frames = 0, _AROUND_ALL + _AROUND * len(messages)
    for message in messages:
        fields: Any = getattr(message, "__dict__", message)  # a dict has none
        if fields is message and (type(message) is not dict or not message.keys() <= _IN_MESSAGES):
            return None
        content = fields.get("content")
        if type(content) is not str:
            is_elsewhere = fields is not message and "content" not in fields  # as in a subclass of dict
            content = None if is_elsewhere else _joined_text(content)
            if content is None:
                return None
        size += len(content) if content.isascii() else 4 * len(content)
        if (  # nearly always a message has none of these
            fields.get("name")
            or fields.get("tool_calls")
            or fields.get("function_call")
            or fields.get("additional_kwargs")
        ):
            for more in filter(None, map(fields.get, _BESIDE)):
                size += _size_of(more)
                frames += TOOL_TOKENS * len(more) + NAME_TOKENS
    if tools:
        size += ceil(TOOL_MARGIN * _size_of(tools))
        frames += TOOL_PROMPT_AT_MOST + ceil(TOOL_MARGIN * TOOL_TOKENS * len(tools))
    return ceil(FOREIGN_MARGIN * size) + frames


def _joined_text(content: object) -> str | None:
    """Return the text of parts that have nothing else."""
    if content is None:
        return ""
    if type(content) is not list:
        return None
    texts: list[str] = []
    for part in content:
        if type(part) is str:
            texts.append(part)
        elif type(part) is dict and _is_text(part):
            texts.append(part["text"])
        else:
            return None
    return "".join(texts)


def _is_text(part: dict[Any, Any]) -> bool:
    is_text = part.get("type") in _TEXT_PARTS and type(part.get("text")) is str
    return is_text and part.keys().isdisjoint(MEDIA_KEYS)


def _size_of(value: object) -> int:
    text = to_json(value)
    return 4 * len(text) if text else _UNKNOWN_SIZE


def bound_prompt(prompt: object) -> int | None:
    """Bound what a completion or an embedding is asked with; `None` if it is not text, or texts."""
    texts = [prompt] if type(prompt) is str else prompt
    if type(texts) is not list or not all(type(text) is str for text in texts):
        return None
    size = sum(len(text) if text.isascii() else 4 * len(text) for text in texts)
    return ceil(FOREIGN_MARGIN * size) + _AROUND_ALL
