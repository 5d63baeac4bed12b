"""The seams of other packages: clients of HTTP, prices, counting, notebooks; and of Python itself."""

from __future__ import annotations

from .seams import Seam, has, takes

_NOT_NAMED = "requests to a proxy do not say in which step they are made, and its refusals are its own errors"


def _send(package: str, client: str, kind: str) -> Seam:
    return Seam(
        package=package,
        place=f"{package}:{client}.send",
        shape=takes("request"),
        purpose="names the step on each request to the proxy of install(proxy_url=...)",
        lost=f"through {package}'s {kind} clients, {_NOT_NAMED}",
        cure="send steptrack_callbacks.litellm_proxy.headers() with each request",
    )


SENDS = {
    package: {
        "Client": _send(package, "Client", "sync"),
        "AsyncClient": _send(package, "AsyncClient", "async"),
    }
    for package in ("httpx", "httpx2")
}
"""The clients of HTTP, by package and class; the OpenAI client 3 sends through the second."""

GENAI_SNAPSHOT = Seam(
    package="genai_prices",
    place="genai_prices.data_snapshot:get_snapshot",
    purpose="prices models that LiteLLM's table does not list",
    lost="models that only genai-prices knows have no price",
    cure="name their prices in install(prices=...)",
)
GENAI_FIND = Seam(
    package="genai_prices",
    place="genai_prices.data_snapshot:DataSnapshot.find_provider_model",
    shape=takes("model_ref", "provider", "provider_id", "provider_api_url"),
    purpose="finds a model under the name of its provider",
    lost="models that only genai-prices knows have no price",
    cure="name their prices in install(prices=...)",
)
GENAI_RATES = Seam(
    package="genai_prices",
    place="genai_prices.types:ModelInfo.get_prices",
    shape=takes("request_timestamp", "price_context"),
    purpose="has the rates of a model as they are today",
    lost="models that only genai-prices knows have no price",
    cure="name their prices in install(prices=...)",
)
TIKTOKEN = Seam(
    package="tiktoken",
    place="tiktoken:Encoding",
    shape=takes("name", "pat_str", "mergeable_ranks", "special_tokens"),
    purpose="counts tokens with the encodings in LiteLLM's wheel",
    lost="tokens are bounded by bytes where nobody reports them",
)
SHELL = Seam(
    package="IPython",
    place="IPython.core.interactiveshell:InteractiveShell",
    shape=has("register_magic_function", "input_transformers_cleanup", "ast_transformers", "run_cell"),
    purpose="lets %%step put a cell into a step",
    lost="%%step cannot be used in notebooks",
    cure="write `with step(...):` in the cell",
)

SEAMS: tuple[Seam, ...] = (
    *SENDS["httpx"].values(),
    *SENDS["httpx2"].values(),
    GENAI_SNAPSHOT,
    GENAI_FIND,
    GENAI_RATES,
    TIKTOKEN,
    SHELL,
)
