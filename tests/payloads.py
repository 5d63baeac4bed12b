"""Answers as providers write them, whole and cut into the pieces of a stream, with the figures of a test."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

U: Json = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}


def chat(usage: Json | None, model: str = "gpt-4o", *, said: str = "word", **beside: Any) -> Json:
    """Write an answer of the chat API: `whole` and `pieces`, for a `Provider`."""
    head = {"id": "chat-1", "created": 1, "model": model, **beside}
    chunk = head | {"object": "chat.completion.chunk"}
    choice = {"index": 0, "finish_reason": None}
    text = {"role": "assistant", "content": said}
    end: list[Json] = [] if usage is None else [chunk | {"choices": [], "usage": usage}]
    return {
        "whole": head
        | {"object": "chat.completion", "choices": [choice | {"message": text, "finish_reason": "stop"}]}
        | {"usage": usage},
        "pieces": (
            chunk | {"choices": [choice | {"delta": text}]},
            chunk | {"choices": [choice | {"delta": {}, "finish_reason": "stop"}]},
            *end,
        ),
    }


def message(
    start: Json,
    end: Json,
    model: str = "claude-sonnet-4-6",
    *,
    content: tuple[Json, ...] = (),
    said: str = "word",
) -> Json:
    """Write an answer of Anthropic's: what its first and its last event tell; the whole tells both."""
    head = {"id": "msg-1", "type": "message", "role": "assistant", "model": model}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    blocks = (*content, {"type": "text", "text": said})
    events: list[Json] = [
        {"type": "message_start", "message": head | {"content": [], "stop_reason": None, "usage": start}}
    ]
    for index, block in enumerate(blocks):
        is_text = block["type"] == "text"
        begun = block | ({"text": ""} if is_text else {})
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        if is_text:
            delta = {"type": "text_delta", "text": said}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    events += [{"type": "message_delta", "delta": stop, "usage": end}, {"type": "message_stop"}]
    whole = head | stop | {"content": list(blocks), "usage": start | end}
    return {"whole": whole, "pieces": tuple(events)}


def response(usage: Json, model: str = "gpt-5", *, tools: tuple[Json, ...] = (), **beside: Any) -> Json:
    """Write an answer of the responses API, with the provider's own tools before its text."""
    content = [{"type": "output_text", "text": "word", "annotations": []}]
    item = {"type": "message", "id": "item-1", "role": "assistant", "status": "completed", "content": content}
    fixed = {"object": "response", "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    head = {"id": "resp-1", "created_at": 1, "model": model, **fixed, **beside}
    whole = head | {"status": "completed", "output": [*tools, item], "usage": usage}
    place = {"item_id": "item-1", "output_index": len(tools), "content_index": 0, "logprobs": []}
    events: list[Json] = [
        {"type": "response.created", "response": head | {"status": "in_progress", "output": []}}
    ]
    for index, tool in enumerate(tools):
        events.append({"type": "response.output_item.added", "output_index": index, "item": tool})
        events.append({"type": "response.output_item.done", "output_index": index, "item": tool})
    events += [
        place | {"type": "response.output_text.delta", "delta": "word"},
        {"type": "response.completed", "response": whole},
    ]
    numbered = (event | {"sequence_number": number} for number, event in enumerate(events))
    return {"whole": whole, "pieces": tuple(numbered)}
