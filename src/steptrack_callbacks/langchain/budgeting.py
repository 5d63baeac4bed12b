"""`budgeted`: a runnable or embeddings inside a step, with what happens at its limit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar, Unpack, overload

from langchain_core.embeddings import Embeddings
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence
from langchain_core.runnables.graph import Graph
from langchain_core.runnables.utils import ConfigurableFieldSpec

from steptrack_callbacks.steps.active import aside
from steptrack_callbacks.steps.decorators import around
from steptrack_callbacks.steps.step import Step
from steptrack_callbacks.values.arguments import checks_arguments
from steptrack_callbacks.values.definitions import StepDefinition, StepOptions, defined
from steptrack_callbacks.values.signatures import shows_options

from .async_handler import watched
from .embeddings import BudgetedEmbeddings
from .refusals import LangChainStep
from .swapping import ModelChoice, closed_with_reader, model_in, models_of

Input = TypeVar("Input")
Output = TypeVar("Output")

_MAKES_ANOTHER = ("bind_tools", "with_structured_output")


@overload
def budgeted(
    runnable: Runnable[Input, Output],
    /,
    step: str | StepDefinition | None = None,
    **options: Unpack[StepOptions],
) -> Runnable[Input, Output]: ...
@overload
def budgeted(
    runnable: Embeddings, /, step: str | StepDefinition | None = None, **options: Unpack[StepOptions]
) -> Embeddings: ...
@shows_options
@checks_arguments
def budgeted(
    runnable: Any, /, step: str | StepDefinition | None = None, **options: Unpack[StepOptions]
) -> Any:
    """Run each call of a runnable in a step of its own.

    Its calls are counted whether `install()` was called or not, and on an event loop they wait for room
    where others could only be refused. Each item of a batch has a step of its own; put a step
    around the batch to limit all of it.

    Args:
        runnable: A runnable, or embeddings, about which LangChain itself reports nothing. Bind tools
            and structured output first.
        step: The step's name, or a `StepDefinition`, and then no other options are allowed; `None` uses
            the runnable's name.
        **options: The limits and rules of `step()`. `models` are names, or runnables like `runnable`, whose
            model is the preferred one: a model by itself, with what is bound to it, or the only model in a
            sequence. A name is set on a copy of `runnable`, or in its configurable field. With
            `error_boundary="continue"`, a sequence continues with `default`, or with what had been streamed
            by then.

    Returns:
        A runnable that supports all call modes, or embeddings.

    Raises:
        ValueError: An option is malformed; the message says which.
        TypeError: It is neither a runnable nor embeddings, or an option does not exist.

    Example:
        >>> from langchain_core.runnables import RunnableLambda
        >>> shout = budgeted(RunnableLambda(str.upper), step="shout", max_usd=0.05)
        >>> shout.invoke("hello")
        'HELLO'
    """
    if not isinstance(runnable, Runnable | Embeddings):
        raise TypeError(f"budgeted() needs a runnable or embeddings, not {runnable!r}")
    names, models = models_of(options.get("models"), "budgeted()")
    if names:
        options = {**options, "models": names}
    definition = _definition(runnable, step, options)
    if isinstance(runnable, Runnable):
        return Budgeted(runnable, definition, _choosing(runnable, definition, models))
    return BudgetedEmbeddings(runnable, definition)


def _choosing(runnable: Any, definition: StepDefinition, models: Mapping[str, Any]) -> Any:
    """Let a runnable's model be another of a step's list, where the runnable is a model, or has one."""
    model = model_in(runnable)
    if model is None and definition.models:
        raise ValueError(
            "budgeted(models=[...]) needs a model, or a sequence with exactly one, not"
            f" {type(runnable).__name__}: put it around each model, or give agents"
            " StepBudgetMiddleware(models=...)"
        )
    is_sequence = isinstance(runnable, RunnableSequence)
    return (
        runnable
        if model is None or (is_sequence and not definition.models)
        else ModelChoice(runnable, models)
    )


def _definition(
    runnable: Any, step: str | StepDefinition | None, options: Mapping[str, Any]
) -> StepDefinition:
    said = step
    if said is None:
        said = runnable.get_name() if isinstance(runnable, Runnable) else type(runnable).__name__
    if isinstance(said, Step):
        raise ValueError("budgeted() makes the step itself: give it a name and options, or a StepDefinition")  # noqa: TRY004
    name = said.replace("/", ".") if isinstance(said, str) else said
    return defined(StepDefinition, name, options, "budgeted")


class Budgeted(Runnable[Input, Output]):
    """A runnable each of whose calls runs in a step; `budgeted` makes it.

    Attributes:
        bound: The runnable inside.
        definition: What was declared about the step.
    """

    def __init__(
        self,
        bound: Runnable[Input, Output],
        definition: StepDefinition,
        choosing: Runnable[Input, Output] | None = None,
    ) -> None:
        self.bound = bound
        self._called = choosing or bound
        self.definition = definition

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:  # noqa: A002
        """Invoke it in a fresh step; an exhaustion that the step continues from gives its `default`."""
        __tracebackhide__ = True

        def body() -> Output:
            __tracebackhide__ = True
            return self._called.invoke(input, watched(config), **kwargs)

        return around(body, self._step)()  # type: ignore[no-any-return]

    async def ainvoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:  # noqa: A002
        """Do as `invoke`, on the event loop."""
        __tracebackhide__ = True

        async def body() -> Output:
            __tracebackhide__ = True
            return await self._called.ainvoke(input, watched(config, waiting=True), **kwargs)

        return await around(body, self._step)()  # type: ignore[no-any-return]

    def stream(
        self,
        input: Input,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Output]:
        """Stream it in a fresh step, which is active in it and not in its reader."""
        __tracebackhide__ = True

        def body() -> Iterator[Output]:
            __tracebackhide__ = True
            yield from self._called.stream(input, watched(config), **kwargs)

        yield from around(body, self._step)()

    async def astream(
        self,
        input: Input,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Output]:
        """Do as `stream`, on the event loop."""
        __tracebackhide__ = True

        async def body() -> AsyncIterator[Output]:
            __tracebackhide__ = True
            async with closed_with_reader(
                self._called.astream(input, watched(config, waiting=True), **kwargs)
            ) as chunks:
                async for chunk in chunks:
                    yield chunk

        async with closed_with_reader(around(body, self._step)()) as chunks:
            async for chunk in chunks:
                yield chunk

    def transform(
        self,
        input: Iterator[Input],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Output]:
        """Stream it in the middle of a sequence; what comes before runs outside of its step."""
        __tracebackhide__ = True
        step = self._step_that_says_something()

        def body() -> Iterator[Output]:
            __tracebackhide__ = True
            yield from self._called.transform(_outside(step, input), watched(config), **kwargs)

        yield from around(body, lambda: step)()

    async def atransform(
        self,
        input: AsyncIterator[Input],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Output]:
        """Do as `transform`, on the event loop."""
        __tracebackhide__ = True
        step = self._step_that_says_something()

        async def body() -> AsyncIterator[Output]:
            __tracebackhide__ = True
            config_ = watched(config, waiting=True)
            source = _outside_async(step, input)
            async with closed_with_reader(self._called.atransform(source, config_, **kwargs)) as chunks:
                async for chunk in chunks:
                    yield chunk

        async with closed_with_reader(around(body, lambda: step)()) as chunks:
            async for chunk in chunks:
                yield chunk

    def _step(self) -> Step:
        return LangChainStep(self.definition)

    def _step_that_says_something(self) -> Step:
        """Make a step whose default goes on down the sequence, even `None`: what follows waits for it."""
        if self.definition.error_boundary != "continue" or self.definition.default is not None:
            return self._step()
        return LangChainStep(replace(self.definition, default=lambda _: None))

    # What it is to those who look at it

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the runnable inside."""
        return self.bound.get_name(suffix, name=name)

    @property
    def InputType(self) -> Any:  # noqa: N802
        """What it takes."""
        return self.bound.InputType

    @property
    def OutputType(self) -> Any:  # noqa: N802
        """What it gives."""
        return self.bound.OutputType

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """What of it can be configured."""
        return self.bound.config_specs

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Return what it is made of."""
        return self.bound.get_graph(config)

    def __getattr__(self, name: str) -> Any:
        if name in _MAKES_ANOTHER:
            raise AttributeError(
                f"budgeted(...) has no {name}: call it on the model inside, as in budgeted(model.{name}(...))"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"budgeted({self.bound!r}, step={self.definition.name!r})"


def _outside(step: Step, source: Iterator[Input]) -> Iterator[Input]:
    """Read what comes before a step outside of it."""
    iterator = iter(source)
    while True:
        with aside(step):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


async def _outside_async(step: Step, source: AsyncIterator[Input]) -> AsyncIterator[Input]:
    iterator = aiter(source)
    while True:
        with aside(step):
            try:
                item = await anext(iterator)
            except StopAsyncIteration:
                return
        yield item
