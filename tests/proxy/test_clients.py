"""The other side of the wire: a proxy's refusal is an exhaustion of the client's own step."""

import asyncio

import httpx
import litellm
import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

import steptrack_callbacks as steptrack
from internals import point_at
from steptrack_callbacks import BudgetEscalated, BudgetExhausted, step
from steptrack_callbacks.integrations import proxy_client
from steptrack_callbacks.langchain import budgeted
from steptrack_callbacks.litellm_proxy import headers

ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def installed(served):
    steptrack.install(proxy_url=served.url)
    yield
    steptrack.uninstall()
    litellm.in_memory_llm_clients_cache.flush_cache()


@pytest.fixture
def calls(served):
    """Ways to ask, by name; each returns a function that does so once."""
    options = {
        "model": "openai/fast",
        "api_base": f"{served.url}/v1",
        "api_key": "sk-master",
        "max_retries": 0,
    }

    def chat_with(client):
        return ChatOpenAI(
            model="fast",
            base_url=f"{served.url}/v1",
            api_key="sk-master",
            max_retries=0,
            http_async_client=client,
        )

    chat = chat_with(None)
    chat_of_responses = chat.model_copy(update={"use_responses_api": True})

    embeddings = budgeted(
        OpenAIEmbeddings(
            model="vectors",
            base_url=f"{served.url}/v1",
            api_key="sk-master",
            max_retries=0,
            check_embedding_ctx_length=False,
        ),
        step="vectors",
    )
    deployed = {"model_name": "here", "litellm_params": {**options, "model": "litellm_proxy/fast"}}
    router = litellm.Router(model_list=[deployed], num_retries=2)

    async def ask_langchain():
        async with httpx.AsyncClient() as client:  # of this loop, and closed with it
            await chat_with(client).ainvoke("hello")

    async def read(stream):
        return [chunk async for chunk in stream]

    async def acompletion():
        stream = await litellm.acompletion(messages=ASK, stream=True, **options)
        return await read(stream)

    return {
        "LiteLLM": lambda: litellm.completion(messages=ASK, **options),
        "LiteLLM stream": lambda: list(litellm.completion(messages=ASK, stream=True, **options)),
        "LiteLLM async stream": lambda: asyncio.run(acompletion()),
        "LiteLLM responses": lambda: litellm.responses(input="hello", **options),
        "LiteLLM embedding": lambda: litellm.embedding(
            input=["hello"], **{**options, "model": "openai/vectors"}
        ),
        "LangChain": lambda: chat.invoke("hello"),
        "LangChain stream": lambda: list(chat.stream("hello")),
        "LangChain async": lambda: asyncio.run(ask_langchain()),
        "LangChain responses": lambda: chat_of_responses.invoke("hello"),
        "LangChain embeddings": lambda: embeddings.embed_query("hello"),
        "LiteLLM by the proxy's name": lambda: litellm.completion(
            messages=ASK, num_retries=2, **{**options, "model": "litellm_proxy/fast"}
        ),
        "LiteLLM Router": lambda: router.completion(model="here", messages=ASK),
    }


NAMES = (
    "LiteLLM",
    "LiteLLM stream",
    "LiteLLM async stream",
    "LiteLLM responses",
    "LiteLLM embedding",
    "LangChain",
    "LangChain stream",
    "LangChain async",
    "LangChain responses",
    "LangChain embeddings",
    "LiteLLM by the proxy's name",
    "LiteLLM Router",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_is_acted_on_by_the_boundary_of_the_step_that_it_is_about(served, provider, calls, name):
    with step("outer") as outer:
        with step("twice", error_boundary="continue") as twice:
            for _ in range(9):
                calls[name]()
        assert twice.exhausted
    assert twice.exhaustion.path == "outer/twice"
    assert "2 calls spent of 2" in str(twice.exhaustion)
    assert (outer.usage.calls, provider.count()) == (2, 2)
    assert served.settled(outer.run_id, "outer/twice")["calls"] == 2


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("LiteLLM")])
def test_litellm_prints_nothing_at_the_client_where_the_proxy_refuses(calls, name, monkeypatch, capfd):
    monkeypatch.setattr(litellm, "suppress_debug_info", False)  # the Router of these tests has turned it off
    with step("twice", error_boundary="continue") as twice:
        for _ in range(3):
            calls[name]()
    assert twice.exhausted
    assert capfd.readouterr() == ("", "")
    assert litellm.suppress_debug_info is False


