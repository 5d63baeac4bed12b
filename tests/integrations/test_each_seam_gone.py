"""Each seam in turn is taken away or changed: one warning, no error, and what is left refuses and charges.

Every case is a process of its own, forked from one in which the frameworks are imported (`seam_nursery`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from steptrack_callbacks.integrations import all_seams, seams_langchain, seams_litellm
from steptrack_callbacks.integrations.seams import Seam
from steptrack_callbacks.integrations.versions import version_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process for each case")
NEEDED = {"litellm": ("litellm",), "langchain_core": ("langchain_core", "langchain", "langchain_litellm")}
"""Whose calls a package may itself be unable to make once it has lost something; others' go on."""

NOT_DELETED = {
    seams_langchain.MODEL_FRAMES.place: "what it derives from has another, which calls no model",
    seams_litellm.FILES.place: "no package can be without",
    **{
        seam.place: "since 1.110 its metaclass serves what it has not"
        for seam in seams_litellm.ROUTER_ENDPOINTS.values()
    },
}
TAKES_ANYTHING = {
    seam.place for name, seam in seams_litellm.ENTRY_POINTS.items() if not seams_litellm._PARAMETERS[name]
}


class Case(NamedTuple):
    seam: Seam
    how: str


def cases() -> Iterator[Case]:
    """Delete and change each place, and rename each module that is not the package itself."""
    renamed = set()
    for seam in all_seams.SEAMS:
        module, _, name = seam.place.partition(":")
        if version_of(seam.package) is None:
            continue
        if name and seam.place not in NOT_DELETED:
            yield Case(seam, "deleted")
        if seam.shape is not None and name:
            yield Case(seam, "replaced" if seam.place in TAKES_ANYTHING else "changed")
        if module not in {seam.package} | renamed:
            renamed.add(module)
            yield Case(seam, "renamed")


IN_PROXY = pytest.mark.needs("fastapi", "the proxy cannot be imported without")
CASES = [
    pytest.param(
        case,
        id=f"{case.seam.place} {case.how}",
        marks=[IN_PROXY] if case.seam in seams_litellm.PROXY and case.how != "renamed" else [],
    )
    for case in cases()
]


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    folder = tmp_path_factory.mktemp("nursery")
    program = Path(__file__).with_name("seam_nursery.py")
    with (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(program)],
            env=os.environ | {"NURSERY": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", (folder / "stderr").read_text()
        yield process
        assert process.stdin is not None
        process.stdin.close()


def seen(nursery: subprocess.Popen[str], case: Case) -> dict[str, Any]:
    assert nursery.stdin is not None and nursery.stdout is not None
    nursery.stdin.write(json.dumps({"place": case.seam.place, "how": case.how}) + "\n")
    nursery.stdin.flush()
    return json.loads(nursery.stdout.readline())


@pytest.mark.parametrize("case", CASES)
def test_what_is_lost_is_said_once_and_the_rest_works(nursery: subprocess.Popen[str], case: Case) -> None:
    said, seam = seen(nursery, case), case.seam
    assert "raised" not in said, said["raised"]
    [told] = said["told"]
    [row] = [row for row in said["doctor"]["seams"] if row["place"] == seam.place]
    assert row["state"] in ("missing", "changed")
    for text in (f"{seam.package} {version_of(seam.package)}", row["detail"], seam.lost, row["cure"]):
        assert text in told
    assert said["code"] == 1
    assert wrong_calls(said, seam) == []


def wrong_calls(said: dict[str, Any], seam: Seam) -> list[str]:
    """List the calls that go wrong, but for those that the package can no longer make itself."""
    its_own = NEEDED.get(seam.package, ("langchain",) if seam.package in ("langchain", "langgraph") else ())
    wrong = []
    for call in said["doctor"]["calls"]:
        is_the_seam = seam.place == ":".join(call["entry"].split(".", 1))
        cannot_be_made = is_the_seam or call["detail"].startswith("raises ") or said["refused_to_begin"]
        if call["ok"] is False and not (cannot_be_made and call["package"] in its_own):
            wrong.append(f"{call['entry']}, {call['mode']}: {call['detail']}")
    return wrong


@pytest.mark.parametrize("how", ["deleted", "changed", "renamed"])
def test_without_the_gate_of_langchain_no_step_with_limits_begins(
    nursery: subprocess.Popen[str], how: str
) -> None:
    said = seen(nursery, Case(seams_langchain.HOOK, how))
    assert "limits that cannot be kept: langchain_core" in said["refused_to_begin"]
