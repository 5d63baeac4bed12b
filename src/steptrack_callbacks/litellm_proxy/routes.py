"""The proxy's routes of ours: a run's tree, and the end of a step."""

from __future__ import annotations

import asyncio
from inspect import signature
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request

from steptrack_callbacks.values.errors import LedgerError

from .accounts import Accounts
from .identity import MalformedIdentity, checked_path, checked_run, key_of
from .refusals import malformed, refusal
from .runs import close_step, members_of, tree_of

PREFIX = "/steptrack"
_ANY_KEY_MAY = "/v1/models"
"""A route that every key of the proxy may use; who may use it may see its own runs."""


async def key_from(request: Request) -> str:
    """Authenticate a request as the proxy does, and return the digest of its key.

    Raises:
        ProxyException: The key is missing or wrong.
    """
    from litellm.proxy.auth.user_api_key_auth import user_api_key_auth  # noqa: PLC0415 - as the proxy has it now

    asked = Request(
        {**request.scope, "path": _ANY_KEY_MAY, "raw_path": _ANY_KEY_MAY.encode()}, request.receive
    )
    token = request.headers.get("authorization") or request.headers.get("x-api-key") or ""
    if not token and await _needs_key():
        raise HTTPException(401, detail={"error": {"message": "send the proxy's key as a bearer token"}})
    others = dict.fromkeys(signature(user_api_key_auth).parameters)  # headers of other APIs: none was sent
    named = {"api_key": token, "custom_litellm_key_header": request.headers.get("x-litellm-api-key")}
    headers: dict[str, Any] = {**others, **named}
    del headers["request"]
    return key_of(await user_api_key_auth(asked, **headers))


Key = Annotated[str, Depends(key_from)]


async def _needs_key() -> bool:
    from litellm.proxy import proxy_server  # noqa: PLC0415 - as the proxy has it now

    return proxy_server.master_key is not None or proxy_server.user_custom_auth is not None


def add_routes(app: FastAPI, accounts: Accounts) -> None:
    """Give the proxy our routes."""
    router = APIRouter(prefix=PREFIX, tags=["steptrack"])
    store = accounts.ledger.store

    @router.get("/runs/{asked:path}")  # noqa: FAST003 - it is read as it was sent
    async def show_run(request: Request, key: Key) -> dict[str, Any]:
        run = _checked(checked_run, unquote(_asked(request)))
        prefix = accounts.prefix(key, run)
        members = await _trip(members_of, store, accounts.group(key), prefix)
        if not members:
            raise HTTPException(404, detail={"error": {"message": f"this key has no run {run!r}"}})
        return tree_of(run, members, accounts.ttl_s)

    @router.post("/runs/{asked:path}/close")  # noqa: FAST003 - the same
    async def end_step(request: Request, key: Key) -> dict[str, Any]:
        named, _, step = _asked(request).removesuffix("/close").partition("/steps/")
        run = _checked(checked_run, unquote(named))
        path = "/".join(_checked(checked_path, unquote(step)))
        prefix = accounts.prefix(key, run)
        closed = await _trip(close_step, store, accounts.group(key), prefix, path)
        return {"run": run, "closed": closed}

    app.include_router(router)


def _asked(request: Request) -> str:
    """Return what follows `/runs/` as it was sent: a `/` within a run is escaped there."""
    sent: bytes = request.scope["raw_path"]
    return sent.decode("ascii", "replace").partition(f"{PREFIX}/runs/")[2]


def _checked(check: Any, value: str) -> Any:
    try:
        return check(value)
    except MalformedIdentity as error:
        raise malformed(error) from None


async def _trip(function: Any, *arguments: Any) -> Any:
    try:
        return await asyncio.to_thread(function, *arguments)
    except LedgerError as error:
        raise refusal(error) from error
