from __future__ import annotations

import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steptrack_callbacks import tokens
from steptrack_callbacks.tokens import InputCount, count_messages, count_prompt, count_text

PROSE = "The quick brown fox, having jumped over 13 lazy dogs, went home. It's fine!\n\n  Really? " * 20
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def user(content, **more):
    return [{"role": "user", "content": content, **more}]


@pytest.fixture
def no_encodings(monkeypatch):
    monkeypatch.setattr(tokens, "_encodings", {})
    monkeypatch.setattr(tokens, "package_folder", lambda _: None)


class Hostile:
    """An object of which nothing can be had."""

    def __getattr__(self, name):
        raise RuntimeError

    def __iter__(self):
        raise RuntimeError

    def __str__(self):
        raise RuntimeError


# Text


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base"])
@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "",
        " ",
        "\r\n\n",
        "héllo wörld",
        "中文字符 日本語 한국어 हिन्दी",
        '{"a":[1,2,{"b":"c"}]}',
        "x'LL we'Ve 1234567",
        "🙂🙃",
    ],
)
def test_our_encodings_are_those_of_tiktoken(monkeypatch, name, text):
    tiktoken = pytest.importorskip("tiktoken")
    public = pytest.importorskip("tiktoken_ext.openai_public")
    ours = tokens._encoding(name)
    monkeypatch.setattr(public, "load_tiktoken_bpe", lambda *_, **__: ours._mergeable_ranks)
    theirs = tiktoken.Encoding(**getattr(public, name)())
    assert theirs._pat_str == ours._pat_str
    assert theirs.encode_ordinary(text) == ours.encode_ordinary(text)


@pytest.mark.parametrize(
    ("model", "name", "own"),
    [
        ("gpt-4o", "o200k_base", True),
        ("openai/gpt-4.1-mini", "o200k_base", True),
        ("azure/gpt-5-nano-2025-08-07", "o200k_base", True),
        ("chatgpt-4o-latest", "o200k_base", True),
        ("o4-mini", "o200k_base", True),
        ("us.openai.gpt-5.6-luna", "o200k_base", True),
        ("ft:gpt-4o-mini:org::id", "o200k_base", True),
        ("gpt-4-turbo", "cl100k_base", True),
        ("gpt-35-turbo", "cl100k_base", True),
        ("text-embedding-3-small", "cl100k_base", True),
        ("groq/openai/gpt-oss-120b", "o200k_base", False),
        ("claude-sonnet-4-6", "cl100k_base", False),
        ("gemini/gemini-2.5-flash", "cl100k_base", False),
        ("", "cl100k_base", False),
    ],
)
def test_each_model_has_its_encoding(model, name, own):
    assert tokens._encoding_name(model) == (name, own)


def test_special_tokens_in_a_text_are_text():
    assert count_text("<|endoftext|>", "gpt-4o") > 1


def test_half_a_surrogate_pair_is_counted():
    assert count_text("\ud83d", "gpt-4o") > 0
    assert count_messages(user("\ud83d" * 10), "claude-sonnet-4-6").upper_bound > 0


def test_a_text_in_chunks_counts_nearly_the_same():
    text = PROSE * 30
    whole = len(tokens._encoding("o200k_base").encode_ordinary(text))
    assert len(text) > 2 * tokens._CHUNK
    assert whole <= count_text(text, "gpt-4o") <= whole + len(text) // tokens._CHUNK + 1


@pytest.mark.parametrize("letter", ["a", " ", "é", "\n"])
def test_endless_texts_are_estimated(letter):
    text = letter * 1_000_000
    assert count_text(text, "gpt-4o") == len(text.encode()) / 4
    assert count_messages(user(text), "gpt-4o").upper_bound > len(text.encode()) / 4 * 1.4


def test_endless_words_of_countable_length_are_counted():
    assert count_text("a" * tokens.LONGEST_COUNTED, "gpt-4o") == tokens.LONGEST_COUNTED / 8


