"""A LiteLLM proxy that keeps budgets too: what is said to it, and what its refusals mean here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

from steptrack_callbacks import settings
from steptrack_callbacks.steps.active import stack
from steptrack_callbacks.steps.step import Step, current_step
from steptrack_callbacks.values.errors import Breach, BudgetExhausted
from steptrack_callbacks.values.untrusted import causes

RUN, STEP, PERSONA, MAX_USD = (
    "x-steptrack-run",
    "x-steptrack-step",
    "x-steptrack-persona",
    "x-steptrack-max-usd",
)
"""The headers of a request."""

KIND = "budget_exhausted"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_write_trace: Callable[[MutableMapping[str, str]], object] | None = None


def headers(step: Step | None = None) -> dict[str, str]:
    """Return the headers that tell a proxy in which step a request is made.

    Names are percent-encoded, since headers hold ASCII only.

    Args:
        step: The step; `None` takes the one that is active here.

    Returns:
        Headers to send with a request; none at all if there is no step.

    Example:
        >>> from steptrack_callbacks import step
        >>> with step("answer", run_id="run-7"), step("write"):
        ...     headers()
        {'x-steptrack-run': 'run-7', 'x-steptrack-step': 'answer/write'}
    """
    step = step or current_step()
    if step is None:
        return {}
    named = {RUN: encoded(step.run_id), STEP: encoded(step.path)}
    if step.persona is not None:
        named[PERSONA] = encoded(step.persona.name)
    return named


def encoded(text: str) -> str:
    """Put a run, a path or a name into a header."""
    return quote(text, safe="/ :@+,=~!$()*")


def carry_trace(write: Callable[[MutableMapping[str, str]], object] | None) -> None:
    """Let requests to the proxy carry what this writes into their headers; `None` writes nothing."""
    global _write_trace
    _write_trace = write


def name_request(request_headers: MutableMapping[str, str]) -> None:
    """Add to the headers of a request to the proxy what they do not say themselves."""
    if RUN not in request_headers:
        request_headers.update(headers())
    if _write_trace is not None and "traceparent" not in request_headers:
        _write_trace(request_headers)


# Which proxy it is


def address_of(url: str) -> tuple[str, str, str]:
    """Return the scheme, the host with its port, and the path of a proxy; they are put into the settings.

    Raises:
        ValueError: It is not the address of a web server.
    """
    parts = _parts(url)
    if parts is None:
        raise ValueError(f"proxy_url must be an address such as 'http://localhost:4000', not {url!r}")
    return parts


def is_for_proxy(url: object) -> bool:
    """Tell whether an address is the proxy's, or below it; the names of loopback count as one."""
    proxy = settings.now.proxy
    if proxy is None:
        return False
    parts = _parts(str(url))
    return parts is not None and parts[:2] == proxy[:2] and f"{parts[2]}/".startswith(f"{proxy[2]}/")


def _parts(url: object) -> tuple[str, str, str] | None:
    with suppress(ValueError):
        parts = urlsplit(url if isinstance(url, str) else "")
        if parts.scheme in ("http", "https") and parts.hostname:
            port = parts.port or {"http": 80, "https": 443}[parts.scheme]
            host = "localhost" if parts.hostname in _LOOPBACK else parts.hostname
            return parts.scheme, f"{host}:{port}", parts.path.rstrip("/")
    return None


# What it refuses


def refusal_in(error: BaseException) -> BudgetExhausted | None:
    """Find the refusal of a proxy in a client's error, as an error of the step here that has its path.

    The exhaustion belongs to the step on this stack with that path; if there is none, as with a
    budget of the proxy's own, to no step here, and every boundary lets it pass.
    """
    if settings.now.proxy is None or isinstance(error, BudgetExhausted):
        return None
    for link in causes(error):
        for said in _said_by(link):
            if (fields := _fields_in(said)) is not None:
                return _refusal(fields)
    return None


def _said_by(link: Any) -> Iterator[Any]:
    """Yield what a client's error holds of the body: parsed, as a response, or as text."""
    yield getattr(link, "body", None)
    with suppress(Exception):  # a stream that was not read, or no JSON
        yield link.response.json()
    text = str(getattr(link, "message", "") or link)
    if KIND in text and "{" in text:
        with suppress(ValueError):
            yield json.loads(text[text.index("{") : text.rindex("}") + 1])


def _fields_in(said: Any) -> Mapping[str, Any] | None:
    while isinstance(said, Mapping):
        if said.get("kind") == KIND and "limit_value" in said:
            return said
        said = said.get("error") or said.get("provider_specific_fields")
    return None


def _refusal(said: Mapping[str, Any]) -> BudgetExhausted | None:
    path = str(said.get("path"))
    here = _step_here(path)
    account = here.account if here is not None else None
    try:
        error = BudgetExhausted(
            step=str(said["step"]),
            step_id=here.id if here is not None else None,
            path=path,
            function=account.ref.function if account else None,
            persona=said.get("persona"),
            phase=said["phase"],
            limit=said["limit"],
            limit_value=_amount(said["limit"], said["limit_value"]),
            consumed_tokens=int(said["consumed_tokens"]),
            consumed_cost_usd=Decimal(str(said["consumed_cost_usd"])),
            breaches=tuple(_breach(each) for each in said.get("breaches") or ()),
            error_boundary=account.ref.error_boundary if account else said.get("error_boundary", "fail"),
            hint="the proxy has refused it",
            budget=said.get("budget"),
            resets_at=datetime.fromisoformat(said["resets_at"]) if said.get("resets_at") else None,
        )
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None  # somebody else's error that looks like ours
    if account is not None:
        account.blame(error)
    return error


def _step_here(path: str) -> Step | None:
    """Find the open step on this stack that has a path, which is where its owner's boundary is."""
    steps = reversed(stack.entries())
    return next((step for step in steps if step.status == "open" and step.path == path), None)


def _breach(said: Mapping[str, Any]) -> Breach:
    limit, here = said["limit"], _step_here(said["path"])
    return Breach(
        path=said["path"],
        step_id=here.id if here is not None else None,
        limit=limit,
        limit_value=_amount(limit, said["limit_value"]),
        consumed=_amount(limit, said["consumed"]),
        budget=said.get("budget"),
        reserved=_amount(limit, said.get("reserved", 0)),
        kept_back=_amount(limit, said.get("kept_back", 0)),
    )


def _amount(limit: str, value: Any) -> Decimal | float:
    return (
        Decimal(str(value)) if limit == "max_usd" else float(value) if limit == "max_seconds" else int(value)
    )
