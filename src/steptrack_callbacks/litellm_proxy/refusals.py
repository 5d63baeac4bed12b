"""Our errors as the proxy sends them: a status, a type, and all their fields."""

from __future__ import annotations

import json
from typing import Any

from litellm.exceptions import GuardrailRaisedException
from litellm.proxy._types import ProxyException

from steptrack_callbacks.integrations.errors import as_framework_error
from steptrack_callbacks.values.errors import (
    BudgetExhausted,
    LedgerError,
    StepDenied,
    StepTrackError,
    ToolDenied,
    UnpricedModel,
)

from .identity import MalformedIdentity

_SAID: tuple[tuple[type[StepTrackError], int, str], ...] = (
    (BudgetExhausted, 402, "budget_exhausted"),
    (UnpricedModel, 402, "unpriced_model"),
    (ToolDenied, 403, "tool_denied"),
    (StepDenied, 403, "step_denied"),
    (LedgerError, 503, "ledger_unavailable"),
)


def said_of(error: Any) -> tuple[int, str]:
    """Return the HTTP status and the type of an error."""
    return next(((status, kind) for cls, status, kind in _SAID if isinstance(error, cls)), (500, "steptrack"))


def fields_of(error: Any) -> dict[str, Any]:
    """Return an error's fields as plain JSON values."""
    fields: dict[str, Any] = (
        BudgetExhausted.to_dict(error)
        if isinstance(error, BudgetExhausted)
        else {"kind": said_of(error)[1], **error.fields()}
    )
    return fields | {"message": message_of(error)}


def message_of(error: Any) -> str:
    """Say what happened, and a fix that whoever runs the proxy can make."""
    if not isinstance(error, UnpricedModel):
        return str(error)
    table = f"[prices.{json.dumps(error.model)}]"
    allowing = "" if error.budget else f', or unpriced = "warn" or "free" to [steps.{json.dumps(error.step)}]'
    return (
        f"{error.trouble}: add {table} with input_usd_per_mtok and output_usd_per_mtok{allowing}"
        " in the proxy's steptrack.toml"
    )


class ProxyRefusal(ProxyException, GuardrailRaisedException):
    """Mixed into an error of ours: the proxy sends it whole, its Router neither retries nor falls back."""

    status_code = 400  # to the Router, which would cool a deployment down for a 402
    guardrail_name = "steptrack"
    blocked_content = False
    headers: dict[str, str] = {}  # noqa: RUF012 - the proxy assigns, it changes nothing
    openai_code = None

    @property
    def message(self) -> str:  # type: ignore[override]
        """What happened."""
        return message_of(self)

    @property
    def code(self) -> str:  # type: ignore[override]
        """The HTTP status."""
        return str(said_of(self)[0])

    @property
    def type(self) -> str:  # type: ignore[override]
        """What sort of refusal it is."""
        return said_of(self)[1]

    @property
    def param(self) -> str | None:  # type: ignore[override]
        """The path of the step that it is about."""
        return getattr(self, "path", None)

    @property
    def provider_specific_fields(self) -> dict[str, Any]:  # type: ignore[override]
        """All that is known of it."""
        return {"error": fields_of(self)}


_MEMBERS = (("to_dict", ProxyException.to_dict),)  # which the proxy sends


def refusal(error: StepTrackError) -> Any:
    """Return the same error as one that the proxy sends to its client."""
    return error if isinstance(error, ProxyRefusal) else as_framework_error(error, ProxyRefusal, _MEMBERS)


def malformed(error: MalformedIdentity) -> ProxyException:
    """Return what the proxy says to a request that says nonsense of itself."""
    return nonsense(error.field, str(error))


def nonsense(field: str, why: str) -> ProxyException:
    """Return what the proxy says to a request that cannot be served as it is."""
    return ProxyException(message=why, type="invalid_request_error", param=field, code=400)


def error_frame(error: StepTrackError, *, event: bool) -> bytes | str:
    """Return the end of a stream that was cut.

    Args:
        error: Why.
        event: Whether the stream is one of named events, as Anthropic's are.
    """
    said: Any = refusal(error)
    body = said.to_dict()
    if event:
        return f"event: error\ndata: {json.dumps({'type': 'error', 'error': body})}\n\n".encode()
    return f"data: {json.dumps({'error': body})}\n\n"
