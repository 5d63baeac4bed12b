"""A program with an unchanged OpenAI client: the proxy goes on cheaper, and leaves room for a last answer."""

import openai
import pytest
from serving import named

DEAR_USD, FAST_USD = 100 * 2.5e-6 + 8 * 1e-5, 100 * 1.5e-7 + 8 * 6e-7
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def assert_taken(messages):
    """Look at a history as OpenAI's server does: answers stand right behind the calls that they answer."""
    waiting = set()
    for message in messages:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
        else:
            assert not waiting
            waiting = {call["id"] for call in message.get("tool_calls") or ()}
    assert not waiting


def ask(client, messages, step, run, **more):
    options = {"model": "dear", "messages": messages, "tools": [TOOL], "max_tokens": 8, **more}
    return client.chat.completions.create(extra_headers=named(run=run, step=step), **options)


def test_the_program(served, provider, run):
    provider.behave(tool="look")
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="sk-master", max_retries=0)
    messages = [{"role": "user", "content": "look around"}]
    with pytest.raises(openai.APIStatusError) as caught:
        while True:
            message = ask(client, messages, "program/work", run).choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            messages += [
                {"role": "tool", "tool_call_id": call.id, "content": "seen"} for call in message.tool_calls
            ]
    assert caught.value.status_code == 402
    provider.behave(tool=None)
    messages.append({"role": "user", "content": "This is the last turn: answer now."})
    last = ask(client, messages, "program/closing", run, model="fast", tool_choice="none")
    assert last.choices[0].message.content

    sent = [request.body["model"] for request in provider.requests]
    assert sent[0] == "gpt-4o"
    assert sent[2:] == ["gpt-4o-mini"] * (len(sent) - 2)
    assert len(sent) > 5
    for request in provider.requests:
        assert_taken(request.body["messages"])
    billed = sum(FAST_USD if "mini" in model else DEAR_USD for model in sent)
    steps = served.run(run)
    assert steps["program"]["calls"] == len(sent)
    assert steps["program"]["cost_usd"] == pytest.approx(billed)
    assert steps["program/work"]["cost_usd"] <= 0.001 * 1.05
    assert steps["program/closing"]["calls"] == 1
