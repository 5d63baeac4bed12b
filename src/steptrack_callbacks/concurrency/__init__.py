"""Contexts, tasks, forks, and operations that are written once for sync and async."""
