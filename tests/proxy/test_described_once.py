"""A request of the proxy is described when it is admitted, and again only if something else is sent."""

import pytest

from steptrack_callbacks.integrations import bounds, needs, request_terms
from steptrack_callbacks.litellm import requests
from steptrack_callbacks.litellm.call_types import CALL_TYPES
from steptrack_callbacks.litellm_proxy.requests import exact_request, request_from

MESSAGES = [{"role": "user", "content": "why is the sky blue?"}]
ASKED = {"messages": MESSAGES, "model_info": {"id": "a"}, "api_base": "http://localhost/v1"}
SENT = {"model": "openai/gpt-4o-mini", "stream": False, "timeout": 600.0, "max_tokens": None, **ASKED}
IN_WORDS = [kind for kind, call_type in CALL_TYPES.items() if call_type.answers_in_words]


def nobody(_name):
    return None


def admitted():
    return request_from("chat", "openai/gpt-4o-mini", ASKED)


def test_what_is_sent_as_it_was_admitted_is_not_described_again():
    request = admitted()
    assert exact_request("chat", SENT, request, nobody) is request


@pytest.mark.parametrize(
    "other",
    [
        {"model": "openai/gpt-4o"},
        {"messages": [{"role": "user", "content": "[redacted]"}]},
        {"max_tokens": 10},
        {"model_info": {"id": "a", "input_cost_per_token": 1e-3}},
        {"input_cost_per_token": 1e-3},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"api_base": "https://eu.api.openai.com/v1"},
        {"extra_body": {"max_tokens": 3}},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_else_is_sent_is_described_as_such(other):
    request = admitted()
    exact = exact_request("chat", SENT | other, request, nobody)
    assert exact is not request
    assert exact.described_by == request_from("chat", (SENT | other)["model"], SENT | other).described_by


def test_a_price_by_the_name_that_clients_know_is_looked_for_again():
    request = admitted()
    request.price = lambda _usage: 1
    assert exact_request("chat", SENT, request, nobody) is not request


class Asked(dict):
    """Options that note what is read of them."""

    def __init__(self, *, everything):
        super().__init__()
        self.everything = everything
        self.read = set()

    def get(self, name, default=None):
        self.read.add(name)
        return ["x"] if self.everything else default

    def __getitem__(self, name):
        return self.get(name)

    def __contains__(self, name):
        return self.get(name) is not None


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("kind", IN_WORDS)
def test_all_that_is_read_of_a_request_is_kept_of_it(kind, everything, monkeypatch):
    asked = Asked(everything=everything)
    monkeypatch.setattr(requests, "said_in", lambda options: options)
    request = requests.request_of(kind, "gpt-4o", MESSAGES, asked)
    requests._asked(kind, asked, {})
    request.counted  # noqa: B018 - reads what it counts
    for read in (request.kinds, request.needs, request.bound_input or dict):
        read()
    for read in (needs.needs_whole_answer, request_terms.terms_asked, bounds.is_all_sent):
        read(asked)
    assert asked.read <= requests._names_read()
