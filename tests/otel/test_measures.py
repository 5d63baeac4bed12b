"""Metrics add up to what the books say."""

from __future__ import annotations

import pytest

from fake_framework import run_all
from spending import ask, open_call, request, spend
from steptrack_callbacks import (
    Usage,
    bind,
    opentelemetry,
    peek_completed_steps,
    persona,
    record_usage,
    step,
)
from steptrack_callbacks.opentelemetry import names
from steptrack_callbacks.opentelemetry.attributes import provider_name
from steptrack_callbacks.steps.attribution import new_call, unattributed_usage

INPUT, OUTPUT = (f"gen_ai.client.inference.usage.{kind}_tokens" for kind in ("input", "output"))
OLDER, COST = "gen_ai.client.token.usage", "steptrack.cost"


def tokens(measures, **said):
    return measures.total(INPUT, **said) + measures.total(OUTPUT, **said)


def test_tokens_and_cost_are_those_of_the_books(measures):
    with step("outer") as outer:
        spend(10, 5)
        with step("inner"):
            spend(7, 1, cost_usd=0.25)
    spend(100, 50)
    books = outer.usage + unattributed_usage()
    assert measures.total(INPUT) == books.input_tokens == 117
    assert measures.total(OUTPUT) == books.output_tokens == 56
    assert measures.total(COST) == float(books.cost_usd) == 165.25
    assert measures.total("steptrack.calls") == books.calls == 3


def test_threads_lose_nothing(measures):
    def work():
        for _ in range(200):
            ask()

    with step("outer") as outer:
        run_all([bind(work) for _ in range(8)])
    assert measures.total("steptrack.calls") == outer.usage.calls == 1600
    assert measures.total(INPUT) + measures.total(OUTPUT) == outer.usage.total_tokens
    assert measures.total(COST) == float(outer.cost_usd)


def test_a_measurement_says_what_was_asked_of_whom_and_in_which_step(measures):
    with step("plan"):
        call = new_call(request(model="gpt-4o"))
        call.admit()
        call.settle(Usage(input_tokens=10, output_tokens=5), model="gpt-4o-2024-08-06")
    counted = {"input": INPUT, "output": OUTPUT}
    points = {kind: measures.points(name) for kind, name in counted.items()}
    said = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "steptrack.step.name": "plan",
    }
    of_unknown = said | {"gen_ai.token.modality": "unknown"}
    assert points == {"input": [(10, of_unknown)], "output": [(5, of_unknown)]}
    assert measures.points("gen_ai.client.inference.operation.input_tokens") == [(10, said)]
    assert measures.points("gen_ai.client.inference.operation.output_tokens") == [(5, said)]


def test_what_was_estimated_and_what_has_no_price_is_marked(measures):
    with step("plan"):
        open_call(10, 5).abandon(2)
        record_usage("nobody-knows-me", input_tokens=3, output_tokens=1)
    assert tokens(measures, steptrack_estimated=True) == 12
    assert tokens(measures, steptrack_unpriced=True) == 4
    assert measures.total("steptrack.calls", steptrack_unpriced=True) == 1
    assert measures.total(COST) == 12
    assert [said.get("steptrack.unpriced") for _, said in measures.points(COST)] == [None]


def test_a_failed_call_is_counted_and_has_no_tokens_and_a_cached_answer_is_nothing(measures):
    with step("plan"):
        open_call().fail()
        open_call().settle_free()
        open_call().withdraw()
        ask()
    assert measures.total("steptrack.calls", steptrack_failed=True) == 1
    assert measures.total("steptrack.calls", steptrack_failed=False) == 1
    assert tokens(measures) == 15


def test_refusals_are_counted_by_the_limit_without_room(measures):
    with step("plan", max_tokens=3, error_boundary="continue"):
        ask()
    ((count, said),) = measures.points("steptrack.calls.denied")
    assert count == 1
    assert (said["steptrack.limit"], said["steptrack.phase"]) == ("max_tokens", "denied")
    assert (said["error.type"], said["steptrack.step.name"]) == ("BudgetExhausted", "plan")


