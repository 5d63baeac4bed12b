"""Attaching to LangChain and LiteLLM: now if they are imported, else when they are."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from . import attachments, pricing, settings
from .concurrency import threads as carrying
from .concurrency.guard import Guard
from .config import Config, load
from .integrations import all_seams, compatibility, http_clients, import_hooks, proxy_client
from .ledgers import current
from .ledgers.protocol import Store
from .pricing.sources import with_prices
from .settings import FileSettings, OnIntegrationChange, OnStoreError, Settings
from .steps import registry
from .steps.tool_policy import ToolSaid, with_tools
from .values.arguments import check_escalation, checks_arguments
from .values.definitions import Escalation, StepDefinition, StepOptions
from .values.limits import check_choice, unknown_option

F = TypeVar("F", bound=Callable[..., Any])
Attach = Callable[[], Callable[[], None]]
"""Attaches to an imported package, and returns what undoes it."""

_undo: dict[str, Callable[[], None]] = {}
_naming: Callable[[], None] | None = None
_installing = Guard()


def _attach_litellm() -> Callable[[], None]:
    from .litellm.attachment import attach  # noqa: PLC0415 - only once the package is imported

    return attach()


def _attach_langchain() -> Callable[[], None]:
    from .langchain.attachment import attach  # noqa: PLC0415 - only once the package is imported

    return attach()


_ATTACH: dict[str, Attach] = {"litellm": _attach_litellm, "langchain_core": _attach_langchain}
_LOOKED_AT = tuple(set(all_seams.PACKAGES) - set(_ATTACH) - set(http_clients.PACKAGES))
"""Packages that nothing is attached to, and that are used nevertheless."""


_OF_STEPS = dict.fromkeys(StepOptions.__annotations__, "; it is an option of step(...)")


def _knows_options(function: F) -> F:
    """Say of an option that does not exist where it belongs, or what was meant."""
    known = inspect.signature(function).parameters

    @wraps(function)
    def called(**options: Any) -> Any:
        __tracebackhide__ = True
        if error := unknown_option(options, known, function.__name__, _OF_STEPS):
            raise error
        return function(**options)

    return cast(F, called)


@_knows_options
@checks_arguments
def install(
    *,
    threads: bool | None = None,
    prices: Mapping[str, Mapping[str, Any]] | None = None,
    tools: Mapping[str, ToolSaid] | None = None,
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
    """Count every call that this process makes through LangChain or LiteLLM, imported now or later.

    It imports neither of them. It may be called again: what is given is then added to what was given before.

    Args:
        threads: Whether new threads begin in the steps of the code that starts them, and thread pool jobs in
            those of the code that submits them; `True` unless set to `False`. Other context variables are not
            propagated. A thread that outlives the step it was started in is charged to nobody, with a
            warning. `None` keeps the previous setting.
        prices: Your own prices by model, with LiteLLM's keys: `{"my-model":
            {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}}`, in US dollars.
        tools: Side effects of tools that do not declare them, by tool name; or what one use costs,
            as in `{"search": {"usd": 0.01, "side_effect_level": "network"}}`. `usd` may be a function of
            the tool's arguments as a dict; for a tool that is given a plain string that is `{"input": ...}`.
            It is reserved before the tool runs.
        escalation: The default escalation function, for steps with `error_boundary="escalate"` that set none.
        steps: Limits of steps that are named by LangChain's run names, tags or metadata: `{"plan":
            {"max_usd": 0.05}}`. Such steps can only fail.
        nodes: Limits of nodes of LangGraph graphs, by the node's name wherever it is, or by its path
            through subgraphs: `{"outer/research": {"max_usd": 0.05}}`. Such steps can only fail.
        config: A `steptrack.toml`: limits of steps and personas by name, budgets, prices, tools and the
            ledger. Code and the other arguments take precedence. `None` uses the environment variable
            `STEPTRACK_CONFIG`, if it is set.
        ledger: Where budgets, runs with a `run_id` and records of steps are kept: `"memory:"` (the
            default), `"sqlite:///steps.db"` for the processes of one machine, `"redis://host:6379/0"` for
            those of many. `None` uses the file's, else the environment variable `STEPTRACK_LEDGER`.
        on_store_error: What to do with a call when its budgets' ledger cannot be reached: `refuse` (the
            default) raises `LedgerError` before it is sent, `allow` decides by what this process knows. It
            applies wherever the ledger was named; `None` keeps the previous setting, or the file's.
        lease_s: Seconds after which a dead process's reservations are released (default 900). A call may take
            longer, but its room is then no longer reserved. `None` as for `on_store_error`.
        proxy_url: A LiteLLM proxy that keeps budgets too, such as `"http://localhost:4000"`: requests to
            it say in which step they are made, and what it refuses is a `BudgetExhausted` here.
        on_integration_change: What to do if LiteLLM or LangChain has changed in a way this package does not
            support, so that part of it is not covered: `refuse` (the default) warns, and raises
            `StepTrackError` where a step with limits begins if none of the package's calls could be refused;
            `warn` lets that step begin; `raise` makes each loss an error, here or, if a package is imported
            later, where a step with limits begins. `None` keeps the previous setting.

    Raises:
        ValueError: A price, level, function, step, node or ledger is malformed; nothing is attached then.
            For a file it is a `ConfigError`, which lists everything that is wrong in it.
        LedgerError: The ledger is not ours, or was written by a newer version.
        StepTrackError: Under `on_integration_change="raise"`, a package has changed incompatibly.

    Example:
        >>> import steptrack_callbacks as steptrack
        >>> steptrack.install()
        >>> steptrack.uninstall()
    """
    given = _Given(prices, tools, escalation, steps, nodes, proxy_url, on_integration_change, threads)
    path = (os.environ.get("STEPTRACK_CONFIG") or None) if config is None else config
    file = Config(source="") if path is None else load(path)
    with _installing:
        told = given.laid_over(_told_by(file))
        if on_integration_change == "raise":
            compatibility.require_unchanged((*_ATTACH, *_LOOKED_AT))
        choice = current.choose(
            file.ledger.url if ledger is None else ledger,
            on_store_error=file.ledger.on_store_error if on_store_error is None else on_store_error,
            lease_s=file.ledger.lease_s if lease_s is None else lease_s,
            timeout_s=file.ledger.timeout_s,
        )
        for problem in file.warnings:  # which a user's filter may make errors
            warnings.warn(str(problem), UserWarning, stacklevel=4)
        settings.put_in_force(told)
        current.put_in_force(choice)
        _carry_into_threads(wanted=told.threads)
        if on_integration_change is not None:
            attachments.trust_all()
            for package in (*_undo, *_LOOKED_AT):
                if package in sys.modules:
                    compatibility.heed(package)
        _attach_all(names_steps=proxy_url is not None)


class _Given(NamedTuple):
    """What `install` was given besides the ledger; `None` leaves it at what was said before."""

    prices: Mapping[str, Mapping[str, Any]] | None
    tools: Mapping[str, ToolSaid] | None
    escalation: Escalation | None
    steps: Mapping[str, Mapping[str, Any] | StepDefinition] | None
    nodes: Mapping[str, Mapping[str, Any] | StepDefinition] | None
    proxy_url: str | None
    on_integration_change: OnIntegrationChange | None
    threads: bool | None

    def laid_over(self, told: Settings) -> Settings:
        """Check all of it, and return the settings with it."""
        if self.escalation is not None:
            check_escalation(self.escalation)
            told = replace(told, escalation=self.escalation)
        if self.on_integration_change is not None:
            check_choice(self.on_integration_change, OnIntegrationChange, "on_integration_change")
            told = replace(told, on_integration_change=self.on_integration_change)
        if self.threads is not None:
            if not isinstance(self.threads, bool):
                raise ValueError(f"threads must be True, False or None, not {self.threads!r}")
            told = replace(told, threads=self.threads)
        if self.prices is not None:
            told = with_prices(told, self.prices)
        if self.steps is not None:
            told = registry.with_steps(told, self.steps)
        if self.nodes is not None:
            told = registry.with_nodes(told, self.nodes)
        if self.tools is not None:
            told = with_tools(told, self.tools)
        if self.proxy_url is not None:
            told = replace(told, proxy=proxy_client.address_of(self.proxy_url))
        return told


def _told_by(file: Config) -> Settings:
    """Return the settings in force, with what a file says beside its ledger; no file says nothing."""
    if not file.source:
        return settings.now
    told = with_tools(with_prices(settings.now, file.prices), file.tools)
    said = FileSettings(source=file.source, steps=file.steps, personas=file.personas, budgets=file.budgets)
    return replace(told, file=said)


def _carry_into_threads(*, wanted: bool) -> None:
    if not wanted:
        carrying.leave_threads_alone()
        return
    carrying.carry_into_threads()
    import_hooks.when_imported("multiprocessing.pool", carrying.carry_into_pools)


def _attach_all(*, names_steps: bool) -> None:
    global _naming
    if names_steps and _naming is None:
        _naming = _attach_clients()
    for package in _ATTACH:
        if package not in _undo:
            import_hooks.when_imported(package, partial(_attach, package))
    for package in _LOOKED_AT:
        import_hooks.when_imported(package, partial(_look_at, package))


def uninstall() -> None:
    """Detach everything that `install` has attached, and forget everything that it was given.

    LangChain and LiteLLM are left as they were. Prices, limits by name, tools and the escalation function are
    forgotten. Steps that are open keep the ledger that they began with, and still report their charges to it.

    Example:
        >>> from steptrack_callbacks import install, uninstall
        >>> install()
        >>> uninstall()
    """
    global _naming
    import_hooks.forget()
    if _naming is not None:
        _naming()
        _naming = None
    for package in list(_undo):
        _undo.pop(package)()
        attachments.detach(package)
    attachments.trust_all()
    compatibility.forget()
    carrying.leave_threads_alone()
    current.release()
    pricing.reset()
    settings.reset()


def _attach_clients() -> Callable[[], None]:
    from .litellm_proxy.client import attach  # noqa: PLC0415 - only if there is a proxy

    return attach()


def _attach(package: str) -> bool:
    """Attach to a package, and say whether it went well; what went wrong never reaches whoever imports it."""
    if package in _undo:  # it was loaded again
        _undo.pop(package)()
        attachments.detach(package)
    broken: Exception | None = None
    try:
        _undo[package] = _ATTACH[package]()
        attachments.attach(package)
        if package == "litellm" and (runs := sys.modules.get(f"{__package__}.langchain.runs")):
            runs.offer_last()  # a model of LangChain's has just imported it
    except Exception as error:  # noqa: BLE001 - the import of somebody else's package must not break
        broken = error
    compatibility.heed(package, broken)
    return broken is None


def _look_at(package: str) -> bool:
    compatibility.heed(package)
    return True
