"""The seams of LiteLLM: its SDK, and its proxy."""

from __future__ import annotations

from .seams import Seam, all_of, has, is_a, ships, takes

_CALL_BY_OTHERS = "call another entry point of litellm, or a tested version of it ({tested})"

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "completion": ("model", "messages", "stream"),
    "acompletion": ("model", "messages", "stream"),
    "text_completion": ("model", "prompt", "stream"),
    "atext_completion": (),
    "embedding": ("model", "input"),
    "aembedding": (),
    "responses": ("model", "input", "stream"),
    "aresponses": ("model", "input", "stream"),
    "anthropic.messages.create": (),
    "anthropic.messages.acreate": (),
    "image_generation": ("model", "prompt"),
    "aimage_generation": (),
    "speech": ("model", "input"),
    "aspeech": ("model", "input"),
    "transcription": ("model", "file"),
    "atranscription": (),
    "moderation": ("model", "input"),
    "amoderation": ("model", "input"),
    "rerank": ("model", "query"),
    "arerank": ("model", "query"),
}
"""Of functions that take anything, none is listed."""

ENTRY_POINTS: dict[str, Seam] = {
    name: Seam(
        package="litellm",
        place=f"litellm:{name}",
        shape=takes(*parameters),
        purpose=f"admits and charges calls of litellm.{name}",
        lost=f"calls through litellm.{name} are neither refused beforehand nor charged as they return",
        cure=_CALL_BY_OTHERS,
        is_gate=True,
    )
    for name, parameters in _PARAMETERS.items()
}
"""The public functions that are put inside of ours, by name: those that every tested version has."""

RULES = Seam(
    package="litellm",
    place="litellm:pre_call_rules",
    shape=is_a(list),
    purpose="refuses calls that reach LiteLLM past its entry points",
    lost="calls of functions that were imported by name before install() are not refused",
    cure="call install() first, or call litellm.completion as an attribute of litellm",
    is_gate=True,
)
SET_UP = Seam(
    package="litellm",
    place="litellm.utils:function_setup",
    shape=takes("original_function", "rules_obj", "start_time"),
    purpose="is where LiteLLM sets up each call, whoever holds the function: the gate of sync functions that"
    " were imported by name before install()",
    lost="sync calls of functions that were imported by name before install() reserve no room, and but for"
    " chats are not refused",
    cure="call install() first, or call litellm.completion as an attribute of litellm",
)
CALLBACKS = Seam(
    package="litellm",
    place="litellm:callbacks",
    shape=is_a(list),
    purpose="hears of calls that reach LiteLLM past its entry points",
    lost="images, speech, reranking and functions that were imported by name are not charged",
)
LOGGER = Seam(
    package="litellm",
    place="litellm.integrations.custom_logger:CustomLogger",
    shape=has(
        "log_pre_api_call",
        "log_success_event",
        "log_failure_event",
        "async_log_success_event",
        "async_log_failure_event",
        "async_pre_call_deployment_hook",
    ),
    purpose="is the class of callbacks that LiteLLM tells of calls",
    lost="images, speech, reranking and functions that were imported by name are not charged, and a call that"
    " fails counts as sent, whether it was or not",
)
DETAILS = Seam(
    package="litellm",
    place="litellm.litellm_core_utils.litellm_logging:Logging",
    shape=has("model_call_details", "pre_call"),
    purpose="is LiteLLM's own account of a call, in which ours is found again",
    lost="calls past the entry points are charged to the step that is active when LiteLLM reports them",
)
GUARDRAIL = Seam(
    package="litellm",
    place="litellm.exceptions:GuardrailRaisedException",
    shape=is_a(Exception),
    purpose="is the kind of error that LiteLLM neither retries, cools down for, nor falls back on",
    lost="LiteLLM retries refusals, and its Router cools deployments down for them",
    cure="set num_retries=0 and no fallbacks in steps with limits, or take a tested version ({tested})",
)
RUNS_COROUTINES = Seam(
    package="litellm",
    place="litellm.litellm_core_utils.asyncify:run_async_function",
    shape=takes("async_function"),
    purpose="carries the caller's steps into the event loop of a sync Router call",
    lost="sync calls of a Router, and with fallbacks=, find no step where an event loop is running already",
    cure="use the Router's async functions on an event loop",
)
RUNS_BATCHES = Seam(
    package="litellm",
    place="litellm.batch_completion.main:ThreadPoolExecutor",
    purpose="carries the caller's steps into the threads of litellm.batch_completion",
    lost="the calls of litellm.batch_completion find no step, unless install(threads=True) carries it",
    cure="install(threads=True), or call litellm.completion once for each",
)
CUSTOM_PROVIDERS = Seam(
    package="litellm",
    place="litellm.main:custom_chat_llm_router",
    shape=takes("async_fn"),
    purpose="sees what providers of your own (CustomLLM) send, of which LiteLLM tells nobody",
    lost="an answer of a provider of your own that calls LiteLLM itself may be charged twice, and one that"
    " fails is not charged",
)
STREAM = Seam(
    package="litellm",
    place="litellm:CustomStreamWrapper",
    shape=has("completion_stream", "chunks", "send_stream_usage", "stream_options", "__next__", "__anext__"),
    purpose="is LiteLLM's stream: its chunks hold the usage, and under it is the connection",
    lost="usage that LiteLLM keeps to itself is estimated, and a stream that is left early may go on at the"
    " provider",
)
RESPONSES_STREAM = Seam(
    package="litellm",
    place="litellm.responses.streaming_iterator:BaseResponsesAPIStreamingIterator",
    shape=has("logging_obj", "response"),
    purpose="is what LiteLLM's streams of the responses API are derived from",
    lost="streams of litellm.responses, if it was imported by name before install(), are not cut at a limit",
    cure="call install() first, or call litellm.responses as an attribute of litellm",
)
COUNTS_TOKENS = Seam(
    package="litellm",
    place="litellm:cost_per_token",
    shape=takes("model", "custom_llm_provider", "usage_object", "service_tier"),
    purpose="prices models whose entries have rates that are not known here",
    lost="models with unusual rates have no price",
    cure="name their prices in install(prices=...)",
)
USAGE = Seam(
    package="litellm",
    place="litellm.types.utils:Usage",
    purpose="says to litellm.cost_per_token what was used",
    lost="models with unusual rates have no price",
    cure="name their prices in install(prices=...)",
)
PRICES = Seam(
    package="litellm",
    place="litellm:model_cost",
    shape=is_a(dict),
    purpose="is the price table, with what was registered in it",
    lost="prices that were registered with LiteLLM are not seen",
    cure="name them in install(prices=...)",
)
FILES = Seam(
    package="litellm",
    place="litellm:__path__",
    shape=ships(
        "model_prices_and_context_window_backup.json",
        "litellm_core_utils/tokenizers/9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "litellm_core_utils/tokenizers/fb374d419588a4632f3f557e76b4b70aebbca790",
    ),
    purpose="has the price table and the encodings of OpenAI's models as files, which are read without"
    " importing LiteLLM",
    lost="models have no price where LiteLLM is not imported, or tokens that nobody reports are bounded by"
    " bytes",
    cure="import litellm, or name prices in install(prices=...)",
)
GIVEN_RATES = Seam(
    package="litellm",
    place="litellm.types.utils:CustomPricingLiteLLMParams",
    purpose="lists the rates that LiteLLM takes with a call, which no client of its proxy may set",
    lost="of rates that are given with a call only those of plain input and output count",
    cure="name them in install(prices=...), or in the model_info of a Router's deployment",
)
MODEL_FALLBACKS = Seam(
    package="litellm",
    place="litellm:model_fallbacks",
    purpose="says whether each call may try several models",
    lost="with litellm.model_fallbacks, several attempts count as one call",
    cure="give fallbacks= with each call",
)


