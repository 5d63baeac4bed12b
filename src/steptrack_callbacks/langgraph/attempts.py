"""Trying again once a person has granted more, and acting on an exhaustion otherwise."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager

from steptrack_callbacks.langchain.refusals import langchain_error
from steptrack_callbacks.steps.active import hidden_exhaustion
from steptrack_callbacks.values.errors import BudgetExhausted, StepTrackError

from .running import AgentRun


class Attempts:
    """Contexts to try something in, until the agent goes on without it.

    Mostly a call asks for more by itself, where it is refused. But of several that are refused at once
    one pauses the graph, and the others are told no; they ask here.

    Attributes:
        exhaustion: The exhaustion that the agent goes on from, or `None`.
    """

    def __init__(self, run: AgentRun, *, is_last: bool = False) -> None:
        self.exhaustion: BudgetExhausted | None = None
        self._run = run
        self._act_on = run.act_on if is_last else run.stop_at

    @property
    def went_on(self) -> BudgetExhausted:
        """The same, once all attempts are over."""
        assert self.exhaustion is not None  # the attempts end with it
        return self.exhaustion

    def __iter__(self) -> Iterator[AbstractContextManager[None]]:
        while self.exhaustion is None:
            yield self._attempt()

    @contextmanager
    def _attempt(self) -> Generator[None]:
        try:
            yield
        except BudgetExhausted as error:
            if self._run.may_ask(error):
                self._run.ask(error)
            else:
                self.exhaustion = self._act_on(error)
        except StepTrackError as error:
            raise langchain_error(error) from None
        except Exception as error:
            hidden = hidden_exhaustion(self._run.step, error)
            if hidden is None:
                raise
            self.exhaustion = self._act_on(hidden)
