"""Who asks, and in which step: what a client claims, within the key that the proxy has authenticated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from steptrack_callbacks.integrations.proxy_client import MAX_USD, PERSONA, RUN, STEP
from steptrack_callbacks.values.money import decimal_of

from .naming import FIELDS, decoded

PREFIX = "x-steptrack-"
LONGEST_RUN = 256
LONGEST_PATH = 1_024
MOST_REMEMBERED = 2_000
"""Keys that need not be digested again, and identities that need not be checked again."""
DEFAULT_STEP = "run"
"""The step of requests that name a run only."""
_FIELD_OF = {header: field for field, header in FIELDS.items()}


class MalformedIdentity(ValueError):
    """A header or field says something that cannot be meant; the message names it and the fix.

    Attributes:
        field: Which one.
        why: What is wrong with it.
    """

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """In whose name a request is made.

    Attributes:
        key: A digest of the authenticated key, within which everything else is claimed.
        run: The run, or `None` for a request that names none: it is charged to budgets only.
        path: The step's path, outermost first, the persona's name among them; empty without a run.
        persona: The persona that the client says it is, or `None`.
        max_usd: A limit of the client's own on that step; it only lowers.
    """

    key: str
    run: str | None = None
    path: tuple[str, ...] = ()
    persona: str | None = None
    max_usd: Decimal | None = None


def key_of(user: Any) -> str:
    """Digest the key that a request came with, so that it stands in no ledger.

    Who comes with a JWT has no key, and is told apart by what the proxy has authenticated.
    """
    who = getattr(user, "api_key", None) or getattr(user, "token", None)
    if not who:
        names = [getattr(user, name, None) for name in ("org_id", "team_id", "user_id")]
        who = json.dumps(names) if any(names) else ""
    return _digest(str(who))


@lru_cache(maxsize=MOST_REMEMBERED)
def _digest(who: str) -> str:
    return hashlib.sha256(f"steptrack:{who}".encode()).hexdigest()[:16]


def identity_of(key: str, data: dict[str, Any]) -> Identity:
    """Read what a request says of itself; headers go before its body.

    Args:
        key: The digest of its key.
        data: The request; what is about us is taken out of its `metadata`, which goes to providers.

    Raises:
        MalformedIdentity: Something cannot be meant.
    """
    claims, claimed = _taken_out(data), _from_headers(data)
    if claims is not None:
        claimed = _from_body(claims) | claimed
    if "run" not in claimed and (session := _session_of(data)) is not None:
        claimed["run"] = session
    return _identity(key, **claimed)


@lru_cache(maxsize=MOST_REMEMBERED)
def _identity(
    key: str,
    run: str | None = None,
    step: str | None = None,
    persona: str | None = None,
    max_usd: str | None = None,
) -> Identity:
    """Check claims; those of a client's requests are mostly the same."""
    if run is None:
        for name, claim in (("step", step), ("persona", persona), ("max_usd", max_usd)):
            if claim is not None:
                raise MalformedIdentity(FIELDS[name], f"is about a run: send {RUN} with it")
        return Identity(key=key)
    return Identity(
        key=key,
        run=checked_run(run),
        path=_path(step, persona),
        persona=persona,
        max_usd=_amount(max_usd),
    )


def checked_run(run: str) -> str:
    """Return a run's name.

    Raises:
        MalformedIdentity: It cannot be one.
    """
    if not 0 < len(run.strip()) <= len(run) <= LONGEST_RUN or not run.isprintable():
        raise MalformedIdentity(
            RUN, f"must be 1 to {LONGEST_RUN} printable characters, not {run[:LONGEST_RUN]!r}"
        )
    return run


def checked_path(path: str) -> tuple[str, ...]:
    """Return the names in a path, outermost first.

    Raises:
        MalformedIdentity: It cannot be one.
    """
    names = tuple(path.split("/"))
    if len(path) > LONGEST_PATH or not path.isprintable() or not all(name.strip() for name in names):
        raise MalformedIdentity(
            STEP,
            f"must be names joined with '/', such as 'answer/write', of at most {LONGEST_PATH} characters,"
            f" not {path[:LONGEST_PATH]!r}",
        )
    return names