def test_without_the_files_four_bytes_are_a_token(no_encodings):
    assert count_text("four", "gpt-4o") == 1
    assert count_text("fours", "gpt-4o") == 2
    assert count_text("", "gpt-4o") == 0
    assert count_text("é" * 4, "gpt-4o") == 2
    count = count_messages(user("four" * 100), "gpt-4o")
    assert count.upper_bound >= 150


def test_a_file_that_is_not_what_it_should_be_is_not_used(monkeypatch, tmp_path):
    folder = tmp_path / "litellm_core_utils" / "tokenizers"
    folder.mkdir(parents=True)
    (folder / tokens._SPECS["o200k_base"].file).write_bytes(b"YQ== 0\n")
    monkeypatch.setattr(tokens, "package_folder", lambda _: tmp_path)
    assert tokens._build("o200k_base") is None


# Requests


def test_a_plain_chat_counts_as_openai_bills_it():
    # Documented by OpenAI's own cookbook: three marks and a role a message, three for the reply.
    assert count_messages(user("Why is the sky blue?"), "gpt-4o").tokens == 6 + 4 + 3
    named = count_messages(user("Why is the sky blue?", name="Ann"), "gpt-4o").tokens
    assert named == 6 + 4 + 3 + 1 + count_text("Ann", "gpt-4o")


def test_the_upper_bound_is_tight_for_openai_and_wide_for_others():
    own = count_messages(user(PROSE), "gpt-4o")
    other = count_messages(user(PROSE), "claude-sonnet-4-6")
    assert 0 < own.upper_bound - own.tokens <= 10
    assert other.upper_bound >= other.tokens * tokens.FOREIGN_MARGIN


def test_tools_count_and_widen_the_bound():
    plain = count_messages(user("hi"), "gpt-4o")
    tooled = count_messages(user("hi"), "gpt-4o", tools=[TOOL])
    assert plain.tokens + 30 < tooled.tokens < tooled.upper_bound
    claude = count_messages(user("hi"), "claude-sonnet-4-6", tools=[TOOL])
    assert claude.tokens > tooled.tokens + 300


def test_calls_of_tools_and_their_results_count():
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
    }
    openai = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    langchain = [
        SimpleNamespace(
            content="", tool_calls=[{"name": "get_weather", "args": {"city": "Paris"}, "id": "1"}]
        )
    ]
    old = [{"role": "assistant", "function_call": {"name": "get_weather", "arguments": "{}"}}]
    anthropic = user([{"type": "tool_use", "id": "1", "name": "get_weather", "input": {"city": "Paris"}}])
    result = user(
        [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "It is sunny."}]}]
    )
    for messages in (openai, langchain, old, anthropic, result):
        assert count_messages(messages, "gpt-4o").tokens >= 7 + 4


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}, "image"),
        ({"type": "image", "source": {"type": "base64", "data": "A" * 100_000}}, "image"),
        ({"inlineData": {"mimeType": "image/png", "data": "A" * 100_000}}, "image"),
        ({"type": "input_audio", "input_audio": {"data": "A" * 100_000, "format": "wav"}}, "audio"),
        ({"type": "document", "source": {"data": "A" * 100_000}}, "file"),
        ({"type": "video", "base64": "A"}, "video"),
    ],
)
def test_attachments_count_as_what_they_are(part, kind):
    count = count_messages(user([{"type": "text", "text": "What is it?"}, part]), "gpt-4o")
    text = count_messages(user("What is it?"), "gpt-4o")
    assert count.tokens == text.tokens + tokens.MEDIA_TOKENS[kind]
    assert count.upper_bound == text.upper_bound + tokens.MEDIA_AT_MOST[kind]


