"""Attaching to hosts: now if they are imported, else when they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from . import contexts, declared, hosts, importing, policy, pricing
from .definitions import Escalation, SideEffectLevel, StepDefinition
from .escalation import set_default

Attach = Callable[[], Callable[[], None]]
"""Attaches to an imported host, and returns what undoes it."""

_undo: dict[str, Callable[[], None]] = {}


def _attach_litellm() -> Callable[[], None]:
    from .litellm import attach  # noqa: PLC0415 - only once the host is imported

    return attach()


def _attach_langchain() -> Callable[[], None]:
    from .langchain import attach  # noqa: PLC0415 - only once the host is imported

    return attach()


_EDGES: dict[str, Attach] = {"litellm": _attach_litellm, "langchain_core": _attach_langchain}


def install(
    *,
    threads: bool = False,
    prices: Mapping[str, Mapping[str, Any]] | None = None,
    tools: Mapping[str, SideEffectLevel] | None = None,
    escalation: Escalation | None = None,
    steps: Mapping[str, Mapping[str, Any] | StepDefinition] | None = None,
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

    Raises:
        ValueError: A price, level or function is malformed; nothing is attached then.

    Example:
        >>> import steptrack_callbacks as steptrack
        >>> steptrack.install()
        >>> steptrack.uninstall()
    """
    if escalation is not None and not callable(escalation):
        raise ValueError(f"escalation must be a function of the exception, not {escalation!r}")
    if prices is not None:
        pricing.set_prices(prices)
    if steps is not None:
        declared.declare(steps)
    if tools is not None:
        policy.set_tool_levels(tools)
    if escalation is not None:
        set_default(escalation)
    if threads:
        contexts.carry_into_threads()
    for host in _EDGES:
        if host not in _undo:
            importing.when_imported(host, partial(_attach, host))


def uninstall() -> None:
    """Take everything off again that `install` has attached; hosts are left as they were."""
    importing.forget()
    for host in list(_undo):
        _undo.pop(host)()
        hosts.detach(host)
    contexts.leave_threads_alone()
    set_default(None)


def _attach(host: str) -> None:
    _undo[host] = _EDGES[host]()
    hosts.attach(host)
