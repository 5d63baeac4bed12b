"""What a command says when it cannot do what it was asked."""

from __future__ import annotations

OK = 0
UNKNOWN = 1
BAD_INPUT = 2
EXHAUSTED = 3
INTERRUPTED = 130
PIPE_CLOSED = 141


class CommandError(Exception):
    """One line for the person at the terminal, naming the value and the fix.

    Attributes:
        code: The exit code.
    """

    def __init__(self, message: str, *, code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.code = code
