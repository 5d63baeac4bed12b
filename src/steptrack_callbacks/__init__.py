"""Budgets for the steps of an LLM program."""

__version__ = "0.1.0"
