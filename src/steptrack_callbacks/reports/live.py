"""A live view of a running step: what is spent of what it has, and how many calls are in flight.

In a notebook it is a card that changes, in a terminal a line that does, and where output is piped
nothing but the last word.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO

from steptrack_callbacks.concurrency.guard import Guard
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.values.cards import Card
from steptrack_callbacks.values.formatting import cost_of, plural, printable
from steptrack_callbacks.values.records import CompletedStep, shares_of

INTERVAL_S = 0.25

logger = logging.getLogger("steptrack_callbacks")

_drawing = Guard()


class View(Protocol):
    """Where a step is shown."""

    def draw(self, step: Step) -> None:
        """Show the step as it stands."""

    def close(self, step: Step) -> None:
        """Show the step for the last time; it has ended."""

    def hide(self) -> None:
        """Make room for a question."""


@contextmanager
def watch(step: Step, view: View | None = None, *, interval_s: float = INTERVAL_S) -> Generator[None]:
    """Show a step while the block runs; the step itself is begun and ended by the caller.

    Args:
        step: What is shown; it must be running already.
        view: Where; `None` finds out what there is: a notebook, a terminal, or a pipe.
        interval_s: Seconds between two looks at the accounts.

    Example:
        >>> from steptrack_callbacks import record_usage, step
        >>> from steptrack_callbacks.reports.live import watch
        >>> with step("plan", max_calls=4) as plan, watch(plan):
        ...     record_usage("my-model", input_tokens=10, output_tokens=5, cost_usd=0.02)
        plan: open, $0.0200, 1 call; 25% of 4 calls
    """
    view = view or find_view()
    ticker = _Ticker(step, view, interval_s)
    ticker.start()
    try:
        yield
    finally:
        ticker.finish()
        with _drawing:
            view.close(step)


class _Ticker(threading.Thread):
    """Draws again and again, until it is told to stop."""

    def __init__(self, step: Step, view: View, interval_s: float) -> None:
        super().__init__(name="steptrack-live", daemon=True)
        self._step, self._view, self._interval_s = step, view, interval_s
        self._over = threading.Event()

    def run(self) -> None:
        _shown.append(self._view)
        try:
            while True:
                with _drawing:
                    self._view.draw(self._step)
                if self._over.wait(self._interval_s):
                    return
        except Exception:
            logger.exception("the live view of step %r failed, and is left", self._step.path)
        finally:
            with suppress(ValueError):
                _shown.remove(self._view)

    def finish(self) -> None:
        self._over.set()
        self.join()


_shown: list[View] = []


@contextmanager
def hidden() -> Generator[None]:
    """Keep all live views from drawing while somebody is asked something."""
    with _drawing:
        for view in _shown:
            view.hide()
        yield


def find_view() -> View:
    """Find out where there is something to look at."""
    if in_notebook():
        return NotebookView()
    if not sys.stdout.isatty():
        return PipeView(sys.stdout)
    try:
        return RichView(sys.stdout)
    except ImportError:
        return TerminalView(sys.stdout)


def in_notebook() -> bool:
    """Tell whether a Jupyter kernel runs here; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def line_of(step: Step) -> str:
    """Say in a line what a step has spent of what it has."""
    record = step.record()
    text = f"{printable(record.path)}: {record.status}, {cost_of(record.usage)}, {_calls(step, record)}"
    shares = ", ".join(map(str, shares_of(record)))
    return f"{text}; {shares}" if shares else text


def _calls(step: Step, record: CompletedStep) -> str:
    calls = plural(record.usage.calls, "call")
    calls += f", {record.denied_calls:,} refused" if record.denied_calls else ""
    return f"{calls}, {step.account.open_calls:,} in flight" if step.account.open_calls else calls


class PipeView:
    """Plain text, once: what a step came to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def draw(self, step: Step) -> None:
        """Show nothing yet."""

    def hide(self) -> None:
        """Have nothing to hide."""

    def close(self, step: Step) -> None:
        """Write the last line."""
        print(line_of(step), file=self._stream, flush=True)


class TerminalView(PipeView):
    """A line in a terminal that is written over."""

    def draw(self, step: Step) -> None:
        """Write over the line."""
        import shutil  # noqa: PLC0415 - for terminals only

        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\x1b[K{line_of(step)[:width]}")
        self._stream.flush()

    def hide(self) -> None:
        """Clear the line."""
        self._stream.write("\r\x1b[K")
        self._stream.flush()

    def close(self, step: Step) -> None:
        """Leave the last line there."""
        self.hide()
        super().close(step)


class RichView(PipeView):
    """A line with a bar for each limit, by `rich`.

    Raises:
        ImportError: `rich` is not installed.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        from rich.console import Console  # noqa: PLC0415 - an extra
        from rich.live import Live  # noqa: PLC0415

        self._live = Live(console=Console(file=stream), auto_refresh=False, transient=True)

    def draw(self, step: Step) -> None:
        """Draw the bars again."""
        if not self._live.is_started:
            self._live.start()
        self._live.update(_bars(step), refresh=True)

    def hide(self) -> None:
        """Take the bars away; they come back with the next drawing."""
        self._live.stop()

    def close(self, step: Step) -> None:
        """Take the bars away, and leave the last line."""
        self._live.stop()
        super().close(step)


def _bars(step: Step) -> Any:
    from rich.console import Group  # noqa: PLC0415 - an extra
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    record = step.record()
    head = f"{printable(record.path)}: {cost_of(record.usage)}, {_calls(step, record)}"
    grid = Table.grid(padding=(0, 1))
    for share in shares_of(record):
        full = 1.0 if share.fraction is None else min(share.fraction, 1.0)
        style = "red" if full == 1 else "yellow" if full >= 0.8 else "cyan"  # noqa: PLR2004
        bar = ProgressBar(total=1, completed=full, width=28, complete_style=style, finished_style=style)
        grid.add_row(bar, Text(str(share)))
    return Group(Text(head), grid)


def live_card(step: Step) -> str:
    """Return the card of a running step: what is spent of what it has, and how many calls are in flight."""
    record = step.record()
    return Card(
        name=record.path,
        status=record.status,
        took_s=record.duration_s,
        shares=shares_of(record),
        usage=record.usage,
        calls_in_flight=step.account.open_calls,
    ).to_html()


class NotebookView:
    """A card below the cell that changes."""

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, step: Step) -> None:
        """Change the card."""
        self._show(live_card(step), line_of(step))

    def hide(self) -> None:
        """Stay: a question stands beside it."""

    def close(self, step: Step) -> None:
        """Change the card for the last time."""
        self._show(step._repr_html_(), line_of(step))

    def _show(self, html: str, text: str) -> None:
        from IPython import display as ipython  # noqa: PLC0415 - a notebook has it

        bundle = {"text/html": html, "text/plain": text}
        if self._handle is None:
            show: Any = ipython.display
            self._handle = show(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
