"""A small OpenAI-compatible server on loopback: the real thing that the tests' calls are sent to.

Every behaviour of a provider that accounting depends on can be set, also while it runs:

    with Provider(output_tokens=20) as provider:
        client = openai.OpenAI(base_url=provider.url, api_key="none")
        provider.fail_next(2, status=503)

Tests need no sleeps: `hold()` keeps answers back, `wait_for(n)` waits until n of them are kept
back, `wait_until(...)` for anything else that can be seen on the provider.
"""

from __future__ import annotations

import json
import math
import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Json = dict[str, Any]
Event = tuple[Json | str, int]  # of a stream, and how many words are in it

WORDS = (
    " word",
    " time",
)  # what answers are made of, in turn: each one token in o200k and cl100k, and one chunk


def words(count: int) -> list[str]:
    """Return the words of an answer; LiteLLM breaks off streams that repeat one chunk for long."""
    return [WORDS[index % len(WORDS)] for index in range(count)]


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How the provider answers."""

    input_tokens: int = 100
    output_tokens: int = 200  # of each choice, unless the request caps it lower
    cached_tokens: int = 0  # a part of the input
    reasoning_tokens: int = 0  # a part of the output that is not shown as text
    tool: str | None = None  # the function that chat calls, in place of an answer in text
    usage_in_stream: Literal["asked", "always", "never"] = "asked"
    reject_stream_options: bool = False  # with status 400, as some servers do
    drop_after_chunks: int | None = None  # break the connection when a stream has sent so many words
    whole: Json | None = None  # the very answer, whatever was asked
    pieces: tuple[Json, ...] = ()  # the same as a stream: its events


@dataclass
class Request:
    """A request that reached the provider, and what became of it."""

    path: str
    body: Json
    headers: dict[str, str]
    time: float
    tokens_sent: int = 0
    end: Literal["open", "answered", "dropped", "client closed"] = "open"


class Provider:
    """The server, as a context manager; keywords are the fields of `Behaviour`."""

    def __init__(self, **behaviour: Any) -> None:
        self.behaviour = Behaviour(**behaviour)
        self.requests: list[Request] = []  # all that arrived, also those answered with an error
        self.held = 0  # answers kept back now
        self._hold_after = 0
        self._passes = math.inf  # how many answers may go
        self._failures: list[int] = []
        self._changed = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.provider = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def behave(self, **changes: Any) -> None:
        """Changes the behaviour for the requests that arrive from now on."""
        with self._changed:
            self.behaviour = replace(self.behaviour, **changes)

    def fail_next(self, n: int = 1, status: int = 500) -> None:
        """Answers the next n requests with an error."""
        with self._changed:
            self._failures += [status] * n

    def hold(self, after_chunks: int = 0) -> None:
        """Keeps every answer back until released; a stream once it has sent so many words."""
        with self._changed:
            self._hold_after, self._passes = after_chunks, 0

    def release(self, n: float = math.inf) -> None:
        """Lets n of the answers go that are kept back; without n all, and those to come."""
        with self._changed:
            self._passes += n
            self._changed.notify_all()

    def wait_for(self, n: int, timeout: float = 10) -> None:
        """Waits until n answers are kept back, or raises TimeoutError."""
        self.wait_until(lambda: self.held >= n, timeout)

    def wait_until(self, condition: Callable[[], bool], timeout: float = 10) -> None:
        """Waits until the condition on this provider holds, or raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"waited {timeout} s; {self.held} held, requests: {self.requests}")

    def count(self, path: str | None = None) -> int:
        """How many requests arrived, at this path or at all."""
        return sum(path in (None, request.path) for request in list(self.requests))

    def _receive(self, request: Request) -> tuple[Behaviour, int]:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            return self.behaviour, self._failures.pop(0) if self._failures else 200

    def _note(self, request: Request, **changes: Any) -> None:
        with self._changed:
            vars(request).update(changes)
            self._changed.notify_all()

    def _wait_if_held(self, check_client: Callable[[], None], chunks: int | None = None) -> None:
        with self._changed:
            if chunks not in (None, self._hold_after):
                return
            self.held += 1
            self._changed.notify_all()
            try:
                while not self._passes:
                    check_client()
                    self._changed.wait(0.02)
                self._passes -= 1
            finally:
                self.held -= 1
                self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024
    provider: Provider


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        with suppress(ConnectionError):  # of a client that ended while a next request was awaited
            super().handle()

    def do_GET(self) -> None:
        if self.path.endswith("/models"):  # LiteLLM's proxy asks at its start; no test counts that
            return self.send_error(404)
        return self._answer({})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        form = self.headers.get_content_maintype() == "multipart"
        self._answer(form_fields(self.headers["content-type"], content) if form else json.loads(content))

    def _answer(self, body: Json) -> None:
        self.seen = Request(self.path.removeprefix("/v1"), body, dict(self.headers), time.monotonic())
        behaviour, status = self.server.provider._receive(self.seen)
        form = _Scripted if behaviour.whole or behaviour.pieces else form_of(self.seen.path)
        answer = form(self.seen.path, body, behaviour)
        if answer.has_unknown_parameter:
            status = 400
        try:
            streams = body.get("stream") or ":stream" in self.path  # Google says it there
            end = self._stream(answer) if status == 200 and streams else self._send(answer, status)
        except ConnectionError:
            end = "client closed"
        self.close_connection = end != "answered"
        self.server.provider._note(self.seen, end=end)

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""

    def _send(self, answer: _Answer, status: int) -> str:
        self.server.provider._wait_if_held(self._check_client)
        why = "unknown parameter: stream_options" if answer.has_unknown_parameter else "as the test wants"
        error = {"message": f"the provider answers {status}: {why}", "type": "test_error"}
        said = answer.whole() if status == 200 else {"error": error}
        content = said if isinstance(said, bytes) else json.dumps(said).encode()
        kind = "application/octet-stream" if isinstance(said, bytes) else "application/json"
        self._send_headers(status, content_type=kind, content_length=str(len(content)))
        self.wfile.write(content)
        return "answered"

    def _stream(self, answer: _Answer) -> str:
        provider = self.server.provider
        provider._wait_if_held(self._check_client, 0)
        self._send_headers(200, content_type="text/event-stream", transfer_encoding="chunked")
        for event, words in answer.events():
            if words and self.seen.tokens_sent == answer.behaviour.drop_after_chunks:
                return "dropped"
            self._check_client()
            frame = f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(frame), frame))
            if words:
                provider._note(self.seen, tokens_sent=self.seen.tokens_sent + words)
                provider._wait_if_held(self._check_client, self.seen.tokens_sent)
        self.wfile.write(b"0\r\n\r\n")
        return "answered"

    def _send_headers(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _check_client(self) -> None:
        readable, _, _ = select.select([self.connection], [], [], 0)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise ConnectionAbortedError


class _Answer:
    """What is said to one request, `whole` or as `events`: chat, and text with little difference."""

    def __init__(self, path: str, body: Json, behaviour: Behaviour) -> None:
        self.body, self.behaviour, self.chat = body, behaviour, path == "/chat/completions"
        caps = [body[name] for name in body if name.startswith("max_") and name.endswith("_tokens")]
        self.produced = min([behaviour.output_tokens, *filter(None, caps)])
        self.cut = self.produced < behaviour.output_tokens
        self.words = [] if behaviour.tool else words(self.produced - behaviour.reasoning_tokens)
        self.finish = "tool_calls" if behaviour.tool else "length" if self.cut else "stop"
        asked = body.get("prompt")
        prompts = [text for text in asked if isinstance(text, str)] if isinstance(asked, list) else []
        self.choices = range((body.get("n") or 1) * (len(prompts) or 1))
        self.head: Json = {"id": f"id-{time.monotonic_ns()}", "model": body.get("model")}
        self.head |= dict.fromkeys(("created", "created_at"), int(time.time()))

    @property
    def has_unknown_parameter(self) -> bool:
        return self.behaviour.reject_stream_options and "stream_options" in self.body

    def whole(self) -> Json:
        said = {"role": "assistant", "content": "".join(self.words) or None, **self.tool_calls()}
        choices = [self.choice(i, "message", said, self.finish) for i in self.choices]
        return self.frame("chat.completion", choices) | {"usage": self.usage()}

    def events(self) -> Iterator[Event]:
        start = {"role": "assistant", "content": "", **self.tool_calls()}
        for said in (start, *({"content": word} for word in self.words), {}):
            for i in self.choices:
                choice = self.choice(i, "delta", said, None if said else self.finish)
                yield self.frame("chat.completion.chunk", [choice]), int(said.get("content") in WORDS)
        asked = (self.body.get("stream_options") or {}).get("include_usage", False)
        if {"asked": asked, "always": True, "never": False}[self.behaviour.usage_in_stream]:
            yield self.frame("chat.completion.chunk", []) | {"usage": self.usage()}, 0
        yield "[DONE]", 0

    def frame(self, kind: str, choices: list[Json]) -> Json:
        return {**self.head, "object": kind if self.chat else "text_completion", "choices": choices}

    def choice(self, index: int, key: str, said: Json, finish: str | None) -> Json:
        text = {key: said} if self.chat else {"text": said.get("content") or ""}
        return {"index": index, **text, "logprobs": None, "finish_reason": finish}

    def tool_calls(self) -> Json:
        function = {"name": self.behaviour.tool, "arguments": "{}"}
        call = {"index": 0, "id": "call-1", "type": "function", "function": function}
        return {"tool_calls": [call]} if self.behaviour.tool else {}

    def usage(self, sent: str = "prompt", made: str = "completion") -> Json:
        n, given = len(self.choices), self.behaviour
        return {
            f"{sent}_tokens": given.input_tokens,
            f"{sent}_tokens_details": {"cached_tokens": given.cached_tokens},
            f"{made}_tokens": n * self.produced,
            f"{made}_tokens_details": {"reasoning_tokens": n * given.reasoning_tokens},
            "total_tokens": given.input_tokens + n * self.produced,
        }


class _Response(_Answer):
    """The form of `/responses`, which tells its usage in streams too, unless that is "never"."""

    fixed: ClassVar = {"object": "response", "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}

    def whole(self) -> Json:
        content = [{"type": "output_text", "text": "".join(self.words), "annotations": []}]
        item = {"type": "message", "id": "item-1", "role": "assistant", "status": "completed"}
        end = {"output": [item | {"content": content}], "usage": self.usage("input", "output")}
        why = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        return self.head | self.fixed | end | (why if self.cut else {"status": "completed"})

    def events(self) -> Iterator[Event]:
        start = self.head | self.fixed | {"output": [], "status": "in_progress"}
        yield {"type": "response.created", "response": start}, 0
        place = {"item_id": "item-1", "output_index": 0, "content_index": 0, "logprobs": []}
        for word in self.words:
            yield place | {"type": "response.output_text.delta", "delta": word}, 1
        end = self.whole() | ({"usage": None} if self.behaviour.usage_in_stream == "never" else {})
        yield {"type": f"response.{end['status']}", "response": end}, 0


class _Embedding(_Answer):
    """The form of `/embeddings`: a short vector for each input."""

    def whole(self) -> Json:
        inputs = self.body["input"] if isinstance(self.body["input"], list) else [self.body["input"]]
        data = [{"object": "embedding", "index": i, "embedding": [0.0, 1.0]} for i in range(len(inputs))]
        usage = dict.fromkeys(("prompt_tokens", "total_tokens"), self.behaviour.input_tokens)
        return self.head | {"object": "list", "data": data, "usage": usage}


class _Message(_Answer):
    """The form of Anthropic's `/messages`, which tells its input as it begins, and its output at the end."""

    def whole(self) -> Json:
        content = [{"type": "text", "text": "".join(self.words)}]
        end = {"stop_reason": "max_tokens" if self.cut else "end_turn", "stop_sequence": None}
        said = {"type": "message", "role": "assistant", "content": content}
        return self.head | said | end | {"usage": self.counts(self.produced)}

    def events(self) -> Iterator[Event]:
        start = self.whole() | {"content": [], "stop_reason": None, "usage": self.counts(1)}
        yield self.named("message_start", message=start), 0
        yield self.named("content_block_start", index=0, content_block={"type": "text", "text": ""}), 0
        for word in self.words:
            yield self.named("content_block_delta", index=0, delta={"type": "text_delta", "text": word}), 1
        yield self.named("content_block_stop", index=0), 0
        why = {"stop_reason": self.whole()["stop_reason"], "stop_sequence": None}
        yield self.named("message_delta", delta=why, usage={"output_tokens": self.produced}), 0
        yield self.named("message_stop"), 0

    def named(self, name: str, **fields: Any) -> str:
        return f"{json.dumps({'type': name, **fields})}\nevent: {name}"

    def counts(self, produced: int) -> Json:
        given = self.behaviour
        fresh = given.input_tokens - given.cached_tokens
        return {
            "input_tokens": fresh,
            "cache_read_input_tokens": given.cached_tokens,
            "output_tokens": produced,
        }


class _Scripted(_Answer):
    """What the test has written, to the letter; events of Anthropic's and of responses have their names."""

    def whole(self) -> Json:
        assert self.behaviour.whole is not None, "this test has written a stream only"
        return self.behaviour.whole

    def events(self) -> Iterator[Event]:
        for piece in self.behaviour.pieces:
            named = f"{json.dumps(piece)}\nevent: {piece['type']}" if "type" in piece else piece
            yield named, 0
        if self.chat:
            yield "[DONE]", 0


def form_fields(content_type: str, content: bytes) -> Json:
    """Read the fields of a form; of a file only its name."""
    message = message_from_bytes(f"content-type: {content_type}\n\n".encode() + content)
    parts = [part for part in message.walk() if not part.is_multipart()]
    named = {str(part.get_param("name", header="content-disposition")): part for part in parts}
    return {
        name: part.get_filename() or part.get_payload(decode=True).decode()  # type: ignore[union-attr]
        for name, part in named.items()
    }


def form_of(path: str) -> type[_Answer]:
    """Find the form of what is said at a path, or below one that ends with a slash."""
    form = FORMS.get(path.partition("?")[0])
    return form or next((FORMS[p] for p in FORMS if p.endswith("/") and path.startswith(p)), _Answer)


FORMS: dict[str, type[_Answer]] = {
    "/responses": _Response,
    "/embeddings": _Embedding,
    "/messages": _Message,
}
