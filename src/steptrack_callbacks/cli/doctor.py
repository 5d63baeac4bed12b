"""`steptrack doctor`: what is installed, whether it is as known, and whether calls are held to limits."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import platform
import re
import sys
import warnings
from argparse import Namespace
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from steptrack_callbacks import __version__
from steptrack_callbacks.integrations import all_seams, versions

from .output import print_json, table

_ALSO = (
    "langchain-litellm",
    "langchain-anthropic",
    "anthropic",
    "httpx",
    "httpx2",
    "tiktoken",
    "genai-prices",
    "opentelemetry-api",
    "rich",
    "ipython",
)
"""Packages that are of interest and that README's table does not list."""

_KEPT = re.compile(r"PATH|PYTHON\w*|VIRTUAL_ENV|SYSTEMROOT|TE?MP(DIR)?|LANG|LC_\w+|TERM|NO_COLOR|COLUMNS")
_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # the table in its wheel, and not the one on the network
    "LITELLM_MODE": "PRODUCTION",  # else it reads a .env
    "LANGSMITH_TRACING": "false",
}
_FOLDERS = re.compile(r"(?:[A-Za-z]:)?[\\/](?:[^\\/\s'\":,;()<>]+[\\/])+")
_LONGEST = 300


def go(options: Namespace) -> int:
    """Look at everything, say what was found, and return 0 if all is well, else 1."""
    if sys.stderr.isatty():
        print("making two calls through each entry point, answered on this machine ...", file=sys.stderr)
    with _alone(), contextlib.redirect_stdout(io.StringIO()):  # LiteLLM prints advice
        found = examine()
    if options.json:
        print_json(found)
    else:
        print("\n\n".join(_told(found)))
    return 0 if found["ok"] else 1


def examine() -> dict[str, Any]:
    """Look at everything, and return what was found as plain values."""
    from . import self_test  # noqa: PLC0415 - not before the environment is bare

    calls = [
        {
            "package": result.package,
            "entry": result.entry,
            "mode": result.mode,
            "ok": result.ok,
            "detail": _discreet(result.wrong or result.untried),
        }
        for result in self_test.run()
    ]
    seams = list(_seams())
    found: dict[str, Any] = {
        "steptrack_callbacks": __version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "packages": list(_packages()),
        "seams": seams,
        "calls": calls,
    }
    is_well = all(seam["state"] not in ("missing", "changed") for seam in seams)
    return found | {"ok": is_well and not any(call["ok"] is False for call in calls)}


def _packages() -> Iterator[dict[str, Any]]:
    for name in sorted({*versions.TESTED, *_ALSO}):
        known = versions.TESTED.get(name)
        installed = versions.version_of(name)
        if installed is not None:
            yield {"package": name, "version": installed, "tested": None if known is None else str(known)}


def _seams() -> Iterator[dict[str, Any]]:
    for seam in all_seams.SEAMS:
        if versions.version_of(seam.package) is None:
            continue
        finding = seam.look(load=True)
        said = {"package": seam.package, "place": seam.place, "state": finding.state, "purpose": seam.purpose}
        if finding.is_lost:
            cure = all_seams.Loss(seam, finding).cure
            said |= {"detail": _discreet(finding.detail), "lost": seam.lost, "cure": cure}
        yield said


@contextlib.contextmanager
def _alone() -> Generator[None]:
    """Let nothing of the user's environment count, and nothing be logged or warned of, in this block."""
    before = dict(os.environ)
    _set_environment({name: value for name, value in before.items() if _KEPT.fullmatch(name)} | _QUIET)
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        _set_environment(before)


def _set_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _discreet(text: str) -> str:
    """Leave folders out of a text, since what is printed here is pasted in public."""
    return _FOLDERS.sub("", text).partition("\n")[0][:_LONGEST]


def _told(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"steptrack-callbacks {found['steptrack_callbacks']}, Python {found['python']}, {found['system']}"
    packages = [(each["package"], each["version"], each["tested"] or "") for each in found["packages"]]
    yield table(("package", "version", "tested"), packages)
    yield table(("seam", "state"), [(each["place"], each["state"]) for each in found["seams"]])
    calls = [(each["entry"], each["mode"], _verdict(each)) for each in found["calls"]]
    yield table(("call", "mode", "refused at its limit, else charged once"), calls)
    yield "\n".join(_conclusion(found))


def _verdict(call: Mapping[str, Any]) -> str:
    if call["ok"]:
        return "yes"
    return f"not called: {call['detail']}" if call["ok"] is None else f"NO: {call['detail']}"


def _conclusion(found: Mapping[str, Any]) -> Iterator[str]:
    if found["ok"]:
        yield "all is well"
        return
    yield "not all is well:"
    for seam in found["seams"]:
        if "lost" in seam:
            yield f"- {seam['detail']}: {seam['lost']}; {seam['cure']}"
    for call in found["calls"]:
        if call["ok"] is False:
            yield f"- {call['entry']}, {call['mode']}: {call['detail']}"
