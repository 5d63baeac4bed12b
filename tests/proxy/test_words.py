"""What requests say of themselves, and what is read from them, without a proxy."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steptrack_callbacks import persona, step
from steptrack_callbacks.engine.chain import AccountChain
from steptrack_callbacks.integrations import proxy_client
from steptrack_callbacks.integrations.usage import read_usage
from steptrack_callbacks.litellm.messages import MessageMeter
from steptrack_callbacks.litellm_proxy import headers
from steptrack_callbacks.litellm_proxy.identity import Identity, MalformedIdentity, identity_of, key_of
from steptrack_callbacks.litellm_proxy.reading import WholeEvents
from steptrack_callbacks.litellm_proxy.requests import kind_of
from steptrack_callbacks.litellm_proxy.tools import narrow, tool_name
from steptrack_callbacks.steps.tool_policy import ToolPolicy
from steptrack_callbacks.values.errors import ToolDenied
from steptrack_callbacks.values.usage import Usage

names = st.text(min_size=1, max_size=20).filter(
    lambda text: text.strip() and "/" not in text and text.isprintable()
)


def sent(**fields):
    return {
        "proxy_server_request": {"headers": {f"x-steptrack-{name}": value for name, value in fields.items()}}
    }


@given(st.lists(names, min_size=1, max_size=4), names)
def test_any_path_and_run_arrive_as_they_were_sent(path, run):
    data = sent(run=proxy_client.encoded(run), step=proxy_client.encoded("/".join(path)))
    said = identity_of("key", data)
    assert (said.run, said.path) == (run, tuple(path))
    assert all(value.isascii() for value in data["proxy_server_request"]["headers"].values())


@given(st.dictionaries(st.sampled_from(["run", "step", "persona", "max-usd"]), st.text(max_size=30)))
def test_whatever_is_claimed_only_malformed_claims_are_refused(claims):
    try:
        said = identity_of("key", sent(**claims))
    except MalformedIdentity as error:
        assert error.field in str(error)
    else:
        assert said.run is not None or said == Identity(key="key")


def test_headers_name_the_step_that_is_active_here():
    assert headers() == {}
    with persona("writer", run_id="run 7") as writer, step("plän"):
        assert headers() == {
            "x-steptrack-run": "run 7",
            "x-steptrack-step": "writer/pl%C3%A4n",
            "x-steptrack-persona": "writer",
        }
        assert headers(writer)["x-steptrack-step"] == "writer"


def test_what_the_body_says_of_us_goes_to_no_provider():
    data = {"metadata": {"steptrack": '{"run": "r", "step": "a", "max_usd": "0.5"}', "mine": 1}}
    said = identity_of("key", data)
    assert (said.run, said.path, said.max_usd) == ("r", ("a",), Decimal("0.5"))
    assert data == {"metadata": {"mine": 1}}


@pytest.mark.parametrize("claims", ["{", [], {"steps": "a"}, {"run": 3}, {"max_usd": True}, {"run": None}])
def test_nonsense_in_the_body_is_refused(claims):
    with pytest.raises(MalformedIdentity, match=r"metadata\.steptrack"):
        identity_of("key", {"metadata": {"steptrack": claims}})


def test_a_key_stands_nowhere_as_it_is():
    class User:
        api_key = "sk-secret"

    assert "secret" not in key_of(User)
    assert key_of(User) != key_of(object())


FUNCTION = {"type": "function", "function": {"name": "search"}}


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        (FUNCTION, "search"),
        ({"type": "function", "name": "search"}, "search"),
        ({"name": "search", "input_schema": {}}, "search"),
        ({"type": "web_search_preview"}, "web_search_preview"),
        ({"type": "mcp", "server_label": "files"}, "files"),
        ({"name": "search", "parameters": {}}, "search"),
        ("search", "search"),
    ],
)
def test_a_tool_has_a_name_in_every_api(tool, name):
    assert tool_name(tool) == name


def test_without_a_tool_left_nothing_is_said_about_tools():
    data = {
        "tools": [FUNCTION],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "functions": [{"name": "x"}],
    }
    narrow(data, ToolPolicy(allowed_tools=frozenset()), "plan")
    assert data == {}


@pytest.mark.parametrize(
    "choice", ["required", {"type": "any"}, {"type": "tool", "name": "search"}, FUNCTION, {"name": "search"}]
)
def test_a_choice_that_forces_a_denied_tool_is_refused(choice):
    with pytest.raises(ToolDenied, match="'search'"):
        narrow({"tools": [FUNCTION], "tool_choice": choice}, ToolPolicy(allowed_tools=frozenset()), "plan")


def test_anthropics_input_has_its_cache_added():
    reported = {
        "input_tokens": 5,
        "output_tokens": 7,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 3,
    }
    reported["cache_creation"] = {"ephemeral_1h_input_tokens": 2}
    assert read_usage(reported) == Usage(
        input_tokens=28, output_tokens=7, cache_read_tokens=20, cache_write_tokens=3, cache_write_1h_tokens=2
    )
    assert read_usage({"input_tokens": 0}) is None
    assert read_usage(None) is None


@pytest.mark.parametrize(
    ("call_type", "kind"),
    [
        ("acompletion", "chat"),
        ("anthropic_messages", "messages"),
        ("aimage_generation", "image"),
        ("image_generation", "image"),
        ("audio_transcription", "transcription"),
        ("agenerate_content_stream", "google"),
        ("create_video", "video"),
        ("avector_store_search", "search"),
        ("aretrieve_batch", "batch"),
        ("aget_responses", None),
        ("acreate_batch", None),
        ("afile_content", None),
        ("avideo_status", None),
    ],
)
def test_only_requests_to_models_are_calls(call_type, kind):
    assert kind_of(call_type) == kind


class _Nobody:
    """A call that nothing is asked of."""

    request = type("Request", (), {"model": "claude-sonnet-4-5", "provider": None})()
    accounts = AccountChain([])
    bound = None


def test_a_stream_of_messages_is_counted_wherever_its_pieces_are_cut():
    events = (
        b'event: message_start\ndata: {"message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}\n\n'
        b'data: {"delta": {"text": "hello world"}}\n\ndata: broken\n\n'
        b'data: {"delta": {"partial_json": "{}"}}\n\n'
        b'data: {"delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 12}}\n\n'
    )
    for size in (1, 7, 1000):
        meter = MessageMeter(_Nobody())
        for start in range(0, len(events), size):
            meter.see(events[start : start + size])
        assert meter.text == "hello world{}"
        assert meter.output_tokens > 0
        told = meter._answer()
        assert (told.usage.input_tokens, told.usage.output_tokens) == (9, 12)
        assert told.is_cut


@given(
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(st.binary(max_size=9).map(lambda data: data.replace(b"\n", b"").replace(b"\r", b""))),
    st.lists(st.integers(1, 12)),
)
def test_events_are_passed_on_whole_however_their_bytes_arrive(end, said, sizes):
    """So that an error frame which takes the place of the rest stands by itself."""
    stream = b"".join(b"data: " + data + end * 2 for data in said) + b"data: and so"
    events, passed_on = WholeEvents(), b""
    for size in [*sizes, len(stream)]:
        chunk, stream = stream[:size], stream[size:]
        passed_on += events.of(chunk)
        assert passed_on.endswith((b"", end * 2)[bool(passed_on)])
    assert passed_on + events.rest == b"".join(b"data: " + data + end * 2 for data in said) + b"data: and so"
    assert events.rest == b"data: and so"