def test_small_model_counts_more_for_an_image():
    image = user([{"type": "image_url", "image_url": "https://example.org/a.png"}])
    assert count_messages(image, "gpt-4o-mini").tokens > 20 * count_messages(image, "gpt-4o").tokens


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydantic, while LiteLLM defines its types
def test_messages_of_the_frameworks_count_like_mappings(monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm")
    messages = pytest.importorskip("langchain_core.messages")
    plain = count_messages([{"role": "assistant", "content": PROSE}], "gpt-4o")
    assert count_messages([litellm.Message(role="assistant", content=PROSE)], "gpt-4o") == plain
    assert count_messages([messages.AIMessage(content=PROSE)], "gpt-4o") == plain
    assert (
        count_messages([messages.HumanMessage(content=[{"type": "text", "text": PROSE}])], "gpt-4o") == plain
    )
    assert count_messages(messages.HumanMessage(content=PROSE), "gpt-4o") == plain


def test_prompts_of_every_form():
    assert count_prompt("Why is the sky blue?", "gpt-4o").tokens == 6
    assert count_prompt(["a text", "another text"], "text-embedding-3-small").tokens == 4
    assert count_prompt([1, 2, 3], "text-embedding-3-small").tokens == 3
    assert count_prompt([[1, 2, 3], [4]], "text-embedding-3-small").tokens == 4
    assert count_prompt(list(range(1_000_000)), "text-embedding-3-small").tokens == 1_000_000
    assert count_prompt([], "text-embedding-3-small").tokens == 0


endless: list = []
endless.append(endless)
deep: list = []
for _ in range(50_000):
    deep = [deep]


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        [None],
        "a text",
        ["a text"],
        [3],
        3,
        {"role": "user", "content": "one message"},
        [{}],
        [{"role": "user"}],
        user(b"bytes"),
        user(endless),
        user(deep),
        user({"key": endless}),
        user([{"type": "text", "text": None}]),
        user([{"type": None}]),
        user(Hostile()),
        [Hostile()],
        Hostile(),
        [{"tool_calls": [Hostile()]}],
        [{"tool_calls": 3}],
        [{"tool_calls": "x", "function_call": Hostile(), "name": 3}],
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_comes_in_a_number_comes_out(messages):
    for model in ("gpt-4o", "claude-sonnet-4-6"):
        count = count_messages(messages, model, tools=[None, 3, Hostile(), Hostile, endless, "x", TOOL])
        assert 0 < count.tokens <= count.upper_bound


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(anything, anything, st.text(max_size=10))
def test_no_content_is_an_error(content, tools, model):
    count = count_messages([{"role": "user", "content": content, "tool_calls": content}], model, tools=tools)
    assert 0 < count.tokens <= count.upper_bound
    assert count_prompt(content, model).tokens >= 0


@given(st.text())
def test_the_bounds_hold_for_any_text(text):
    count = count_messages(user(text), "gpt-4o")
    assert count.tokens == count_text(text, "gpt-4o") + 7
    assert count == InputCount(
        count.tokens, count.tokens + tokens.OWN_SLACK_TOKENS + tokens.OWN_MESSAGE_SLACK_TOKENS
    )


# Habits of the package


def test_counting_needs_no_network_no_environment_and_no_litellm():
    program = (
        "import os, socket, sys; os.environ.pop('TIKTOKEN_CACHE_DIR', None); before = dict(os.environ);"
        "import steptrack_callbacks.tokens as t; assert 'tiktoken' not in sys.modules;"
        "socket.socket.connect = None;"
        "assert t.count_text('Why is the sky blue?', 'gpt-4o') == 6;"
        "assert 'litellm' not in sys.modules; assert dict(os.environ) == before"
    )
    assert socket.socket.connect is not None
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_many_threads_build_an_encoding_once(monkeypatch):
    builds = []
    monkeypatch.setattr(tokens, "_encodings", {})
    monkeypatch.setattr(tokens, "_build", builds.append)
    threads = [threading.Thread(target=count_text, args=("x", "gpt-4o")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == ["o200k_base"]
