"""What rides along in the states, metadata and logs of frameworks, which are copied and pickled."""

from __future__ import annotations

from typing import Any, Self


class CopiedAsItself:
    """One that stays itself in whatever copy of what it sits in, and is pickled as text.

    It belongs to one call or run of this process: a copy of it would be charged on its own, and where it
    is unpickled nobody knows what it stands for.
    """

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)
