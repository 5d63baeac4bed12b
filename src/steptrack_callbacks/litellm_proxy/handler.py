"""The one callback: it translates what the proxy reports of a request into calls."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.litellm.swapping import headers_of
from steptrack_callbacks.values.errors import StepTrackError

from .accounts import Accounts
from .identity import MalformedIdentity, identity_of, key_of
from .naming import REMAINING
from .refusals import malformed, nonsense, refusal
from .requests import asks_several, capped, exact_request, kind_of, request_for
from .streams import metered
from .swapping import keeping_its_group, with_models
from .tickets import TICKET, Ticket, current_attempt, ticket_of
from .tools import ANY_TOOL, narrow

_CLIENT_GONE = 499
_HIDES_USAGE = "_litellm_strip_stream_usage"  # by which the proxy remembers that no client has asked for it


class StepTrackProxyHandler(CustomLogger):
    """Charges every request to its step, and refuses it before it is sent if there is no room.

    Args:
        accounts: The accounts of steps and budgets.
    """

    def __init__(self, accounts: Accounts) -> None:
        super().__init__()
        self.instance_id = uuid.uuid4().hex  # LiteLLM drops a second callback that looks like the first
        self._accounts = accounts

    # Before a request is sent

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> dict[str, Any] | None:
        """Reserve room for a request.

        Raises:
            BudgetExhausted: There is none; the client gets status 402.
            ToolDenied: It wants a tool that its stage does not allow; status 403.
            UnpricedModel: A dollar limit is in force and the model's price is unknown; status 402.
            LedgerError: Nobody can tell; status 503.
        """
        kind = kind_of(call_type)
        if kind is None:
            return None
        if kind == "batch":
            return self._note_batch(user_api_key_dict, data)
        before = ticket_of(data)
        if before is not None:  # the Router tries another model, after a rate limit
            await before.give_up()
        try:
            identity = identity_of(key_of(user_api_key_dict), data)
        except MalformedIdentity as error:
            raise malformed(error) from None
        surroundings = self._accounts.surroundings(identity)
        around = surroundings.accounts
        if around is None:
            return data
        if kind == "chat" and data.get("stream") and asks_several(data):
            raise nonsense("model", f"model: a stream is one model's; {data['model']!r} names several")
        ticket = Ticket(kind, around, self._accounts)
        ticket.bind(data)
        try:
            if surroundings.policy is not ANY_TOOL:
                narrow(data, surroundings.policy, "/".join(identity.path))
            price = self._accounts.price_of(str(data.get("model") or ""))
            request = request_for(kind, data, getattr(user_api_key_dict, "team_id", None), price)
            if request is not None:
                if around.listing:
                    priced: Any = {"around": around, "price_of": self._accounts.price_of}
                    request = await with_models(request, kind, data, user_api_key_dict, **priced)
                call = await ticket.admit(request)
                if ticket.swap is not None:
                    data["model"] = ticket.swap.used
                if call.reservation is not None:
                    _cap(ticket, call, data)
        except StepTrackError as error:
            refused = refusal(error)
            refused.headers = _what_is_left(ticket)
            refused.status_code = int(refused.code)  # some endpoints look at it, and no Router does by now
            raise refused from None
        if kind == "text":
            _ask_for_usage(ticket, data)
        return data

    def _note_batch(self, user_api_key_dict: Any, data: dict[str, Any]) -> dict[str, Any]:
        """Note whose a batch is that is asked for; asking is not a call, but may find it finished."""
        try:
            identity = identity_of(key_of(user_api_key_dict), data)
        except MalformedIdentity as error:
            raise malformed(error) from None
        around = self._accounts.around(identity)
        if around is not None:
            Ticket("batch", around, self._accounts).bind(data)
        return data

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: Any
    ) -> dict[str, Any] | None:
        """Let one attempt be sent: each after the first reserves room of its own.

        Raises:
            BudgetExhausted: There is none; the Router tries no other deployment then.
            UnpricedModel: This deployment's price is unknown.
            LedgerError: Nobody can tell.
        """
        ticket = ticket_of(kwargs)
        if ticket is None:
            return None
        ticket.bind(kwargs)  # of some requests LiteLLM has no account before
        if ticket.kind == "batch":
            return None
        admitted = None if ticket.unsent is None else ticket.unsent.request
        exact = exact_request(ticket.kind, kwargs, admitted, self._accounts.price_of)
        try:
            call = await ticket.begin_attempt(keeping_its_group(exact))
        except StepTrackError as error:
            raise refusal(error) from None
        if call is not None and call.reservation is not None:
            _cap(ticket, call, kwargs)
        return kwargs

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """Count a request that is really sent."""
        call = current_attempt()
        if call is not None:
            call.attempts += 1

    # After it

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: Any
    ) -> None:
        """Keep the answer of an attempt: whatever becomes of the request, it was paid for."""
        ticket = ticket_of(request_data)
        if ticket is not None:
            ticket.note_answer(response)

    async def async_post_call_failure_deployment_hook(
        self, request_data: Any, exception: Any, call_type: Any, fallback_depth: int | None = None
    ) -> None:
        """Charge an attempt that has failed; the Router may make another."""
        ticket = ticket_of(request_data)
        if ticket is not None and not isinstance(exception, StepTrackError):
            await ticket.fail_attempt()

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any
    ) -> Any:
        """Charge the answer before the client has it."""
        ticket = ticket_of(data)
        if ticket is not None:
            await ticket.finish(response, from_cache=_is_from_cache(data))
        return response

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Charge what is left of a request that has failed as a whole."""
        ticket = ticket_of(request_data)
        if ticket is not None:
            gone = getattr(original_exception, "status_code", None) == _CLIENT_GONE
            await ticket.give_up(gone=gone)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Count a stream as it runs, and cut it at a limit."""
        ticket = ticket_of(request_data)
        stream = response if ticket is None else metered(ticket, response, request_data)
        async for chunk in stream:
            yield chunk

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Charge an attempt that no hook has charged, such as one of several that ran beside each other."""
        call = current_attempt()
        ticket = kwargs.get(TICKET)
        if ticket is not None and ticket.kind == "batch":
            await ticket.charge_batch(response_obj, kwargs)
        elif call is not None and ticket is not None and not kwargs.get("stream"):
            await ticket.settle_late(
                call, response_obj, kwargs.get("response_cost"), from_cache=bool(kwargs.get("cache_hit"))
            )

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str]:
        """Say with which model it was answered in place of which, and what is left.

        That is after this answer, or for a stream as of its admission.
        """
        ticket = ticket_of(data)
        if ticket is None:
            return {}
        return _what_is_left(ticket) | (headers_of(ticket.swap) if ticket.swap is not None else {})


