"""Attaching to LiteLLM, and leaving it as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import litellm

from steptrack_callbacks.integrations.seams import Seam
from steptrack_callbacks.integrations.seams_litellm import CALLBACKS, LOGGER, RULES

from .call_types import ENTRY_POINTS
from .context_propagation import carry
from .custom import hear
from .early_calls import EARLY, gate_set_up
from .early_streams import meter_streams
from .entry_points import around, gates, is_gated
from .logger import TICKET, StepTrackLogger
from .refusals import restore_refusal_logs, silence_refusal_logs
from .swapping import try_groups


def attach() -> Callable[[], None]:
    """Gate the entry points, and listen behind them; returns what undoes it."""
    gated = _Gated()
    gated.put_up()
    gates.active = True
    logger = StepTrackLogger()
    gates.hears = LOGGER.get() is not None and _add(CALLBACKS, logger)
    _add(RULES, logger.refuse_exhausted)
    silence_refusal_logs()
    undo = [carry(), hear(logger.announce), gate_set_up(TICKET), meter_streams(TICKET, EARLY), try_groups()]

    def detach() -> None:
        gates.active = False
        gated.take_down()
        logger.detach()
        restore_refusal_logs()
        for put_back in undo:
            put_back()

    return detach


def _add(seam: Seam, ours: Any) -> bool:
    """Add a callback or a rule to one of LiteLLM's lists, and say whether there is such a list."""
    listeners = seam.get()
    if listeners is not None:
        listeners.append(ours)
    return listeners is not None


class _Gated:
    """The entry points that this LiteLLM has, each replaced by its wrapper where users find it."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any, Any]] = []

    def put_up(self) -> None:
        """Wrap each once, however many places it has; what this LiteLLM lacks is passed over."""
        wrappers: dict[Any, Any] = {}
        for point in ENTRY_POINTS:
            place = _module(point.place)
            original = getattr(place, point.name, None)
            if not callable(original) or is_gated(original):
                continue
            if original not in wrappers:
                twin = getattr(place, point.name.removeprefix("a"), None)
                wrappers[original] = around(point, original, twin)
            setattr(place, point.name, wrappers[original])
            self._replaced.append((place, point.name, original, wrappers[original]))

    def take_down(self) -> None:
        """Put the functions back, but for those that somebody has wrapped once more."""
        for place, name, original, wrapper in self._replaced:
            if getattr(place, name) is wrapper:
                setattr(place, name, original)


def _module(path: str) -> Any:
    """Find a module by the name that users write, which may be an alias; `None` if this LiteLLM lacks it."""
    place: Any = litellm
    for name in path.split(".")[1:]:
        place = getattr(place, name, None)
    return place
