"""How many of our own Python calls one request takes in a proxy's process, from its key to its headers."""

import asyncio
import warnings

import litellm
import pytest
from litellm.proxy._types import UserAPIKeyAuth

from counting import counted
from steptrack_callbacks.config import parse
from steptrack_callbacks.engine import output_stats
from steptrack_callbacks.ledgers.client import LedgerClient
from steptrack_callbacks.ledgers.memory import MemoryStore
from steptrack_callbacks.litellm.swapping import deployments_of
from steptrack_callbacks.litellm_proxy.accounts import Accounts
from steptrack_callbacks.litellm_proxy.handler import StepTrackProxyHandler

LIMITS = """
[budgets.per-key]
max_usd = 1000
scope = "key"
[steps.answer]
max_usd = 1000
[proxy]
budgets = ["per-key"]
"""
DEPLOYED = {"model": "openai/gpt-4o-mini", "api_key": "none", "mock_response": "Rayleigh scattering."}
MESSAGES = [{"role": "user", "content": "why is the sky blue?"}]
NAMED = {"x-steptrack-run": "r", "x-steptrack-step": "answer/write", "user-agent": "openai", "accept": "*/*"}
KEY = UserAPIKeyAuth(api_key="sk-mine")


class Logged:
    """LiteLLM's own account of a request."""

    def __init__(self):
        self.model_call_details = {}


@pytest.fixture
def handler(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the proxy's own modules declare
        from litellm.proxy import proxy_server

    router = litellm.Router(model_list=[{"model_name": "mock", "litellm_params": DEPLOYED}])
    monkeypatch.setattr(proxy_server, "llm_router", router)
    output_stats.reset()
    return StepTrackProxyHandler(Accounts(parse(LIMITS), LedgerClient(MemoryStore())))


async def serve(handler, answer):
    """Tell the handler of a request as the proxy does."""
    beside = {"litellm_logging_obj": Logged(), "messages": MESSAGES}
    data = {"model": "mock", "proxy_server_request": {"headers": NAMED, "body": {}}, "metadata": {}, **beside}
    (deployment,) = deployments_of(litellm.proxy.proxy_server.llm_router, "mock")
    info = {"model_info": deployment["model_info"], "metadata": {"model_group": "mock"}}
    sent = {**deployment["litellm_params"], "stream": False, **info, **beside}
    await handler.async_pre_call_hook(KEY, None, data, "acompletion")
    await handler.async_pre_call_deployment_hook(sent, "acompletion")
    handler.log_pre_api_call("gpt-4o-mini", MESSAGES, sent)
    await handler.async_post_call_success_deployment_hook(sent, answer, "acompletion")
    await handler.async_post_call_success_hook(data, KEY, answer)
    return await handler.async_post_call_response_headers_hook(data, KEY, answer)


def test_a_request_far_from_its_limits_takes_few_calls_of_ours(handler):
    answer = litellm.completion(messages=MESSAGES, **DEPLOYED)

    async def count():
        for _ in range(25):
            await asyncio.create_task(serve(handler, answer))
        with counted() as found:
            left = await serve(handler, answer)
        return found.total(), left

    calls, left = asyncio.run(count())
    assert calls <= 251
    assert list(left) == ["x-steptrack-remaining-usd"]
