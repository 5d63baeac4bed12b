"""On the proxy a request at its limit goes on with the next model of the file's list, if its key may call it."""

import dataclasses
import uuid

import openai
import pytest
from endpoints import ENDPOINTS, error_in

DEAR_USD, FAST_USD = 100 * 2.5e-6 + 8 * 1e-5, 100 * 1.5e-7 + 8 * 6e-7
WITHOUT_VECTORS = [name for name in ENDPOINTS if name != "embeddings"]
ASKED, USED, WHY = "x-steptrack-model-asked", "x-steptrack-model-used", "x-steptrack-swap-reason"


def asking(name, model="dear"):
    return dataclasses.replace(ENDPOINTS[name], model=model)


@pytest.fixture
def key():
    """One that has spent nothing yet: what it has spent of its own budget makes its calls cheaper as well."""
    return f"sk-{uuid.uuid4().hex[:8]}"


def sent_by(provider):
    return [request.body["model"] for request in provider.requests]


@pytest.mark.parametrize("name", WITHOUT_VECTORS)
def test_a_request_goes_on_with_the_next_model(served, provider, run, key, name):
    answers = [asking(name).ask(served, run, "ladder", key) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200] * 3
    assert sent_by(provider) == ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini"]
    step = served.settled(run, "ladder", key)
    assert (step["calls"], float(step["cost_usd"])) == (3, pytest.approx(DEAR_USD + 2 * FAST_USD))
    headers = [headers for _, headers, _ in answers]
    assert USED not in headers[0]
    assert (headers[1][ASKED], headers[1][USED], headers[1][WHY]) == ("dear", "fast", "downgrade_at")


def test_a_client_that_knows_nothing_of_it_is_served(served, provider, run, key):
    client = served.client(key, run=run, step="ladder")
    for _ in range(3):
        messages = [{"role": "user", "content": "hello"}]
        raw = client.chat.completions.with_raw_response.create(model="dear", messages=messages)
        assert raw.parse().choices[0].message.content
    assert raw.headers[USED] == "fast"
    assert sent_by(provider) == ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini"]


def test_a_key_goes_on_only_with_what_it_may_call(served, provider, run):
    key = f"sk-dear-{uuid.uuid4().hex[:8]}"
    answers = [asking("chat").ask(served, run, "ladder", key) for _ in range(2)]
    assert [status for status, _, _ in answers] == [200, 200]
    assert sent_by(provider) == ["gpt-4o", "gpt-4o"]
    assert USED not in answers[1][1]


def test_a_refusal_says_why_a_model_was_passed_over(served, provider, run):
    key = f"sk-dear-{uuid.uuid4().hex[:8]}"
    status, _, body = asking("chat").ask(served, run, "tight", key, max_tokens=500)
    assert status == 402
    assert "fast was passed over: its key may not call it" in error_in(body)["message"]
    assert not provider.requests


def test_a_request_that_fits_with_no_model_is_refused(served, provider, run):
    status, _, body = asking("chat").ask(served, run, "tight", max_tokens=5000)
    assert (status, error_in(body)["type"]) == (402, "budget_exhausted")
    assert not provider.requests


def test_no_client_can_name_models_of_its_own(served, provider, run):
    claim = {"run": run, "step": "dollars", "models": ["dear", "fast"], "downgrade_at": 0}
    body = {"model": "dear", "messages": [{"role": "user", "content": "a"}], "metadata": {"steptrack": claim}}
    status, headers, _ = served.send("/v1/chat/completions", body)
    assert (status, USED in headers) in ((400, False), (200, False))
    assert "gpt-4o-mini" not in sent_by(provider)


def test_vectors_are_never_mixed(served, provider, run):
    endpoint = dataclasses.replace(ENDPOINTS["embeddings"], model="more-vectors")
    assert endpoint.ask(served, run, "vectors")[0] == 200
    assert sent_by(provider) == ["text-embedding-3-large"]


def test_an_attempt_of_the_routers_keeps_to_its_group(served, provider, run, key):
    provider.fail_next(1, status=500)
    assert asking("chat").ask(served, run, "ladder", key)[0] == 200
    assert sent_by(provider) == ["gpt-4o", "gpt-4o"]


def test_openai_raises_its_own_error_where_no_model_fits(served, run):
    client = served.client(run=run, step="tight")
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(
            model="dear", messages=[{"role": "user", "content": "a"}], max_tokens=5000
        )
    assert caught.value.status_code == 402
