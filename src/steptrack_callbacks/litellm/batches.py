"""Batches: each is charged once, where it is first seen to be finished; asking for one is not a model call.

What its answers used stands in the file of answers, which is read line by line, since each answer has
its own rates; a batch of which there is none, or none that can be read, may tell a sum itself.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import litellm

from steptrack_callbacks import pricing
from steptrack_callbacks.concurrency.guard import Guard
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.integrations.stated_cost import usd_in
from steptrack_callbacks.integrations.usage import Reading, read_usage
from steptrack_callbacks.steps.attribution import new_call
from steptrack_callbacks.tokens import InputCount
from steptrack_callbacks.values import user_warnings
from steptrack_callbacks.values.errors import UnknownCostWarning
from steptrack_callbacks.values.untrusted import field
from steptrack_callbacks.values.usage import Usage

from .refusals import no_advice

_FINISHED = frozenset({"completed", "expired", "cancelled"})
_CONNECTION = (
    "api_base",
    "api_key",
    "api_version",
    "custom_llm_provider",
    "extra_headers",
    "max_retries",
    "organization",
    "timeout",
    "vertex_credentials",
    "vertex_location",
    "vertex_project",
)
_NOBODY = "batch"
"""Stands for the model of a batch that does not say of which it is."""
_MOST_REMEMBERED = 10_000
_charged: OrderedDict[tuple[str, str], None] = OrderedDict()
_lock = Guard()

Part = tuple[str, Usage]
"""What one answer of a batch used, and of which model."""


def charge(batch: Any, options: Mapping[str, Any]) -> None:
    """Charge a batch to the step around, if it is finished and was not charged before.

    Args:
        batch: What LiteLLM has returned.
        options: How it was asked for it.
    """
    if _is_news(batch, options):
        file, content = field(batch, "output_file_id"), None
        with _again_if_unread(batch, options), no_advice():
            content = litellm.file_content(file, **_connection(options)) if file else None
        _charge_read(batch, options, content)


async def charge_async(batch: Any, options: Mapping[str, Any]) -> None:
    """Do as `charge`, and await the file of answers."""
    if _is_news(batch, options):
        file, content = field(batch, "output_file_id"), None
        with _again_if_unread(batch, options), no_advice():
            content = await litellm.afile_content(file, **_connection(options)) if file else None
        _charge_read(batch, options, content)


@contextmanager
def _again_if_unread(batch: Any, options: Mapping[str, Any]) -> Iterator[None]:
    """Let a batch be charged when it is asked for again, if the file of its answers cannot be read now."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a provider's file raises, the batch itself has come
        with _lock:
            _charged.pop(_key_of(batch, options), None)
        user_warnings.warn(
            f"the answers of batch {field(batch, 'id')!r} could not be read; it is charged when retrieved"
            f" again: {error}",
            UnknownCostWarning,
        )


def _charge_read(batch: Any, options: Mapping[str, Any], content: Any) -> None:
    if _key_of(batch, options) in _charged:
        _finished(batch, options, content).charge()


def charge_reported(batch: Any, details: Mapping[str, Any]) -> None:
    """Charge what LiteLLM itself reports of a finished batch, if no gate has charged it."""
    finished = reported(batch, details)
    if finished is not None:
        finished.charge()


def reported(batch: Any, details: Mapping[str, Any]) -> Finished | None:
    """Read what LiteLLM itself reports of a batch, if that is finished and nobody has charged it.

    Args:
        batch: The batch, with what LiteLLM has found in the file of answers.
        details: LiteLLM's account of the request for it.
    """
    told = read_usage(field(batch, "usage"))
    if field(batch, "object") == "response":  # which is retrieved as a batch is, and was charged when made
        return None
    if (told is None and not details.get("response_cost")) or not _is_news(batch, details):
        return None
    return _finished(batch, details, None, cost_usd=usd_in(details.get("response_cost")))


def forget() -> None:
    """Forget which batches were charged, for tests."""
    _charged.clear()


