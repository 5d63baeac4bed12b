"""The last call of a step on the proxy is given what is left as its `max_tokens`."""

from __future__ import annotations

import pytest
from endpoints import ENDPOINTS

MODEL = "terse"
"""Of which no other test has seen answers."""
ONES_WITH_NO_CAP = ["chat", "text", "responses"]


def caps(provider):
    body = provider.requests[-1].body
    return [body[name] for name in body if name.startswith("max_") and name.endswith("_tokens")]


@pytest.fixture
def short_answers(served, run):
    """Let the proxy see what usual answers are like: of eight tokens."""
    for _ in range(5):
        assert ENDPOINTS["chat"].ask(served, run, "free", model=MODEL)[0] == 200


@pytest.mark.usefixtures("short_answers")
@pytest.mark.parametrize("name", ONES_WITH_NO_CAP)
def test_it_is_given_what_is_left_and_the_next_is_refused(served, provider, run, name):
    provider.behave(output_tokens=900)
    status, _, body = ENDPOINTS[name].ask(served, run, "last", model=MODEL)
    assert status == 200, body
    (cap,) = caps(provider)
    assert 16 <= cap < 400
    assert served.settled(run, "last")["output_tokens"] == cap
    assert ENDPOINTS[name].ask(served, run, "last", model=MODEL)[0] == 402


def test_clamp_false_sends_it_as_it_is(served, provider, run):
    assert ENDPOINTS["chat"].ask(served, run, "unclamped", model=MODEL)[0] == 200
    assert caps(provider) == []


@pytest.mark.parametrize("options", [{"response_format": {"type": "json_object"}}, {"stream": True}], ids=str)
def test_what_must_not_be_cut_is_sent_as_it_is(served, provider, run, options):
    assert ENDPOINTS["chat"].ask(served, run, "last", model=MODEL, **options)[0] == 200
    assert caps(provider) == []
