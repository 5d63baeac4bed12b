"""Where shared accounts and completed steps are kept: in memory, in SQLite or in Redis."""

from .opening import open_ledger

__all__ = ("open_ledger",)