def _is_news(batch: Any, options: Mapping[str, Any]) -> bool:
    """Tell whether a batch has come to its end, and nobody here has charged it."""
    name = field(batch, "id")
    if field(batch, "status") not in _FINISHED or not isinstance(name, str):
        return False
    key = _key_of(batch, options)
    with _lock:
        if key in _charged:
            return False
        _charged[key] = None
        if len(_charged) > _MOST_REMEMBERED:
            _charged.popitem(last=False)
    return bool(field(batch, "output_file_id")) or read_usage(field(batch, "usage")) is not None


def _key_of(batch: Any, options: Mapping[str, Any]) -> tuple[str, str]:
    return str(options.get("custom_llm_provider") or "openai"), str(field(batch, "id"))


def _connection(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in _CONNECTION if options.get(name) is not None}


@dataclass(frozen=True, slots=True)
class Finished:
    """A batch that is finished, and was not charged before.

    Attributes:
        request: What was asked, as one request.
        parts: What each answer used, as far as anybody has told.
        cost_usd: What it cost, as LiteLLM has worked it out; `None` to price the parts.
    """

    request: Request
    parts: tuple[Part, ...]
    cost_usd: Decimal | None

    def charge(self) -> None:
        """Charge it to the step around."""
        call = new_call(self.request, sent=True)
        call.begin()
        self.settle(call)

    def settle(self, call: Call) -> None:
        """Charge a call with it."""
        call.settle(
            sum((usage for _, usage in self.parts), Usage()),
            cost_usd=self.cost_usd,
            truncated=True,  # as it were: its size says nothing of what one answer of the model is like
            estimated=not self.parts and self.cost_usd is None,
        )


def _finished(
    batch: Any, options: Mapping[str, Any], content: Any, *, cost_usd: Decimal | None = None
) -> Finished:
    parts = tuple(_parts_of(content)) or _told(batch, options)
    named = options.get("custom_llm_provider")
    provider = named if isinstance(named, str) else None
    cost = _cost_of(parts, provider)
    request = Request(
        model=parts[0][0] if parts else _NOBODY,
        operation="batch",
        provider=provider,
        service_tier="batch",
        count_input=lambda: InputCount(0, 0),
        price=lambda _usage: cost,
    )
    return Finished(request, parts, cost_usd)


def _cost_of(parts: tuple[Part, ...], provider: str | None) -> int | None:
    """Price each answer by itself, since a long one may have dearer rates; `None` if one has no price."""
    costs = [
        pricing.cost_units(model, usage, provider=provider, service_tier="batch") for model, usage in parts
    ]
    return None if None in costs or not costs else sum(cost or 0 for cost in costs)


def _told(batch: Any, options: Mapping[str, Any]) -> tuple[Part, ...]:
    usage, model = read_usage(field(batch, "usage")), field(batch, "model") or _model_in(batch, options)
    named = model if isinstance(model, str) and model else _NOBODY
    return () if usage is None else ((named, usage),)


def _model_in(batch: Any, options: Mapping[str, Any]) -> Any:
    """Find the only model of a batch where LiteLLM, or its proxy, has noted it."""
    models = field(field(batch, "_hidden_params"), "batch_models")
    return models[0] if isinstance(models, list) and len(models) == 1 else options.get("model")


def _parts_of(content: Any) -> Iterator[Part]:
    """Read what each answer in a file used; what failed has cost nothing, and says nothing."""
    raw = field(content, "content") if content is not None else None
    for line in raw.splitlines() if isinstance(raw, bytes) else ():
        try:
            written = json.loads(line)
        except ValueError:
            continue
        answer = field(field(written, "response"), "body") or field(field(written, "result"), "message")
        reading = Reading()
        reading.add(answer)
        told = reading.answer()
        if told.usage is not None and told.model is not None:
            for model, usage in told.parts or ((None, told.usage),):
                yield model or told.model, usage
