"""Errors of models: whether the provider had refused, or had answered and its answer could not be used.

A client may fail after the provider was paid: it parses structured output itself, for example.
LangChain reports no answer then, and it has to be charged nevertheless.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from json import JSONDecodeError
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.outputs import LLMResult
from pydantic import BaseModel, ValidationError

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations.usage import read_usage
from steptrack_callbacks.values.untrusted import causes, is_late_answer

from . import usage as answers
from .refusals import ModelError

_UNREADABLE = (JSONDecodeError, OutputParserException, ValidationError)
_STATUSES, _FIRST_REFUSING_STATUS = range(100, 600), 300
_CLIENT_ERRORS = frozenset({"APIError", "TransportError"})
_TRANSPORT = re.compile(
    r"(aiohttp|botocore|grpc|h11|h2|httpcore\d*|httpx\d*|requests|urllib3|websockets)(\.|$)"
)


def is_refusal(error: BaseException) -> bool:
    """Tell whether there is no answer: an error has a status, or the connection failed.

    Of all other errors nobody knows it. They may come from reading an answer that was paid for, or it
    came too late.
    """
    if is_late_answer(error):
        return False
    for link in causes(error):
        if (status := _status_of(link)) is not None:
            return status >= _FIRST_REFUSING_STATUS
        if isinstance(link, _UNREADABLE):
            return False
        if isinstance(link, OSError | ModelError) or _is_of_client(type(link)):
            return True
    return False


def settle_unread(call: Call, error: BaseException, result: LLMResult | None, *, seen: int) -> bool:
    """Charge a call whose answer came and could not be used, if anything says its usage.

    Args:
        call: The call.
        error: What was raised in place of the answer.
        result: What LangChain knows of it: what was streamed, or the body of the response.
        seen: Output tokens that were seen; a usage that has less is not all of it.
    """
    for reported, told, is_whole in _reports(error, result):
        usage = read_usage(reported)
        if usage is not None and 0 < usage.output_tokens >= seen:
            answers.settle_reported(call, reported, told, is_whole=is_whole)
            return True
    return False


def _reports(
    error: BaseException, result: LLMResult | None
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], bool]]:
    """Find usages, each with what is said beside it, and whether the answer was not cut short."""
    if result is not None:
        yield (*answers.report_of(result), True)
    completion = getattr(error, "completion", None)
    if isinstance(completion, BaseModel):
        told = completion.model_dump()
        yield told.get("usage") or {}, told, False  # the client raises so where an answer was cut short


def _status_of(error: BaseException) -> int | None:
    holders = (error, getattr(error, "response", None))
    found = (getattr(holder, name, None) for holder in holders for name in ("status_code", "code"))
    return next((status for status in found if isinstance(status, int) and status in _STATUSES), None)


def _is_of_client(kind: type[BaseException]) -> bool:
    """Tell an error of a connection, or what a provider's client makes of one."""
    return any(base.__name__ in _CLIENT_ERRORS or _TRANSPORT.match(base.__module__) for base in kind.__mro__)
