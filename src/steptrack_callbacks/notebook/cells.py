"""Cells that run in a step: their code is put into a `with`, so that `await` and assignments work.

A magic function cannot await, and code that it runs loses the line numbers of its cell. So the
first line of a `%%step` cell becomes a call, and the rest of the cell the block of a `with` around it.
"""

from __future__ import annotations

import ast
from typing import Any

MAGIC = "%%step"
ENTRANCE = "steptrack_cell"
"""The line magic that returns the context manager of a cell."""


def open_cell(lines: list[str]) -> list[str]:
    """Turn the first line of a `%%step` cell into a call that `PutInStep` finds; line numbers stay.

    With `--help` it shows the options, and runs nothing.
    """
    if not lines or lines[0].split(maxsplit=1)[:1] != [MAGIC]:
        return lines
    line = lines[0].strip().removeprefix(MAGIC).strip()
    if {"--help", "-h"} & set(line.split()):
        return [f"get_ipython().run_line_magic('pinfo', {MAGIC!r})\n"]
    return [f"get_ipython().run_line_magic({ENTRANCE!r}, {line!r})\n", *lines[1:]]


class PutInStep(ast.NodeTransformer):
    """Puts the rest of a cell into the step that its first line names."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """Rewrite a cell that begins with the call; any other stays as it is."""
        if not node.body or not _is_entrance(node.body[0]):
            return node
        first, *rest = node.body
        assert isinstance(first, ast.Expr)
        future = [each for each in rest if isinstance(each, ast.ImportFrom) and each.module == "__future__"]
        body = [each for each in rest if each not in future]
        if body and isinstance(body[-1], ast.Expr):
            body[-1] = _displayed(body[-1])
        kind: type[ast.With | ast.AsyncWith] = ast.AsyncWith if _awaits(body) else ast.With
        block = kind(items=[ast.withitem(context_expr=first.value)], body=body or [ast.Pass()])
        node.body = [*future, ast.copy_location(block, first)]
        return ast.fix_missing_locations(node)


def _is_entrance(node: ast.stmt) -> bool:
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    call = node.value
    names = [arg.value for arg in call.args[:1] if isinstance(arg, ast.Constant)]
    return isinstance(call.func, ast.Attribute) and call.func.attr == "run_line_magic" and names == [ENTRANCE]


def _displayed(last: ast.Expr) -> ast.Expr:
    """Show the value of the last expression, as at the end of any cell."""
    hook: Any = ast.parse("__import__('sys').displayhook", mode="eval").body
    shown = ast.Call(func=hook, args=[last.value], keywords=[])
    for node in ast.walk(hook):
        ast.copy_location(node, last)
    return ast.copy_location(ast.Expr(ast.copy_location(shown, last)), last)


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def _awaits(body: list[ast.stmt]) -> bool:
    """Tell whether the cell awaits itself, and not only in functions that it defines."""
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            return True
        if isinstance(node, ast.comprehension) and node.is_async:
            return True
        if not isinstance(node, _SCOPES):
            pending += ast.iter_child_nodes(node)
    return False
