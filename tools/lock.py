"""Renews `constraints/`: what `make test` installs by, and the newest that a user can install today.

`tested.txt` holds all extras; LiteLLM's proxy is one of them, and may hold LiteLLM itself back.
`newest.txt` leaves the proxy out. Neither is to be edited by hand: a set is committed when its tests pass.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
ALL_BUT_PROXY = ("otel", "prices", "redis", "rich")
HEADER = "# Written by `make lock`, for Python 3.11 and newer.\n"


def main() -> None:
    lock("tested.txt", (*ALL_BUT_PROXY, "proxy"), ("lint", "test"))
    lock("newest.txt", ALL_BUT_PROXY, ("test",))


def lock(name: str, extras: tuple[str, ...], groups: tuple[str, ...]) -> None:
    """Resolve for every supported Python at once, and write what was found."""
    options = [f"--extra={extra}" for extra in extras] + [f"--group={group}" for group in groups]
    command = [UV, "pip", "compile", "pyproject.toml", "--universal", "--python-version=3.11"]
    shown = ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
    done = subprocess.run([*command, *shown, *options], cwd=ROOT, check=True, capture_output=True, text=True)
    (ROOT / "constraints" / name).write_text(HEADER + done.stdout)
    print(f"constraints/{name}: {len(done.stdout.splitlines())} packages")


if __name__ == "__main__":
    main()
