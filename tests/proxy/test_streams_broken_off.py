"""Streams and answers that come to no end: the provider is stopped, and what it made is charged."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from endpoints import STREAMS, UNRETRIED, begin, error_in, leave_unanswered

EVERYWHERE = {
    f"{name} of {model}": replace(endpoint, model=model)
    for model in ("fast", "claude", "vllm")
    for name, endpoint in STREAMS.items()
}


def each(endpoints):
    return pytest.mark.parametrize("endpoint", endpoints.values(), ids=endpoints.keys())


def hung_up(provider):
    return provider.requests[0].end == "client closed"


@each(EVERYWHERE)
def test_a_stream_past_its_limit_is_hung_up_ends_with_an_error_frame_and_is_charged_what_it_produced(
    served, provider, run, endpoint
):
    provider.behave(output_tokens=900)
    provider.hold(after_chunks=300)
    status, _, body = endpoint.ask(served, run, "short")
    assert status == 200
    fields = error_in(body)["provider_specific_fields"]["error"]
    assert (fields["phase"], fields["limit"], fields["path"]) == ("stream", "max_tokens", "short")
    provider.wait_until(lambda: hung_up(provider))
    step = served.settled(run, "short")
    assert step["calls"] == 1
    assert 160 < step["input_tokens"] + step["output_tokens"] <= 400
    assert endpoint.ask(served, run, "short")[0] == 402
    assert provider.count() == 1


@each(STREAMS)
def test_a_stream_that_is_cut_has_passed_its_limit_by_one_chunk(served, provider, run, endpoint):
    provider.behave(output_tokens=300)
    assert endpoint.ask(served, run, "short")[0] == 200
    step = served.settled(run, "short")
    assert 160 < step["input_tokens"] + step["output_tokens"] < 180


def test_the_input_that_a_provider_has_reported_is_charged_though_its_stream_is_cut(served, provider, run):
    provider.behave(output_tokens=900)
    assert EVERYWHERE["messages stream of claude"].ask(served, run, "short")[0] == 200
    assert served.settled(run, "short")["input_tokens"] == 100


@each(STREAMS)
def test_a_client_that_goes_away_is_charged_what_was_produced(served, provider, run, endpoint):
    provider.behave(output_tokens=200)
    provider.hold(after_chunks=20)
    stream = begin(served, endpoint, run, "outer")
    read = 0
    while read < 20:
        read += b"word" in (line := next(stream)) or b"time" in line
    provider.wait_for(1)
    stream.close()
    provider.wait_until(lambda: hung_up(provider))
    step = served.settled(run, "outer")
    assert step["calls"] == 1
    assert 20 <= step["output_tokens"] <= 21
    assert 0 < step["input_tokens"] < 100


@each(STREAMS)
def test_a_client_that_goes_away_before_the_first_word_is_charged_an_estimate(
    served, provider, run, endpoint
):
    provider.behave(output_tokens=5_000)
    provider.hold()
    with leave_unanswered(served, endpoint, run, "outer"):
        provider.wait_for(1)
    provider.hold(after_chunks=800)
    provider.release(1)
    provider.wait_until(lambda: hung_up(provider))
    step = served.settled(run, "outer")
    assert step["calls"] == 1
    assert step["output_tokens"] > 0


def test_an_answer_that_comes_too_late_is_hung_up_and_charged_an_estimate(served, provider, run):
    assert UNRETRIED["chat"].ask(served, run, "warm")[0] == 200  # an unknown model is asked one by one
    provider.requests.clear()
    provider.hold()
    impatient = {"timeout": 1, "num_retries": 0, "fallbacks": []}
    with ThreadPoolExecutor(len(UNRETRIED)) as pool:
        asked = {
            name: pool.submit(endpoint.ask, served, run, name, **impatient)
            for name, endpoint in UNRETRIED.items()
        }
    assert {answer.result()[0] for answer in asked.values()} == {408}
    provider.wait_until(lambda: {request.end for request in provider.requests} == {"client closed"})
    for name in asked:
        step = served.settled(run, name)
        assert (step["calls"], step["output_tokens"] > 0) == (1, True), name


def test_a_stream_that_is_asked_for_as_it_is_read_and_then_refused_costs_nothing(served, provider, run):
    provider.fail_next(9)
    endpoint = EVERYWHERE["text stream of vllm"]
    assert endpoint.ask(served, run, "outer", num_retries=0, fallbacks=[])[0] == 500
    step = served.settled(run, "outer")
    assert (step["calls"], step["input_tokens"], step["cost_usd"]) == (1, 0, 0)
