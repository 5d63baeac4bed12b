"""Attaching to LiteLLM, and leaving it as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import litellm

from steptrack_callbacks.integrations.seams import Seam
from steptrack_callbacks.integrations.seams_litellm import CALLBACKS, LOGGER, RULES

from .carrying import carry
from .custom import hear
from .entry_points import ENTRY_POINTS, around, gates, is_gated
from .logger import StepTrackLogger
from .refusals import restore_refusal_logs, silence_refusal_logs


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
    if LOGGER.get() is not None:
        _add(CALLBACKS, logger)
    _add(RULES, rule)
    silence_refusal_logs()
    put_back, stop_hearing = carry(), hear(logger.announce)

    def detach() -> None:
        gates.closed = False
        for name, original in originals.items():
            if getattr(litellm, name) is wrappers[name]:  # somebody may have wrapped it once more
                setattr(litellm, name, original)
        _forget(logger)
        _forget(rule)
        restore_refusal_logs()
        put_back()
        stop_hearing()

    return detach


def _add(seam: Seam, ours: Any) -> None:
    listeners = seam.get()
    if listeners is not None:
        listeners.append(ours)


def _forget(ours: Any) -> None:
    """Take a callback or a rule out of all the lists of LiteLLM's that it stands in, or was copied to."""
    for listeners in list(vars(litellm).values()):
        if type(listeners) is list and any(_is(ours, each) for each in listeners):
            listeners[:] = [each for each in listeners if not _is(ours, each)]


def _is(ours: Any, other: Any) -> bool:
    return other is ours or (type(other) is type(ours) and bool(other == ours))  # methods are made anew
