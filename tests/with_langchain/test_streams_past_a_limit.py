"""Streams that pass a limit: cut by the very chunk that passes it, whatever it is written in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from asking import FakeChat
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from steptrack_callbacks import BudgetExhausted, record_usage, step
from steptrack_callbacks.integrations import stream_pacing
from steptrack_callbacks.integrations.stream_text import StreamText
from steptrack_callbacks.langchain import runs
from steptrack_callbacks.tokens import count_text

TEXTS = {
    "English": "The quick brown fox jumps over the lazy dog. ",
    "letters": "a b c d ",
    "Python": "    for index, value in enumerate(values):\n",
    "Chinese": "今天天气很好我们去公园散步",
    "Thai": "วันนี้อากาศดีมาก",
    "emoji": "🧿🦤🪐",
    "cuneiform": "𒀀𒀁𒀂",
    "spaceless": "antidisestablishmentarianism",
}
CHUNK = 6
"""Characters of a chunk."""


class Endless(FakeChat):
    """A model that streams a text over and over, from as many streams as are begun."""

    text: str = TEXTS["English"]
    first: str = ""
    lengths: list[int] = []  # noqa: RUF012 - pydantic copies it

    def _pieces(self) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk(self.first))
        whole = self.text * (CHUNK * 20)
        while True:
            for start in range(0, len(whole), CHUNK):
                yield ChatGenerationChunk(message=AIMessageChunk(whole[start : start + CHUNK]))

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        yield from self._pieces()

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for piece in self._pieces():
            yield piece


def most_in_a_chunk(text: str) -> int:
    """Count the tokens of the densest chunk, and two by which its last word may be counted otherwise."""
    whole = text * CHUNK
    chunks = (whole[start : start + CHUNK] for start in range(0, len(whole), CHUNK))
    return max(count_text(chunk, "gpt-4o") for chunk in chunks) + 2


def read_out(model: FakeChat, out: list[str]) -> None:
    for chunk in model.stream("hello"):
        out.append(chunk.text)


@pytest.mark.parametrize("limit", [60, 1_000, 10_000])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_stream_is_cut_by_the_chunk_that_passes_the_limit(text: str, limit: int) -> None:
    seen: list[str] = []
    with pytest.raises(BudgetExhausted) as cut, step("plan", max_tokens=limit) as plan:
        read_out(Endless(text=text), seen)
    assert cut.value.phase == "stream"
    assert limit < plan.usage.total_tokens <= limit + most_in_a_chunk(text)
    assert cut.value.response.startswith("".join(seen))
    assert len(cut.value.response) - len("".join(seen)) == CHUNK, "the reader lacks more than the last chunk"


@pytest.mark.parametrize("limit", [60, 1_000, 10_000])
@pytest.mark.parametrize("text", ["English", "cuneiform"])
def test_a_stream_that_was_begun_in_a_step_that_has_ended_is_cut_by_the_step_around(
    text: str, limit: int
) -> None:
    with pytest.raises(BudgetExhausted) as cut, step("outer", max_tokens=limit) as outer:
        with step("inner", max_tokens=20_000):
            stream = Endless(text=TEXTS[text]).stream("hello")
            next(stream)
        list(stream)
    assert (cut.value.phase, cut.value.step) == ("stream", "outer")
    assert limit < outer.usage.total_tokens <= limit + most_in_a_chunk(TEXTS[text])


@pytest.mark.parametrize("usd", ["0.002", "0.05", "0.2"])
@pytest.mark.parametrize("text", ["English", "cuneiform"])
def test_a_limit_in_dollars_cuts_as_soon(text: str, usd: str) -> None:
    with pytest.raises(BudgetExhausted), step("plan", max_usd=Decimal(usd)) as plan:
        read_out(Endless(text=TEXTS[text]), [])
    over = plan.cost_usd - Decimal(usd)
    assert 0 < over <= most_in_a_chunk(TEXTS[text]) * Decimal("1e-5")


@pytest.mark.parametrize("enforce", ["estimate", "strict"])
def test_a_stream_that_turns_dense_is_cut_as_soon(enforce: Any) -> None:
    model = Endless(text=TEXTS["cuneiform"], first=TEXTS["English"] * 400)
    with pytest.raises(BudgetExhausted), step("plan", max_tokens=20_000, enforce=enforce) as plan:
        read_out(model, [])
    assert 20_000 < plan.usage.total_tokens <= 20_000 + most_in_a_chunk(TEXTS["cuneiform"])


def taking_turns(turns: list[int], texts: list[str], limit: int) -> Any:
    """Read several streams on one loop, each so many chunks at a turn, until all are cut."""

    async def read(text: str, chunks: int) -> None:
        stream = Endless(text=text).astream("hello")
        with pytest.raises(BudgetExhausted):
            while True:
                for _ in range(chunks):
                    await anext(stream)
                await asyncio.sleep(0)

    async def main() -> Any:
        async with step("plan", max_tokens=limit, wait_s=0, error_boundary="continue") as plan:
            await asyncio.gather(*map(read, texts, turns))
        return plan

    return asyncio.run(main())


@pytest.mark.parametrize("pace", ["even", "uneven"])
@pytest.mark.parametrize("limit", [15_000, 40_000])
@pytest.mark.parametrize("streams", [1, 4, 10])
def test_streams_at_once_overrun_by_a_chunk_each_at_most(streams: int, limit: int, pace: str) -> None:
    texts = [list(TEXTS.values())[number % len(TEXTS)] for number in range(streams)]
    turns = [1 if pace == "even" or number else 200 for number in range(streams)]
    plan = taking_turns(turns, texts, limit)
    assert plan.usage.calls == streams
    assert limit < plan.usage.total_tokens <= limit + sum(map(most_in_a_chunk, texts))


def test_a_stream_hurries_when_another_call_is_charged() -> None:
    class Dear(FakeChat):
        def _answer(self) -> AIMessage:
            usage = {"input_tokens": 10, "output_tokens": 4_900, "total_tokens": 4_910}
            return AIMessage("short", usage_metadata=usage)

    stream = Endless().stream("hello")
    with pytest.raises(BudgetExhausted), step("plan", max_tokens=5_000) as plan:
        next(stream)
        Dear().invoke("hello")
        list(stream)
    assert 5_000 < plan.usage.total_tokens <= 5_000 + most_in_a_chunk(TEXTS["English"])


def test_what_no_stream_knows_of_lets_it_run_on_by_a_kibibyte_at_most() -> None:
    seen: list[str] = []
    with pytest.raises(BudgetExhausted), step("plan", max_tokens=5_000) as plan:
        for chunk in Endless().stream("hello"):
            seen.append(chunk.text)
            if len(seen) == 3:
                with pytest.raises(BudgetExhausted):
                    record_usage("gpt-4o", input_tokens=10_000, output_tokens=0)
    assert plan.usage.total_tokens < 10_000 + stream_pacing.LONGEST_STRIDE
    assert len("".join(seen)) <= stream_pacing.LONGEST_STRIDE + 4 * CHUNK


def test_a_long_stream_with_much_left_is_looked_at_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    look = runs.Run._look
    monkeypatch.setattr(runs.Run, "_look", lambda *args: (looks.append(1), look(*args)))
    with step("plan", max_tokens=10**6, max_usd=5):
        stream = Endless().stream("hello")
        for _ in range(2_000):
            next(stream)
        stream.close()
    assert len(looks) <= 2 + 2_000 * CHUNK / stream_pacing.LONGEST_STRIDE


def test_streams_that_are_over_are_forgotten() -> None:
    with step("plan", max_tokens=1_000, error_boundary="continue"):
        read_out(Endless(), [])
    with step("plan", max_tokens=1_000):
        stream = Endless().stream("hello")
        next(stream)
        next(stream)
        assert stream_pacing.streams
        stream.close()
    assert not stream_pacing.streams


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("size", [1, 7, 300])
def test_a_text_counts_as_much_in_pieces_as_in_one(text: str, size: int) -> None:
    produced, whole = StreamText(), text * 30
    for start in range(0, len(whole), size):
        produced.add(whole[start : start + size])
        counted = produced.tokens("gpt-4o")
    assert produced.text == whole
    assert counted == pytest.approx(count_text(whole, "gpt-4o"), rel=0.06)
