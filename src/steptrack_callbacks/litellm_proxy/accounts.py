"""The accounts of steps that live across requests, and of the budgets around them."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

from steptrack_callbacks import pricing
from steptrack_callbacks.config import Config, ProxyOptions
from steptrack_callbacks.engine.budget_account import BudgetAccount
from steptrack_callbacks.engine.chain import AccountChain
from steptrack_callbacks.engine.step_ref import StepRef
from steptrack_callbacks.ledgers.budget import budget_key
from steptrack_callbacks.ledgers.client import LedgerClient
from steptrack_callbacks.ledgers.protocol import Totals
from steptrack_callbacks.steps.tool_policy import ToolPolicy
from steptrack_callbacks.values.budgets import BudgetDefinition
from steptrack_callbacks.values.definitions import PersonaDefinition, Stage, StepDefinition

from .identity import Identity
from .requests import Price
from .tools import ANY_TOOL

MOST_OPEN_STEPS = 1_000
STEP_TTL_S = 86_400.0
KEPT_AFTER_S = 86_400.0
MOST_MIRRORS = 2_000
REMEMBERED_S = 60.0
"""How long it is remembered which accounts are around the requests of a step."""


class ProxyAccount(BudgetAccount):
    """The account of a step that began with the first request to it, on whichever worker.

    Attributes:
        ttl_s: Seconds after which it has ended by itself.
        is_known: Whether the ledger has been asked about it.
        expires_at: When the ledger may forget it, and its name is free again: some time after it has ended.
    """

    expires_at: float
    lives_in_ledger = True
    __slots__ = ("_opened_at", "is_known", "ttl_s")

    def __init__(self, *args: Any, ttl_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_known = False
        self.ttl_s = ttl_s
        self._opened_at = 0.0
        self.expires_at = self._expiry(time.time())

    def follow(self, totals: Totals | None) -> None:
        """Take over when it began, and whether it was closed."""
        if totals is None:
            return
        self.is_known = True
        if totals.opened_at and totals.opened_at != self._opened_at:
            self._opened_at = totals.opened_at
            self.started = time.monotonic() - max(0.0, time.time() - totals.opened_at)
            self.expires_at = self._expiry(totals.opened_at)
        if totals.closed:
            self.close()

    def _expiry(self, opened_at: float) -> float:
        """Return a whole second, so that no ledger has to write another with every call."""
        return math.ceil(opened_at + self.ttl_s + KEPT_AFTER_S)


class Surroundings(NamedTuple):
    """What is around the requests of one identity.

    Attributes:
        accounts: What they are charged to, innermost first; `None` if there is nothing.
        policy: What tools the stages around them allow together.
        until: When to look again, in seconds since the epoch, as the window of a budget may have ended.
        steps: The accounts of steps among them.
    """

    accounts: AccountChain | None
    policy: ToolPolicy
    until: float
    steps: Sequence[ProxyAccount]

    def stands(self, now: float) -> bool:
        """Tell whether it is still so."""
        if now >= self.until:
            return False
        for step in self.steps:  # noqa: SIM110 - a generator costs more than all it would look at
            if step.expires_at <= now:
                return False
        return True


class Accounts:
    """All accounts that this worker has met; the ledger has the last word on each.

    Attributes:
        ledger: The ledger, as this process uses it.
        ttl_s: Seconds after which a step ends by itself.
        most_open: Most steps that one key may have open.
    """

    def __init__(self, config: Config, ledger: LedgerClient) -> None:
        options = config.proxy or ProxyOptions()
        self.ledger = ledger
        self.ttl_s = options.step_ttl_s or STEP_TTL_S
        self.most_open = options.max_open_steps or MOST_OPEN_STEPS
        self._config = config
        self._options = options
        self._met: OrderedDict[tuple[object, ...], BudgetAccount] = OrderedDict()
        self._surroundings: dict[Identity, Surroundings] = {}

    def around(self, identity: Identity) -> AccountChain | None:
        """Return the accounts that a request is charged to, innermost first; `None` if there are none."""
        return self.surroundings(identity).accounts

    def policy(self, identity: Identity) -> ToolPolicy:
        """Return what tools the stages around a request allow together."""
        return self.surroundings(identity).policy

    def surroundings(self, identity: Identity) -> Surroundings:
        """Return what is around a request: as it was for the last one of its step, for a while."""
        now = time.time()
        known = self._surroundings.get(identity)
        if known is None or not known.stands(now):
            accounts = self._around(identity)
            ends = [each.window.ends_at.timestamp() for each in accounts if each.window is not None]
            known = Surroundings(
                AccountChain(accounts) if accounts else None,
                self._policy(identity),
                min([now + REMEMBERED_S, *ends]),
                [each for each in accounts if isinstance(each, ProxyAccount)],
            )
            if len(self._surroundings) >= MOST_MIRRORS:  # of keys, say, that share an account
                self._surroundings.clear()
            self._surroundings[identity] = known
        return known

    def _around(self, identity: Identity) -> list[BudgetAccount]:
        accounts = [*self._of_steps(identity), *self._of_proxy(identity)]
        first = {each.replica.key: each for each in reversed(accounts)}  # the outermost of each budget
        return [each for each in accounts if first[each.replica.key] is each]

    def _policy(self, identity: Identity) -> ToolPolicy:
        policy = ANY_TOOL
        for depth in range(1, len(identity.path) + 1):
            for stage in self._stages(identity, depth):
                policy = policy.narrowed(stage)
        return policy

    def price_of(self, name: str) -> Price | None:
        """Return what the file says that a model costs, by the name that clients know it by."""
        return partial(pricing.cost_units, name) if name in self._config.prices else None

    def prefix(self, key: str, run: str) -> str:
        """Return how the names of all accounts of a run begin."""
        return f"proxy:{key}:{quote(run, safe='')}:"

    def group(self, key: str) -> str:
        """Return the group of all steps of a key."""
        return f"proxy:{key}"

    def _of_steps(self, identity: Identity) -> Iterator[BudgetAccount]:
        for depth in range(len(identity.path), 0, -1):
            yield from self._of_step(identity, depth)

    def _of_step(self, identity: Identity, depth: int) -> Iterator[BudgetAccount]:
        """Yield the account of the step at some depth, and those of the budgets that hang on it."""
        assert identity.run is not None  # there is no path without
        path = "/".join(identity.path[:depth])
        key = self.prefix(identity.key, identity.run) + path
        own_limit = identity.max_usd if depth == len(identity.path) else None
        persona = self._persona_at(identity, depth)

        def make() -> BudgetAccount:
            return self._new_step(identity, depth, key, path)

        account = self._meet((key, own_limit, persona), make)
        yield account
        for name in self._budgets_of(identity.path[depth - 1], persona=persona):
            yield self._of_budget(name, identity.key, account)

    def _new_step(self, identity: Identity, depth: int, key: str, path: str) -> BudgetAccount:
        definition = self._definition(identity, depth)
        run = str(identity.run)
        ref = StepRef(
            name=identity.path[depth - 1],
            path=path,
            step_id=f"{run}:{path}",
            run_id=run,
            persona=identity.persona,
            error_boundary=definition.error_boundary,
        )
        account = ProxyAccount(
            ref,
            definition,
            key,
            self.ledger,
            group=self.group(identity.key),
            most_open=self.most_open,
            ttl_s=self.ttl_s,
            forgets=True,
        )
        for stage in self._stages(identity, depth):
            if stage.max_iterations is not None:
                account.cap_calls(stage.max_iterations)
        return account

    def _definition(self, identity: Identity, depth: int) -> StepDefinition:
        """Return the server's limits of a step, lowered by the client's; each ends after a time."""
        name = identity.path[depth - 1]
        declared = self._declared(name, persona=self._persona_at(identity, depth))
        changes: dict[str, Any] = {"max_seconds": min(declared.max_seconds or self.ttl_s, self.ttl_s)}
        lowered = identity.max_usd if depth == len(identity.path) else None
        if lowered is not None and (declared.max_usd is None or lowered < declared.max_usd):
            changes["max_usd"] = lowered
            if declared.wrap_up_usd is not None and declared.wrap_up_usd >= lowered:
                changes["wrap_up_usd"] = None
        return replace(declared, **changes)

    def _declared(self, name: str, *, persona: bool) -> StepDefinition:
        declared = (self._config.personas if persona else self._config.steps).get(name)
        return declared or StepDefinition(name=name)

    def _persona_at(self, identity: Identity, depth: int) -> bool:
        """Tell whether a name in the path is a persona's: claimed to be, or declared as nothing else."""
        name = identity.path[depth - 1]
        return name == identity.persona or (name in self._config.personas and name not in self._config.steps)

    def _stages(self, identity: Identity, depth: int) -> Sequence[Stage]:
        """Return the stages of personas further out that are about a step."""
        name, found = identity.path[depth - 1], []
        for outer in range(1, depth):
            persona = self._config.personas.get(identity.path[outer - 1])
            if isinstance(persona, PersonaDefinition) and self._persona_at(identity, outer):
                found += [stage for stage in persona.stages if stage.name == name]
        return found

    def _budgets_of(self, name: str, *, persona: bool) -> Sequence[str]:
        hanging = self._config.persona_budgets if persona else self._config.step_budgets
        return hanging.get(name, ())

    def _of_proxy(self, identity: Identity) -> Iterator[BudgetAccount]:
        for name in self._options.budgets:
            yield self._of_budget(name, identity.key, None)

    def _of_budget(self, name: str, key: str, step_account: BudgetAccount | None) -> BudgetAccount:
        budget = self._config.budgets[name]
        window = budget.window_at(time.time())
        owner = f"/{key}" if self._config.scopes.get(name) == "key" else ""
        stored = budget_key(budget, window) + owner

        def make() -> BudgetAccount:
            ref = step_account.ref if step_account else StepRef(name="proxy", path="proxy")
            return BudgetAccount(
                ref,
                _definition_of(budget),
                stored,
                self.ledger,
                budget=budget,
                window=window,
                step_account=step_account,
                forgets=True,  # the client has an error, whose frames hold the request
            )

        return self._meet((stored, step_account and step_account.replica.key), make)

    def _meet(self, mark: tuple[object, ...], make: Callable[[], BudgetAccount]) -> BudgetAccount:
        """Return an account, made if it was not met; of too many, those asked for longest ago are let go."""
        account = self._met.pop(mark, None)
        if account is None or (isinstance(account, ProxyAccount) and account.expires_at <= time.time()):
            account = make()
        self._met[mark] = account
        if len(self._met) > MOST_MIRRORS:
            self._surroundings.clear()  # which hold accounts as well
            while len(self._met) > MOST_MIRRORS * 7 // 8:
                self._met.popitem(last=False)
        return account


def _definition_of(budget: BudgetDefinition) -> StepDefinition:
    return StepDefinition(
        name="proxy",
        max_usd=budget.max_usd,
        max_tokens=budget.max_tokens,
        max_calls=budget.max_calls,
        enforce=budget.enforce,
    )
