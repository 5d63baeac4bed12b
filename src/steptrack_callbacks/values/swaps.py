"""Models that a step names for its calls, dearest first, and calls that were made with a cheaper one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Self, get_args

from .money import count_of

SwapReason = Literal["downgrade_at", "max_usd", "max_tokens"]
"""Why a call went on with another model: a share of `max_usd` was spent, or a limit had no room for it."""


class ModelList(NamedTuple):
    """What a step says of the models of its calls.

    Attributes:
        models: Names, the one to be preferred first.
        downgrade_at: The share of a `max_usd` from which on calls begin with the next one; `None` for never.
    """

    models: tuple[str, ...]
    downgrade_at: Decimal | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSwap:
    """Calls of one model that were made with another.

    Attributes:
        asked: The model that was asked for.
        used: The one that the calls were made with.
        why: `downgrade_at`, or the limit that had no room for the model that was asked for.
        calls: How many calls.
        first_at: When the first of them was admitted, in seconds since the epoch.
        last_at: When the last one was.
    """

    asked: str
    used: str
    why: SwapReason
    calls: int
    first_at: float
    last_at: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild what `to_dict` has written.

        Raises:
            KeyError: Something is missing.
            ValueError: Something is malformed; the message says which.
        """
        found = {name: data[name] for name in cls.__slots__}
        for name in ("asked", "used"):
            if not isinstance(found[name], str):
                raise ValueError(f"{name} must be text, not {found[name]!r}")  # noqa: TRY004
        if found["why"] not in get_args(SwapReason):
            raise ValueError(f"why must be one of {', '.join(get_args(SwapReason))}, not {found['why']!r}")
        count_of(found["calls"], "calls")
        for name in ("first_at", "last_at"):
            if type(found[name]) not in (int, float):
                raise ValueError(f"{name} must be a number, not {found[name]!r}")
        return cls(**found)

    def __str__(self) -> str:
        calls = f"{self.calls:,} call{'' if self.calls == 1 else 's'} of {self.asked}"
        why = "downgrade_at" if self.why == "downgrade_at" else f"no room in {self.why}"
        first = datetime.fromtimestamp(self.first_at, UTC)
        return f"{calls} made with {self.used} from {first:%H:%M:%S} UTC on ({why})"


def model_list_of(models: object, downgrade_at: object, where: str) -> ModelList | None:
    """Check what is said of models; `None` if nothing is.

    Args:
        models: Their names.
        downgrade_at: A share.
        where: Whose they are, for messages.

    Raises:
        ValueError: They are malformed; the message says what, and the fix.
    """
    names = _checked_names(models, where)
    if downgrade_at is not None and not names:
        raise ValueError(f"{where}downgrade_at is about models: say models=[...], the dearest first, as well")
    return ModelList(names, _checked_share(downgrade_at, where)) if names else None


def _checked_names(models: object, where: str) -> tuple[str, ...]:
    if not isinstance(models, Sequence) or isinstance(models, str):
        raise ValueError(  # noqa: TRY004
            f"{where}models must be a list of names, such as ['gpt-5', 'gpt-5-mini'], not {models!r}"
        )
    for name in models:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{where}models must be names, not {name!r}")
    if not models and models != ():
        raise ValueError(f"{where}models=[] names no model: name at least two, the preferred one first")
    names = tuple(models)
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"{where}models names {', '.join(twice)} twice; keep one")
    if len(names) == 1:
        raise ValueError(
            f"{where}models=[{names[0]!r}] leaves nothing to go on with: name a cheaper one as well"
        )
    return names


def _checked_share(share: object, where: str) -> float | None:
    if share is None:
        return None
    if isinstance(share, Decimal) and not share.is_nan():  # which has no place in an order
        return _checked_share(float(share), where)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"{where}downgrade_at must be a share from 0 to 1, such as 0.8, not {share!r}")
    return float(share)
