"""Which model a call is made with, where a step names several: decided here, before it is sent.

A call keeps the model that was asked for as long as it fits and `downgrade_at` is not reached. Else the next
one of the list is tried that takes what the request has. Who sends the call only carries that out: either
the integration describes the same request with another model (`Request.with_model`), or it makes the whole
call again with another one (`Trial`). A call that neither can be done for is refused as any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from steptrack_callbacks.concurrency.lock import LOCK
from steptrack_callbacks.pricing import abilities_of
from steptrack_callbacks.values.swaps import ModelList, SwapReason

from .account import Account
from .chain import AccountChain
from .outcomes import Refused
from .request import Request

ONLY_ASKED = (
    "models={models} cannot be carried out here, as the model of a call cannot be changed where it is seen:"
    " with LangChain, give the models to budgeted(model, models=[...]) or StepBudgetMiddleware(models=[...]);"
    " with LiteLLM, call its functions as attributes of litellm"
)
_PARTS = 1_000_000


class Swap(NamedTuple):
    """What a call was made with, and why.

    Attributes:
        asked: The model that was asked for.
        used: The one that it was made with.
        why: What the reason was.
    """

    asked: str
    used: str
    why: SwapReason

    def to_dict(self) -> dict[str, str]:
        """Return plain JSON values, for the metadata of an answer."""
        return self._asdict()


Describe = Callable[[Request, str], Request | str]


def _renamed(request: Request, name: str) -> Request:
    return replace(request, model=name)


class Trial:
    """The models that a call may be made with, one after the other, until one fits.

    Mostly the integration goes through them, within one call. Where the package has to make the whole call
    with each, a trial stands around its attempts.

    Attributes:
        models: Their names, as requests say them, beginning with the one that was asked for.
        describe: Describes a request with another model, or says why it cannot be made with that one;
            `None` if nobody can send another one.
        is_about_all: Whether all calls in it are the call, whatever model they name.
        place: Which of them is being tried.
        why: Why it is not the first.
        refused: Whether the one being tried was refused, and the package shall try the next one.
        swap: What the call was made with in the end, if not with the first.
    """

    __slots__ = ("describe", "is_about_all", "models", "next_place", "place", "refused", "swap", "why")

    def __init__(
        self, models: tuple[str, ...], describe: Describe | None = _renamed, *, is_about_all: bool = False
    ) -> None:
        self.models = models
        self.describe = describe
        self.is_about_all = is_about_all
        self.place = self.next_place = 0
        self.why: SwapReason = "downgrade_at"
        self.refused = False
        self.swap: Swap | None = None

    def is_about(self, request: Request) -> bool:
        """Tell whether a request is the call, and not another one that is made on the way to it."""
        return self.is_about_all or request.model == self.models[self.place]

    def begin(self, chain: AccountChain, listed: ModelList) -> None:
        """Begin with the next model where so much is spent that the step asks for it."""
        if len(self.models) > 1 and is_low(chain, listed):
            self.place, self.why = 1, "downgrade_at"

    def go_on(self) -> None:
        """Turn to the model that was found to be the next."""
        self.place, self.refused = self.next_place, False


_trial: ContextVar[Trial | None] = ContextVar("steptrack_trial", default=None)


@contextmanager
def trying(trial: Trial) -> Generator[None]:
    """Let calls in this block be those of a trial."""
    before = _trial.get()
    _trial.set(trial)
    try:
        yield
    finally:
        _trial.set(before)


class Swapping:
    """The way of one call through the models of a list.

    Attributes:
        request: The request, with the model that is tried now.
        passed_over: Models that were not tried, and why.
        is_by_framework: Whether the package makes the whole call with one model after the other.
    """

    __slots__ = (
        "_asked",
        "_chain",
        "_list",
        "_owner",
        "_trial",
        "_why",
        "_wraps_up",
        "is_by_framework",
        "passed_over",
        "request",
    )

    def __init__(
        self,
        chain: AccountChain,
        request: Request,
        owner: Account,
        trial: Trial,
        *,
        is_by_framework: bool,
        wraps_up: bool,
    ) -> None:
        assert owner.model_list is not None
        self.request = self._asked = request
        self.passed_over: dict[str, str] = {}
        self.is_by_framework = is_by_framework
        self._chain = chain
        self._owner = owner
        self._list = owner.model_list
        self._trial = trial
        self._why: SwapReason | None = trial.why if trial.place else None
        self._wraps_up = wraps_up
        self._judge()

    @property
    def swap(self) -> Swap | None:
        """What has become of it; `None` if the call is made with the model that was asked for."""
        models = self._trial.models
        return None if self._why is None else Swap(models[0], models[self._trial.place], self._why)

    @property
    def is_left_to_framework(self) -> bool:
        """Whether the package is to make the call again, with another model."""
        return self._trial.refused

    def begin(self) -> Request | Refused | None:
        """Return what to begin with, if not with the request as it is.

        Where the package does so, it has begun with the next model itself (see `Trial.begin`), which may
        not take what the request has; then it is refused.
        """
        trial = self._trial
        if not self.is_by_framework:
            return self._next("downgrade_at") if is_low(self._chain, self._list) else None
        if not trial.place or trial.describe is None:
            return None
        asked = trial.describe(self._asked, trial.models[0])
        if isinstance(asked, str) or not (why := self._objection(asked, self._asked)):
            return None
        self.passed_over[trial.models[trial.place]] = why
        self._next("downgrade_at")
        if not trial.refused:
            trial.next_place, trial.refused = 0, True
        account = self._chain.limited[-1]
        return Refused(account, "denied", account.breaches(list(account.limits.as_dict())[:1]))

    def after(self, refusal: Refused) -> Request | None:
        """Return what to go on with after a refusal; `None` if there is none, or the package does it."""
        why = cured_limit(refusal)
        return None if why is None else self._next(why)

    def _next(self, why: SwapReason) -> Request | None:
        """Turn to the next model that can take the call."""
        trial, why = self._trial, self._why or why
        for place, name in self._rest():
            other = self._with(name)
            if isinstance(other, str):
                self.passed_over[name] = other
            elif self.is_by_framework:
                trial.next_place, trial.refused, trial.why = place, True, why
                return None
            else:
                trial.place, self.request, self._why = place, other, why
                self._judge()
                return other
        return None

    def restart(self) -> Request | None:
        """Return what to begin again with after a grant: what was asked for, if that was left."""
        if self._why is None or self.is_by_framework:
            return None
        self._trial.place, self.request, self._why = 0, self._asked, None
        self.passed_over.clear()
        return self._asked

    def note(self) -> None:
        """Put on record what the call is made with, now that it is admitted; the lock is held."""
        if (swap := self.swap) is not None:
            self._owner.note_swap(swap, time.time())
            self._trial.swap = swap

    def hint(self) -> str:
        """Say of a refusal what became of the list."""
        if self._trial.describe is None:
            return ONLY_ASKED.format(models=list(self._list.models))
        return "; ".join(f"{name} was passed over: {why}" for name, why in self.passed_over.items())

    def _rest(self) -> Iterator[tuple[int, str]]:
        """Yield the models that can be tried after the one that is now, and their places."""
        models = () if self._trial.describe is None else self._trial.models
        return islice(enumerate(models), self._trial.place + 1, None)

    def _with(self, name: str) -> Request | str:
        """Describe the request with another model, or say why it cannot be made with that one."""
        assert self._trial.describe is not None  # or there is no other
        other = self._trial.describe(self._asked, name)
        if isinstance(other, str):
            return other
        return self._objection(self._asked, other) or other

    def _objection(self, asked: Request, other: Request) -> str:
        if self._chain.refuses_unpriced and not other.is_priced:
            return "its price is unknown"
        return why_not(asked, other)

    def _judge(self) -> None:
        """Let the call be made only if it will fit: else a dear one takes the last, and none fits after it.

        The last of all to be tried may take the last of what is kept back for it.
        """
        is_last = not any(True for _ in self._rest())
        self.request.must_fit = self._trial.describe is not None and not (self._wraps_up and is_last)


def swapping_of(chain: AccountChain, request: Request, *, wraps_up: bool) -> Swapping | None:
    """Return what a call may do at a limit; `None` if no step around it names its model in a list."""
    trial = _trial.get()
    if trial is not None and not trial.is_about(request):
        trial = None
    asked = request.asked_for if trial is None else trial.models[0]
    for account, _, names in lists_with(chain, asked):
        tried = trial or Trial(names, None if request.with_model is None else _described)
        return Swapping(chain, request, account, tried, is_by_framework=trial is not None, wraps_up=wraps_up)
    return None


def _described(asked: Request, name: str) -> Request | str:
    assert asked.with_model is not None  # or there is no describing
    return asked.with_model(name)


def lists_with(chain: AccountChain, asked: str) -> Iterator[tuple[Account, ModelList, tuple[str, ...]]]:
    """Yield the accounts that list a model, innermost first, with their lists and the names from it on."""
    for account in chain.listing:
        listed = account.model_list
        names = () if listed is None else spelled_as(listed.models, asked)
        if listed is not None and asked in names:
            yield account, listed, names[names.index(asked) :]


def why_not(asked: Request, other: Request) -> str:
    """Say why a request cannot be made with another model, as far as tables know them; empty if it can."""
    mine = abilities_of(asked.model, provider=asked.provider)
    its = abilities_of(other.model, provider=other.provider)
    if mine.owner is not None and its.owner is not None and its.owner != mine.owner:
        return f"it is of {its.owner}, and a swap stays with {mine.owner}"
    if mine.mode and its.mode and its.mode != mine.mode:
        return f"it is for {its.mode}"
    needs = frozenset[str]() if asked.needs is None else asked.needs()
    if mine.supports is not None:
        needs &= mine.supports  # what the table does not know of the one, it need not know of the other
    return its.lack(needs, asked.counted.tokens, asked.max_output_tokens)


def spelled_as(models: tuple[str, ...], asked: str) -> tuple[str, ...]:
    """Write the names of a list as a call writes its own: `azure/gpt-5-mini` beside `azure/gpt-5`.

    Example:
        >>> spelled_as(("gpt-5", "gpt-5-mini"), "azure/gpt-5")
        ('azure/gpt-5', 'azure/gpt-5-mini')
    """
    if asked in models:
        return models
    named = next((name for name in models if asked.endswith(f"/{name}")), None)
    if named is not None:
        before = asked.removesuffix(named)
        return tuple(before + name for name in models)
    named = next((name for name in models if name.endswith(f"/{asked}")), None)
    return models if named is None else tuple(asked if name == named else name for name in models)


def is_low(chain: AccountChain, listed: ModelList) -> bool:
    """Tell whether so much of a `max_usd` is spent or reserved that calls begin with the next model.

    What is kept back for wrapping up is not part of what may be spent.
    """
    if listed.downgrade_at is None:
        return False
    parts = round(listed.downgrade_at * _PARTS)
    in_usd = [account for account in chain.limited if account.limits.cost is not None]
    for account in in_usd:
        account.in_flight.count_all()  # outside the lock, as it may take its time
    with LOCK:
        return any(
            (account.settled.cost + account.held_cost) * _PARTS >= room * parts
            for account in in_usd
            if (room := account.limits.cost_room(wrapping=False)) is not None
        )


def hinted(refusal: Refused, swapping: Swapping | None) -> Refused:
    """Say in a refusal what became of the models that were named for the call."""
    if swapping is None or cured_limit(refusal) is None:
        return refusal
    return replace(refusal, hint="; ".join(filter(None, (refusal.hint, swapping.hint()))))


def cured_limit(refusal: Refused) -> SwapReason | None:
    """Name the limit of a refusal that another model may fit into; `None` if none does."""
    limits = {breach.limit for breach in refusal.breaches}
    if refusal.phase == "closed" or not limits <= {"max_usd", "max_tokens"}:
        return None
    return "max_usd" if "max_usd" in limits else "max_tokens"
