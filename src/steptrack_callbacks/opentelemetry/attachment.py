"""Attaching to the steps of the process, and letting go of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from opentelemetry import metrics, trace

from steptrack_callbacks import hooks
from steptrack_callbacks.integrations import proxy_client

from . import following, names
from .meters import Meters
from .propagation import inject
from .spans import Spans

_SCOPE = "steptrack_callbacks"
_installed: ExitStack | None = None


def install(
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    *,
    call_spans: bool = False,
    thresholds: Sequence[float] = (0.8, 1.0),
    older_names: bool | None = None,
) -> None:
    """Make a span of each step that begins from now on, and count what calls use.

    A step's span is current while its body runs, so the spans that other packages and instrumentations
    make there are its children. Calling it again replaces what was said before.

    Args:
        tracer_provider: Who makes the spans; `None` for the process's own, also if that is set later.
        meter_provider: Who makes the instruments; `None` for the process's own.
        call_spans: Whether to make a span of each model call as well. Leave it off where an
            instrumentation of the package does so, or each call is there twice.
        thresholds: Shares of a limit, as fractions, at which a step's span gets an event.
        older_names: Whether to say names that the GenAI conventions have changed in their older form,
            too; `None` asks the environment: `OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai/dup` does.

    Raises:
        ValueError: A provider is none, a threshold is not a fraction above 0 and up to 1, or `older_names`
            is not a bool. What was installed before stays.

    Example:
        >>> install(thresholds=[0.5, 0.9])
        >>> uninstall()
    """
    global _installed
    _check(tracer_provider, "tracer_provider", "get_tracer")
    _check(meter_provider, "meter_provider", "get_meter")
    if older_names not in (None, True, False):
        raise ValueError(f"older_names must be True, False or None for the environment, not {older_names!r}")
    older = names.older_are_asked_for() if older_names is None else older_names
    meters = Meters(metrics.get_meter(_SCOPE, _version(), meter_provider), older_names=older)
    tracer = trace.get_tracer(_SCOPE, _version(), tracer_provider)
    spans = Spans(tracer, of_calls=call_spans, older_names=older)
    watches = _watch(spans, meters, thresholds)
    following.begin()
    proxy_client.carry_trace(inject)
    if _installed is not None:
        _installed.close()
    _installed = watches


def uninstall() -> None:
    """Make no more spans; those of steps that are running end here, without what the steps have spent.

    Example:
        >>> install()
        >>> uninstall()
    """
    global _installed
    if _installed is None:
        return
    _installed.close()
    _installed = None
    proxy_client.carry_trace(None)
    following.end_all()


def _version() -> str:
    try:
        return version("steptrack-callbacks")
    except PackageNotFoundError:  # copied into a program, and not installed
        return ""


def _check(provider: object, name: str, method: str) -> None:
    if provider is not None and not callable(getattr(provider, method, None)):
        raise ValueError(
            f"{name} must be one of OpenTelemetry's, with {method}(), or None for the process's own,"
            f" not {provider!r}"
        )


def _watch(spans: Spans, meters: Meters, thresholds: Sequence[float]) -> ExitStack:
    """Listen to what the spans and meters are about: all of it, or to nothing if a threshold is malformed."""
    listen: list[Callable[[], Callable[[], None]]] = [
        partial(hooks.watch, hooks.BudgetThreshold, spans.threshold_crossed, threshold=share)
        for share in dict.fromkeys(thresholds)
    ]
    listen += [
        partial(hooks.watch, hooks.StepStarted, spans.step_started),
        partial(hooks.watch, hooks.StepEnded, spans.step_ended),
        partial(hooks.watch, hooks.CallDenied, spans.call_denied),
        partial(hooks.watch, hooks.CallDenied, meters.call_denied),
        partial(hooks.watch, hooks.CallSwapped, spans.call_swapped),
        partial(hooks.watch, hooks.CallSettled, spans.call_settled),
        partial(hooks.watch, hooks.CallSettled, meters.call_settled),
        partial(hooks.watch, hooks.Escalated, spans.escalated),
    ]
    if spans.of_calls:
        listen.append(partial(hooks.watch, hooks.CallAdmitted, spans.call_admitted))
    with ExitStack() as offs:
        for start in listen:
            offs.callback(start())
        return offs.pop_all()
