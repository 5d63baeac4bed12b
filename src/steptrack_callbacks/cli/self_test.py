"""Calls that `steptrack doctor` makes: one through each entry point and call mode, answered by mocks.

Each is made twice: in a step that has no call left, where it must be refused, and in one that has one,
where it must be charged once. Nothing is sent over the network.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from steptrack_callbacks import install, step, uninstall
from steptrack_callbacks.integrations.versions import version_of
from steptrack_callbacks.steps.step import Step

_ANSWER = "hello to you"
_ASK = [{"role": "user", "content": "hello"}]


@dataclass(frozen=True, slots=True)
class Probe:
    """One call through one entry point, in one mode.

    Attributes:
        package: Whose entry point it is.
        entry: Its name.
        mode: How it is called.
        call: Makes the call, and reads the answer to its end; a coroutine function if it is awaited.
    """

    package: str
    entry: str
    mode: str
    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a probe.

    Attributes:
        probe: The probe.
        wrong: What is wrong; empty if nothing is.
    """

    probe: Probe
    wrong: str


def run() -> list[Result]:
    """Make all calls that the installed packages offer; what fails is said in its result, and not raised."""
    install(ledger="memory:", on_integration_change="warn")
    try:
        with asyncio.Runner() as runner:
            return [Result(probe, _wrong_with(probe, runner)) for probe in probes()]
    finally:
        uninstall()


def probes() -> Iterator[Probe]:
    """List the calls that the installed packages offer."""
    offered: dict[str, Callable[[], Iterator[Probe]]] = {
        "litellm": _of_litellm,
        "langchain_core": _of_langchain,
        "langchain_litellm": _of_langchain_litellm,
        "langchain": _of_agents,
    }
    for package, probes_of in offered.items():
        if version_of(package) is not None:
            yield from probes_of()


def _wrong_with(probe: Probe, runner: asyncio.Runner) -> str:
    try:
        refused, charged = (_tried(probe, calls, runner) for calls in (0, 1))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return f"raises {type(error).__name__}: {error}"
    if refused.usage.calls or not refused.record().denied_calls:
        return "is not refused at max_calls=0"
    used = charged.usage
    if used.calls != 1:
        return f"is charged {used.calls} times at max_calls=1"
    if used.ungated_calls:
        return "is charged, but was seen only after it had been sent"
    return "" if used.total_tokens else "is charged without its usage"


def _tried(probe: Probe, max_calls: int, runner: asyncio.Runner) -> Step:
    tried = step("doctor", max_calls=max_calls, error_boundary="continue")
    if inspect.iscoroutinefunction(probe.call):
        runner.run(_awaited(probe, tried))
        return tried
    with tried:
        probe.call()
    return tried


async def _awaited(probe: Probe, tried: Step) -> None:
    async with tried:
        await probe.call()


async def _read(answer: Any) -> None:
    if hasattr(answer, "__aiter__"):  # some mocks answer as a whole where a stream was asked for
        async for _chunk in answer:
            pass


# LiteLLM: its own mock answers

_CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": _ASK, "mock_response": _ANSWER}
_LITELLM: dict[str, dict[str, Any]] = {
    "completion": _CHAT,
    "text_completion": {"model": "gpt-3.5-turbo-instruct", "prompt": "hello", "mock_response": _ANSWER},
    "embedding": {"model": "text-embedding-3-small", "input": "hello", "mock_response": [0.5]},
    "responses": {"model": "gpt-4o-mini", "input": "hello", "mock_response": _ANSWER},
}


def _of_litellm() -> Iterator[Probe]:
    litellm = import_module("litellm")

    @cache
    def router() -> Any:
        target = {"model": "gpt-4o-mini", "mock_response": _ANSWER}
        return litellm.Router(model_list=[{"model_name": "hello", "litellm_params": target}], num_retries=0)

    async def on_a_loop() -> None:
        router().completion(**asked)

    async def message() -> None:
        await litellm.anthropic.messages.acreate(**{**_CHAT, "model": "claude-sonnet-4-5"}, max_tokens=9)

    def batch() -> None:
        for answer in litellm.batch_completion(**{**_CHAT, "messages": [_ASK]}):
            if isinstance(answer, Exception):  # which it returns, and does not raise
                raise answer

    asked = {"model": "hello", "messages": _ASK}
    for name, options in _LITELLM.items():
        yield from _modes(lambda: litellm, f"litellm.{name}", name, options, streams=name != "embedding")
    yield from _modes(router, "litellm.Router.completion", "completion", asked, streams=True)
    yield Probe("litellm", "litellm.Router.completion", "sync on a loop", on_a_loop)
    yield Probe("litellm", "litellm.batch_completion", "sync", batch)
    yield Probe("litellm", "litellm.anthropic.messages", "async", message)


def _modes(
    holder: Callable[[], Any], entry: str, name: str, options: dict[str, Any], *, streams: bool
) -> Iterator[Probe]:
    """Call a function and its async twin, for a whole answer and for a stream."""

    async def awaited() -> None:
        await getattr(holder(), f"a{name}")(**options)

    async def awaited_stream() -> None:
        await _read(await getattr(holder(), f"a{name}")(**options, stream=True))

    yield Probe("litellm", entry, "sync", lambda: getattr(holder(), name)(**options))
    yield Probe("litellm", entry, "async", awaited)
    if streams:
        yield Probe("litellm", entry, "stream", lambda: list(getattr(holder(), name)(**options, stream=True)))
        yield Probe("litellm", entry, "async stream", awaited_stream)


# LangChain: its own fake models


def _of_langchain() -> Iterator[Probe]:
    yield from _ways("langchain_core", "chat model", _chat_model)
    yield from _ways("langchain_core", "completion model", _completion_model)


def _of_langchain_litellm() -> Iterator[Probe]:
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
        await _read(model().astream("hello"))

    async def awaited_batch() -> None:
        await model().abatch(["hello"])

    yield Probe(package, entry, "invoke", lambda: model().invoke("hello"))
    yield Probe(package, entry, "ainvoke", awaited)
    yield Probe(package, entry, "stream", lambda: list(model().stream("hello")))
    yield Probe(package, entry, "astream", awaited_stream)
    yield Probe(package, entry, "batch", lambda: model().batch(["hello"]))
    yield Probe(package, entry, "abatch", awaited_batch)


def _of_agents() -> Iterator[Probe]:
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
