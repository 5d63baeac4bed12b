"""What the integrations share.

`docs/design.md` lists all that a new one has to write, and where it is registered.
"""
