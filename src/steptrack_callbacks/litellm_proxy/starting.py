"""How the handler comes into a proxy: its file, its ledger, its routes; or why it does not."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import sys
from pathlib import Path

from steptrack_callbacks import settings
from steptrack_callbacks.config import LedgerOptions, load
from steptrack_callbacks.ledgers import current
from steptrack_callbacks.ledgers.client import LedgerClient
from steptrack_callbacks.pricing.sources import with_prices
from steptrack_callbacks.steps.tool_policy import with_tools

from .accounts import Accounts
from .connections import see_clients
from .handler import StepTrackProxyHandler

logger = logging.getLogger("steptrack_callbacks")

CONFIG = "STEPTRACK_CONFIG"
TIMEOUT_S = 2.0
"""Seconds that a trip to the ledger may take; a proxy that is busy looks at the answer late."""
_WORKERS = re.compile(r"--(?:num_)?workers(?:=|$)|-w$")


def start() -> StepTrackProxyHandler:
    """Read the file, open the ledger, add the routes, and return the handler.

    Raises:
        ValueError: There is no file, or it is malformed, or many workers would each keep their own books.
        LedgerError: The store is not ours, or newer than this package.
    """
    from litellm.proxy import proxy_server  # noqa: PLC0415 - it is importing this

    from steptrack_callbacks.litellm.refusals import silence_refusal_logs  # noqa: PLC0415 - needs LiteLLM

    from .routes import add_routes  # noqa: PLC0415 - needs the proxy's web framework

    config = load(config_file())
    for warning in config.warnings:
        logger.warning("%s: %s", config.source, warning)
    open_ledger(config.ledger)
    try:
        refuse_many_books(current.ledger(), worker_count())
    except ValueError:
        stop_supervisor()
        raise
    settings.put_in_force(with_tools(with_prices(settings.now, config.prices), config.tools))
    accounts = Accounts(config, current.ledger())
    add_routes(proxy_server.app, accounts)
    silence_refusal_logs()
    see_clients()
    return StepTrackProxyHandler(accounts)


def config_file() -> Path:
    """Return the file that the limits stand in.

    Raises:
        ValueError: Nobody has named one, and there is none here.
    """
    named = os.environ.get(CONFIG)
    found = Path(named or "steptrack.toml")
    if not named and not found.is_file():
        raise ValueError(
            f"no limits: set {CONFIG} to the path of a steptrack.toml, or put one into {Path.cwd()}"
        )
    return found


def open_ledger(options: LedgerOptions) -> None:
    """Put the file's ledger in force, or what it says of the one that the environment names."""
    current.use(
        options.url,
        on_store_error=options.on_store_error,
        lease_s=options.lease_s,
        timeout_s=options.timeout_s or TIMEOUT_S,
    )


def refuse_many_books(ledger: LedgerClient, workers: int) -> None:
    """Refuse several workers without a ledger that they share.

    Raises:
        ValueError: Each would admit the whole budget.
    """
    if workers > 1 and not ledger.is_durable:
        raise ValueError(
            f"{workers} workers with the ledger {ledger.store.url!r} would each spend the whole budget: give"
            ' them one that they share, such as [ledger] url = "redis://localhost:6379" in steptrack.toml, or'
            " start one worker"
        )


def worker_count() -> int:
    """Return how many workers serve this proxy, as far as anything says it."""
    told = [os.environ.get("NUM_WORKERS"), os.environ.get("WEB_CONCURRENCY"), *_told_on_command_line()]
    counts = [int(text) for text in told if text and text.isdigit()]
    return max(counts, default=1)


def _told_on_command_line() -> list[str]:
    told = []
    for argument, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if match := _WORKERS.match(argument):
            told.append(argument[match.end() :] or following)
    return told


def stop_supervisor() -> None:
    """End the process that would start the next worker, which would be refused as well, and so on."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None and supervisor.pid is not None:
        os.kill(supervisor.pid, signal.SIGTERM)
