"""The headers, as the proxy reads and writes them."""

from __future__ import annotations

from urllib.parse import unquote

from steptrack_callbacks.integrations.proxy_client import MAX_USD, PERSONA, RUN, STEP
from steptrack_callbacks.values.definitions import LimitName

FIELDS = {"run": RUN, "step": STEP, "persona": PERSONA, "max_usd": MAX_USD}
"""The headers of a request, by the names that they have in `metadata.steptrack`."""

REMAINING: dict[LimitName, str] = {
    "max_usd": "x-steptrack-remaining-usd",
    "max_tokens": "x-steptrack-remaining-tokens",
    "max_calls": "x-steptrack-remaining-calls",
}
"""The headers of an answer, by the limit that they are about."""


def decoded(text: str) -> str:
    """Take a name out of a header.

    Raises:
        ValueError: It is not percent-encoded UTF-8.
    """
    return unquote(text, errors="strict")
