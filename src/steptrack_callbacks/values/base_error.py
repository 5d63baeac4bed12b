"""The base of every error of this package: it can be copied, pickled and rebuilt."""

from __future__ import annotations

from typing import Any


class StepTrackError(RuntimeError):
    """Base of every error of this package; keeps its fields when copied, pickled or rebuilt."""

    _fields: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        """Return the keyword arguments that build an equal error."""
        return {name: getattr(self, name) for name in self._fields}

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt from positional arguments; ours have only keywords.
        return _rebuild, (type(self), self.fields()), _state_of(self)

    def __setstate__(self, state: dict[str, Any] | None) -> None:
        self.__dict__.update(state or {})


def _rebuild(cls: type[StepTrackError], fields: dict[str, Any]) -> StepTrackError:
    return cls(**fields)


def _state_of(error: StepTrackError) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if name not in error._fields}
