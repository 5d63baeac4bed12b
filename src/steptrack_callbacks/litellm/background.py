"""Responses that a provider makes in the background: in flight until they are retrieved, and charged then."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from steptrack_callbacks.concurrency.guard import Guard
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.values.untrusted import field

from . import usage

NO_CALLS = frozenset(
    {
        *("aget_responses", "adelete_responses", "acancel_responses", "alist_input_items"),
        *("acreate_file", "afile_retrieve", "afile_content", "afile_list", "afile_delete"),
        "acancel_batch",
    }
)
"""What is done with responses and files, by the names that LiteLLM has: none of it is a call of a model."""
_UNFINISHED = frozenset({"queued", "in_progress"})
_MOST_REMEMBERED = 10_000
_calls: OrderedDict[str, Call] = OrderedDict()
_lock = Guard()


def is_response(answer: Any) -> bool:
    """Tell an answer of the responses API, which is one of a model also where it is retrieved."""
    return bool(field(answer, "object") == "response")


def keep(call: Call, answer: Any) -> bool:
    """Leave a call in flight whose answer is still being made, and say whether it is."""
    name = field(answer, "id")
    if field(answer, "status") not in _UNFINISHED or not isinstance(name, str):
        return False
    with _lock:
        _calls[name] = call
        if len(_calls) > _MOST_REMEMBERED:
            _calls.popitem(last=False)
    return True


def charge_retrieved(answer: Any) -> None:
    """Charge a call whose answer has been made meanwhile; one that was answered at once has been charged."""
    if field(answer, "status") in _UNFINISHED:
        return
    with _lock:
        call = _calls.pop(str(field(answer, "id")), None)
    if call is not None:
        usage.settle(call, answer)
