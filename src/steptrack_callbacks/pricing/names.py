"""Whose price a model name asks for: providers by their many names, models by their spellings."""

from __future__ import annotations

import re
from collections.abc import Iterator

_ALIASES = {
    "alibaba": "dashscope",
    "amazon": "bedrock",
    "amazon_bedrock": "bedrock",
    "anthropic_bedrock": "bedrock",
    "aws": "bedrock",
    "aws_bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "azure_openai": "azure",
    "azure_text": "azure",
    "cohere_chat": "cohere",
    "fireworks": "fireworks_ai",
    "gcp": "vertex_ai",
    "google": "gemini",
    "google_ai_studio": "gemini",
    "google_anthropic_vertex": "vertex_ai",
    "google_genai": "gemini",
    "google_gla": "gemini",
    "google_vertex": "vertex_ai",
    "google_vertexai": "vertex_ai",
    "grok": "xai",
    "ibm": "watsonx",
    "mistralai": "mistral",
    "moonshotai": "moonshot",
    "nvidia": "nvidia_nim",
    "nvidia_ai_endpoints": "nvidia_nim",
    "oracle": "oci",
    "qwen": "dashscope",
    "text_completion_codestral": "codestral",
    "text_completion_inception": "inception",
    "text_completion_openai": "openai",
    "together": "together_ai",
    "togetherai": "together_ai",
    "vercel": "vercel_ai_gateway",
    "vertex": "vertex_ai",
    "vertexai": "vertex_ai",
    "voyageai": "voyage",
    "watsonx_text": "watsonx",
    "x_ai": "xai",
    "workers_ai": "cloudflare",
    "z_ai": "zai",
    "zhipu": "zhipuai",
}
_FAMILIES = ("fireworks_ai", "vertex_ai")  # LiteLLM splits these: "vertex_ai-llama_models"

GATEWAYS = frozenset({"gateway", "github", "github_models", "litellm", "litellm_proxy", "nadir"})
"""Vendors that pass a call on: what it costs is what the model's own maker takes."""

MAKERS = (
    "openai",
    "anthropic",
    "gemini",
    "mistral",
    "cohere",
    "deepseek",
    "xai",
    "moonshot",
    "zai",
    "minimax",
    "perplexity",
    "ai21",
    "voyage",
)
"""Companies that sell models of their own, asked in this order when only a model is named."""

_TELLTALES = {"accounts/fireworks/": "fireworks_ai", "@cf/": "cloudflare"}
"""Model names that begin so are one vendor's alone, and the beginning is part of them."""

_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_FINE_TUNE = re.compile(r"(:[^:]*){3}$")
_VERSION = re.compile(r"-\d+$")
_BEDROCK_ROUTE = re.compile(r"^(?:bedrock|converse|invoke|chat_completions|mantle|openai|nova-2|nova)/")
_BEDROCK_REGION = re.compile(r"^(?:[a-z-]+-\d+/|(?:us|eu|apac|ap|au|jp|ca|sa|me|af|global|us-gov)\.)")
_BEDROCK_THROUGHPUT = re.compile(r"(:\d+):[0-9a-z]+k$")


def canonical(provider: str) -> str:
    """Give a provider the one name that LiteLLM's table has for it.

    Example:
        >>> canonical("Google-GenAI"), canonical("bedrock_converse"), canonical("my-host")
        ('gemini', 'bedrock', 'my_host')
    """
    name = provider.strip().lower().replace("-", "_").replace(" ", "_").replace(".", "_")
    for family in _FAMILIES:
        if name.startswith(family):
            return family
    return _ALIASES.get(name, name)


def accepts(provider: str, owner: object) -> bool:
    """Tell whether a price of `owner` may be used for a call to `provider`, both as LiteLLM spells them.

    An owner of `None` is a price without a provider, which LiteLLM lets anybody use; a provider of
    `""` is one that nobody named. As in LiteLLM, the doors of Bedrock share prices, and Azure AI
    borrows what Azure and OpenAI list.
    """
    if not isinstance(owner, str) or not provider:
        return owner is None or not provider
    name = canonical(owner)
    if provider == "azure_ai" and name in {"azure", "openai"}:
        return True
    return name == provider or (name.startswith("bedrock") and provider.startswith("bedrock"))


def split(model: str, provider: str | None) -> tuple[str | None, str]:
    """Separate who is called from what is asked for.

    Args:
        model: As the caller wrote it: `"gpt-4o"`, `"openai/gpt-4o"`, `"meta-llama/Llama-3.3-70B"`.
        provider: Who is called, by any name. `None`, or a gateway: the model's prefix says it.

    Returns:
        The canonical provider, `None` where nothing names one, and the model without it.
    """
    vendor = None if provider is None else canonical(provider)
    prefix, slash, rest = model.partition("/")
    if vendor is None or vendor in GATEWAYS:
        telltale = next((owner for start, owner in _TELLTALES.items() if model.startswith(start)), None)
        if telltale or not slash:
            return telltale, model
        vendor = canonical(prefix)
        return split(rest, None) if vendor in GATEWAYS else (vendor, rest)
    while model.startswith(f"{vendor}/"):
        model = model.removeprefix(f"{vendor}/")
    return vendor, model


def spellings(name: str, provider: str) -> Iterator[str]:
    """Yield the keys under which LiteLLM's table may have a provider's model, the likeliest first."""
    for variant in dict.fromkeys(_variants(name, provider)):
        yield f"{provider}/{variant}"
        yield variant
    dashed = provider.replace("_", "-")
    yield from (f"{dashed}/{name}", f"{provider}/{provider}/{name}")


def _variants(name: str, provider: str) -> Iterator[str]:
    yield name
    prefix, slash, rest = name.partition("/")
    if slash and canonical(prefix) == provider:  # "google/gemini-2.5-flash" asked of "google_genai"
        name = rest
        yield name
    if provider in {"gemini", "vertex_ai"}:
        yield from _google(name, provider)
    elif provider.startswith("bedrock"):
        yield from _bedrock(name)
    elif provider == "fireworks_ai":
        yield f"accounts/fireworks/models/{name}"
    elif provider == "databricks":
        yield _VERSION.sub("", name)
    yield _FINE_TUNE.sub("", name) if name.startswith("ft:") else _DATE.sub("", name)


def _google(name: str, provider: str) -> Iterator[str]:
    bare = name.removeprefix("models/").rpartition("publishers/")[2].rpartition("models/")[2]
    yield bare
    if provider == "vertex_ai":
        yield from (f"meta/{bare}", f"{bare}@latest", f"{bare}@default")
    yield _VERSION.sub("", bare)


def _bedrock(name: str) -> Iterator[str]:
    bare = _BEDROCK_ROUTE.sub("", name.rpartition("/")[2] if name.startswith("arn:") else name)
    yield bare
    bare = _BEDROCK_THROUGHPUT.sub(r"\1", bare)
    yield bare
    yield _BEDROCK_REGION.sub("", bare)
    yield f"bedrock_mantle/{bare}"
