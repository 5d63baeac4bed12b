"""The parts of a ledger's URL, and how it is shown."""

from __future__ import annotations

import math
import re
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

_SECRET = re.compile(r"pass|pwd|secret|token|key(?!file)|auth", re.IGNORECASE)
_ONE_SLASH = re.compile(r"sqlite:/(?!/)", re.IGNORECASE)
"""Behind one slash a path is absolute to some readers of URLs, and relative to others, as behind three."""


def redacted(url: str) -> str:
    """Return a URL without its password.

    Example:
        >>> redacted("redis://me:secret@host/0?ssl_password=x")
        'redis://me:***@host/0?ssl_password=***'
    """
    before, at, after = url.rpartition("@")
    if at:
        scheme, slashes, user = before.partition("://" if "://" in before else ":")
        name, colon, _ = user.partition(":")
        shown = f"{name}{colon and ':***'}" if slashes == "://" else "***"
        url = f"{scheme}{slashes}{shown}@{after}"
    start, mark, query = url.partition("?")
    options = [(name, "***" if _SECRET.search(name) else value) for name, value in parse_qsl(query)]
    return start + mark + urlencode(options, safe="*/:")


def seconds(text: str, url: str) -> float:
    """Read `timeout_s`.

    Raises:
        ValueError: It is not a positive number.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"timeout_s of {redacted(url)!r} must be a positive number of seconds, not {text!r}")
    return number


def file_of(url: str) -> str:
    """Return the file that a `sqlite:` URL names.

    Raises:
        ValueError: It names none.
    """
    parts = urlsplit(url)
    path = unquote(parts.path[1:])
    if path and _ONE_SLASH.match(url):
        relative, absolute = (redacted(f"sqlite:{slashes}{parts.path[1:]}") for slashes in ("///", "////"))
        raise ValueError(
            f"{redacted(url)!r} has one slash: say {relative} for a file in the working directory,"
            f" {absolute} for an absolute path"
        )
    if parts.netloc or not parts.path.startswith("/") or path in ("", ":memory:"):
        raise ValueError(
            f"{redacted(url)!r} names no file: say sqlite:///relative.db or sqlite:////absolute/path.db,"
            " or memory: for a ledger that is not kept"
        )
    return path


def with_options(url: str, options: dict[str, str]) -> str:
    """Return a URL with other options."""
    return urlunsplit((*urlsplit(url)[:3], urlencode(options), ""))


def check_address(url: str) -> None:
    """Refuse what names no server.

    Raises:
        ValueError: It names no host, or its port or database is not a number.
    """
    parts = urlsplit(url)
    shown = redacted(url)
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(f"{shown!r}: write the special characters of its user and password as %40, %2F, ...")
    if not parts.hostname:
        raise ValueError(f"{shown!r} names no host: say redis://host:6379/0")
    try:
        parts.port  # noqa: B018 - it is read here
    except ValueError:
        raise ValueError(f"the port of {shown!r} must be a number from 0 to 65535") from None
    if parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        raise ValueError(f"{shown!r} names no database: use a number, as in redis://host:6379/0")


def options_of(url: str, *, known: set[str], prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    """Read what stands behind the `?`.

    Raises:
        ValueError: An option is unknown.
    """
    options = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    for name in options:
        if name not in known and not name.startswith(prefixes or ("\0",)):
            raise ValueError(
                f"{redacted(url)!r} has an unknown option {name!r}; there are {', '.join(sorted(known))}"
            )
    return options
