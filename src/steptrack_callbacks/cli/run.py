"""`steptrack run`: any Python program under one outermost step."""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from steptrack_callbacks.values.errors import BudgetExhausted

from .errors import EXHAUSTED, INTERRUPTED, CommandError
from .ledger_argument import url_to_write
from .output import left_stderr, print_json, print_report, tables_of
from .program import Program, module, script, wait_for_threads, without_us

_LIMITS = ("max_usd", "max_tokens", "max_calls", "max_seconds", "enforce", "unpriced")


class ProgramExit(Exception):
    """The program called `sys.exit` with a code that is not 0; for the record of its step."""


@dataclass(slots=True)
class Outcome:
    """How the program ended.

    Attributes:
        code: The exit code that it would have had by itself.
        exhaustion: The exhausted budget that ended it, or that it was told of.
        left: What has left its main code.
    """

    code: int = 0
    exhaustion: BudgetExhausted | None = None
    left: BaseException | None = None


def go(options: Namespace) -> int:
    """Run the program, print the tree of its steps, and return the exit code."""
    program = _program(options)
    step = _step(options, program)
    _install(options)
    outcome = _run(program, step)
    if outcome.code != INTERRUPTED and outcome.exhaustion is not None:
        outcome.code = EXHAUSTED
    _print(options, outcome)
    return outcome.code


def _program(options: Namespace) -> Program:
    words = [*(options.module or ()), *options.program]  # what follows -m may stop at a `--`
    if options.module is None and words[:1] == ["--"]:
        words = words[1:]
    if not words:
        raise CommandError("name a program: steptrack run SCRIPT, or steptrack run -m MODULE")
    first, *rest = words
    return script(first, rest) if options.module is None else module(first, rest)


def _step(options: Namespace, program: Program) -> Any:
    from steptrack_callbacks import step  # noqa: PLC0415

    limits = {name: getattr(options, name) for name in _LIMITS if getattr(options, name) is not None}
    try:
        outermost = step(options.name or program.name, run_id=options.run_id, **limits)
    except ValueError as error:
        raise CommandError(str(error)) from None
    outermost.holds_runs = True
    return outermost


def _install(options: Namespace) -> None:
    from steptrack_callbacks import install  # noqa: PLC0415
    from steptrack_callbacks.ledgers.current import ledger  # noqa: PLC0415

    given = {name: getattr(options, name) for name in ("ledger", "config") if getattr(options, name)}
    if "ledger" in given:
        given["ledger"] = url_to_write(given["ledger"])
    try:
        install(threads=True, **given)
        forgetful = options.run_id is not None and not ledger().is_durable
    except ValueError as error:  # a ConfigError is one, and says all that is wrong
        raise CommandError(str(error)) from None
    if forgetful:
        print(
            "steptrack run: --run-id goes on with nothing without a ledger that outlives the process:"
            " give --ledger steps.db, say",
            file=sys.stderr,
        )


def _run(program: Program, step: Any) -> Outcome:
    outcome = Outcome()
    try:
        with step:
            _run_inside(program, outcome)
    except BaseException as error:
        if error is not outcome.left and not isinstance(error, BudgetExhausted):
            raise
        outcome.exhaustion = exhaustion_in(error)
    outcome.exhaustion = step.exhaustion or step.account.raised or outcome.exhaustion
    return outcome


def _run_inside(program: Program, outcome: Outcome) -> None:
    """Run to the end of the last thread; what leaves the main code is told as Python tells it."""
    try:
        program.run()
    except SystemExit as leaving:
        outcome.code = _code_of(leaving)
        outcome.left = ProgramExit(f"exit code {outcome.code}")
    except KeyboardInterrupt as interrupt:
        outcome.code, outcome.left = INTERRUPTED, interrupt
    except BaseException as error:  # noqa: BLE001 - it leaves below
        outcome.code, outcome.left = 1, error
        error.__traceback__ = without_us(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
    try:
        wait_for_threads()
    except KeyboardInterrupt as interrupt:
        outcome.code, outcome.left = INTERRUPTED, outcome.left or interrupt
    if outcome.left is not None and outcome.code:
        raise outcome.left


def _code_of(leaving: SystemExit) -> int:
    if leaving.code is None or isinstance(leaving.code, int):
        return (leaving.code or 0) & 0xFF
    if (stderr := left_stderr()) is not None:
        print(leaving.code, file=stderr)
    return 1


def exhaustion_in(error: BaseException) -> BudgetExhausted | None:
    """Find an exhausted budget in an error that somebody has wrapped, as its traceback would show it."""
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if isinstance(each, BudgetExhausted):
            return each
        if id(each) not in seen:
            seen.add(id(each))
            hidden = None if each.__suppress_context__ else each.__context__
            inside = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
            pending += [other for other in (*inside, hidden, each.__cause__) if other is not None]
    return None


def _print(options: Namespace, outcome: Outcome) -> None:
    from steptrack_callbacks import report  # noqa: PLC0415

    tree, exhaustion = report(), outcome.exhaustion
    with contextlib.suppress(AttributeError, OSError, ValueError):  # the program may have closed it
        sys.stdout.flush()
    if (stderr := left_stderr()) is None:
        return
    with contextlib.suppress(OSError):  # nobody is there to read it
        if options.json:
            said = exhaustion.to_dict() if exhaustion else None
            summary = {"exit_code": outcome.code, "exhausted": said} | tables_of(tree)
            print_json(summary, stderr, indent=None)
            return
        print(file=stderr)
        print_report(tree, stderr)
        if exhaustion is not None:
            print(f"steptrack run: {exhaustion}", file=stderr)
