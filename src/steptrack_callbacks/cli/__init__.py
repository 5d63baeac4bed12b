"""The command line: `steptrack`. Each command is a file of its name here, imported when it is called."""

from .main import main

__all__ = ("main",)
