"""How many tokens a request will have, before it is sent: offline, fast, and for any input.

Text is counted with tiktoken, from the encodings in LiteLLM's wheel; nothing is ever downloaded
and LiteLLM is not imported. Without those files, or for a text too long to be worth it, a token is
taken to be four bytes of UTF-8, and no count is sure.

OpenAI's models have these encodings for their own, so their plain chats are counted as OpenAI
bills them. Of all others the count is an estimate, and so is everything that is not text: the
constants below say by how much. An `InputCount` has the expected number and an upper bound, which
is what a strict limit reserves.
"""

from __future__ import annotations

import binascii
import hashlib
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any, NamedTuple

from .concurrency.guard import Guard
from .pricing.table import package_folder
from .values.untrusted import CHANGED, field, items, opened, reader, to_json

__all__ = ("InputCount", "count_messages", "count_prompt", "count_text")

MESSAGE_TOKENS = 4
"""What OpenAI puts around a message: its role and three marks."""

REPLY_TOKENS = 3
"""What OpenAI puts before the answer."""

NAME_TOKENS = 1
"""What a message's `name` costs besides its text."""

TOOL_TOKENS = 8
"""What goes around one tool's schema, or around one call of a tool."""

TOOL_PROMPT_TOKENS = 350
"""The hidden prompt that Claude gets as soon as there are tools."""

OWN_SLACK_TOKENS = 8
"""Upper bound, model with one of our encodings: the most that framing was ever seen to add."""

OWN_MESSAGE_SLACK_TOKENS = 1
"""Upper bound, such a model: added for every message."""

FOREIGN_SLACK_TOKENS = 100
"""Upper bound, any other model: what its template may put around a chat."""

FOREIGN_MARGIN = 1.35
"""Upper bound, any other model: how many more tokens its encoding may need than ours."""

DENSE_TOKENS_PER_BYTE = 1.5 / 4
"""Upper bound, any other model, or a text that was not counted: such as of JSON. The larger holds."""

TOOL_MARGIN = 1.5
"""Upper bound: how much more a tool's schema may need than its JSON; each provider rewrites it."""

TOOL_PROMPT_AT_MOST = 1_000
"""Upper bound, any other model: the longest hidden prompt about tools."""

MEDIA_TOKENS = {"image": 800, "audio": 1_000, "video": 10_000, "file": 3_000}
"""Expected tokens of one attachment: a square image of 1,024 pixels, a minute of speech, and so on."""

MEDIA_AT_MOST = {"image": 5_000, "audio": 20_000, "video": 300_000, "file": 100_000}
"""Upper bound for one attachment. Larger ones exist; no provider says the size beforehand."""

SMALL_MODEL_IMAGE_FACTOR = 34
"""How much more `gpt-4o-mini` counts for an image than `gpt-4o`."""

LONGEST_COUNTED = 400_000
"""Characters up to which a text is counted with tiktoken rather than by its bytes."""

_CHUNK = 20_000  # tiktoken is slow on one endless word; cut, it may count one more a cut
_BYTES_PER_TOKEN = 4
_MOST_PARTS = 100_000  # of one request; also what ends a list that contains itself
_UNSENT = frozenset({"type", "cache_control", "signature", "id", "tool_use_id", "index"})
MEDIA_KEYS = {
    "file_data": "file",
    "fileData": "file",
    "image_url": "image",
    "inline_data": "image",
    "inlineData": "image",
    "input_audio": "audio",
}
_END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class InputCount:
    """How many tokens a request is expected to send, and how many at most.

    Attributes:
        tokens: The best guess; for a plain chat with an OpenAI model, what is billed.
        upper_bound: With the margins of this module; never below `tokens`.
    """

    tokens: int
    upper_bound: int


class _Spec(NamedTuple):
    file: str
    sha256: str
    pattern: str


