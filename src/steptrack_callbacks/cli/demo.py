"""`steptrack demo`."""

from __future__ import annotations

from argparse import Namespace


def go(options: Namespace) -> int:
    """Run the demo."""
    from steptrack_callbacks.demo import run  # noqa: PLC0415 - the other commands do without

    return run(proxy=options.proxy, as_json=options.json)
