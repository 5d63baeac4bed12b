"""What is billed per item passes the proxy's gate as chats do: refused unsent, and charged once."""

from __future__ import annotations

import http.client
import json
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
from endpoints import error_in
from serving import MASTER, named

import provider_media

PIECES: dict[str, tuple[str, dict[str, Any], str]] = {
    "image": ("/v1/images/generations", {"model": "pictures", "prompt": "a cat"}, "0.1669"),
    "moderation": ("/v1/moderations", {"model": "judge", "input": "hello"}, "0"),
    "speech": ("/v1/audio/speech", {"model": "voice", "input": "hello there", "voice": "alloy"}, "0.00015"),
    "rerank": ("/v1/rerank", {"model": "ranks", "query": "q", "documents": ["one"]}, "0.002"),
    "transcription": ("/v1/audio/transcriptions", {"model": "ears", "file": "a.wav"}, "0.0002"),
}
each = pytest.mark.parametrize("name", PIECES)


def ask(served: Any, name: str, run: str, step: str) -> tuple[int, Any]:
    path, body, _ = PIECES[name]
    if "file" not in body:
        status, _, answer = send(served, path, json.dumps(body).encode(), "application/json", run, step)
        return status, answer
    status, _, answer = send(served, path, *form_of(body), run, step)
    return status, answer


def form_of(fields: dict[str, Any]) -> tuple[bytes, str]:
    """Put fields and a recording into a form."""
    edge = uuid.uuid4().hex
    parts = [
        f'--{edge}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
        if name != "file"
    ]
    head = f'--{edge}\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\ncontent-type: audio/wav\r\n\r\n'
    parts.append(head.encode() + provider_media.recording(2.0) + f"\r\n--{edge}--\r\n".encode())
    return b"".join(parts), f"multipart/form-data; boundary={edge}"


def wait_until(condition: Callable[[], bool], timeout: float = 30) -> None:
    """Wait for what nothing announces, or raise TimeoutError."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.01)


def send(served: Any, path: str, body: bytes | None, kind: str, run: str, step: str) -> tuple[int, Any, Any]:
    address = urlsplit(served.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    try:
        headers = {"content-type": kind, "authorization": f"Bearer {MASTER}", **named(run=run, step=step)}
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    said = json.loads(content) if content[:1] == b"{" else content
    return answer.status, answer.headers, said


@each
def test_an_answer_is_charged_once_and_by_the_piece(served: Any, provider: Any, run: str, name: str) -> None:
    status, said = ask(served, name, run, "outer")
    assert status == 200, said
    step = served.settled(run, "outer")
    assert step["calls"] == provider.count() == 1
    assert not {"ungated_calls", "unpriced_calls", "estimated_calls"} & step.keys()
    assert Decimal(str(step["cost_usd"])) == Decimal(PIECES[name][2])


@each
def test_without_room_it_is_refused_with_402_and_never_sent(
    served: Any, provider: Any, run: str, name: str
) -> None:
    for _ in range(2):
        assert ask(served, name, run, "twice")[0] == 200
    status, said = ask(served, name, run, "twice")
    assert status == 402
    assert error_in(said)["type"] == "budget_exhausted"
    assert provider.count() == 2


@pytest.mark.parametrize("name", ["image", "rerank"])
def test_one_that_is_known_to_be_too_dear_is_never_sent(
    served: Any, provider: Any, run: str, name: str
) -> None:
    assert ask(served, name, run, "outer")[0] == 200
    assert ask(served, name, run, "dollars")[0] == 402
    assert provider.count() == 1


def test_a_batch_is_charged_once_and_polling_it_never(served: Any, provider: Any, run: str) -> None:
    for _ in range(3):
        status, _, said = send(served, "/v1/batches/batch_1?provider=openai", None, "", run, "outer")
        assert status == 200, said
        wait_until(lambda: "outer" in served.run(run))  # LiteLLM reports it after it has answered
    step = served.settled(run, "outer")
    assert step["calls"] == 1
    assert not {"ungated_calls", "unpriced_calls", "estimated_calls"} & step.keys()
    assert (step["input_tokens"], step["output_tokens"]) == (100_000, 20_000)
    assert Decimal(str(step["cost_usd"])) == Decimal("0.0135")
