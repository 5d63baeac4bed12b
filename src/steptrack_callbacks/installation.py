"""Attaching to hosts: now if they are imported, else when they are."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from . import hosts, pricing
from .concurrency import contexts
from .config import Config, LedgerOptions, load
from .engine.escalation import set_default
from .hosts import OnIntegrationChange
from .integrations import changes, import_hooks, proxy_client
from .ledgers import current
from .ledgers.client import OnStoreError
from .ledgers.protocol import Store
from .steps import registry, tool_policy
from .values.definitions import Escalation, SideEffectLevel, StepDefinition

Attach = Callable[[], Callable[[], None]]
"""Attaches to an imported host, and returns what undoes it."""

_undo: dict[str, Callable[[], None]] = {}
_naming: Callable[[], None] | None = None


def _attach_litellm() -> Callable[[], None]:
    from .litellm.attachment import attach  # noqa: PLC0415 - only once the host is imported

    return attach()


def _attach_langchain() -> Callable[[], None]:
    from .langchain.attachment import attach  # noqa: PLC0415 - only once the host is imported

    return attach()


_EDGES: dict[str, Attach] = {"litellm": _attach_litellm, "langchain_core": _attach_langchain}


def install(
    *,
    threads: bool = False,
    prices: Mapping[str, Mapping[str, Any]] | None = None,
    tools: Mapping[str, SideEffectLevel] | None = None,
    escalation: Escalation | None = None,
    steps: Mapping[str, Mapping[str, Any] | StepDefinition] | None = None,
    nodes: Mapping[str, Mapping[str, Any] | StepDefinition] | None = None,
    config: str | Path | None = None,
    ledger: str | Store | None = None,
    on_store_error: OnStoreError | None = None,
    lease_s: float | None = None,
    proxy_url: str | None = None,
    on_integration_change: OnIntegrationChange | None = None,
) -> None:
    """See every call that this process makes through a host it has imported, or will import.

    It imports no host itself, and may be called again: what is given is then added, and what is
    attached stays.

    Args:
        threads: Whether new threads and jobs of thread pools begin with their starter's steps.
        prices: Prices of your own by model, with LiteLLM's keys: `{"my-model":
            {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}}`, in US dollars.
        tools: What tools do to the world, by name, for those that do not say it.
        escalation: Whom a step with `error_boundary="escalate"` asks if it names nobody itself.
        steps: Limits of steps that LangChain's run names, tags or metadata name: `{"plan":
            {"max_usd": 0.05}}`. Such steps can only fail.
        nodes: Limits of nodes of LangGraph graphs, by a node's name wherever it is, or by its path
            through subgraphs: `{"outer/research": {"max_usd": 0.05}}`. Such steps can only fail.
        config: A `steptrack.toml`: limits of steps and personas by name, budgets, prices, tools and the
            ledger. What code and the other arguments say goes before it. `None` takes the
            environment's `STEPTRACK_CONFIG`, if it is set.
        ledger: Where budgets, runs with a `run_id` and records of steps are kept: `"memory:"` (the
            default), `"sqlite:///steps.db"` for the processes of one machine, `"redis://host:6379/0"` for
            those of many. `None` takes the file's, else the environment's `STEPTRACK_LEDGER`.
        on_store_error: What becomes of a call whose budgets cannot be asked: `refuse` (the default) raises
            `LedgerError` before it is sent, `allow` judges it by what is known here. It holds wherever the
            ledger was named; `None` takes what was said before, or in the file.
        lease_s: Seconds after which room that a dead process had reserved comes back (900). A call may take
            longer, but its room is then no longer kept. `None` likewise.
        proxy_url: A LiteLLM proxy that keeps budgets too, such as `"http://localhost:4000"`: requests to
            it say in which step they are made, and what it refuses is a `BudgetExhausted` here.
        on_integration_change: What becomes of LiteLLM or LangChain that is not as it was known, so that
            something of it is not covered: `refuse` (the default) warns, and raises `StepTrackError` where a
            step with limits begins if none of the package's calls could be refused; `warn` goes on all the
            same; `raise` makes each loss an error, here or, of a package that is imported later, where a
            step with limits begins. `None` takes what was said before.

    Raises:
        ValueError: A price, level, function, step, node or ledger is malformed; nothing is attached then.
            Of a file it is a `ConfigError`, which lists all that is wrong in it.
        LedgerError: The ledger is not ours, or was written by a newer version.
        StepTrackError: Under `on_integration_change="raise"`, a package is not as it was known.

    Example:
        >>> import steptrack_callbacks as steptrack
        >>> steptrack.install()
        >>> steptrack.uninstall()
    """
    global _naming
    if escalation is not None and not callable(escalation):
        raise ValueError(f"escalation must be a function of the exception, not {escalation!r}")
    if on_integration_change is not None:
        _heed_changes(on_integration_change)
    path = config or os.environ.get("STEPTRACK_CONFIG")
    said = None if path is None else load(path)
    in_file = LedgerOptions() if said is None else said.ledger
    current.use(
        in_file.url if ledger is None else ledger,
        on_store_error=in_file.on_store_error if on_store_error is None else on_store_error,
        lease_s=in_file.lease_s if lease_s is None else lease_s,
        timeout_s=in_file.timeout_s,
    )
    if said is not None:
        _take_from(said)
    if prices is not None:
        pricing.set_prices(prices)
    if steps is not None:
        registry.declare(steps)
    if nodes is not None:
        registry.declare_nodes(nodes)
    if tools is not None:
        tool_policy.set_tool_levels(tools)
    if escalation is not None:
        set_default(escalation)
    if threads:
        contexts.carry_into_threads()
    if proxy_url is not None:
        proxy_client.point_at(proxy_url)
        if _naming is None:
            _naming = _attach_clients()
    for host in _EDGES:
        if host not in _undo:
            import_hooks.when_imported(host, partial(_attach, host))


def _heed_changes(what: OnIntegrationChange) -> None:
    if what not in get_args(OnIntegrationChange):
        choices = ", ".join(map(repr, get_args(OnIntegrationChange)))
        raise ValueError(f"on_integration_change must be one of {choices}, not {what!r}")
    if what == "raise":
        changes.require_unchanged(tuple(_EDGES))
    hosts.set_on_change(what)
    for host in _undo:
        changes.heed(host)


def _take_from(said: Config) -> None:
    """Do what a file says beside its ledger."""
    if said.prices:
        pricing.set_prices(said.prices)
    tool_policy.set_tool_levels(said.tools)
    registry.take_from_file(said.steps, said.personas, said.budgets, source=said.source)
    for problem in said.warnings:
        warnings.warn(str(problem), UserWarning, stacklevel=3)


def uninstall() -> None:
    """Take everything off again that `install` has attached, and forget all that it was given.

    Hosts are left as they were. Prices, limits by name, tools and whom to ask are forgotten. Steps that
    are open keep to the ledger that they began with, and it is still told what it is owed.
    """
    global _naming
    import_hooks.forget()
    proxy_client.point_at(None)
    if _naming is not None:
        _naming()
        _naming = None
    for host in list(_undo):
        _undo.pop(host)()
        hosts.detach(host)
    hosts.set_on_change("refuse")
    changes.forget()
    contexts.leave_threads_alone()
    set_default(None)
    current.release()
    pricing.reset()
    tool_policy.reset()
    registry.reset()


def _attach_clients() -> Callable[[], None]:
    from .litellm_proxy.client import attach  # noqa: PLC0415 - only if there is a proxy

    return attach()


def _attach(host: str) -> bool:
    """Attach to a host, and say whether it went well; what went wrong never reaches whoever imports it."""
    if host in _undo:  # it was loaded anew
        _undo.pop(host)()
        hosts.detach(host)
    broken: Exception | None = None
    try:
        _undo[host] = _EDGES[host]()
        hosts.attach(host)
    except Exception as error:  # noqa: BLE001 - the import of somebody else's package must not break
        broken = error
    changes.heed(host, broken)
    return broken is None
