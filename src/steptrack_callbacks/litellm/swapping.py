"""Calls of LiteLLM that go on with the next model of a step's list: here it is only carried out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any

from litellm.router import Router

from steptrack_callbacks.engine.call import Call
from steptrack_callbacks.engine.request import Request
from steptrack_callbacks.engine.swapping import Swap, Trial
from steptrack_callbacks.integrations.request_terms import PLACES
from steptrack_callbacks.integrations.seams_litellm import ROUTER_ENDPOINTS, ROUTES
from steptrack_callbacks.pricing import rates_in
from steptrack_callbacks.steps.trials import trial_of, tried, tried_async
from steptrack_callbacks.values.untrusted import field

from .call_types import CALL_TYPES, Kind
from .context_propagation import replace as put_in_place
from .requests import rate_names, request_of

HEADERS = {
    "asked": "x-steptrack-model-asked",
    "used": "x-steptrack-model-used",
    "why": "x-steptrack-swap-reason",
}
"""The headers that say with what a request was answered in place of what."""

_COMPARED_TOKENS = 1_000
_OFFERED = PLACES | {"model", "custom_llm_provider", "base_model"}


def with_models(request: Request, kind: Kind, arguments: Mapping[str, Any]) -> Request:
    """Let a request be made with another model, where that makes sense."""
    if kind != "embedding":  # one model's vectors say nothing to another's
        request.with_model = partial(_with, kind, arguments)
    return request


def _with(kind: Kind, arguments: Mapping[str, Any], model: str) -> Request:
    options = sent_with(kind, model, arguments)
    return with_models(request_of(kind, model, options.get(CALL_TYPES[kind].content), options), kind, options)


def sent_with(kind: Kind, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call with another model, without what was said of the price of the first."""
    of_asked = rate_names() | {"base_model", "model_info"}
    kept = {name: value for name, value in options.items() if name not in of_asked}
    return {**kept, CALL_TYPES[kind].model: model}


def tell(answer: Any, swap: Swap | None) -> None:
    """Say in the metadata of an answer which model it was made with, and why."""
    hidden = getattr(answer, "_hidden_params", None)
    if swap is None or hidden is None:
        return
    headers = field(hidden, "additional_headers")
    said = {
        "steptrack_swap": swap.to_dict(),
        "additional_headers": {**(headers if isinstance(headers, dict) else {}), **headers_of(swap)},
    }
    for name, value in said.items():
        if isinstance(hidden, dict):
            hidden[name] = value
        else:
            setattr(hidden, name, value)


def headers_of(swap: Swap) -> dict[str, str]:
    """Return the same as headers."""
    return {header: getattr(swap, name) for name, header in HEADERS.items()}


def swap_of(call: Call) -> Swap | None:
    """Return with what a call is made in place of what, if it is for its entry point to carry that out."""
    return None if call.swapping is None or call.swapping.is_by_framework else call.swapping.swap


# Routers have names of their own for models: groups of deployments


def offers_of(router: Any, group: str, team: str | None = None) -> list[dict[str, Any]]:
    """Return what a Router's group may be answered with: models, and what they cost."""
    return [offer_of(deployment) for deployment in deployments_of(router, group, team)]


def deployments_of(router: Any, group: str, team: str | None = None) -> Sequence[Mapping[str, Any]]:
    """Return the deployments of a Router's group."""
    if router is None:
        return ()
    if hasattr(router, "registry"):  # from 1.110 on; the other is deprecated then
        return router.registry().deployments(group, team_id=team) or ()
    return router.get_model_list(model_name=group, team_id=team) or ()


def offer_of(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a deployment what says whose model it is, where it is served, and what it costs."""
    params = dict(deployment.get("litellm_params") or {})
    offer = {name: params[name] for name in _OFFERED.intersection(params) if params[name] is not None}
    info = {name: value for name, value in (deployment.get("model_info") or {}).items() if value is not None}
    return {"model": "", **offer, **rates_in(params), "model_info": info}


def dearest(requests: list[Request]) -> Request | None:
    """Return the dearest of requests of known price; `None` if there is none."""
    priced = [request for request in requests if request.is_priced]
    return max(priced, key=_compared) if len(priced) > 1 else next(iter(priced), None)


def _compared(request: Request) -> int:
    return max(request.cost(_COMPARED_TOKENS, _COMPARED_TOKENS) or 0, request.fee.most)


def try_groups() -> Callable[[], None]:
    """Let Routers go on with the next group of a step's list, and return what undoes it."""
    if ROUTES.get() is not None:
        return put_in_place(ROUTES, _trying_groups)
    names = [name for name, seam in ROUTER_ENDPOINTS.items() if seam.get() is not None]
    names += [name for name in ("responses", "aresponses") if hasattr(Router, name)]
    replaced = [_replace_endpoint(name) for name in names]

    def undo() -> None:
        for put_back in replaced:
            put_back()

    return undo


def _replace_endpoint(name: str) -> Callable[[], None]:
    """Try groups in one function of all Routers; those of the Rust core are not in the class itself."""
    original, is_own = getattr(Router, name), name in vars(Router)
    made = _trying_groups(original)
    setattr(Router, name, made)

    def put_back() -> None:
        if getattr(Router, name, None) is not made:  # somebody may have replaced it once more
            return
        if is_own:
            setattr(Router, name, original)
        else:
            delattr(Router, name)

    return put_back


def _trying_groups(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def fall_back_async(router: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        trial = _trial(router, args, kwargs)
        if trial is None:
            return await function(router, *args, **kwargs)
        answer = await tried_async(trial, lambda name: _ask(partial(function, router), name, args, kwargs))
        tell(answer, trial.swap)
        return answer

    @wraps(function)
    def fall_back(router: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        trial = _trial(router, args, kwargs)
        if trial is None:
            return function(router, *args, **kwargs)
        answer = tried(trial, lambda name: _ask(partial(function, router), name, args, kwargs))
        tell(answer, trial.swap)
        return answer

    return fall_back_async if inspect.iscoroutinefunction(function) else fall_back


def _trial(router: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> Trial | None:
    group = args[0] if args else options.get("model")
    if not isinstance(group, str):
        return None
    return trial_of(group, partial(_in_group, router), is_about_all=True)


def _ask(function: Callable[..., Any], group: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """Ask a Router for a group, as it does itself when it falls back on one."""
    metadata = {
        name: {**options[name], "model_group": group}
        for name in ("metadata", "litellm_metadata")
        if isinstance(options.get(name), dict) and "model_group" in options[name]
    }
    if args:
        return function(group, *args[1:], **{**options, **metadata})
    return function(**{**options, **metadata, "model": group})


def _in_group(router: Any, request: Request, group: str) -> Request | str:
    """Describe a request as a Router's group may answer it."""
    offers = offers_of(router, group)
    if not offers:
        return "the Router has no group of that name"
    found = [
        replace(
            request,
            model=str(offer["model"]),
            provider=offer.get("custom_llm_provider"),
            base_model=offer.get("base_model") or offer["model_info"].get("base_model"),
            rates=rates_in(offer["model_info"], {name: offer[name] for name in offer.keys() & rate_names()})
            or None,
            called=group,
        )
        for offer in offers
    ]
    return dearest(found) or found[0]
