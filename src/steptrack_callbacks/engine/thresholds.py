"""What is said of an account as its spend grows: thresholds, and limits that are only observed."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from steptrack_callbacks import hooks
from steptrack_callbacks.concurrency.lock import LOCK

from .account import Account

logger = logging.getLogger("steptrack_callbacks")


def announce_thresholds(account: Account, shares: Sequence[float]) -> None:
    """Tell hooks, once for each limit, that its settled spend has crossed a share of it."""
    for limit, value in account.limits.as_dict().items():
        consumed = account.consumed(limit)
        share = float(consumed) / float(value) if value else 1.0
        for threshold in shares:
            with LOCK:
                if share < threshold or (limit, threshold) in account.fired:
                    continue
                account.fired.add((limit, threshold))
            hooks.emit(
                hooks.BudgetThreshold(
                    **account.ref.event_fields(),
                    limit=limit,
                    limit_value=value,
                    consumed=consumed,
                    threshold=threshold,
                    share=share,
                    budget=account.exhaustion_fields().get("budget"),
                )
            )


def warn_if_observed(account: Account) -> None:
    """Log, once, that a limit is passed which is not enforced."""
    if account.enforce == "observe" and not account.warned and (names := account.passed_limits()):
        account.warned = True
        error = account.exhaustion("settled", account.breaches(names))
        logger.warning("%s (observed, not enforced)", error)
