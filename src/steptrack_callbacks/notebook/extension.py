"""What `%load_ext` does, and the step that a cell runs in."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any

from steptrack_callbacks import settings
from steptrack_callbacks.engine.escalation import has_default
from steptrack_callbacks.installation import install
from steptrack_callbacks.reports.live import watch
from steptrack_callbacks.steps.step import Step

from . import options
from .asking import ask_person
from .cells import ENTRANCE, MAGIC, PutInStep, open_cell
from .tracebacks import end_at_own_lines

LAST = "_step"
"""The notebook's name for the step of the newest `%%step` cell."""


class CellStep:
    """The context manager around a cell: its step, and the live view of it."""

    def __init__(self, step: Step, *, live: bool) -> None:
        self.step = step
        self._live = live
        self._view: AbstractContextManager[None] | None = None

    def __enter__(self) -> Step:
        self.step.__enter__()
        self._watch()
        return self.step

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return bool(self.step.__exit__(kind, error, trace))
        finally:
            self._say()

    async def __aenter__(self) -> Step:
        await self.step.__aenter__()
        self._watch()
        return self.step

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return bool(await self.step.__aexit__(kind, error, trace))
        finally:
            self._say()

    def _watch(self) -> None:
        if self._live:
            self._view = watch(self.step)
            self._view.__enter__()

    def _say(self) -> None:
        if self._view is not None:
            self._view.__exit__(None, None, None)
        if self.step.status == "continued":
            print(f"left at its limit, and went on: {self.step.exhaustion}")


class Extension:
    """What is put into one IPython, and taken out again."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._transformer = PutInStep()

    def load(self) -> None:
        """Offer `%%step`, and ask the person where a step escalates and names nobody to ask."""
        install()
        if not has_default():
            settings.change(escalation=ask_person)
        shell = self._shell
        shell.register_magic_function(self.cell, magic_kind="cell", magic_name="step")
        shell.register_magic_function(self.entrance, magic_kind="line", magic_name=ENTRANCE)
        shell.input_transformers_cleanup.append(open_cell)
        shell.ast_transformers.append(self._transformer)
        self._show_tracebacks = end_at_own_lines(shell)

    def unload(self) -> None:
        """Take it out; what is installed stays."""
        if has_default(ask_person):
            settings.change(escalation=None)
        shell = self._shell
        shell.magics_manager.magics["cell"].pop("step", None)
        shell.magics_manager.magics["line"].pop(ENTRANCE, None)
        shell.input_transformers_cleanup.remove(open_cell)
        shell.ast_transformers.remove(self._transformer)
        self._show_tracebacks()

    def entrance(self, line: str) -> CellStep:
        """Return the context manager that a `%%step` cell runs in."""
        from IPython.core.error import UsageError  # noqa: PLC0415 - it is there, we are in it

        shell = self._shell
        try:
            declared = options.read(line, shell.user_ns, unnamed=f"cell {_number(shell)}")
        except ValueError as error:
            raise UsageError(str(error)) from None
        definition = declared.definition
        if definition.error_boundary == "escalate" and definition.escalation is None and not has_default():
            definition = replace(definition, escalation=ask_person)
        step = Step(definition, run_id=declared.run_id)
        shell.push({LAST: step}, interactive=False)
        return CellStep(step, live=declared.live)

    def cell(self, line: str, cell: str) -> None:
        """Run the cell in a step: `%%step NAME [--max-usd USD] [--max-tokens N] [--max-calls N] ...`.

        NAME         the step's name; `cell N` if there is none
        --max-usd, --max-tokens, --max-calls, --max-tool-calls, --max-seconds,
        --wrap-up-usd, --wrap-up-calls
                     its limits
        --error-boundary continue|escalate|fail
                     what happens at a limit: go on with the next cell, ask, or raise
        --enforce estimate|strict|observe, --unpriced warn|free, --wait-s S,
        --no-clamp, --no-cut-streams, --model NAME, --models NAME,NAME --downgrade-at SHARE, --run-id ID
                     as for `steptrack_callbacks.step`
        --escalation FUNCTION, --budget BUDGET
                     names of this notebook; --budget may be given several times
        --quiet      without the live view
        --help       show this, and run nothing

        `await` works in it, names stay, and `_step` is the step when it is over.
        """
        self._shell.run_cell(f"{MAGIC} {line}\n{cell}", store_history=False).raise_error()


def _number(shell: Any) -> int:
    """Return the number N of the cell that runs, as its `In [N]` shows it.

    `execution_count` would be the next cell's: newer releases of IPython count before a cell runs.
    """
    return max(len(shell.user_ns.get("In", ())) - 1, 1)


_loaded: dict[int, Extension] = {}


def load_ipython_extension(shell: Any) -> None:
    """Begin; IPython calls it on `%load_ext steptrack_callbacks.notebook`."""
    if id(shell) not in _loaded:
        extension = Extension(shell)
        extension.load()
        _loaded[id(shell)] = extension


def unload_ipython_extension(shell: Any) -> None:
    """End; IPython calls it on `%unload_ext steptrack_callbacks.notebook`."""
    if (extension := _loaded.pop(id(shell), None)) is not None:
        extension.unload()
