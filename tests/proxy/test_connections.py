"""What is seen of an attempt where it is sent, with LiteLLM's transport and the clients' own."""

import asyncio
from importlib import import_module
from importlib.util import find_spec

import httpx
import pytest
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
from serving import free_port

from provider import Provider
from steptrack_callbacks.integrations import http_clients
from steptrack_callbacks.litellm_proxy.connections import Connections, see_clients


@pytest.fixture(scope="module", autouse=True)
def _watching():
    see_clients()


@pytest.fixture
def provider():
    with Provider(output_tokens=20) as provider:
        yield provider


CLIENTS = [import_module(name) for name in http_clients.PACKAGES if find_spec(name)]
NOT_REACHED = tuple(client.ConnectError for client in CLIENTS)
TOO_LATE = tuple(client.TimeoutException for client in CLIENTS)


@pytest.fixture(params=["aiohttp", *(client.__name__ for client in CLIENTS)])
def client(request):
    if request.param == "aiohttp":
        return AsyncHTTPHandler().client
    return import_module(request.param).AsyncClient()


def asked(client, url, *, stream=False, **options):
    body = {"model": "m", "messages": [], "stream": stream}
    return client.send(
        client.build_request("POST", f"{url}/chat/completions", json=body, **options), stream=stream
    )


def attempt(client, work):
    """Run it as an attempt; returns what was seen of it."""
    connections = Connections()

    async def watched():
        connections.watch()
        async with client:
            await work(connections)

    asyncio.run(watched())
    return connections


def test_an_attempt_that_sends_nothing_is_neither_taken_nor_refused(client):
    async def work(_connections):
        pass

    assert attempt(client, work).taken is None


@pytest.mark.parametrize(("status", "taken"), [(200, True), (400, False), (429, False), (500, False)])
def test_an_error_is_a_refusal(provider, client, status, taken):
    async def work(_connections):
        if status != 200:
            provider.fail_next(status=status)
        assert (await asked(client, provider.url)).status_code == status

    assert attempt(client, work).taken is taken


def test_a_server_that_nobody_reaches_has_taken_nothing(client):
    async def work(_connections):
        with pytest.raises(NOT_REACHED):
            await asked(client, f"http://127.0.0.1:{free_port()}")

    assert attempt(client, work).taken is False


def test_a_provider_that_does_not_answer_in_time_has_taken_it(provider, client):
    provider.hold()
    client.timeout = (5, 0.1, 5, 5)  # to read, among the others

    async def work(_connections):
        with pytest.raises(TOO_LATE):
            await asked(client, provider.url)

    assert attempt(client, work).taken is True


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_stream_that_others_hold_is_hung_up_from_any_thread(provider, client, elsewhere):
    provider.hold(after_chunks=5)

    async def work(connections):
        response = await asked(client, provider.url, stream=True)
        if elsewhere:
            await asyncio.to_thread(connections.hang_up)
        else:
            connections.hang_up()
        await asyncio.to_thread(provider.wait_until, lambda: provider.requests[0].end == "client closed")
        assert response.is_closed
        connections.hang_up()

    assert attempt(client, work).taken is True


def test_hanging_up_after_the_loop_has_ended_harms_nobody(client):
    async def endless():
        yield b""

    async def work(connections):
        connections.answered(httpx.Response(200, content=endless()))

    attempt(client, work).hang_up()
