"""Scopes around accounts: the stack, boundaries, decorators, placement, records."""
