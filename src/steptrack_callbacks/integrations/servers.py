"""Whose server answers at an address: the clients of some providers talk to anybody's."""

from __future__ import annotations

from urllib.parse import urlsplit

_SERVERS = {
    "ai-gateway.vercel.sh": "vercel_ai_gateway",
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.deepinfra.com": "deepinfra",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks_ai",
    "api.groq.com": "groq",
    "api.hyperbolic.xyz": "hyperbolic",
    "api.inceptionlabs.ai": "inception",
    "api.inference.crusoecloud.com": "crusoe",
    "api.inference.wandb.ai": "wandb",
    "api.lambda.ai": "lambda_ai",
    "api.minimax.io": "minimax",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshot",
    "api.moonshot.cn": "moonshot",
    "api.novita.ai": "novita",
    "api.studio.nebius.ai": "nebius",
    "api.perplexity.ai": "perplexity",
    "api.sambanova.ai": "sambanova",
    "api.together.ai": "together_ai",
    "api.together.xyz": "together_ai",
    "api.x.ai": "xai",
    "api.z.ai": "zai",
    "dashscope-intl.aliyuncs.com": "dashscope",
    "dashscope.aliyuncs.com": "dashscope",
    "generativelanguage.googleapis.com": "gemini",
    "inference.api.nscale.com": "nscale",
    "integrate.api.nvidia.com": "nvidia_nim",
    "llm.chutes.ai": "chutes",
    "openrouter.ai": "openrouter",
    "router.huggingface.co": "huggingface",
}
_AMAZON = ("bedrock-mantle.", "bedrock-runtime.")


def server_at(address: object) -> str | None:
    """Name the provider whose public server is at an address; `None` if that says nothing.

    Example:
        >>> server_at("https://api.groq.com/openai/v1"), server_at("http://localhost:8000/v1")
        ('groq', None)
    """
    if not isinstance(address, str):
        return None
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return None
    return "bedrock" if host.startswith(_AMAZON) else _SERVERS.get(host)
