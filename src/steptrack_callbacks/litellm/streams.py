"""Streams: metered as they run, settled when they end, and charged what was seen when they do not.

The reader gets a twin of the stream that LiteLLM returns: of a subclass of the stream's own class, and
with the very same attributes, but looking at each chunk. So the Router's type checks, and the user's,
go on working, and since LiteLLM's logging holds on to the original only, a twin that nobody reads any
more is finalised at once.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from steptrack_callbacks import settings
from steptrack_callbacks.concurrency.contexts import run_finalizer
from steptrack_callbacks.concurrency.tasks import running_loop
from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations import proxy_client, settling, stream_pacing
from steptrack_callbacks.integrations.stream_pacing import Pace
from steptrack_callbacks.integrations.stream_text import StreamText
from steptrack_callbacks.integrations.usage import Answer, Reading
from steptrack_callbacks.values.errors import BudgetExhausted, StepTrackError
from steptrack_callbacks.values.untrusted import fields_of

from . import usage as answers
from .refusals import allow_advice, litellm_error, suppress_advice
from .stream_closing import hang_up, hang_up_async, hang_up_soon, layers_of

_MERE = frozenset(
    {
        *("choices", "citations", "created", "id", "model", "object"),
        *("provider_specific_fields", "service_tier", "system_fingerprint", "usage"),
    }
)
"""Fields of a chunk of a chat that is text only, provided that `usage` and `service_tier` are unset."""

_TEXT = frozenset({"content", "role"})
"""Fields of a choice in such a chunk."""


class Meter:
    """What was seen of one stream so far.

    Attributes:
        call: Its call.
        closed: Whether the reader has closed it.
        ended: Whether nothing more will come of it.
        loop: The event loop that it was begun on, if there was one.
    """

    def __init__(self, call: Call, chat: Any) -> None:
        self.call = call
        self.loop = running_loop()
        self.closed = self.ended = False
        self._chat = chat
        self._produced = StreamText()
        self._pace = Pace(call)
        self._is_timed = any(account.limits.seconds is not None for account in call.accounts.limited)
        self._has_begun = False
        self._seen = Reading()

    @property
    def text(self) -> str:
        """All that was produced so far."""
        return self._produced.text

    @property
    def output_tokens(self) -> int:
        """Tokens that were produced so far."""
        return self._produced.tokens(self.call.request.model)

    @property
    def is_due(self) -> bool:
        """Whether so much was produced that the limits have to be looked at."""
        return self._is_timed or self._produced.uncounted >= self._pace.stride

    def see(self, chunk: Any) -> None:
        """Take down what a chunk says."""
        is_mere = self._has_begun and _is_mere_text(chunk)
        text = _only_text(chunk) if is_mere else None
        if text is None:
            text = answers.text_of_chunk(chunk)
            is_mere = is_mere and not answers.cites(chunk)
        if text:
            self._count(text)
        if not is_mere:
            self._has_begun = True
            answers.read(self._seen, chunk)

    def look(self) -> None:
        """Look at the limits.

        Raises:
            BudgetExhausted: The stream has passed one.
        """
        self.call.progress(self.output_tokens)
        self._pace.renew()

    async def look_async(self) -> None:
        """Do as `look`, where an escalation may be awaited.

        Raises:
            BudgetExhausted: The stream has passed a limit.
        """
        await self.call.progress_async(self.output_tokens)
        self._pace.renew()

    def _count(self, text: str) -> None:
        self._produced.add(text)

    def _end(self) -> None:
        self.ended = True
        self._pace.end()

    def finish(self) -> None:
        """Charge a stream that has come to its end."""
        self._end()
        settling.settle(self.call, self._answer(), lambda: self.text, response=self.text)
        stream_pacing.tighten(self.call)

    def _answer(self) -> Answer:
        """Return what the stream has said so far, as the provider did, if LiteLLM has kept that."""
        kept, chunks = Reading(), _telling(getattr(self._chat, "chunks", None))
        for chunk in chunks:
            answers.read(kept, chunk)
        if not kept.has_usage:  # what the reader was shown then is LiteLLM's own count
            seen = answers.answer_of(self._seen, self.call.request)
            return seen._replace(is_contradictory=True) if chunks and seen.usage else seen
        if self._seen.is_cut:
            kept.cut()
        kept.add_tools(self._seen)
        return answers.answer_of(kept, self.call.request)

    def break_off(self) -> None:
        """Charge what was seen of a stream that will not be read to its end."""
        self.closed = True
        self._end()
        settling.abandon(self.call, self._answer(), self.output_tokens)

    def lose(self) -> None:
        """Do as `break_off`, but expect an answer where nothing of it was seen."""
        self.closed = True
        self._end()
        settling.abandon(self.call, self._answer(), self.output_tokens or None)

    def fail(self) -> None:
        """Charge what was seen of a stream that the provider has broken."""
        self._end()
        settling.fail(self.call, self._answer(), self.output_tokens)

    def cut(self, error: BudgetExhausted) -> StepTrackError:
        """Charge what was produced, and return the error for the reader, with the partial text."""
        self.break_off()
        error.response = self.text
        return litellm_error(error)


def _is_mere_text(chunk: Any) -> bool:
    """Tell a chunk in the middle of a chat, which says nothing beside its text."""
    fields = getattr(chunk, "__dict__", None)
    extra = getattr(chunk, "__pydantic_extra__", None)
    if not fields or not fields.keys() <= _MERE or (extra and any(extra.values())):
        return False
    choices = fields.get("choices")
    if type(choices) is not list or fields.get("usage") is not None or fields.get("service_tier") is not None:
        return False
    return not [choice for choice in choices if getattr(choice, "finish_reason", None) is not None]


def _only_text(chunk: Any) -> str | None:
    """Return the text of such a chunk, if it has one choice and that has nothing but text; else `None`."""
    delta = getattr(chunk.choices[0], "delta", None) if len(chunk.choices) == 1 else None
    fields = fields_of(delta)
    text = fields.get("content")
    is_all = {name for name, value in fields.items() if value} <= _TEXT
    return text if is_all and type(text) is str else None


def _telling(chunks: Any) -> list[Any]:
    """Pick the chunks that LiteLLM has kept which say who answers, how, and what was used.

    It shows its reader a usage of its own making, which lacks what LiteLLM does not know, and in which
    zeros have replaced nothing.
    """
    if not isinstance(chunks, list):
        return []
    ends = (0, len(chunks) - 2, len(chunks) - 1)
    return [
        chunk
        for index, chunk in enumerate(chunks)
        if index in ends or getattr(chunk, "usage", None) is not None
    ]


class MeteredStream:
    """Mixed into the class of a stream: what it adds to reading and closing it."""

    __slots__ = ()
    steptrack_meter: Meter
    steptrack_original: Any

    def __next__(self) -> Any:
        __tracebackhide__ = True
        meter = self.steptrack_meter
        if meter.closed:
            raise StopIteration
        is_quiet = settings.now.proxy is not None  # it may cut the stream: a refusal, no bug
        if is_quiet:
            suppress_advice()
        try:
            chunk = next(self.steptrack_original)
        except BaseException as error:
            _charge(meter, error)
            raise
        finally:
            if is_quiet:
                allow_advice()
        meter.see(chunk)
        if not meter.is_due:
            return chunk
        try:
            meter.look()
        except BudgetExhausted as error:
            try:
                raise meter.cut(error) from None
            finally:  # once it was charged, since Ctrl-C may end the closing
                hang_up(self.steptrack_original)
        except BaseException:  # somebody was asked for more, and has failed or was interrupted
            self.close()
            raise
        return chunk

    async def __anext__(self) -> Any:
        __tracebackhide__ = True
        meter = self.steptrack_meter
        if meter.closed:
            raise StopAsyncIteration
        is_quiet = settings.now.proxy is not None  # it may cut the stream: a refusal, no bug
        if is_quiet:
            suppress_advice()
        try:
            chunk = await anext(self.steptrack_original)
        except BaseException as error:
            _charge(meter, error)
            raise
        finally:
            if is_quiet:
                allow_advice()
        meter.see(chunk)
        if not meter.is_due:
            return chunk
        try:
            await meter.look_async()
        except BudgetExhausted as error:
            try:
                raise meter.cut(error) from None
            finally:  # once it was charged, since the reader may be cancelled meanwhile
                await hang_up_async(self.steptrack_original)
        except BaseException:  # somebody was asked for more, and has failed or was cancelled
            await self.aclose()
            raise
        return chunk

    def close(self) -> None:
        """Stop the provider, and charge what was seen."""
        self.steptrack_meter.break_off()
        hang_up(self.steptrack_original)

    async def aclose(self) -> None:
        """Stop the provider, and charge what was seen."""
        self.steptrack_meter.break_off()
        await hang_up_async(self.steptrack_original)

    def __del__(self) -> None:
        if not self.steptrack_meter.ended:
            run_finalizer(_drop_unread, self.steptrack_meter, self.steptrack_original)


class _Iterator:
    """What a reader is beside metered where the stream is a mere generator."""

    __slots__ = ()

    def __iter__(self) -> Any:
        return self

    def __aiter__(self) -> Any:
        return self


def _charge(meter: Meter, error: BaseException) -> None:
    """Charge a stream by how reading it has ended.

    Raises:
        StepTrackError: In place of the error: a proxy has cut the stream, or a hook has refused the charge.
    """
    __tracebackhide__ = True
    if isinstance(error, StopIteration | StopAsyncIteration):
        try:
            meter.finish()
        except StepTrackError as refused:
            raise litellm_error(refused) from None
    elif not isinstance(error, Exception):
        meter.break_off()
    elif (cut := proxy_client.refusal_in(error)) is not None:
        raise meter.cut(cut) from error
    else:
        meter.fail()


def is_stream(response: Any) -> bool:
    """Tell a stream from a complete answer, which some requests for a stream get."""
    return hasattr(type(response), "__next__") or hasattr(type(response), "__anext__")


def is_from_cache(stream: Any) -> bool:
    """Tell whether a stream replays a cached answer."""
    hidden = getattr(stream, "_hidden_params", None) or {}
    inner = getattr(stream, "completion_stream", None)
    providers = (getattr(holder, "custom_llm_provider", None) for holder in (stream, inner))
    return "cached_response" in providers or bool(hidden.get("cache_hit"))


def metered(stream: Any, meter: Meter, *, hides_usage: bool) -> Any:
    """Return a stream that reads the same and is metered.

    Args:
        stream: What LiteLLM returned.
        meter: What looks at its chunks.
        hides_usage: Whether usage was asked for by us, so that LiteLLM must not show the chunk that
            carries it; it then still collects the chunk.
    """
    chat = kept_by(stream)
    if hides_usage and chat is not None:
        chat.send_stream_usage = False
        chat.stream_options = None
        if chat is not stream:
            stream.stream_options = None
    reader = object.__new__(_metered_class(type(stream)))  # type: ignore[arg-type] # classes are hashable
    if hasattr(stream, "__dict__"):
        reader.__dict__ = stream.__dict__
    reader.steptrack_original = stream
    reader.steptrack_meter = meter
    return reader


def kept_by(stream: Any) -> Any:
    """Return the layer of a stream that keeps its chunks as they came, and can hide its usage; if any."""
    return next((layer for layer in layers_of(stream) if hasattr(layer, "send_stream_usage")), None)


@cache
def _metered_class(kind: type) -> Any:
    base = kind if kind.__dictoffset__ else _Iterator
    described = {"__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(
        kind.__name__,
        (MeteredStream, base),
        {"__slots__": ("steptrack_meter", "steptrack_original"), **described},
    )


def _drop_unread(meter: Meter, stream: Any) -> None:
    """Charge a stream that nobody reads any more, and close it."""
    meter.break_off()
    hang_up_soon(stream, meter.loop)