_SPECS = {
    "cl100k_base": _Spec(
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"
        r"\s*[\r\n]|\s+(?!\S)|\s",
    ),
    "o200k_base": _Spec(
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}
"""As `tiktoken_ext.openai_public` defines them. LiteLLM names each file by the SHA-1 of its address."""

_O200K = re.compile(r"(?:ft:)?(?:chatgpt-|codex-|gpt-(?:4o|4\.[1-9]|[5-9])|o[1-9])")
_CL100K = re.compile(r"(?:ft:)?(?:gpt-(?:3\.?5|4)|text-embedding-(?:3|ada-002)|(?:davinci|babbage)-002)")

_ASKING = frozenset({"human", "user", "system", "developer"})

# A chat is sent again with each of its turns. What is kept of a text says nothing about it.
_known_counts: dict[tuple[int, int, str], int] = {}
_MOST_KNOWN_COUNTS = 20_000

_encodings: dict[str, Any] = {}
_lock = Guard()


def count_text(text: str, model: str = "") -> int:
    """Count the tokens of plain text, special tokens as what they are written.

    Args:
        text: Of any length; beyond `LONGEST_COUNTED` characters a token is four bytes.
        model: Whose encoding to use; models without one of ours are counted with `cl100k_base`.

    Example:
        >>> count_text("Why is the sky blue?", "gpt-4o")
        6
    """
    return _count(text, _encoding(_encoding_name(model)[0]))


def count_messages(
    messages: Sequence[Mapping[str, Any]], model: str, *, tools: Sequence[Any] | None = None
) -> InputCount:
    """Count a chat request. Whatever is passed, a number comes back.

    Args:
        messages: As OpenAI has them; objects with such attributes, such as LangChain's messages, do as
            well. Content may be text, `None`, or parts with text, images, audio and files.
        model: Who gets them.
        tools: Schemas, as mappings or objects.

    Example:
        >>> count_messages([{"role": "user", "content": "Why is the sky blue?"}], "gpt-4o").tokens
        13
    """
    tally = _Tally(model)
    for message in items(messages):
        tally.add_message(message)
    if tools:
        tally.add_tools(items(tools))
    tally.add_frame(REPLY_TOKENS)
    return tally.result()


def count_prompt(prompt: str | Sequence[Any], model: str) -> InputCount:
    """Count what a completion or an embedding is asked with.

    Args:
        prompt: A text, texts, tokens, or lists of tokens.
        model: Who gets it.

    Example:
        >>> count_prompt(["a text", "another text"], "text-embedding-3-small").tokens
        4
    """
    tally = _Tally(model)
    tally.add(prompt)
    return tally.result()


class _Tally:
    """Adds up one request, with both the expected number and the upper bound."""

    def __init__(self, model: str) -> None:
        name, self.own = _encoding_name(model)
        self.model = model
        self.encoding = _encoding(name)
        self.tokens = 0
        self.at_most = 0.0
        self.parts = 0

    def result(self) -> InputCount:
        slack = OWN_SLACK_TOKENS if self.own else FOREIGN_SLACK_TOKENS
        return InputCount(self.tokens, max(self.tokens, ceil(self.at_most)) + slack)

    def add_frame(self, tokens: int) -> None:
        self.tokens += tokens
        self.at_most += tokens

    def add_message(self, message: object) -> None:
        self.add_frame(MESSAGE_TOKENS)
        self.at_most += OWN_MESSAGE_SLACK_TOKENS if self.own else MESSAGE_TOKENS
        if isinstance(message, str):
            self.add_text(message)
            return
        get = reader(message)
        self.add(get("content"))
        if name := get("name"):
            self.add_frame(NAME_TOKENS)
            self.add(name)
        kind = get("type") or get("role")
        if isinstance(kind, str) and kind in _ASKING:
            return  # such a message calls no tools
        for call in items(get("tool_calls")):
            self.add_frame(TOOL_TOKENS)
            self.add_text(to_json(field(call, "function") or [field(call, "name"), field(call, "args")]))
        if kind != "ai" and (call := get("function_call")):  # LangChain's messages have none
            self.add_text(to_json(call))

    def add_tools(self, tools: Iterable[Any]) -> None:
        before = self.at_most
        for tool in tools:
            self.add_frame(TOOL_TOKENS)
            self.add_text(to_json(tool))
        self.at_most = before + (self.at_most - before) * TOOL_MARGIN
        if "claude" in self.model:
            self.tokens += TOOL_PROMPT_TOKENS
        if not self.own:
            self.at_most += TOOL_PROMPT_AT_MOST

    def add(self, content: object) -> None:
        """Add text, tokens, an attachment, or lists and parts of such."""
        if isinstance(content, str):
            self.add_text(content)
            return
        waiting = [content]
        while waiting and self.parts < _MOST_PARTS:
            self.parts += 1
            part = opened(waiting.pop())
            if isinstance(part, str):
                self.add_text(part)
            elif isinstance(part, Mapping):
                waiting.extend(self._inside(part))
            elif isinstance(part, list | tuple) and part and isinstance(part[0], int):
                self.add_frame(len(part))
            elif isinstance(part, Iterable) and not isinstance(part, bytes):
                waiting.extend(items(part))
            elif part is not None:
                self.add_text(to_json(part))

    def add_text(self, text: str) -> None:
        tokens = _count(text, self.encoding)
        self.tokens += tokens
        if self.own and self.encoding is not None and len(text) <= LONGEST_COUNTED:
            self.at_most += tokens
        else:
            self.at_most += max(tokens * FOREIGN_MARGIN, _bytes(text) * DENSE_TOKENS_PER_BYTE)

    def _inside(self, part: Mapping[Any, Any]) -> Iterator[Any]:
        if kind := _media_kind(part):
            factor = SMALL_MODEL_IMAGE_FACTOR if kind == "image" and "4o-mini" in self.model else 1
            self.tokens += MEDIA_TOKENS[kind] * factor
            self.at_most += MEDIA_AT_MOST[kind] * factor
        elif "text" in part:
            yield part["text"]
        else:
            kept = (value for key, value in part.items() if key not in _UNSENT)
            yield from (to_json(value) if isinstance(value, Mapping) else value for value in kept)


def _media_kind(part: Mapping[Any, Any]) -> str | None:
    named = str(part.get("type", "")).lower().replace("document", "file")
    kind = next((kind for kind in MEDIA_TOKENS if kind in named), None)
    return kind or next((MEDIA_KEYS[key] for key in part if key in MEDIA_KEYS), None)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _count(text: str, encoding: Any) -> int:
    if encoding is None or len(text) > LONGEST_COUNTED:
        return ceil(_bytes(text) / _BYTES_PER_TOKEN)
    mark = (hash(text), len(text), encoding.name)
    tokens = _known_counts.get(mark)
    if tokens is None:
        if len(_known_counts) >= _MOST_KNOWN_COUNTS:
            _known_counts.clear()
        cuts = range(0, len(text), _CHUNK)
        tokens = sum(len(encoding.encode_ordinary(text[at : at + _CHUNK])) for at in cuts)
        _known_counts[mark] = tokens
    return tokens


@lru_cache(maxsize=1024)
def _encoding_name(model: str) -> tuple[str, bool]:
    """Return the encoding of a model, and whether it is the model's own."""
    name = model.lower().rpartition("/")[2].rpartition("openai.")[2]
    if name.startswith("gpt-oss"):  # OpenAI's encoding, but every server puts its own prompt before
        return "o200k_base", False
    if _O200K.match(name):
        return "o200k_base", True
    return "cl100k_base", _CL100K.match(name) is not None


def _encoding(name: str) -> Any:
    if name not in _encodings:
        with _lock:
            if name not in _encodings:
                _encodings[name] = _build(name)
    return _encodings[name]


def _build(name: str) -> Any:
    """Build an encoding, or return `None` if its file or tiktoken is not there, or not as it was known."""
    folder, spec = package_folder("litellm"), _SPECS[name]
    file = folder and folder / "litellm_core_utils" / "tokenizers" / spec.file
    if file is None or not file.is_file() or package_folder("tiktoken") is None:
        return None
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != spec.sha256:
        return None
    ranks = {binascii.a2b_base64(token): int(rank) for token, rank in map(bytes.split, data.splitlines())}
    special = {_END_OF_TEXT: len(ranks) + 1}
    try:
        encoding = importlib.import_module("tiktoken").Encoding
        return encoding(name, pat_str=spec.pattern, mergeable_ranks=ranks, special_tokens=special)
    except CHANGED:
        return None
