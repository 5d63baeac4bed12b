"""What spans and measurements say, in the words of OpenTelemetry's GenAI conventions and in our own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from steptrack_callbacks.hooks import BudgetThreshold, CallSettled, CallSwapped, Escalated
from steptrack_callbacks.pricing.names import canonical, split
from steptrack_callbacks.pricing.table import installed
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.values.definitions import LimitName
from steptrack_callbacks.values.errors import BudgetExhausted, StepTrackError
from steptrack_callbacks.values.money import plain
from steptrack_callbacks.values.records import CompletedStep
from steptrack_callbacks.values.usage import Usage

from . import names

Attributes = dict[str, Any]

STATUS = "steptrack.status"
STEP_NAME = "steptrack.step.name"
ESTIMATED = "steptrack.estimated"
UNPRICED = "steptrack.unpriced"

ERRORS = frozenset({"failed", "escalated", "stopped", "error", "denied"})
"""How a step ends whose span is an error: with an exception that leaves it."""

_OPERATIONS = {"step": "step", "persona": "invoke_agent", "hook": "hook"}
_TOKENS = {
    "input_tokens": names.INPUT_TOKENS,
    "output_tokens": names.OUTPUT_TOKENS,
    "cache_read_tokens": names.CACHE_READ,
    "cache_write_tokens": names.CACHE_WRITE,
    "reasoning_tokens": names.REASONING,
}
_NOT_OF_AGENTS = (names.CACHE_READ, names.CACHE_WRITE)
_COUNTS = ("calls", "failed_calls", "estimated_calls", "unpriced_calls", "ungated_calls")
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}


def of_start(step: Step) -> Attributes:
    """Say of a step what is known when it begins, so that samplers can judge by it."""
    definition = step.definition
    said = _identity(step, persona=step.account.ref.persona, function=definition.function) | {
        "steptrack.enforce": definition.enforce,
        "steptrack.error_boundary": definition.error_boundary,
    }
    return _known(said) | _amounts("steptrack.limit.", step.account.limits.as_dict())


def of_record(record: CompletedStep) -> Attributes:
    """Say what a step was and has spent, by itself and with the steps inside it."""
    own, shares = record.own_usage, _shares(record)
    said = _identity(record, persona=record.persona, function=record.function) | {
        STATUS: record.status,
        "steptrack.models": tuple(record.models) or None,
        "steptrack.own.input_tokens": own.input_tokens,
        "steptrack.own.output_tokens": own.output_tokens,
        "steptrack.own.cost_usd": _cost(own),
        "steptrack.denied_calls": record.denied_calls,
        "steptrack.in_flight_calls": record.in_flight_calls,
        "steptrack.strict_breaches": record.strict_breaches,
        "steptrack.tool_calls": record.tool_calls,
        "steptrack.swaps": tuple(map(str, record.swaps)) or None,
        "steptrack.share": max(shares.values(), default=None),
        "error.type": error_type(record),
    }
    used = of_usage(record.here_usage)
    if record.kind == "persona":  # the conventions know no cache tokens of an agent
        used = {name: value for name, value in used.items() if name not in _NOT_OF_AGENTS}
    return (
        _known(said)
        | used
        | _amounts("steptrack.limit.", record.limits)
        | _amounts("steptrack.share.", shares)
    )


def _identity(step: Step | CompletedStep, *, persona: str | None, function: str | None) -> Attributes:
    return {
        "gen_ai.operation.name": _OPERATIONS[step.kind],
        "gen_ai.agent.name": persona,
        STEP_NAME: step.name,
        "steptrack.step.path": step.path,
        "steptrack.step.id": step.id,
        "steptrack.step.kind": step.kind,
        "steptrack.step.function": function,
        "steptrack.run.id": step.run_id,
    }


def span_name(kind: str, name: str) -> str:
    """Name a span as the conventions do: what is done, and by what."""
    return name if kind == "hook" else f"{_OPERATIONS[kind]} {name}"


def error_type(record: CompletedStep) -> str | None:
    """Name the exception that left a step; `None` if none did."""
    if record.status not in ERRORS or record.error is None:
        return None
    return record.error.partition(":")[0]


def of_usage(usage: Usage) -> Attributes:
    """Say what was used. A cost with `unpriced_calls` is a lower bound, and is marked as such."""
    said: Attributes = {attribute: getattr(usage, name) for name, attribute in _TOKENS.items()}
    said |= {f"steptrack.{name}": getattr(usage, name) for name in _COUNTS}
    said |= _known({"steptrack.cost_usd": _cost(usage)})
    if usage.estimated_calls:
        said[ESTIMATED] = True
    if usage.unpriced_calls:
        said[UNPRICED] = True
    return said


def of_call(event: CallSettled) -> Attributes:
    """Say what was asked of whom: what tells the measurements of a call from those of others."""
    said = {
        "gen_ai.operation.name": event.operation,
        "gen_ai.provider.name": provider_name(event.provider, event.model),
        "gen_ai.request.model": event.model,
        "gen_ai.response.model": event.response_model,
        "gen_ai.agent.name": event.persona,
        STEP_NAME: event.step or None,
        ESTIMATED: True if event.usage.estimated_calls else None,
        UNPRICED: True if event.usage.unpriced_calls else None,
    }
    return _known(said)


def of_step_of(event: CallSettled) -> Attributes:
    """Say which step a call was made in."""
    return _known({"steptrack.step.path": event.path, "steptrack.step.id": event.step_id})


def of_difference(event: CallSettled) -> Attributes:
    """Say what a late report has changed: what was charged, and what instead of it before."""
    before = event.instead_of or Usage()
    said = of_usage(event.usage)
    said["steptrack.instead_of.input_tokens"] = before.input_tokens
    said["steptrack.instead_of.output_tokens"] = before.output_tokens
    return said | _known({"steptrack.instead_of.cost_usd": _cost(before)})


def of_refusal(error: StepTrackError) -> Attributes:
    """Say why a call was refused, and whose limit it was."""
    said: Attributes = {"error.type": type(error).__name__, "error.message": str(error)}
    if isinstance(error, BudgetExhausted):
        said |= {
            "steptrack.phase": error.phase,
            "steptrack.limit": error.limit,
            "steptrack.limit_value": float(error.limit_value),
            "steptrack.owner.path": error.path,
        }
        own = [
            breach for breach in error.breaches if (breach.path, breach.limit) == (error.path, error.limit)
        ]
        if own:
            said["steptrack.consumed"] = float(own[0].consumed)
    return said


def of_threshold(event: BudgetThreshold) -> Attributes:
    """Say which share of which limit was crossed."""
    return {
        "steptrack.limit": event.limit,
        "steptrack.limit_value": float(event.limit_value),
        "steptrack.consumed": float(event.consumed),
        "steptrack.threshold": event.threshold,
        "steptrack.share": event.share,
    }


def of_swap(event: CallSwapped) -> Attributes:
    """Say with which model a call was made in place of which, and why."""
    return {
        "gen_ai.request.model": event.model,
        "steptrack.swap.asked": event.asked,
        "steptrack.swap.why": event.why,
    }


def of_escalation(event: Escalated) -> Attributes:
    """Say what was asked for, and what was granted by whom."""
    grant = event.grant
    said: Attributes = {"steptrack.granted": grant is not None, "steptrack.limit": event.error.limit}
    if grant is not None:
        granted = {name: getattr(grant, name) for name in get_args(LimitName)}
        said |= _amounts("steptrack.grant.", granted) | _known({"steptrack.grant.by": grant.by})
    return said


@cache
def provider_name(provider: str | None, model: str) -> str | None:
    """Name who serves a model, as the conventions do; `None` if nobody said it and the model does not.

    Example:
        >>> provider_name(None, "vertex_ai/gemini-2.5-pro"), provider_name("xai", "grok-4")
        ('gcp.vertex_ai', 'x_ai')
    """
    vendor, _ = split(model, provider)
    if vendor is None or (provider is None and vendor not in _known_providers()):
        row = installed().row(model)
        listed = None if row is None else row.entry.get("litellm_provider")
        vendor = canonical(listed) if isinstance(listed, str) else None
    return None if vendor is None else _PROVIDERS.get(vendor, vendor)


@cache
def _known_providers() -> frozenset[str]:
    listed = (entry.get("litellm_provider") for entry in installed().entries.values())
    return frozenset(canonical(name) for name in listed if isinstance(name, str))


def _cost(usage: Usage) -> float | None:
    """Return what is known of a cost; `None`, not zero, if that is nothing."""
    return None if usage.unpriced_calls and not usage.cost_usd else float(usage.cost_usd)


def _shares(record: CompletedStep) -> dict[str, float]:
    usage = record.usage
    consumed = {
        "max_usd": _cost(usage),
        "max_tokens": usage.total_tokens,
        "max_calls": usage.calls,
        "max_seconds": record.duration_s,
    }
    return {
        name: part / float(value) if value else 1.0
        for name, value in record.limits.items()
        if (part := consumed[name]) is not None
    }


def _amounts(prefix: str, amounts: Mapping[Any, Any]) -> Attributes:
    return _known({f"{prefix}{name}": plain(value) for name, value in amounts.items()})


def _known(said: Attributes) -> Attributes:
    return {name: value for name, value in said.items() if value is not None}