def _path(step: str | None, persona: str | None) -> tuple[str, ...]:
    """Put the persona around the step, unless the path names it already."""
    names = () if step is None else checked_path(step)
    if persona is None:
        return names or (DEFAULT_STEP,)
    return names if persona in names else (_checked_persona(persona), *names)


def _checked_persona(persona: str) -> str:
    if not persona.strip() or not persona.isprintable() or "/" in persona or len(persona) > LONGEST_PATH:
        raise MalformedIdentity(PERSONA, f"must be one name without '/', not {persona[:LONGEST_PATH]!r}")
    return persona


def _amount(claimed: str | None) -> Decimal | None:
    if claimed is None:
        return None
    try:
        return decimal_of(Decimal(claimed), MAX_USD)
    except (ArithmeticError, ValueError):
        raise MalformedIdentity(
            MAX_USD, f"must be US dollars, 0 or more, such as 0.05, not {claimed[:40]!r}"
        ) from None


def _from_headers(data: Mapping[str, Any]) -> dict[str, str]:
    sent = (data.get("proxy_server_request") or {}).get("headers") or {}
    claimed = {}
    for name, value in sent.items():
        header = str(name).lower()
        if not header.startswith(PREFIX):
            continue
        if header not in _FIELD_OF:
            raise MalformedIdentity(header, f"is not a known header{_meant(header)}")
        text = str(value)
        try:
            claimed[_FIELD_OF[header]] = decoded(text) if "%" in text else text
        except ValueError:
            raise MalformedIdentity(header, "must be percent-encoded UTF-8") from None
    return claimed


def _meant(header: str) -> str:
    endings = {known.removeprefix(PREFIX): known for known in FIELDS.values()}
    near = [endings[end] for end in get_close_matches(header[len(PREFIX) :][:40], endings, n=1)]
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(FIELDS.values())}"


def _from_body(claims: Any) -> dict[str, str]:
    if isinstance(claims, str):
        claims = _from_json(claims)
    if not isinstance(claims, dict) or not set(claims) <= set(FIELDS):
        raise MalformedIdentity(
            "metadata.steptrack", f"must be a table with {', '.join(FIELDS)} only, or such a table as JSON"
        )
    for field, value in claims.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float) if field == "max_usd" else str):
            raise MalformedIdentity(f"metadata.steptrack.{field}", f"must not be {value!r}")
    said = {field: str(value) for field, value in claims.items()}
    for field, value in said.items():
        with _about(f"metadata.steptrack.{field}"):
            _CHECKS[field](value)
    return said


_CHECKS: Mapping[str, Callable[[str], object]] = {
    "run": checked_run,
    "step": checked_path,
    "persona": _checked_persona,
    "max_usd": _amount,
}


@contextmanager
def _about(field: str) -> Iterator[None]:
    """Name the field of the body, rather than the header that means the same."""
    try:
        yield
    except MalformedIdentity as error:
        raise MalformedIdentity(field, error.why) from None


def _taken_out(data: dict[str, Any]) -> Any:
    claims = None
    for holder in (data.get("metadata"), data.get("litellm_metadata")):
        if isinstance(holder, dict) and "steptrack" in holder:
            claims = holder.pop("steptrack")
    return claims


def _from_json(claims: str) -> Any:
    try:
        return json.loads(claims)
    except (ValueError, RecursionError):
        return None


def _session_of(data: Mapping[str, Any]) -> str | None:
    """Take LiteLLM's own session for the run, or the trace that the client named."""
    body = (data.get("proxy_server_request") or {}).get("body") or {}
    found = data.get("litellm_session_id") or body.get("litellm_trace_id")
    return str(found)[:LONGEST_RUN] if found else None
