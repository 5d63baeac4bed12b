"""What a stream has produced so far."""

from __future__ import annotations

from steptrack_callbacks.tokens import count_text

_RECOUNTED = 100
"""Up to how many characters at a stream's end are counted again, since its words are cut anywhere."""


class StreamText:
    """The text of one stream, and its tokens.

    Attributes:
        parts: All that came.
        uncounted: Most tokens that the text has which was added since the last count: a token is at
            least one byte.
    """

    __slots__ = ("_counted", "_tail", "_total", "parts", "uncounted")

    def __init__(self) -> None:
        self.uncounted = 0
        self.parts: list[str] = []
        self._counted = 0  # of the parts
        self._tail = ""
        self._total = 0  # tokens before the tail

    def add(self, text: str) -> None:
        """Add what came."""
        self.parts.append(text)
        self.uncounted += len(text) if text.isascii() else 4 * len(text)

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def text(self) -> str:
        """All that came."""
        return "".join(self.parts)

    def tokens(self, model: str) -> int:
        """Count the tokens; what was counted before is not counted again, but for the last words."""
        if self._counted < len(self.parts):
            self._tail += "".join(self.parts[self._counted :])
            self._counted, self.uncounted = len(self.parts), 0
            if len(self._tail) > _RECOUNTED:
                end = max(self._tail.rfind(" "), 0) or len(self._tail)
                self._total += count_text(self._tail[:end], model)
                self._tail = self._tail[end:]
        return self._total + (count_text(self._tail, model) if self._tail else 0)

    def forget(self) -> None:
        """Keep none of the text."""
        self.parts.clear()
