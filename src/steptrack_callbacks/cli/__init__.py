"""The command line: `steptrack`. Each command is a file here, opened when it is called."""

from .main import main

__all__ = ("main",)
