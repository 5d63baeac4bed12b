"""Attaching to LiteLLM, and leaving it as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import litellm

from .carrying import carry
from .custom import hear
from .entry_points import ENTRY_POINTS, around, gates, is_gated
from .logger import StepTrackLogger
from .refusals import hush, unhush

_CALLBACK_LISTS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


def attach() -> Callable[[], None]:
    """Gate the entry points, and listen behind them; returns what undoes it."""
    found = {name: getattr(litellm, name) for name in ENTRY_POINTS}
    originals = {name: function for name, function in found.items() if not is_gated(function)}
    wrappers = {name: around(name, original) for name, original in originals.items()}
    for name, wrapper in wrappers.items():
        setattr(litellm, name, wrapper)
    gates.closed = True
    logger = StepTrackLogger()
    rule = logger.refuse_exhausted
    litellm.callbacks.append(logger)
    litellm.pre_call_rules.append(rule)
    hush()
    put_back, stop_hearing = carry(), hear(logger.announce)

    def detach() -> None:
        gates.closed = False
        for name, original in originals.items():
            if getattr(litellm, name) is wrappers[name]:  # somebody may have wrapped it once more
                setattr(litellm, name, original)
        _forget_callback(logger)
        if rule in litellm.pre_call_rules:
            litellm.pre_call_rules.remove(rule)
        unhush()
        put_back()
        stop_hearing()

    return detach


def _forget_callback(logger: Any) -> None:
    """Take a callback out of all the lists that LiteLLM has copied it to."""
    manager: Any = litellm.logging_callback_manager
    for name in _CALLBACK_LISTS:
        manager.remove_callback_from_list_by_object(getattr(litellm, name), logger, require_self=False)
