"""How long an answer may become where a limit says so, and the `max_tokens` that the request gets for it."""

from __future__ import annotations

from collections.abc import Sequence

from steptrack_callbacks import pricing

from . import room
from .account import Account
from .chain import AccountChain, Wrapping
from .forecasts import LONGEST_KNOWN, UNBOUNDED
from .holds import Estimate
from .request import Request


class OutputCap:
    """The output that one call is held to.

    Attributes:
        clamps: Whether all accounts let the request get what is left.
        is_cut: Whether the answer is a stream, and all accounts cut it where it passes them.
        max_tokens: The most that all its answers may come to because of a limit; `None` if none says so.
        capped_by: The account whose last it gets.
        most: The most output that a strict account holds it to; `None` if there is none.
        longest: The longest answer that the model can give to a request without `max_tokens`, if a strict
            account has to know and anybody does.
    """

    __slots__ = (
        "_accounts",
        "_request",
        "_strict",
        "_wrapping",
        "capped_by",
        "clamps",
        "is_cut",
        "longest",
        "max_tokens",
        "most",
    )

    def __init__(self, chain: AccountChain, request: Request, wrapping: Wrapping) -> None:
        self._accounts: Sequence[Account] = chain.limited
        self._strict = chain.strict
        self.clamps = chain.clamps and not chain.strict
        self.is_cut = request.streams and chain.cuts_streams
        self._request = request
        self._wrapping = wrapping
        self.max_tokens: int | None = None
        self.capped_by: Account | None = None
        self.most: int | None = None
        self.longest: int | None = None

    def look_up(self) -> None:
        """Look up what strict accounts need to know of the model; it may take its time."""
        request = self._request
        if self._strict and request.max_output_tokens is None:
            longest = pricing.max_output_tokens(request.model, provider=request.provider)
            self.longest = longest and longest * request.answers

    def outputs(self) -> tuple[int, int] | None:
        """Bound the output for strict accounts: the most, and the least that it could be lowered to.

        Where the request bounds nothing, what is left is the bound, which is then set on it.
        """
        found = self._outputs() if self._strict else None
        self.most = found and found[0]
        return found

    def _outputs(self) -> tuple[int, int]:
        request = self._request
        if request.max_output_tokens is not None:
            return request.max_output_tokens, request.max_output_tokens
        wrapping = self._wrapping
        rooms = [_output_room(request, each, wrapping=each in wrapping) for each in self._strict]
        limits = [most for most in rooms if most is not None]
        most = self.longest or request.expected_output()
        if not limits:
            return most, most
        clampable = request.can_clamp and all(account.definition.clamp for account in self._strict)
        if self.longest is not None and not clampable:
            return most, most
        alone = not any(account.in_flight.calls for account in self._strict)
        left = max(min(limits), request.answers if alone else request.expected_output())
        worst = left if self.longest is None else min(left, self.longest)
        self.max_tokens = worst if clampable else None
        return worst, request.answers if clampable else worst

    def clamped(self, estimate: Estimate) -> Estimate:
        """Give a call that takes the last of a budget what is left of it as its `max_tokens`.

        Only one call at a time has such a cap from an account, and none after an answer was cut by one.
        """
        if not self.clamps:
            return estimate
        self.max_tokens, self.capped_by = self._last_of(estimate) if estimate.clamps else (None, None)
        return estimate if self.max_tokens is None else estimate.clamped(self.max_tokens)

    def _last_of(self, estimate: Estimate) -> tuple[int | None, Account | None]:
        least, owner = UNBOUNDED, None
        for account in self._accounts:
            left = room.output_left(account, estimate, wrapping=account in self._wrapping)
            if left is not None and left < least and not account.gave_its_last:
                least, owner = left, account
        reckoned = estimate.far if estimate.forecast.seen else self._longest_known()
        return (max(least, self._request.least_clamp), owner) if least < reckoned else (None, None)

    def _longest_known(self) -> int:
        longest = pricing.max_output_tokens(self._request.model, provider=self._request.provider)
        return (longest or LONGEST_KNOWN) * self._request.answers

    def hint(self, owner: Account, estimate: Estimate) -> str:
        """Say how a request would fit that names no `max_tokens` and could not be given one."""
        longest, wrapping = self.longest, owner in self._wrapping
        if owner.enforce != "strict" or longest is None:
            return ""
        left = _output_room(self._request, owner, wrapping=wrapping)
        others = set(room.lacking_now(owner, estimate, wrapping=wrapping)) - {"max_usd", "max_tokens"}
        if left is None or not 0 < left < longest or others:
            return ""
        return (
            f"strict reserves the model's longest answer, {longest} tokens, for a request without max_tokens:"
            f" give the model a max_tokens of at most {left}"
        )


def _output_room(request: Request, account: Account, *, wrapping: bool) -> int | None:
    """Count the output tokens that an account still has room for; `None` if it does not limit them."""
    bound = request.most_input()
    rooms = []
    if account.limits.tokens is not None:
        rooms.append(account.limits.tokens - account.settled.tokens - account.held_tokens - bound)
    cost_room = account.limits.cost_room(wrapping=wrapping)
    if cost_room is not None and (per_token := request.cost_per_output_token(bound)):
        left = cost_room - account.settled.cost - account.held_cost - request.most_cost(bound, 0)
        rooms.append(left // per_token)
    return min(rooms, default=None)
