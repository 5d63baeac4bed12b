"""The machine and the versions that were measured, in words."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

FRAMEWORKS = ("langchain-core", "langchain-openai", "langgraph", "litellm", "openai", "redis")


def describe() -> dict[str, str]:
    return {
        "machine": f"{os.cpu_count()} cores of {_processor()}{_memory()}, {platform.system()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        **{name: version(name) for name in ("steptrack-callbacks", *FRAMEWORKS)},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor() or platform.machine()


def _memory() -> str:
    if not hasattr(os, "sysconf"):
        return ""
    return f" with {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