def _is_from_cache(data: dict[str, Any]) -> bool:
    """Tell whether an answer is from LiteLLM's cache: one in Anthropic's words says it nowhere else."""
    details = getattr(data.get("litellm_logging_obj"), "caching_details", None)
    return isinstance(details, dict) and details.get("cache_hit") is True


def _what_is_left(ticket: Ticket) -> dict[str, str]:
    return {REMAINING[name]: _plain(rest) for name, rest in ticket.remaining().items()}


def _plain(amount: Any) -> str:
    return f"{amount:f}" if isinstance(amount, Decimal) else str(amount)


def _cap(ticket: Ticket, call: Call, options: dict[str, Any]) -> None:
    """Set the most output that a limit has room for."""
    if (most := call.max_tokens_to_set) is not None:
        options.update(capped(ticket.kind, most))


def _ask_for_usage(ticket: Ticket, data: dict[str, Any]) -> None:
    """Ask for the usage of a stream of text; the client will not see it."""
    if not data.get("stream"):
        return
    if data.get(_HIDES_USAGE):  # the proxy has asked, and would take the answer out before it gets here
        data[_HIDES_USAGE] = False
        ticket.hides_usage = True
    elif data.get("stream_options") is None:
        data["stream_options"] = {"include_usage": True}
        ticket.hides_usage = True
