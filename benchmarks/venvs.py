"""A virtual environment for each package that is measured, beside the frameworks that are installed here.

Each sees the frameworks (LangChain, LiteLLM, OpenAI) of the environment that runs the benchmark, so all are
measured on the same versions, and holds the package itself and what it needs besides.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distributions
from pathlib import Path

from entrants import PACKAGES

HOME = Path(__file__).with_name(".venvs")
PYTHONS = {None: Path(sys.executable)}
"""The interpreter that has each package; `None` stands for the frameworks alone."""


def make(packages: list[str] = PACKAGES) -> dict[str, str]:
    """Make what is missing. Returns the version of each package, or why there is none."""
    return {package: _make(package) for package in packages}


def _make(package: str) -> str:
    home = HOME / package
    python, done = home / "bin" / "python", home / "installed"
    if not done.exists():
        venv.create(home, clear=True)
        _purelib(home).joinpath("frameworks.pth").write_text(sysconfig.get_path("purelib") + "\n")
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", package]
        failed = subprocess.run(pip, capture_output=True, text=True, check=False)
        if failed.returncode:
            return f"cannot be installed: {failed.stderr.strip().splitlines()[-1]}"
        done.touch()
    PYTHONS[package] = python
    return next(found.version for found in distributions(name=package, path=[str(_purelib(home))]))


def _purelib(home: Path) -> Path:
    return Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
