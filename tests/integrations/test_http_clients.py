"""What is sent is seen whichever client sends it, and whenever it was imported."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from importlib import import_module
from importlib.util import find_spec

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

import steptrack_callbacks as steptrack
from provider import Provider
from steptrack_callbacks import IntegrationChangedWarning, step
from steptrack_callbacks.integrations import http_clients
from steptrack_callbacks.langchain import failures

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
NAMES = [name for name in http_clients.PACKAGES if find_spec(name)]  # the OpenAI client 2 has no httpx2
PACKAGES = {name: import_module(name) for name in NAMES}
EACH_PACKAGE = pytest.mark.parametrize("package", PACKAGES.values(), ids=NAMES)
OPENAIS = import_module(NAMES[-1])
"""What the OpenAI client sends through by itself."""


@pytest.fixture
def provider():
    with Provider(output_tokens=5) as provider:
        yield provider


@pytest.fixture
def installed(provider):
    steptrack.install(proxy_url=provider.url)
    yield
    steptrack.uninstall()


class Seen:
    """Keeps what it is told of requests."""

    def __init__(self):
        self.requests, self.answers, self.errors = [], [], []

    def __call__(self, request):
        self.requests.append(request)
        return self

    def answered(self, response):
        self.answers.append(response.status_code)

    def failed(self, error):
        self.errors.append(error)


@pytest.fixture
def seen():
    observer = Seen()
    stop = http_clients.observe(observer)
    yield observer
    stop()


def post(package, url):
    with package.Client() as client:
        return client.post(f"{url}/chat/completions", json=BODY)


async def apost(package, url):
    async with package.AsyncClient() as client:
        return await client.post(f"{url}/chat/completions", json=BODY)


def ask_openai(provider, **clients):
    with openai.OpenAI(base_url=provider.url, api_key="none", max_retries=0, **clients) as client:
        client.chat.completions.create(**BODY)


async def ask_openai_async(provider):
    async with openai.AsyncOpenAI(base_url=provider.url, api_key="none", max_retries=0) as client:
        await client.chat.completions.create(**BODY)


async def read_openai_async(provider):
    async with openai.AsyncOpenAI(base_url=provider.url, api_key="none", max_retries=0) as client:
        return [chunk async for chunk in await client.chat.completions.create(stream=True, **BODY)]


def chat(provider, **options):
    return ChatOpenAI(
        model="gpt-4o", base_url=provider.url, api_key="none", max_retries=0, stream_usage=True, **options
    )


async def ask_langchain_async(provider):
    async with OPENAIS.AsyncClient() as client:
        await chat(provider, http_async_client=client).ainvoke("hello")


WAYS = {
    **{name: lambda p, name=name: post(PACKAGES[name], p.url) for name in NAMES},
    **{f"{name} async": lambda p, name=name: asyncio.run(apost(PACKAGES[name], p.url)) for name in NAMES},
    "OpenAI": ask_openai,
    "OpenAI over httpx": lambda p: ask_openai(p, http_client=httpx.Client()),
    "OpenAI async": lambda p: asyncio.run(ask_openai_async(p)),
    "OpenAI async stream": lambda p: asyncio.run(read_openai_async(p)),
    "ChatOpenAI": lambda p: chat(p).invoke("hello"),
    "ChatOpenAI stream": lambda p: list(chat(p).stream("hello")),
    "ChatOpenAI async": lambda p: asyncio.run(ask_langchain_async(p)),
    "OpenAIEmbeddings": lambda p: OpenAIEmbeddings(
        base_url=p.url, api_key="none", check_embedding_ctx_length=False
    ).embed_query("hello"),
}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_request_to_the_proxy_names_its_step_whichever_client_sends_it(way, provider, installed):
    with step("outer"), step("plan"):
        WAYS[way](provider)
    headers = {name.lower(): value for name, value in provider.requests[0].headers.items()}
    assert headers["x-steptrack-step"] == "outer/plan"
    assert headers["x-steptrack-run"]


@EACH_PACKAGE
def test_a_request_to_others_than_the_proxy_is_sent_as_it_was(package, provider):
    steptrack.install(proxy_url="http://localhost:1")
    try:
        with step("plan"):
            post(package, provider.url)
    finally:
        steptrack.uninstall()
    assert not [name for name in provider.requests[0].headers if name.lower().startswith("x-steptrack")]


@EACH_PACKAGE
def test_uninstalling_leaves_the_clients_as_they_were(package):
    before = package.Client.send, package.AsyncClient.send
    steptrack.install(proxy_url="http://localhost:1")
    steptrack.install(proxy_url="http://localhost:2")
    assert (package.Client.send, package.AsyncClient.send) != before
    steptrack.uninstall()
    assert (package.Client.send, package.AsyncClient.send) == before


@EACH_PACKAGE
def test_a_client_that_sends_otherwise_breaks_nothing_and_is_warned_of(package, provider, monkeypatch):
    monkeypatch.delattr(package.AsyncClient, "send")
    with pytest.warns(IntegrationChangedWarning, match=f"{package.__name__}'s async clients"):
        steptrack.install(proxy_url=provider.url)
    try:
        with step("plan"):
            post(package, provider.url)
    finally:
        steptrack.uninstall()
    assert "x-steptrack-step" in {name.lower() for name in provider.requests[0].headers}


@EACH_PACKAGE
def test_a_wrapper_that_came_later_keeps_working_and_ours_is_not_put_on_twice(package, provider, monkeypatch):
    seen = Seen()
    stop = http_clients.observe(seen)
    ours = package.Client.send

    def later(client, request, **options):
        return ours(client, request, **options)

    later.__wrapped__ = ours
    monkeypatch.setattr(package.Client, "send", later)
    stop()
    assert package.Client.send is later
    post(package, provider.url)
    again = http_clients.observe(seen)
    post(package, provider.url)
    again()
    assert len(seen.requests) == 1
    monkeypatch.undo()
    package.Client.send = ours.__wrapped__


@EACH_PACKAGE
def test_an_observer_is_told_what_becomes_of_each_request(package, provider, seen):
    post(package, provider.url)
    provider.fail_next(status=429)
    asyncio.run(apost(package, provider.url))
    assert (len(seen.requests), seen.answers, seen.errors) == (2, [200, 429], [])


@EACH_PACKAGE
def test_of_all_errors_those_of_a_server_that_nobody_reached_say_so(package, provider, seen):
    with pytest.raises(package.ConnectError):
        post(package, "http://127.0.0.1:1")
    with pytest.raises(package.ConnectError):
        asyncio.run(apost(package, "http://127.0.0.1:1"))
    with pytest.raises(package.UnsupportedProtocol):
        post(package, "ftp://127.0.0.1")
    assert [http_clients.was_never_sent(error) for error in seen.errors] == [True] * 3
    provider.hold()
    with pytest.raises(package.ReadTimeout) as late, package.Client(timeout=0.1) as client:
        client.post(f"{provider.url}/chat/completions", json=BODY)
    assert not http_clients.was_never_sent(late.value)


@EACH_PACKAGE
@pytest.mark.parametrize(
    ("name", "is_refusal"),
    [
        ("ConnectError", True),
        ("ConnectTimeout", True),
        ("PoolTimeout", True),
        ("RemoteProtocolError", True),
        ("ReadTimeout", False),
        ("WriteTimeout", False),
    ],
)
def test_what_an_error_means_does_not_depend_on_whose_it_is(package, name, is_refusal):
    wrapped = ValueError("the model's own words")
    wrapped.__cause__ = getattr(package, name)("broken")
    assert failures.is_refusal(wrapped) is is_refusal


AFTER_INSTALL = """
    import sys
    import steptrack_callbacks as steptrack
    {before}
    steptrack.install(proxy_url=sys.argv[1])
    import {package}
    with steptrack.step("plan"), {package}.Client() as client:
        sent = client.build_request("POST", sys.argv[1] + "/chat/completions", json={{"model": "m", "messages": []}})
        client.send(sent)
    other = "httpx" if "{package}" == "httpx2" else "httpx2"
    print(sent.headers.get("x-steptrack-step"), other in sys.modules)
    steptrack.uninstall()
"""


@pytest.mark.parametrize("package", NAMES)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_client_is_seen_whether_it_is_imported_before_or_after(package, before, provider):
    program = AFTER_INSTALL.format(package=package, before=f"import {package}" if before else "")
    command = [sys.executable, "-c", textwrap.dedent(program), provider.url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["plan", "False"], "the other one was imported by us"
