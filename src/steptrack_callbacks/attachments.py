"""What we are attached to in this process, and a word of warning if it is nothing."""

from __future__ import annotations

import sys

from . import settings
from .values import user_warnings
from .values.errors import LostStepWarning, StepTrackError

_INTEGRATIONS = {"litellm": f"{__package__}.litellm", "langchain_core": f"{__package__}.langchain"}
PACKAGES = tuple(_INTEGRATIONS)

_attached: set[str] = set()
_attached_before: set[str] = set()
_distrusted: dict[str, str] = {}
_warned = False


def attach(package: str) -> None:
    """Note that calls of a package are counted from now on."""
    _attached.add(package)
    _attached_before.add(package)


def detach(package: str) -> None:
    """Note that they are no longer."""
    _attached.discard(package)


def is_attached(package: str) -> bool:
    """Tell whether calls of a package are counted."""
    return package in _attached


def on_change() -> settings.OnIntegrationChange:
    """Return what is done about a package that is not as it was known."""
    return settings.now.on_integration_change


def trust_all() -> None:
    """Let what is refused already be judged again by whoever attaches next."""
    _distrusted.clear()


def distrust(package: str, why: str) -> None:
    """Let no step with limits begin, since calls of a package that is imported cannot be held to them."""
    _distrusted[package] = why


def trust(package: str) -> None:
    """Let them begin again."""
    _distrusted.pop(package, None)


def is_any_distrusted() -> bool:
    """Tell whether limits cannot be kept."""
    return bool(_distrusted)


def cannot_keep_limits(name: str) -> StepTrackError:
    """Return what a step with limits is refused with where they cannot be kept."""
    why = "\n".join(_distrusted.values())
    return StepTrackError(
        f"step {name!r} has limits that cannot be kept: {why}\n"
        'install(on_integration_change="warn") goes on nevertheless'
    )


def warn_if_unwatched(path: str) -> None:
    """Warn, once, that a limited step sees no call because we are attached to nothing.

    Whoever imports an integration does so for its handlers, `budgeted` or a middleware, which may still come.
    """
    global _warned
    if _warned or _attached or _is_integrated_by_hand():
        return
    imported = [package for package in PACKAGES if package in sys.modules]
    if imported:
        _warned = True
        user_warnings.warn(
            f"step {path!r} has limits, but nothing watches {' and '.join(imported)}: call"
            " steptrack_callbacks.install() first, or record_usage() after each call",
            LostStepWarning,
        )


def _is_integrated_by_hand() -> bool:
    return any(
        integration in sys.modules and package not in _attached_before
        for package, integration in _INTEGRATIONS.items()
    )


def reset() -> None:
    """Let the warning come again."""
    global _warned
    _warned = False
