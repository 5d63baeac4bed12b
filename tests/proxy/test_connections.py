"""What is seen of an attempt where it is sent, with LiteLLM's transport and httpx's own."""

import asyncio

import httpx
import pytest
from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
from serving import free_port

from provider import Provider
from steptrack_callbacks.litellm_proxy.connections import Connections, see_httpx


@pytest.fixture(scope="module", autouse=True)
def _watching():
    see_httpx()


@pytest.fixture
def provider():
    with Provider(output_tokens=20) as provider:
        yield provider


@pytest.fixture(params=["aiohttp", "httpx"])
def client(request):
    return AsyncHTTPHandler().client if request.param == "aiohttp" else httpx.AsyncClient()


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
        with pytest.raises(httpx.ConnectError):
            await asked(client, f"http://127.0.0.1:{free_port()}")

    assert attempt(client, work).taken is False


def test_a_provider_that_does_not_answer_in_time_has_taken_it(provider, client):
    provider.hold()

    async def work(_connections):
        with pytest.raises(httpx.TimeoutException):
            await asked(client, provider.url, timeout=httpx.Timeout(5, read=0.1))

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
        connections.note(httpx.Response(200, content=endless()))

    attempt(client, work).hang_up()
