"""What a request asks for that changes its price, whichever package sends it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from steptrack_callbacks.values.untrusted import field

_REGIONS = ("vertex_location", "vertex_ai_location", "aws_region_name", "region_name", "inference_geo")
_BASES = ("api_base", "base_url", "openai_api_base")
_RESIDENCIES = {"eu.api.openai.com": "eu", "us.api.openai.com": "us", "gov.api.openai.com": "fedramp"}
_MEDIA = ("audio", "image", "video")
_NAMES_OF_MEDIA = ("type", "mime_type", "media_type", "mimeType")
_CONFIGS = ("config", "generation_config", "generationConfig")
_MODALITIES = ("modalities", "response_modalities", "responseModalities")
_KEPT = {"1h": "cache_write_1h", "12h": "cache_write_12h"}
_MARKED = ("tools", "system", "extra_body", "model_kwargs")
_DEEPEST = 12
PLACES = frozenset({*_REGIONS, *_BASES})
"""Options that say where a model is served."""
PRICED = PLACES | {"speed", "web_search_options", "tools"}
"""Options that may change the price of a request."""
READ = PRICED | {*_CONFIGS, *_MODALITIES, *_MARKED, "cache_control"}
"""Options that are read here."""


def terms_asked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a request asks for beside its service tier; names are those of `Request`.

    Example:
        >>> terms_asked({"speed": "fast", "web_search_options": {"search_context_size": "low"}})
        {'speed': 'fast', 'search_context_size': 'low'}
    """
    if PRICED.isdisjoint(options):
        return {}
    found = {
        "speed": options.get("speed"),
        "region": _region(options),
        "search_context_size": _search_context_size(options),
    }
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def _region(options: Mapping[str, Any]) -> object:
    for name in _REGIONS:
        if options.get(name):
            return options[name]
    bases = (options.get(name) for name in _BASES)
    return next((_residency(base) for base in bases if isinstance(base, str)), None)


def _residency(base: str) -> str | None:
    try:
        return _RESIDENCIES.get(urlsplit(base).hostname or "")
    except ValueError:
        return None


def _search_context_size(options: Mapping[str, Any]) -> object:
    tools = options.get("tools")
    for holder in (options.get("web_search_options"), *(tools if isinstance(tools, list) else ())):
        if isinstance(holder, Mapping) and holder.get("search_context_size"):
            return holder["search_context_size"]
    return None


def kinds_in(content: Any, options: Mapping[str, Any]) -> frozenset[str]:
    """List the kinds of tokens that a request may send or ask for beside text.

    Nobody needs it but where a limit has to hold against the dearest of them.
    """
    return frozenset(
        (*_sent(content, 0), *_sent([options.get(name) for name in _MARKED], 0), *_made(options))
    )


def _sent(part: Any, depth: int) -> Iterator[str]:
    """Find media, and how long a cache shall keep it, wherever in a message they stand."""
    if depth > _DEEPEST or isinstance(part, str):
        return
    if isinstance(part, list | tuple):
        for each in part:
            yield from _sent(each, depth + 1)
    elif isinstance(part, Mapping):
        yield from _in_block(part)
        for each in part.values():
            yield from _sent(each, depth + 1)
    elif hasattr(part, "content"):  # a message of LangChain's
        yield from _sent(part.content, depth + 1)
        yield from _sent(getattr(part, "additional_kwargs", None), depth + 1)


def _in_block(block: Mapping[Any, Any]) -> Iterator[str]:
    named = " ".join(str(block.get(name)) for name in _NAMES_OF_MEDIA)
    yield from (f"input_{medium}" for medium in _MEDIA if medium in named)
    yield from _kept(block.get("cache_control"))


def _kept(control: object) -> Iterator[str]:
    """Tell for how long a cache shall keep something; what is not marked for hours is kept for minutes."""
    if isinstance(control, Mapping):
        yield _KEPT.get(str(control.get("ttl")), "cache_write")


def _made(options: Mapping[str, Any]) -> Iterator[str]:
    holders = (options, *map(options.get, _CONFIGS))
    asked = [field(holder, name) for holder in holders for name in _MODALITIES]
    wanted = str([each for each in asked if isinstance(each, list | tuple)]).lower()
    yield from (f"output_{medium}" for medium in _MEDIA if medium in wanted)
    yield from _kept(options.get("cache_control"))
