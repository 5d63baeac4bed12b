"""LangChain's models that go on with the next of a step's list: the whole call is made with another one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

from langchain_core.language_models.base import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import RunnableConfigurableFields

from steptrack_callbacks.engine.request import UNKNOWN_MODEL
from steptrack_callbacks.engine.swapping import Swap, Trial
from steptrack_callbacks.steps.active import innermost
from steptrack_callbacks.steps.trials import trial_of, tried, tried_async

from .requests import model_named

Input = TypeVar("Input")
Output = TypeVar("Output")

SAID = "steptrack_swap"
"""Where an answer's `response_metadata` says with which model it was made in place of which."""

_NAMES = ("model_name", "model", "model_id")
_END: Any = object()


class Named(NamedTuple):
    """A model that was given, and the name by which its calls ask for it."""

    name: str
    runnable: Any


class Described(NamedTuple):
    """What a model says of itself."""

    name: str
    provider: str


def models_of(given: Sequence[Any] | None, where: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Take models apart that are given as names or as runnables: all names, and the runnables by name.

    Raises:
        ValueError: A runnable has no one model with a name, or they are of several providers.
    """
    if given is None or isinstance(given, str) or not isinstance(given, Sequence):
        return given or (), {}  # type: ignore[return-value] # a definition says what is wrong with it
    named = [
        each if not isinstance(each, Runnable) else Named(_described(each, where).name, each)
        for each in given
    ]
    providers = {_described(each, where).provider for each in given if isinstance(each, Runnable)} - {""}
    if len(providers) > 1:
        raise ValueError(
            f"{where}: models are of {' and of '.join(sorted(providers))}, and a call goes on with the same"
            " provider only: its history and its cache are of no use to another"
        )
    names = tuple(each.name if isinstance(each, Named) else _bare(each) for each in named)
    return names, {each.name: each.runnable for each in named if isinstance(each, Named)}


def _described(runnable: Any, where: str) -> Described:
    model = model_in(runnable)
    said = None if model is None else describe(model)
    if said is None or said.name == UNKNOWN_MODEL:
        raise ValueError(
            f"{where}: models must be models with a name, by themselves or with what is bound to them, not"
            f" {type(runnable).__name__}"
        )
    return said


def model_in(runnable: Any) -> BaseLanguageModel[Any] | None:
    """Return the one model in a runnable; `None` if there is none, or are several."""
    while isinstance(runnable, RunnableBindingBase):
        runnable = runnable.bound
    if isinstance(runnable, RunnableConfigurableFields):
        runnable = runnable.default
    if isinstance(runnable, BaseLanguageModel):
        return runnable
    if isinstance(runnable, RunnableSequence):
        found = [model for each in runnable.steps if (model := model_in(each)) is not None]
        return found[0] if len(found) == 1 else None
    return None


def describe(model: Any) -> Described:
    """Name a model as its calls do."""
    ask = getattr(model, "_get_ls_params", None)
    said: Mapping[str, Any] = ask() if ask is not None else {}
    own = {name: getattr(model, name, None) for name in _NAMES}
    return Described(model_named(said, own), str(said.get("ls_provider") or ""))


def named_as(runnable: Any, name: str) -> Any:
    """Return a runnable whose model has another name, and all else as before.

    Raises:
        ValueError: It has no field for its model's name, or takes no other.
    """
    if isinstance(runnable, RunnableBindingBase):
        return runnable.model_copy(update={"bound": named_as(runnable.bound, name)})
    if isinstance(runnable, RunnableSequence):
        steps = [each if model_in(each) is None else named_as(each, name) for each in runnable.steps]
        return RunnableSequence(*steps, name=runnable.name)
    known = type(runnable).model_fields if isinstance(runnable, BaseLanguageModel) else {}
    field = next((each for each in _NAMES if each in known), None)
    copy = None if field is None else runnable.model_copy(update={field: name})
    if copy is None or describe(copy).name != name:
        kind = type(runnable).__name__
        raise ValueError(f"models: {kind} cannot be given the name {name!r}: give the model itself")
    return copy


def _bare(name: Any) -> Any:
    """Take the provider off that `init_chat_model` takes before a name, as in `openai:gpt-5`."""
    before, colon, rest = str(name).partition(":")
    return rest if isinstance(name, str) and colon and before.replace("_", "").isalpha() else name


def tell(answer: Any, swap: Swap | None) -> Any:
    """Say in the metadata of an answer which model it was made with; returns the answer."""
    messages: Iterable[Any] = answer if isinstance(answer, list) else [answer]
    for message in messages if swap is not None else ():
        metadata = getattr(message, "response_metadata", None)
        if swap is not None and isinstance(metadata, dict):
            metadata[SAID] = swap.to_dict()
    return answer


@asynccontextmanager
async def closed_with_reader(stream: AsyncIterator[Output]) -> AsyncIterator[AsyncIterator[Output]]:
    """Close a stream with its reader; Python would leave that to its garbage collection."""
    try:
        yield stream
    finally:
        if (close := getattr(stream, "aclose", None)) is not None:
            await close()


class ModelChoice(Runnable[Input, Output]):
    """A runnable with one model, each call of which is made with the first of a step's models that fits.

    Attributes:
        bound: The runnable, with the model that is preferred.
    """

    def __init__(self, bound: Runnable[Input, Output], given: Mapping[str, Any]) -> None:
        self.bound = bound
        self._given = given

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:  # noqa: A002
        """Invoke it with the first model that fits."""
        __tracebackhide__ = True
        asked, trial = self._trial(config)
        if trial is None:
            return self.bound.invoke(input, config, **kwargs)
        make: Callable[[str], Output] = lambda name: self._with(name, asked).invoke(  # noqa: E731
            input, self._config(config, name, asked), **kwargs
        )
        return tell(tried(trial, make), trial.swap)  # type: ignore[no-any-return]

    async def ainvoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:  # noqa: A002
        """Do as `invoke`, on the event loop."""
        __tracebackhide__ = True
        asked, trial = self._trial(config)
        if trial is None:
            return await self.bound.ainvoke(input, config, **kwargs)

        async def make(name: str) -> Output:
            __tracebackhide__ = True
            configured = self._config(config, name, asked)
            return await self._with(name, asked).ainvoke(input, configured, **kwargs)  # type: ignore[no-any-return]

        return tell(await tried_async(trial, make), trial.swap)  # type: ignore[no-any-return]

    def stream(
        self,
        input: Input,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Output]:
        """Stream it with the first model that fits."""
        __tracebackhide__ = True
        asked, trial = self._trial(config)
        if trial is None:
            yield from self.bound.stream(input, config, **kwargs)
            return

        def make(name: str) -> tuple[Any, Iterator[Output]]:
            __tracebackhide__ = True
            chunks = self._with(name, asked).stream(input, self._config(config, name, asked), **kwargs)
            return next(chunks, _END), chunks

        first, chunks = tried(trial, make)
        if first is not _END:
            yield tell(first, trial.swap)
            yield from chunks

    async def astream(
        self,
        input: Input,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Output]:
        """Do as `stream`, on the event loop."""
        __tracebackhide__ = True
        asked, trial = self._trial(config)
        if trial is None:
            async with closed_with_reader(self.bound.astream(input, config, **kwargs)) as plain:
                async for chunk in plain:
                    yield chunk
            return

        async def make(name: str) -> tuple[Any, AsyncIterator[Output]]:
            __tracebackhide__ = True
            chunks = self._with(name, asked).astream(input, self._config(config, name, asked), **kwargs)
            return await anext(chunks, _END), chunks

        first, begun = await tried_async(trial, make)
        async with closed_with_reader(begun) as chunks:
            if first is not _END:
                yield tell(first, trial.swap)
                async for chunk in chunks:
                    yield chunk

    def _trial(self, config: RunnableConfig | None) -> tuple[str, Trial | None]:
        step = innermost()
        if step is None or not step.accounts.listing:
            return "", None
        chosen = (config or {}).get("configurable", {}).get(self._field or "")
        asked = str(chosen or describe(model_in(self.bound)).name)
        return asked, trial_of(asked)

    def _with(self, name: str, asked: str) -> Any:
        if name == asked or self._field is not None:
            return self.bound
        return self._given.get(name) or named_as(self.bound, name)

    def _config(self, config: RunnableConfig | None, name: str, asked: str) -> RunnableConfig | None:
        """Choose a model by the field of the configuration that says it, if there is one."""
        if self._field is None or name == asked:
            return config
        given: Any = {**(config or {})}
        given["configurable"] = {**given.get("configurable", {}), self._field: name}
        return given  # type: ignore[no-any-return]

    @property
    def _field(self) -> str | None:
        """The configurable field for the model's name; `None` if it cannot be configured."""
        inner: Any = self.bound
        while isinstance(inner, RunnableBindingBase):
            inner = inner.bound
        fields = inner.fields if isinstance(inner, RunnableConfigurableFields) else {}
        return next((fields[name].id for name in _NAMES if name in fields), None)

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Return the name of the runnable inside."""
        return self.bound.get_name(suffix, name=name)
