"""How much of a stream may pass until its limits are looked at again.

A look costs more than LangChain's own work on a chunk. But a token is at least one byte of text: as
long as all streams under a limit share out, in bytes, the tokens that are left, none can pass it
between two looks. So these are far apart while much is left, and come with each chunk at the end.
"""

from __future__ import annotations

from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.engine.account import Account
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.holds import MONEY, TOKENS

LONGEST_STRIDE = 1_024
"""Bytes between two looks at most, as others than LangChain's streams may use up what is left."""

TIMED_STRIDE = 48
"""The same where `max_seconds` is set, since no text tells the time."""


class Pace:
    """The pace of one stream.

    Attributes:
        stride: Bytes that may pass until the next look; the first ones are looked at, unless the call holds
            so much for its answer that they cannot matter.
    """

    __slots__ = ("_call", "_cost_per_token", "stride")

    def __init__(self, call: Call) -> None:
        self.stride = _held_for_answer(call)
        self._call = call
        self._cost_per_token: int | None = None

    def renew(self) -> None:
        """Take a fair share of what is left, after a look, and leave the others no more than theirs."""
        accounts = self._call.accounts.limited
        if self._cost_per_token is None:
            request = self._call.request
            self._cost_per_token = (
                request.cost_per_output_token(request.most(0).input_tokens) if accounts else 0
            )
        with LOCK:
            self.stride = LONGEST_STRIDE
            for account in accounts:
                if not account.closed:  # that of a step which has ended holds the stream no more
                    streams.setdefault(account, {})[self] = None
                    _share_out(account)

    def end(self) -> None:
        """Leave what is left to the others."""
        with LOCK:
            for account in self._call.accounts.limited:
                if (beside := streams.get(account)) is not None:
                    beside.pop(self, None)
                    if not beside:
                        del streams[account]

    def shorten(self, tokens: int, cost: int | None) -> None:
        """Go through no more than so many tokens, and so many money units, until the next look."""
        if cost is not None and self._cost_per_token:
            tokens = min(tokens, cost // self._cost_per_token)
        self.stride = max(1, min(self.stride, tokens))


def tighten(call: Call) -> None:
    """Let the streams around a call that was charged take no more than what it has left."""
    if not streams:
        return
    with LOCK:
        for account in call.accounts.limited:
            _share_out(account)


def _held_for_answer(call: Call) -> int:
    """Return how many bytes of its answer a call that is far from its limits has room for, to a bound."""
    bound, accounts = call.bound, call.accounts.limited
    if bound is None or any(account.limits.seconds is not None for account in accounts):
        return 1
    return max(1, min(LONGEST_STRIDE, bound.tokens - bound.sent))


streams: dict[Account, dict[Pace, None]] = {}
"""Those that are running, by the limited accounts around them."""


def _share_out(account: Account) -> None:
    running = list(streams.get(account, ()))  # a copy: garbage collection may end one meanwhile
    if not running or not account.definition.cut_streams:
        return
    tokens = LONGEST_STRIDE if account.limits.seconds is None else TIMED_STRIDE
    if account.limits.tokens is not None:
        left = account.limits.tokens - account.settled.tokens - account.in_flight.running[TOKENS]
        tokens = min(tokens, left // len(running))
    cost = account.limits.cost_room(wrapping=False)
    if cost is not None:
        cost = (cost - account.settled.cost - account.in_flight.running[MONEY]) // len(running)
    for stream in running:
        stream.shorten(tokens, cost)
