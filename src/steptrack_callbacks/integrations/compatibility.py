"""What is done about a package that is not as it was known: a warning, a refusal, or an error at once."""

from __future__ import annotations

import sys

from steptrack_callbacks import attachments
from steptrack_callbacks.values import user_warnings
from steptrack_callbacks.values.errors import IntegrationChangedWarning, StepTrackError

from . import import_hooks, versions
from .all_seams import is_gateless, losses_of

_told: dict[str, str] = {}


def heed(package: str, broken: Exception | None = None) -> None:
    """Look at the seams of a package that was just attached to, and do what was said about changes.

    Args:
        package: Its top-level module.
        broken: What attaching has raised, so that nothing of the package is seen.
    """
    message = _message(package, broken)
    if message is None:
        _told.pop(package, None)
        attachments.trust(package)
        return
    if attachments.on_change() == "raise" or (
        attachments.on_change() == "refuse" and (broken is not None or is_gateless(package))
    ):
        attachments.distrust(package, message)
    if _told.get(package) != message:
        _told[package] = message
        _warn(package, message)


def _warn(package: str, message: str) -> None:
    try:
        user_warnings.warn(message, IntegrationChangedWarning)
    except IntegrationChangedWarning:  # the user's filters make it an error
        if not import_hooks.is_within_import():
            raise
        attachments.distrust(package, message)  # and not the import, but the next step with limits is to fail


def _message(package: str, broken: Exception | None) -> str | None:
    """Say what of a package is not covered now, and what helps; `None` if all is as it was known."""
    lines = [f"- {loss}" for loss in losses_of(package)]
    if broken is not None:
        cure = f"take a tested version of {package}, or a newer steptrack-callbacks"
        lines.insert(0, f"- attaching to it fails ({broken!r}): none of its calls is seen; {cure}")
    if not lines:
        return None
    known = f"tested with {versions.tested(package)}"
    version = versions.version_of(package) or "of an unknown version"
    return "\n".join([f"{package} {version} is not as it was known here ({known}):", *lines])


def require_unchanged(packages: tuple[str, ...]) -> None:
    """Refuse packages that are imported and not as they were known.

    Raises:
        StepTrackError: One of them is not; the message says what of it is not covered, and what helps.
    """
    messages = [_message(package, None) for package in packages if package in sys.modules]
    if found := [message for message in messages if message is not None]:
        raise StepTrackError("\n".join(found))


def forget() -> None:
    """Warn again of what was warned of before."""
    _told.clear()
