"""What cannot be asked, said in words before it makes an error elsewhere."""

from __future__ import annotations

import math
from typing import Any

from steptrack_callbacks.values.usage import Usage

_EXAMPLES = {
    "provider": "'openai'",
    "service_tier": "'priority'",
    "speed": "'fast'",
    "region": "'eu'",
    "search_context_size": "'medium'",
}


def check_question(question: Any) -> None:
    """Refuse a question whose words are none.

    Raises:
        TypeError: The model, or one of the terms, is not a string.
    """
    if not isinstance(question.model, str):
        raise TypeError(f"model must be a string, such as 'gpt-4o', not {question.model!r}")
    for name, example in _EXAMPLES.items():
        value = getattr(question, name)
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} must be a string, such as {example}, or None, not {value!r}")


def check_usage(usage: object, duration_s: object) -> None:
    """Refuse what is not a usage, and what is not a time.

    Raises:
        TypeError: The usage is none, or the time no number.
        ValueError: The time is negative, NaN or infinite.
    """
    if not isinstance(usage, Usage):
        raise TypeError(f"usage must be a Usage, such as Usage(input_tokens=1000), not {usage!r}")
    if duration_s is None:
        return
    if isinstance(duration_s, bool) or not isinstance(duration_s, int | float):
        raise TypeError(f"duration_s must be a number of seconds or None, not {duration_s!r}")
    if not 0 <= duration_s < math.inf:
        raise ValueError(f"duration_s must be a number of seconds, 0 or more, not {duration_s!r}")
