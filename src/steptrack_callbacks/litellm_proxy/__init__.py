"""The LiteLLM proxy: budgets for the steps of every client of a team.

On the proxy, name the handler in its configuration; limits come from the `steptrack.toml` that
`STEPTRACK_CONFIG` names:

```yaml
litellm_settings:
  callbacks: steptrack_callbacks.litellm_proxy.proxy_handler_instance
```

At a client, `headers()` says in which step a request is made.
"""

from typing import TYPE_CHECKING, Any

from steptrack_callbacks.integrations.proxy_client import headers

if TYPE_CHECKING:
    from .handler import StepTrackProxyHandler

    proxy_handler_instance: StepTrackProxyHandler

__all__ = ("headers", "proxy_handler_instance")


def __getattr__(name: str) -> Any:
    """Make the handler when the proxy first asks for it, so that clients need no proxy to import this."""
    if name != "proxy_handler_instance":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .starting import start  # noqa: PLC0415 - needs the proxy's own dependencies

    handler = globals()[name] = start()
    return handler