@pytest.mark.parametrize("name", ["LiteLLM stream", "LangChain stream"])
def test_a_stream_that_the_proxy_cuts_is_charged_what_was_seen(served, provider, calls, name):
    provider.behave(output_tokens=300)
    with pytest.raises(BudgetExhausted) as cut, step("short") as short:
        calls[name]()
    assert (cut.value.phase, cut.value.step_id) == ("stream", short.id)
    assert 130 < short.usage.output_tokens < 170
    assert short.usage.estimated_calls == 1


def test_the_client_decides_what_becomes_of_an_exhaustion(calls):
    with pytest.raises(BudgetEscalated) as escalated, step("asks", error_boundary="escalate"):
        calls["LiteLLM"]()
    assert escalated.value.limit == "max_calls"
    with step("asks", error_boundary="continue") as asks:
        calls["LangChain"]()
    assert asks.exhausted


def test_an_outer_step_owns_what_it_has_no_room_for(calls):
    with step("twice", error_boundary="continue") as twice, step("inner", error_boundary="continue") as inner:
        for _ in range(9):
            calls["LiteLLM"]()
    assert twice.exhausted
    assert not inner.exhausted


def test_a_budget_of_the_proxy_is_nobodys_here_and_passes_every_boundary(served, key):
    """The client's step has no limit and the proxy's budget hangs on one that has no boundary here."""
    options = {"model": "openai/fast", "api_base": f"{served.url}/v1", "api_key": key, "max_retries": 0}
    for _ in range(2):
        with step("outer"), step("budgeted"):
            litellm.completion(messages=ASK, **options)
    with step("outer", error_boundary="continue"), step("budgeted", error_boundary="continue") as budgeted:
        litellm.completion(messages=ASK, **options)
    assert budgeted.exhaustion.budget == "few"


def test_only_requests_to_the_proxy_say_where_they_are_made(served, provider, calls):
    with step("outer"):
        litellm.completion(
            model="openai/gpt-4o-mini", messages=ASK, api_base=provider.url, api_key="none", max_retries=0
        )
    assert not [name for name in provider.requests[0].headers if "steptrack" in name.lower()]


def test_without_install_the_headers_are_given_by_hand(served, run):
    steptrack.uninstall()
    with step("by-hand", run_id=run):
        served.client().chat.completions.create(model="fast", messages=ASK, extra_headers=headers())
    assert served.run(run)["by-hand"]["calls"] == 1


def test_an_error_that_is_no_refusal_is_left_alone(provider, calls):
    provider.fail_next(9, status=400)
    with pytest.raises(litellm.BadRequestError), step("outer"):
        calls["LiteLLM"]()
    assert proxy_client.refusal_in(ValueError("402 budget_exhausted {")) is None


@pytest.mark.parametrize("url", ["localhost:4000", "ftp://host", "", "http://", 5])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="must be an address such as"):
        steptrack.install(proxy_url=url)


@pytest.mark.parametrize(
    ("url", "is_ours"),
    [
        ("http://proxy:80/team/v1", True),
        ("http://proxy/team", True),
        ("http://proxy/teamster/v1", False),
        ("http://proxy/other", False),
        ("https://proxy/team", False),
        ("http://proxy:81/team", False),
        ("nonsense", False),
    ],
)
def test_an_address_below_the_proxys_is_the_proxys(url, is_ours):
    point_at("http://proxy/team/")
    assert proxy_client.is_for_proxy(url) is is_ours


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_is_the_same_by_each_of_its_names(host):
    point_at(f"http://{host}:4000")
    for other in ("localhost", "127.0.0.1", "[::1]"):
        assert proxy_client.is_for_proxy(f"http://{other}:4000/v1")
    assert not proxy_client.is_for_proxy("http://elsewhere:4000/v1")
