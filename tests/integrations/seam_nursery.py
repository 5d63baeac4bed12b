"""A process in which the frameworks are imported, and which forks a child for each place that is to be changed.

It reads requests, one line of JSON each, and answers each with a line: what a child saw in which that place
was deleted, its module renamed, or what stands there replaced by something of another shape, before
anything of this package was imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import inspect
import io
import json
import os
import sys
import tempfile
import threading
import traceback
import warnings
from collections import UserList
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

TRIED = {
    ("litellm.completion", "sync"),
    ("litellm.completion", "async stream"),
    ("litellm.Router.completion", "sync on a loop"),
    ("litellm.batch_completion", "sync"),
    ("chat model", "invoke"),
    ("chat model", "ainvoke"),
    ("completion model", "ainvoke"),
    ("agent with StepBudgetMiddleware", "invoke"),
}
"""The calls that each child makes, by entry point and mode."""

LONGEST_S = 120
"""A child that is stuck says after that what each of its threads is at, and ends."""

_KEPT = sys.stdout

_encodings: dict[str, Any] = {}
"""Built once: that takes a second, which is most of what a child would do."""


def main() -> None:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    sys.stdout = sys.stderr  # what frameworks print is no answer
    _warm_up()
    gc.collect()
    gc.freeze()
    print("ready", file=_KEPT, flush=True)
    for line in sys.stdin:
        if not (child := os.fork()):
            _be_the_child(json.loads(line))
        if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            said = (Path(os.environ["NURSERY"]) / "stderr").read_text()[-4_000:]
            print(json.dumps({"raised": f"the child ended with {status}: {said}"}), file=_KEPT, flush=True)


def _warm_up() -> None:
    """Import all that children would, once; what is ours is forgotten again, so that it is made anew."""
    from steptrack_callbacks import tokens
    from steptrack_callbacks.cli import self_test
    from steptrack_callbacks.integrations import all_seams

    for seam in all_seams.SEAMS:
        seam.get()
    with asyncio.Runner() as runner:
        for probe in self_test.probes(None):
            if "Router" in probe.entry or "StepBudget" in probe.entry:
                continue  # its core forbids forks; it is ours
            answer = probe.call()
            if inspect.isawaitable(answer):
                runner.run(answer)
    _encodings.update({name: tokens._encoding(name) for name in tokens._SPECS})
    for name in [name for name in sys.modules if name.partition(".")[0] == "steptrack_callbacks"]:
        del sys.modules[name]
    _end_threads()


def _end_threads() -> None:
    """Let LiteLLM's pool begin anew: threads do not come along into a fork, and what they hold is never let go."""
    pool = import_module("litellm.utils").executor
    pool.shutdown()
    pool.__init__(pool._max_workers, pool._max_pending_tasks)
    assert threading.active_count() == 1, threading.enumerate()


def _be_the_child(asked: dict[str, str]) -> None:
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    try:
        said = _look(**asked)
    except BaseException:
        said = {"raised": traceback.format_exc()}
    print(json.dumps(said), file=_KEPT, flush=True)
    os._exit(0)


def _look(place: str, how: str) -> dict[str, Any]:
    {"deleted": _delete, "renamed": _rename, "changed": _change, "replaced": _replace}[how](place)
    import steptrack_callbacks as steptrack
    from steptrack_callbacks import tokens

    if not place.startswith(("litellm:__path__", "tiktoken")):  # of which encodings are built
        tokens._encodings.update(_encodings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        steptrack.install(ledger="memory:", proxy_url="http://127.0.0.1:9")
    told = [str(each.message) for each in caught if each.category is steptrack.IntegrationChangedWarning]
    try:
        with steptrack.step("plan", max_calls=1):
            begins = ""
    except steptrack.StepTrackError as error:
        begins = str(error)
    steptrack.uninstall()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = steptrack_doctor()
    return {"told": told, "refused_to_begin": begins, "code": code, "doctor": json.loads(out.getvalue())}


def steptrack_doctor() -> int:
    from steptrack_callbacks.cli import main, self_test

    all_probes = self_test.probes
    self_test.probes = lambda url: (each for each in all_probes(url) if (each.entry, each.mode) in TRIED)
    return main(["doctor", "--json"])


# What becomes of a place


def _holder(place: str) -> tuple[Any, str]:
    """Return the object that has the last name of a place, and that name."""
    module_name, _, path = place.partition(":")
    *above, name = path.split(".")
    holder: Any = import_module(module_name)
    for each in above:
        holder = getattr(holder, each)
    return holder, name


def _delete(place: str) -> None:
    holder, name = _holder(place)
    if isinstance(holder, ModuleType) and "__getattr__" in vars(holder):
        _hide(holder, name)
    if name in vars(holder):
        delattr(holder, name)


def _hide(module: ModuleType, name: str) -> None:
    """Let a module that makes its names when they are asked for make this one no more."""
    make = vars(module)["__getattr__"]

    def make_others(asked: str) -> Any:
        if asked == name:
            raise AttributeError(asked)
        return make(asked)

    vars(module)["__getattr__"] = make_others


def _rename(place: str) -> None:
    sys.modules[place.partition(":")[0]] = None  # type: ignore[assignment] # so that it cannot be imported


def _change(place: str) -> None:
    holder, name = _holder(place)
    if name == "__path__":
        _hide_files(holder)
        return
    setattr(holder, name, _other(getattr(holder, name)))


def _hide_files(package: ModuleType) -> None:
    """Let a package lie in a folder that has its modules and no other files."""
    (there,) = package.__path__
    here = Path(tempfile.mkdtemp(dir=os.environ["NURSERY"]))
    for entry in Path(there).iterdir():
        if entry.suffix == ".py" or entry.is_dir():
            (here / entry.name).symlink_to(entry)
    package.__path__[:] = [str(here)]


def _replace(place: str) -> None:
    holder, name = _holder(place)
    setattr(holder, name, object())


def _other(value: Any) -> Any:
    """Return something that does the same, where it can, and has another shape."""
    if isinstance(value, type):
        return type(value.__name__, (), {})
    if callable(value):
        return _with_another_signature(value)
    if isinstance(value, list):
        return UserList(value)
    if isinstance(value, dict):
        return MappingProxyType(value)
    return f"{value}_new" if isinstance(value, str) else object()


def _with_another_signature(function: Any) -> Any:
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    def called(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    other: Any = awaited if inspect.iscoroutinefunction(function) else called
    only = inspect.Parameter("something_else", inspect.Parameter.POSITIONAL_ONLY)
    other.__signature__ = inspect.Signature([only])
    return other


if __name__ == "__main__":
    main()
