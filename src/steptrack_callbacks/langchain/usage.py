"""Where LangChain's answers keep what they say.

Whatever a provider or a test double puts there, reading it never fails: what makes no sense counts
as not reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from langchain_core.outputs import LLMResult

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.integrations import settling
from steptrack_callbacks.integrations.counts import TIERS
from steptrack_callbacks.integrations.stated_cost import FIELDS
from steptrack_callbacks.integrations.usage import CUT, Answer, Reading, read_usage
from steptrack_callbacks.pricing.terms import NO_TERMS, terms_of_tier
from steptrack_callbacks.values.usage import MOST_TOKENS, Usage, text_usage

_DETAILS = ("input_token_details", "output_token_details")
_NO_DETAILS: Mapping[str, Any] = {}
_USAGES = ("token_usage", "usage", "usage_metadata")
_TOTALS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_TRANSLATED = _TOTALS | {"prompt_tokens_details", "completion_tokens_details"}
_PLAIN = frozenset({"input_tokens", "output_tokens", "total_tokens", *_DETAILS})
_SAYS_NO_MORE = frozenset(
    {
        *("created", "created_at", "finish_reason", "id", "logprobs", "model", "model_name"),
        *("model_provider", "object", "output_version", "service_tier", "stop_reason", "stop_sequence"),
        *("system_fingerprint", "token_usage"),
    }
)
"""What a message may say beside its usage, and nothing of it but the last has to be looked at closely."""
_NO_INPUT_PARTS: Sequence[Mapping[str, int] | None] = (
    {"audio": 0, "cache_read": 0},
    {"audio_tokens": 0, "cached_tokens": 0},
    None,
    {"cache_read": 0},
    {"cache_creation": 0, "cache_read": 0},
    {"cached_tokens": 0},
    {},
)
"""How LangChain and providers say that no token sent was of a special kind, in the words of most of them."""
_NO_OUTPUT_PARTS: Sequence[Mapping[str, int] | None] = (
    {"audio": 0, "reasoning": 0},
    {
        "accepted_prediction_tokens": 0,
        "audio_tokens": 0,
        "reasoning_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
    None,
    {"reasoning": 0},
    {"reasoning_tokens": 0},
    {},
)
"""How they say that none was of those that were made."""
_USUAL_PARTS = frozenset({"cached_tokens", "audio_tokens", "reasoning_tokens"})
_OF_SEARCHES = frozenset({"num_search_queries", "search_context_size"})
_LONGEST_WORD = 10_000
_answer_of: Callable[[Iterable[Any]], Answer] = partial(tuple.__new__, Answer)  # as `_make`, which is slower
_COUNTS = 3  # those sent, those made, and their sum


def settle(call: Call, result: LLMResult, run_id: UUID, *, counted_elsewhere: bool = False) -> bool:
    """Charge a call with its complete answer, and say whether its usage was reported.

    Args:
        call: The call.
        result: The answer.
        run_id: The model's run.
        counted_elsewhere: Whether another answer of its batch has its usage, too.
    """
    if not counted_elsewhere and (plain := _plainly_told(result)):
        return settling.settle_plain(call, plain, response=result.generations[0][0])
    answer = _first(result)
    reported = _reported(answer, result)
    if reported is not None and reported.get("total_cost") == 0:
        if _is_from_cache(answer, result, run_id):
            call.settle_free()
            return False
        reported = {name: value for name, value in reported.items() if name != "total_cost"}
    if counted_elsewhere:
        call.settle(Usage(), truncated=True)
        return False
    reading = Reading()
    if reported is not None:
        reading.add_usage(reported)
        reading.name(tier=_tier_in(reported))
    told = _told(answer)
    if not _add_details(reading, told, reported):
        _add_details(reading, result.llm_output, reported)
    _add_told(reading, told)
    message = getattr(answer, "message", None)
    if message is not None and isinstance(message.content, list):
        reading.add_items(message.content)
    return _settle(call, reading, told, lambda: text_of(result), response=answer)


def _is_from_cache(answer: Any, result: LLMResult, run_id: UUID) -> bool:
    """Tell a hit of LangChain's cache, which puts a total cost of 0 beside the usage.

    A cache in memory puts it into the answer of the paid call as well, if that was not reported before. A hit
    has no output of the model's own, and its message bears the number of another run, if any.
    """
    name = str(getattr(getattr(answer, "message", None), "id", None))
    return not result.llm_output and str(run_id) not in name


def _plainly_told(result: LLMResult) -> Answer | None:
    """Read an answer as nearly all are: text, two counts, and nothing that changes their price."""
    try:
        message: Any = result.generations[0][0].message  # type: ignore[union-attr]
        reported, told = message.usage_metadata, message.response_metadata
        sent, made, total = reported["input_tokens"], reported["output_tokens"], reported["total_tokens"]
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    if type(reported) is not dict or type(told) is not dict or type(message.content) is not str:
        return None
    if type(sent) is not int or type(made) is not int or sent <= 0 or made <= 0:
        return None
    tokens = sent + made
    if total != tokens or tokens > MOST_TOKENS or (len(reported) > _COUNTS and _says_parts(reported)):
        return None
    if not _SAYS_NO_MORE.issuperset(told) or _says_more(told, result.llm_output):
        return None
    try:
        beside = _said_beside(
            told.get("model_name") or told.get("model"),
            told.get("service_tier"),
            told.get("finish_reason"),
            told.get("stop_reason"),
        )
    except TypeError:  # what is no word may have no hash
        return None
    return _answer_of((text_usage(sent, made), *beside))


def _says_parts(reported: dict[str, Any]) -> bool:
    """Tell whether LangChain says more of the tokens than how many there were."""
    if not _PLAIN.issuperset(reported):
        return True
    sent, made = reported.get("input_token_details"), reported.get("output_token_details")
    return sent not in _NO_INPUT_PARTS or made not in _NO_OUTPUT_PARTS


def _says_more(told: dict[str, Any], output: Any) -> bool:
    """Tell whether a provider's own usage says more; LangChain puts the same one into both places."""
    usage = told.get("token_usage")
    if type(output) is dict and (
        output.get("token_usage", usage) is not usage or "usage" in output or "usage_metadata" in output
    ):
        return True
    if usage is None or (type(usage) is dict and _TOTALS.issuperset(usage)):
        return False
    return not _is_translated(usage)


