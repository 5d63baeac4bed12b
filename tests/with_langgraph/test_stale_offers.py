"""A call that was cancelled by a timeout is not taken for the next one in the same task."""

from __future__ import annotations

import asyncio
from typing import Any

import litellm
import pytest
from agents import by_path, gated

from steptrack_callbacks import step
from steptrack_callbacks.litellm import attach

QUESTION: Any = [{"role": "user", "content": "hello"}]

pytestmark = [
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:coroutine '.*' was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]


@pytest.mark.parametrize("keeps", [False, True], ids=["error dropped", "error kept"])
def test_a_direct_call_after_a_timeout_is_a_call_of_its_own(keeps: bool) -> None:
    kept: list[BaseException] = []

    async def main() -> None:
        model = gated()

        async def tighten(limit: asyncio.Timeout) -> None:
            await model.asked.wait()
            limit.reschedule(asyncio.get_running_loop().time())

        with step("answer", max_usd=1):
            try:
                async with asyncio.timeout(None) as limit:
                    hurrying = asyncio.create_task(tighten(limit))
                    await model.ainvoke("hello")
            except TimeoutError as error:
                if keeps:
                    kept.append(error)
            await hurrying
            await litellm.acompletion(model="gpt-4o", messages=QUESTION, mock_response="hello")

    detach = attach()
    try:
        asyncio.run(main())
    finally:
        detach()
        kept.clear()
    assert by_path()["answer"].usage.calls == 2
