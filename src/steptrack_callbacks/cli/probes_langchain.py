"""Calls of LangChain's models and agents, answered by fakes of its own and by LiteLLM's mocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from .probes import Probe, read

_ANSWER = "hello to you"
_ASK = [{"role": "user", "content": "hello"}]


def of_models() -> Iterator[Probe]:
    """List the calls of LangChain's own fake models."""
    yield from _ways("langchain_core", "chat model", _chat_model)
    yield from _ways("langchain_core", "completion model", _completion_model)


def of_litellm() -> Iterator[Probe]:
    """List the calls of the model that calls LiteLLM, answered by LiteLLM's mocks."""
    yield from _ways("langchain_litellm", "ChatLiteLLM", _litellm_model)


def _chat_model() -> Any:
    models = import_module("langchain_core.language_models.fake_chat_models")
    return models.FakeListChatModel(responses=[_ANSWER])


def _completion_model() -> Any:
    return import_module("langchain_core.language_models.fake").FakeListLLM(responses=[_ANSWER])


def _litellm_model() -> Any:
    mocked = {"mock_response": _ANSWER}
    return import_module("langchain_litellm").ChatLiteLLM(
        model="gpt-4o-mini", api_key="none", model_kwargs=mocked
    )


def _ways(package: str, entry: str, model: Callable[[], Any]) -> Iterator[Probe]:
    """Call a runnable in each of its ways."""

    async def awaited() -> None:
        await model().ainvoke("hello")

    async def awaited_stream() -> None:
        await read(model().astream("hello"))

    async def awaited_batch() -> None:
        await model().abatch(["hello"])

    yield Probe(package, entry, "invoke", lambda: model().invoke("hello"))
    yield Probe(package, entry, "ainvoke", awaited)
    yield Probe(package, entry, "stream", lambda: list(model().stream("hello")))
    yield Probe(package, entry, "astream", awaited_stream)
    yield Probe(package, entry, "batch", lambda: model().batch(["hello"]))
    yield Probe(package, entry, "abatch", awaited_batch)


def of_agents() -> Iterator[Probe]:
    """List the calls of agents of `create_agent`, without our middleware and with it."""
    asked = {"messages": _ASK}

    def agent(*middleware: Any) -> Any:
        return import_module("langchain.agents").create_agent(_chat_model(), middleware=middleware)

    def budgeted_agent() -> Any:
        from steptrack_callbacks.langgraph import StepBudgetMiddleware  # noqa: PLC0415 - if there are agents

        return agent(StepBudgetMiddleware("agent"))

    async def awaited() -> None:
        await budgeted_agent().ainvoke(asked)

    yield Probe("langchain", "agent", "invoke", lambda: agent().invoke(asked))
    yield Probe(
        "langchain", "agent with StepBudgetMiddleware", "invoke", lambda: budgeted_agent().invoke(asked)
    )
    yield Probe("langchain", "agent with StepBudgetMiddleware", "ainvoke", awaited)