def _of_router(place: str, *parameters: str) -> Seam:
    return Seam(
        package="litellm",
        place=place,
        shape=takes(*parameters),
        purpose="asks a Router for the next group of a step's models, as the Router falls back on one itself",
        lost="a Router's groups in step(models=[...]) do not go on to the next model at a limit",
        cure="name the models of its deployments in step(models=[...]), or take a tested version ({tested})",
    )


ROUTES = _of_router("litellm.router:Router.async_function_with_fallbacks")
"""The one way that all requests took before the Router got its Rust core; not looked for after that."""
ROUTER_ENDPOINTS: dict[str, Seam] = {
    name: _of_router(f"litellm:Router.{name}", "model")
    for name in ("completion", "acompletion", "text_completion", "atext_completion")
}
"""The Router's own functions, by name, which every version has on its class."""

PROXY_SERVER = Seam(
    package="litellm",
    place="litellm.proxy.proxy_server",
    shape=has("app", "llm_router", "master_key", "user_custom_auth"),
    purpose="is the running proxy: its routes, its Router and how it authenticates",
    lost="the proxy's handler cannot start",
)
PROXY_ERRORS = Seam(
    package="litellm",
    place="litellm.proxy._types:ProxyException",
    shape=all_of(is_a(Exception), takes("message", "type", "param", "code", "headers")),
    purpose="gives clients of the proxy a refusal with its fields",
    lost="the proxy's handler cannot start",
)
PROXY_AUTH = Seam(
    package="litellm",
    place="litellm.proxy.auth.user_api_key_auth:user_api_key_auth",
    shape=takes("request", "api_key"),
    purpose="authenticates who asks the proxy for the state of a step",
    lost="the proxy's own pages of steps cannot be asked",
)
PROXY_PARTIAL_BILL = Seam(
    package="litellm",
    place="litellm.proxy.common_request_processing:_bill_partial_streamed_spend_on_disconnect",
    purpose="tells LiteLLM's own books of a stream that its client has left",
    lost="LiteLLM's own spend logs miss streams that were left early; ours do not",
)

PROXY_MODEL_ACCESS = Seam(
    package="litellm",
    place="litellm.proxy.auth.auth_checks:can_key_call_resolved_model",
    shape=takes("model", "llm_model_list", "valid_token", "llm_router"),
    purpose="tells whether a key may call the next model of a step's list",
    lost="requests at a limit are refused where they would go on with the next model of [steps.NAME] models",
)

PROXY = (PROXY_SERVER, PROXY_ERRORS, PROXY_AUTH, PROXY_PARTIAL_BILL, PROXY_MODEL_ACCESS)
"""Those of the proxy; looked at where the proxy runs."""

SEAMS: tuple[Seam, ...] = (
    *ENTRY_POINTS.values(),
    RULES,
    SET_UP,
    CALLBACKS,
    LOGGER,
    DETAILS,
    GUARDRAIL,
    RUNS_COROUTINES,
    RUNS_BATCHES,
    CUSTOM_PROVIDERS,
    STREAM,
    RESPONSES_STREAM,
    COUNTS_TOKENS,
    USAGE,
    PRICES,
    FILES,
    GIVEN_RATES,
    MODEL_FALLBACKS,
    *ROUTER_ENDPOINTS.values(),
)