@pytest.mark.parametrize(("input_tokens", "output_tokens"), [(12, 1), (8, 9), (10, 5)])
def test_first_and_late_counts_together_are_what_the_books_say(measures, input_tokens, output_tokens):
    with step("plan"):
        call = open_call(10, 5)
    assert tokens(measures, steptrack_estimated=True) == 15
    call.settle(Usage(input_tokens=input_tokens, output_tokens=output_tokens))
    (record,) = peek_completed_steps()
    assert tokens(measures) == 15  # what was counted cannot be taken back
    assert tokens(measures) + measures.total("steptrack.late.tokens") == record.usage.total_tokens
    assert measures.total(COST) + measures.total("steptrack.late.cost") == float(record.usage.cost_usd)
    assert measures.total("steptrack.calls") == record.usage.calls == 1


def test_a_late_report_that_is_told_before_the_estimate_changes_nothing_in_the_sum(measures, monkeypatch):
    """Two threads may tell of a sweep and of the report that follows it in any order."""
    with step("plan"):
        call = open_call(10, 5)
        tell, told = type(call)._tell, []
        monkeypatch.setattr(type(call), "_tell", lambda self, charge: told.append(charge))
    call.settle(Usage(input_tokens=12, output_tokens=1))
    for charge in reversed(told):
        tell(call, charge)
    assert len(told) == 2
    assert tokens(measures) == 15
    assert measures.total("steptrack.late.tokens") == -2


@pytest.mark.parametrize(
    ("provider", "model", "name"),
    [
        (None, "gpt-4o", "openai"),
        (None, "openai/gpt-4o", "openai"),
        (None, "azure/gpt-4o", "azure.ai.openai"),
        (None, "claude-sonnet-4-5", "anthropic"),
        (None, "acme/their-model", None),
        (None, "nobody-knows-me", None),
        ("mistralai", "mistral-large-latest", "mistral_ai"),
        ("bedrock_converse", "anthropic.claude-3-haiku-20240307-v1:0", "aws.bedrock"),
        ("my-host", "gpt-4o", "my_host"),
        ("litellm_proxy", "gemini/gemini-2.5-pro", "gcp.gemini"),
    ],
)
def test_providers_are_named_as_the_conventions_do(provider, model, name):
    assert provider_name(provider, model) == name


def test_tokens_are_counted_by_their_modality_as_far_as_it_was_reported(measures):
    with step("plan"):
        record_usage("m", input_tokens=100, output_tokens=7, input_audio_tokens=30, input_image_tokens=20)
    split = {said["gen_ai.token.modality"]: value for value, said in measures.points(INPUT)}
    assert split == {"audio": 30, "image": 20, "text": 50}
    assert [said["gen_ai.token.modality"] for _, said in measures.points(OUTPUT)] == ["unknown"]


def test_tokens_of_a_cache_and_of_reasoning_have_counters_of_their_own(measures):
    parts = {"cache_read_tokens": 40, "cache_write_tokens": 25, "reasoning_tokens": 6}
    with step("plan"):
        record_usage("m", input_tokens=100, output_tokens=7, **parts)
    counted = {field: measures.total(names.COUNTERS[field]) for field in parts}
    assert counted == parts


def test_older_names_are_measured_only_if_they_are_asked_for(traces, measures, monkeypatch):
    spend(10, 5)
    assert measures.points(OLDER) == []
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai/dup")
    opentelemetry.install(traces.provider, measures.provider)
    with step("plan"):
        record_usage("m", input_tokens=20, output_tokens=2, cache_write_tokens=3)
    assert measures.total(OLDER, gen_ai_token_type="input") == 20
    assert measures.total(INPUT) == 30
    said = traces.said("step plan")
    assert said["gen_ai.usage.cache_write.input_tokens"] == 3
    assert said["gen_ai.usage.cache_creation.input_tokens"] == 3
    opentelemetry.install(traces.provider, measures.provider, older_names=False)
    spend(1, 1)
    assert measures.total(OLDER) == 22


def test_a_persona_has_no_tokens_of_a_cache_since_the_conventions_know_none_of_an_agent(traces):
    with persona("writer"), step("plan"):
        record_usage("m", input_tokens=100, output_tokens=7, cache_read_tokens=40)
    assert traces.said("step plan")["gen_ai.usage.cache_read.input_tokens"] == 40
    agent = traces.said("invoke_agent writer")
    assert agent["gen_ai.usage.input_tokens"] == 100
    assert not [name for name in agent if ".cache_" in name]
