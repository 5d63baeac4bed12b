"""Every endpoint, whatever becomes of a request: the books say what the provider's own count says."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from endpoints import ENDPOINTS, UNRETRIED, begin, error_in, leave_unanswered

IN_USD, OUT_USD = Decimal("1.5e-7"), Decimal("6e-7")  # a token of gpt-4o-mini


def each(endpoints):
    return pytest.mark.parametrize("endpoint", endpoints.values(), ids=endpoints.keys())


@each(ENDPOINTS)
def test_an_answer_is_charged_once_to_the_step_and_those_around_it(served, provider, run, endpoint):
    status, headers, _ = endpoint.ask(served, run, "outer/inner")
    assert status == 200
    assert Decimal(headers["x-steptrack-remaining-usd"]) < 5
    steps = served.run(run)
    expected = 0 if endpoint.model == "vectors" else 8
    for path in ("outer", "outer/inner"):
        step = served.settled(run, path)
        assert (step["calls"], step["input_tokens"], step["output_tokens"]) == (1, 100, expected)
    if endpoint.model == "fast":
        assert Decimal(str(steps["outer"]["cost_usd"])) == 100 * IN_USD + 8 * OUT_USD
    assert provider.count() == 1


@each({name: ENDPOINTS[name] for name in ("chat stream", "text stream")})
@pytest.mark.parametrize("asks", [False, True])
def test_a_stream_shows_its_usage_to_a_client_that_has_asked_for_it(served, provider, run, endpoint, asks):
    options = {"stream_options": {"include_usage": True}} if asks else {}
    _, _, body = endpoint.ask(served, run, "outer", **options)
    frames = [json.loads(line[5:]) for line in body.splitlines() if line.startswith("data:") and "{" in line]
    shown = [frame["usage"]["prompt_tokens"] for frame in frames if frame.get("usage")]
    assert shown == ([100] if asks else [])
    assert all(frame["choices"] for frame in frames) or asks
    assert served.settled(run, "outer")["input_tokens"] == 100


@each(ENDPOINTS)
def test_a_request_without_room_is_refused_with_402_and_never_sent(served, provider, run, endpoint):
    for _ in range(2):
        assert endpoint.ask(served, run, "twice")[0] == 200
    status, headers, body = endpoint.ask(served, run, "twice")
    assert status == 402
    error = error_in(body)
    fields = error["provider_specific_fields"]["error"]
    if not endpoint.path.endswith("messages"):  # which the proxy puts into Anthropic's own words
        assert (error["type"], error["param"], error["code"]) == ("budget_exhausted", "twice", "402")
    assert error["message"] == "step 'twice' has no room under max_calls: 2 calls spent of 2"
    assert (fields["step"], fields["path"], fields["phase"]) == ("twice", "twice", "denied")
    assert (fields["limit"], fields["limit_value"], fields["error_boundary"]) == ("max_calls", 2, "fail")
    assert headers["x-steptrack-remaining-calls"] == "0"
    assert provider.count() == 2
    assert served.settled(run, "twice")["calls"] == 2


@each(UNRETRIED)
def test_an_error_that_is_retried_counts_as_a_call_and_costs_nothing(served, provider, run, endpoint):
    provider.fail_next(1)
    assert endpoint.ask(served, run, "outer")[0] == 200
    step = served.settled(run, "outer")
    assert step["calls"] == provider.count() == 2, (step, provider.requests)
    assert step["input_tokens"] == 100


@each({name: endpoint for name, endpoint in ENDPOINTS.items() if endpoint.model == "fast"})
def test_a_fallback_is_charged_at_the_price_of_the_model_that_answered(served, provider, run, endpoint):
    provider.fail_next(1)
    assert endpoint.ask(served, run, "outer", num_retries=0)[0] == 200
    step = served.settled(run, "outer")
    assert step["calls"] == provider.count() == 2, (step, provider.requests)
    assert [request.body["model"] for request in provider.requests] == ["gpt-4o-mini", "gpt-4o"]
    assert Decimal(str(step["cost_usd"])) == 100 * Decimal("2.5e-6") + 8 * Decimal("1e-5")


def test_embeddings_that_fall_back_are_charged_at_the_price_of_the_model_that_answered(served, provider, run):
    provider.fail_next(1, status=404)  # which OpenAI's client does not retry unseen
    assert ENDPOINTS["embeddings"].ask(served, run, "outer", num_retries=0)[0] == 200
    step = served.settled(run, "outer")
    assert step["calls"] == provider.count() == 2, (step, provider.requests)
    assert Decimal(str(step["cost_usd"])) == 100 * Decimal("1.3e-7")


@each(UNRETRIED)
def test_a_request_that_fails_as_a_whole_leaves_no_room_reserved(served, provider, run, endpoint):
    provider.fail_next(9)
    status, _, _ = endpoint.ask(served, run, "outer", num_retries=0, fallbacks=[])
    assert status == 500
    step = served.settled(run, "outer")
    assert (step["calls"], step["cost_usd"], step["in_flight_calls"]) == (provider.count(), 0, 0)


@each({name: endpoint for name, endpoint in ENDPOINTS.items() if endpoint.model == "fast"})
def test_a_cache_hit_is_free(served, provider, run, endpoint):
    cached = {"cache": {"use-cache": True}, "user": run}
    for _ in range(3):
        assert endpoint.ask(served, run, "outer", **cached)[0] == 200
    step = served.settled(run, "outer")
    assert step["calls"] == provider.count() == 1
    assert step["input_tokens"] == 100


def test_each_attempt_needs_room_of_its_own(served, provider, run):
    provider.fail_next(9)
    assert ENDPOINTS["chat"].ask(served, run, "three")[0] == 500  # which the third attempt has got
    assert served.settled(run, "three")["calls"] == provider.count() == 3
    assert ENDPOINTS["chat"].ask(served, run, "three")[0] == 402


def test_a_list_of_models_is_a_call_for_each(served, provider, run):
    assert ENDPOINTS["chat"].ask(served, run, "outer", model="fast,dear")[0] == 200
    step = served.settled(run, "outer")
    assert step["calls"] == provider.count() == 2, (step, provider.requests)
    assert step["output_tokens"] == 16


def test_a_stream_of_several_models_which_litellm_cannot_serve_is_refused(served, provider, run):
    status, _, body = ENDPOINTS["chat stream"].ask(served, run, "outer", model="fast,dear")
    assert (status, error_in(body)["param"]) == (400, "model")
    assert provider.count() == 0


@pytest.mark.parametrize("name", ["chat", "messages"])
def test_a_model_of_anthropics_is_charged_what_it_reports(served, provider, run, name):
    assert ENDPOINTS[name].ask(served, run, "outer", model="claude")[0] == 200
    step = served.settled(run, "outer")
    assert (step["calls"], step["input_tokens"], step["output_tokens"]) == (1, 100, 8)
    assert Decimal(str(step["cost_usd"])) == 100 * Decimal("3e-6") + 8 * Decimal("1.5e-5")


def test_an_answer_says_how_many_tokens_are_left(served, run):
    _, headers, _ = ENDPOINTS["chat"].ask(served, run, "short")
    assert headers["x-steptrack-remaining-tokens"] == str(160 - 108)


@each({name: endpoint for name, endpoint in ENDPOINTS.items() if not endpoint.streams})
def test_a_client_that_does_not_wait_for_its_answer_is_charged_all_the_same(served, provider, run, endpoint):
    provider.hold()
    with leave_unanswered(served, endpoint, run, "outer"):
        provider.wait_for(1)
    provider.release()
    step = served.settled(run, "outer")
    assert step["calls"] == provider.count() == 1
    assert step["cost_usd"] > 0


def test_what_has_no_gate_is_charged_what_its_answer_states(served, provider, run):
    status, _, _ = served.send(
        "/v1/images/generations", {"model": "fast", "prompt": "x"}, run=run, step="outer"
    )
    assert status == 200
    assert served.settled(run, "outer")["calls"] == 1


def test_a_model_without_a_price_is_refused_where_dollars_are_limited(served, provider, run):
    status, _, body = ENDPOINTS["chat"].ask(served, run, "outer", model="nobody-knows")
    assert (status, error_in(body)["type"]) == (402, "unpriced_model")
    message = error_in(body)["message"]
    assert message.startswith("budget 'per-key' has a max_usd")
    assert 'add [prices."openai/nobody-knows-its-price"] with' in message
    assert "install(" not in str(body)
    assert provider.count() == 0


def test_a_model_that_nobody_knows_may_have_a_price_by_the_name_that_clients_use(served, provider, run):
    for name in ("chat", "chat stream"):
        assert ENDPOINTS[name].ask(served, run, "outer", model="house")[0] == 200
    step = served.settled(run, "outer")
    assert Decimal(str(step["cost_usd"])) == 2 * Decimal("0.000116")


def test_a_strict_limit_caps_the_answer(served, provider, run):
    provider.behave(output_tokens=2000)
    assert ENDPOINTS["chat"].ask(served, run, "strict")[0] == 200
    sent = provider.requests[0].body
    assert 0 < sent["max_tokens"] < 700
    assert served.settled(run, "strict")["cost_usd"] <= 0.0004


@pytest.mark.parametrize(("seen", "calls", "charged"), [(0, 2, 30), (5, 1, 5)])
def test_a_stream_that_breaks_is_charged_what_came_and_a_deployment_that_goes_on_is_another_call(
    served, provider, run, seen, calls, charged
):
    """LiteLLM goes on while the client has nothing; what it has not read when a connection breaks is lost."""
    provider.behave(output_tokens=30, drop_after_chunks=seen)
    provider.hold(after_chunks=seen)
    stream = begin(served, ENDPOINTS["chat stream"], run, "outer")
    words = (line for line in stream if b'" word"' in line or b'" time"' in line)
    came = [next(words) for _ in range(seen)]
    with ThreadPoolExecutor() as pool:
        rest = pool.submit(list, words)
        provider.wait_for(1)
        provider.behave(drop_after_chunks=None)
        provider.release()
        came += rest.result()
    step = served.settled(run, "outer")
    assert (step["calls"], provider.count()) == (calls, calls)
    assert step["output_tokens"] == len(came) == charged


def test_litellms_own_budgets_are_told_of_each_request_once(served, provider, run):
    def costs():
        lines = (served.folder / "events.txt").read_text().splitlines()
        return [float(line.split()[1]) for line in lines if line.startswith(run)]

    marked = {"metadata": {"mark": run}}
    assert ENDPOINTS["chat"].ask(served, run, "outer", **marked)[0] == 200
    assert ENDPOINTS["chat stream"].ask(served, run, "outer", **marked)[0] == 200
    provider.behave(output_tokens=300)
    assert ENDPOINTS["chat stream"].ask(served, run, "short", **marked)[0] == 200
    assert ENDPOINTS["chat"].ask(served, run, "asks", **marked)[0] == 402
    deadline = time.monotonic() + 10
    while len(costs()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert costs()[:2] == pytest.approx([100 * 1.5e-7 + 8 * 6e-7] * 2)
    assert len(costs()) == 3
    assert costs()[2] > 100 * 6e-7  # of the stream that was cut


def test_a_refusal_gives_back_what_litellm_had_reserved_of_its_own_budget(served, provider, run, key):
    poor = key.replace("sk-", "sk-poor-")
    options = {"key": poor, "max_tokens": 100}  # for which LiteLLM reserves more than $0.00006 of $0.0005
    for _ in range(10):
        assert ENDPOINTS["chat"].ask(served, run, "asks", **options)[0] == 402
    assert ENDPOINTS["chat"].ask(served, run, "outer", **options)[0] == 200
    answers = (ENDPOINTS["chat"].ask(served, run, "outer", **options) for _ in range(40))
    body = next(body for status, _, body in answers if status != 200)
    assert error_in(body)["type"] == "budget_exceeded"
