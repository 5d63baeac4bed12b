"""`steptrack.toml`: limits, budgets, prices and tools as a file, checked whole before any of it counts.

Example:
    >>> from steptrack_callbacks.config import parse
    >>> config = parse('''
    ... [budgets.team-a]
    ... max_usd = 50
    ... window = "1d"
    ...
    ... [steps.plan]
    ... max_usd = 0.05
    ... budgets = ["team-a"]
    ... ''')
    >>> config.steps["plan"].max_usd, config.budgets["team-a"].window
    (Decimal('0.05'), '1d')
"""

from .problems import ConfigError, Problem
from .reading import load, parse
from .shape import schema
from .values import Config, LedgerOptions, ProxyOptions

__all__ = ("Config", "ConfigError", "LedgerOptions", "Problem", "ProxyOptions", "load", "parse", "schema")