@lru_cache(maxsize=128)
def _said_beside(model: Any, tier: Any, *reasons: Any) -> tuple[Any, ...]:
    """Return all of an answer but its usage, as the words beside that say: they are mostly the same few."""
    model, tier = _once(_text(model)), _once(_text(tier))
    is_cut = not CUT.isdisjoint(map(_text, reasons))
    answer = Answer(model=model or None, terms=terms_of_tier(tier) if tier else NO_TERMS, is_cut=is_cut)
    return answer[1:]


def settle_reported(call: Call, reported: Any, told: Mapping[str, Any], *, is_whole: bool) -> None:
    """Charge a call whose answer came and could not be used with what is known of its usage.

    Args:
        call: The call.
        reported: The usage, in LangChain's words or in a provider's.
        told: What the answer says beside it.
        is_whole: Whether it was not cut short, unless it says so itself.
    """
    reading = Reading()
    reading.add_usage(reported)
    reading.name(tier=_tier_in(reported))
    _add_told(reading, told)
    _settle(call, reading, told, str, is_whole=is_whole)


def _settle(
    call: Call,
    reading: Reading,
    told: Mapping[str, Any],
    said: Any,
    *,
    is_whole: bool = True,
    response: Any = None,
) -> bool:
    states = call.request.provider != "litellm"  # which puts a sum of its own there
    answer = reading.answer(is_from_provider=states, computed_cost=told.get("response_cost"))
    return settling.settle(call, answer, said, is_whole=is_whole, response=response)


def _add_details(reading: Reading, holder: Any, reported: Any) -> bool:
    """Read the same usage as the provider has told it, if that says any more; tells whether there is one."""
    if not isinstance(holder, dict):
        return False
    told = [usage for name in _USAGES if (usage := holder.get(name)) is not None and usage is not reported]
    for usage in told:
        if not (reading.has_usage and _is_translated(usage)):
            reading.add_details(usage)
    return bool(told)


def _is_translated(usage: Any) -> bool:
    """Tell a provider's usage of which LangChain's says as much."""
    if type(usage) is not dict or not _TRANSLATED.issuperset(usage):
        return False
    sent, made = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    if sent not in _NO_INPUT_PARTS and not _has_usual_parts(sent):
        return False
    return made in _NO_OUTPUT_PARTS or _has_usual_parts(made)


def _has_usual_parts(details: Any) -> bool:
    if not details:
        return True
    return type(details) is dict and {name for name, count in details.items() if count} <= _USUAL_PARTS


