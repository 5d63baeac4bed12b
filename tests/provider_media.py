"""What the provider says beside words: images, speech, scores, batches and the like.

Importing this module teaches `provider.FORMS` the endpoints.
"""

from __future__ import annotations

import io
import json
import wave
from typing import Any

from provider import FORMS, Json, _Answer, words

IMAGE_TOKENS = 4160
BATCH_LINES = 4  # answers of the batch, each with a quarter of what it used
BATCH_USED = {"prompt_tokens": 100_000, "completion_tokens": 20_000, "total_tokens": 120_000}


class Image(_Answer):
    """The form of `/images/...`: the model's own tokens, as gpt-image-1 reports them."""

    def whole(self) -> Json:
        n = int(self.body.get("n") or 1)
        usage = {
            "input_tokens": 100,
            "output_tokens": n * IMAGE_TOKENS,
            "total_tokens": 100 + n * IMAGE_TOKENS,
            "input_tokens_details": {"text_tokens": 100, "image_tokens": 0},
        }
        tells = "gpt-image" in str(self.head["model"])
        return {"created": 1, "data": [{"b64_json": "AAAA"}] * n} | ({"usage": usage} if tells else {})


class Moderation(_Answer):
    """The form of `/moderations`."""

    def whole(self) -> Json:
        result = {"flagged": False, "categories": {}, "category_scores": {}}
        return {"id": "modr-1", "model": self.head["model"] or "omni-moderation-latest", "results": [result]}


class Speech(_Answer):
    """The form of `/audio/speech`: bytes."""

    def whole(self) -> Any:
        return b"sound" * 100


class Transcription(_Answer):
    """The form of `/audio/transcriptions`."""

    def whole(self) -> Json:
        return {"text": "".join(words(self.produced))}


class Ranking(_Answer):
    """The form of `/rerank`, as Cohere and those who speak like it have it."""

    def whole(self) -> Json:
        results = [{"index": 0, "relevance_score": 0.5}]
        meta = {"billed_units": {"search_units": 1}}
        return {"id": "r", "results": results, "meta": meta, "usage": {"total_tokens": 100}, "model": "m"}


class Page(_Answer):
    """The form of `/ocr`."""

    def whole(self) -> Json:
        page = {"index": 0, "markdown": "text", "images": [], "dimensions": None}
        used = {"pages_processed": 3, "doc_size_bytes": 10}
        return {"pages": [page] * 3, "model": self.head["model"], "usage_info": used}


class Video(_Answer):
    """The form of `/videos`: a job that was begun."""

    def whole(self) -> Json:
        seconds = str(self.body.get("seconds") or 4)
        return {
            "id": "video_1",
            "object": "video",
            "model": self.head["model"],
            "status": "queued",
            "progress": 0,
            "created_at": 1,
            "seconds": seconds,
            "size": self.body.get("size") or "720x1280",
        }


class Batch(_Answer):
    """The form of `/batches/...`: one that is finished, and tells no sum."""

    status = "completed"

    def whole(self) -> Json:
        counts = {"total": BATCH_LINES, "completed": BATCH_LINES, "failed": 0}
        done = {"output_file_id": "file-out", "request_counts": counts} if self.status == "completed" else {}
        return {
            "id": "batch_1",
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": "file-in",
            "completion_window": "24h",
            "status": self.status,
            "created_at": 1,
            **done,
        }


class Answers(_Answer):
    """The form of `/files/.../content`: the answers of the batch, a line each."""

    def whole(self) -> Any:
        used = {name: tokens // BATCH_LINES for name, tokens in BATCH_USED.items()}
        body = {"model": "gpt-4o-mini-2024-07-18", "object": "chat.completion", "usage": used, "choices": []}
        line = {"custom_id": "1", "response": {"status_code": 200, "body": body}, "error": None}
        return b"\n".join([json.dumps(line).encode()] * BATCH_LINES)


FORMS |= {
    "/images/generations": Image,
    "/images/edits": Image,
    "/images/variations": Image,
    "/moderations": Moderation,
    "/audio/speech": Speech,
    "/audio/transcriptions": Transcription,
    "/rerank": Ranking,
    "/ocr": Page,
    "/videos": Video,
    "/batches": Batch,
    "/batches/": Batch,
    "/files/": Answers,
}


def recording(seconds: float = 2.0) -> bytes:
    """Return a WAV file of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(bytes(int(8000 * seconds)))
    return file.getvalue()
