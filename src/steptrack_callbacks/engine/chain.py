"""The accounts around one call, innermost first, as one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Self

from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.ledgers.client import LedgerClient
from steptrack_callbacks.values import user_warnings
from steptrack_callbacks.values.definitions import LimitName
from steptrack_callbacks.values.errors import BudgetExhausted, Phase, UnknownCostWarning, UnpricedModel

from .account import Account
from .allowance import Allowance
from .budget_account import BudgetAccount, by_ledger
from .request import Request

Wrapping = frozenset[Account]
"""The accounts that are being wrapped up around a call."""


class AccountChain(tuple[Account, ...]):  # noqa: SLOT001 - a tuple's subclass can have no slots with a name
    """The accounts around a call, innermost first, and what they ask of it: sorted out once for many calls.

    Attributes:
        limited: Those whose limits are enforced.
        strict: Those of them that ask for the worst case.
        observed: Those whose limits are only watched.
        shared: Those that a ledger keeps.
        ledgers: Which those are, with their accounts: one, nearly always.
        clamps: Whether all of `limited` let a call get what is left as its `max_tokens`.
        cuts_streams: Whether all of `limited` cut a stream that passes them.
        limits_usd: Whether one that is enforced limits money.
        watches_usd: Whether any does.
        refuses_unpriced: Whether any of `limited` refuses calls of unknown price.
        listing: Those that name models for their calls, innermost first. What they say is judged before a
            call is admitted, so such a call has no short way.
        allowance: What calls inside `limited` may hold together that nobody has counted.
        adding: The sums of those that only add up what they are charged.
        judging: The others, which also look at it: for a strict limit that is passed, or in a ledger's units.
    """

    limited: tuple[Account, ...]
    strict: tuple[Account, ...]
    observed: tuple[Account, ...]
    shared: tuple[BudgetAccount, ...]
    ledgers: Sequence[tuple[LedgerClient, Sequence[BudgetAccount]]]
    clamps: bool
    cuts_streams: bool
    limits_usd: bool
    watches_usd: bool
    refuses_unpriced: bool
    listing: tuple[Account, ...]
    allowance: Allowance
    adding: tuple[list[int], ...]
    judging: tuple[Account, ...]

    def __new__(cls, accounts: Iterable[Account]) -> Self:
        """Sort accounts out; their limits may grow later, but none is added or taken away."""
        chain = super().__new__(cls, accounts)
        chain.judging = tuple([account for account in chain if account.judges])
        chain.adding = tuple([account.settled.sums for account in chain if not account.judges])
        chain.observed = tuple([account for account in chain if account.enforce == "observe"])
        chain.limited = tuple([each for each in chain if each.limited and each.enforce != "observe"])
        chain.shared = tuple([account for account in chain if isinstance(account, BudgetAccount)])
        chain.ledgers = by_ledger(chain.shared)
        chain.allowance = Allowance(chain.limited, chain.shared)
        chain.strict = tuple([account for account in chain.limited if account.enforce == "strict"])
        chain.clamps = not [account for account in chain.limited if not account.definition.clamp]
        chain.cuts_streams = not [each for each in chain.limited if not each.definition.cut_streams]
        in_usd = [account for account in chain if account.limits.cost is not None]
        enforced = [account for account in in_usd if account.enforce != "observe"]
        chain.watches_usd, chain.limits_usd = bool(in_usd), bool(enforced)
        chain.refuses_unpriced = bool([each for each in enforced if each.definition.unpriced is None])
        chain.listing = tuple([account for account in chain if account.model_list is not None])
        return chain

    def with_inner(self, account: Account) -> AccountChain:
        """Return the chain of an account inside these: if it limits nothing, all else is as it is here."""
        chain = (account, *self)
        if (
            account.limited
            or account.judges
            or account.enforce == "observe"
            or account.model_list is not None
        ):
            return AccountChain(chain)
        inner = super().__new__(AccountChain, chain)
        inner.__dict__.update(self.__dict__)
        inner.adding = (account.settled.sums, *self.adding)
        return inner

    def blindness(self, request: Request) -> UnpricedModel | None:
        """Say which dollar limit cannot see a call of unknown price: an error, or a warning if allowed."""
        in_usd = [account for account in self if account.limits.cost is not None]
        blind = [account for account in in_usd if account.definition.unpriced != "free"]
        refusing = [each for each in blind if each.definition.unpriced is None and each.enforce != "observe"]
        if refusing:
            ref, budget = refusing[-1].ref, refusing[-1].exhaustion_fields().get("budget")
            return UnpricedModel(
                model=request.model,
                step=ref.name,
                path=ref.path,
                lacks=request.lacks,
                budget=budget,
                by_second=request.is_by_second,
                cure=request.cure,
            )
        if blind:
            limit = f"max_usd of step {blind[-1].ref.path!r}"
            user_warnings.warn(
                f"model {request.model!r} is priced by the second, so {limit} sees a call when it has ended"
                if request.is_by_second
                else f"the price of model {request.model!r} is unknown, so {limit} cannot see this call",
                UnknownCostWarning,
            )
        return None

    def overrun(self) -> tuple[Account, BudgetExhausted] | None:
        """Return the outermost account whose limit is passed by what is settled, and its exhaustion."""
        return self._outermost("settled", lambda account: account.passed_limits())

    def full(self) -> tuple[Account, BudgetExhausted] | None:
        """Return the outermost account whose limit is reached by what is settled, and its exhaustion."""
        return self._outermost("denied", lambda account: account.full_limits())

    def _outermost(
        self, phase: Phase, limits_of: Callable[[Account], list[LimitName]]
    ) -> tuple[Account, BudgetExhausted] | None:
        with LOCK:
            enforced = [account for account in self if account.enforce != "observe"]
            over = [(account, names) for account in enforced if (names := limits_of(account))]
            if not over:
                return None
            breaches = [breach for account, names in reversed(over) for breach in account.breaches(names)]
            owner, _ = over[-1]
            return owner, owner.exhaustion(phase, tuple(breaches))

    def revise_ended(self) -> None:
        """Put back the records of steps that have ended already."""
        for account in self:
            if account.closed and account.on_late_charge is not None:
                account.on_late_charge(account)