def _add_told(reading: Reading, told: Mapping[str, Any]) -> None:
    """Read what a message says of itself beside its usage."""
    if not told:
        return
    reading.add_beside(told.get)
    model = _text(told.get("model_name")) or _text(told.get("model"))
    reading.name(model=_once(model), tier=_once(_text(told.get("service_tier"))) or None)
    if not _OF_SEARCHES.isdisjoint(told):
        size = _once(_text(told.get("search_context_size")))
        reading.add_details(
            {"num_search_queries": told.get("num_search_queries"), "search_context_size": size or None}
        )
    if "grounding_metadata" in told:
        reading.add_grounding(told["grounding_metadata"])
    if not FIELDS.isdisjoint(told):
        reading.add_said({name: told[name] for name in FIELDS & told.keys()})


@lru_cache(maxsize=128)
def _once(word: str) -> str:
    """Return a word that each chunk of a stream has told, and LangChain has put behind one another."""
    if not word or len(word) > _LONGEST_WORD:
        return ""
    return word[: (word + word).find(word, 1)]


def report_of(result: LLMResult) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the usage that LangChain knows of a failed run, and what is said beside it."""
    answer = _first(result)
    told = _told(answer)
    if (reported := _reported(answer, result)) is not None:
        return reported, told
    body = _mapping(told.get("body"))
    return _mapping(body.get("usage")), body


def has_lost_its_usage(result: LLMResult) -> bool:
    """Tell an answer whose usage LangChain has put on the first one of its batch."""
    return _mapping(result.llm_output).get("token_usage") == {}


def _tier_in(reported: Any) -> str | None:
    """Name the service tier by which LangChain has renamed the details of a usage."""
    for name in _DETAILS:
        details = reported.get(name) if isinstance(reported, dict) else None
        for detail in details if isinstance(details, dict) else ():
            if isinstance(detail, str) and detail.startswith(TIERS):
                return detail.partition("_")[0]
    return None


def model_of(result: LLMResult) -> str | None:
    """Name the model that has answered."""
    told, output = _told(_first(result)), _mapping(result.llm_output)
    return (
        _text(told.get("model_name")) or _text(told.get("model")) or _text(output.get("model_name")) or None
    )


def text_of(result: LLMResult) -> str:
    """Collect all that a complete answer says: text, reasoning, tool calls."""
    return "".join(part for answers in result.generations for answer in answers for part in _said(answer))


def text_of_chunk(chunk: Any) -> str:
    """Collect what one chunk of a stream adds to the answer."""
    return "".join(_said(chunk))


def text_of_event(event: Any) -> str:
    """Collect what one event of a `v3` stream adds to the answer."""
    if _mapping(event).get("event") != "content-block-delta":
        return ""
    delta = _mapping(_mapping(event).get("delta"))
    fields = _mapping(delta.get("fields"))
    return "".join(_text(holder.get(key)) for holder in (delta, fields) for key in _SAID)


_SAID = ("text", "reasoning", "args", "name")


def _said(answer: Any) -> Iterator[str]:
    message = getattr(answer, "message", None)
    if message is None:
        yield _text(getattr(answer, "text", None))
        return
    yield from _content(message.content)
    yield _text(message.additional_kwargs.get("reasoning_content"))
    for call in getattr(message, "tool_call_chunks", None) or getattr(message, "tool_calls", None) or ():
        yield _text(call.get("name"))
        yield call["args"] if isinstance(call.get("args"), str) else str(call.get("args") or "")


def _content(content: Any) -> Iterable[str]:
    if isinstance(content, str):
        yield content
        return
    for block in content if isinstance(content, list) else ():
        if isinstance(block, str):
            yield block
        else:
            yield from (_text(_mapping(block).get(key)) for key in ("text", "reasoning", "thinking"))


def _first(result: LLMResult) -> Any:
    """Return the first answer: each of several has the usage of all."""
    for answers in result.generations:
        for answer in answers:
            return answer
    return None


def _reported(answer: Any, result: LLMResult) -> Mapping[str, Any] | None:
    """Find the usage of a whole answer, or the mark of LangChain's cache."""
    usage = getattr(getattr(answer, "message", None), "usage_metadata", None)
    if isinstance(usage, dict) and usage:
        return usage
    output, told = _mapping(result.llm_output), _told(answer)
    candidates = [holder.get(name) for holder in (output, told) for name in _USAGES]
    says = (found for found in (*candidates, told) if isinstance(found, dict) and read_usage(found))
    return next(says, None)


def _told(answer: Any) -> Mapping[str, Any]:
    """Return what a message, or a completion, says about itself."""
    message = getattr(answer, "message", None)
    if message is not None:
        return _mapping(getattr(message, "response_metadata", None))
    return _mapping(getattr(answer, "generation_info", None))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NO_DETAILS


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
