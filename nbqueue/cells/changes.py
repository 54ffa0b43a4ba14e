"""Which variables a cell changes in place: such a change stays where the cell runs."""

from __future__ import annotations

import ast
from collections.abc import Callable

_CHANGING = frozenset({
    "append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "update", "setdefault", "popitem", "add",
    "discard", "appendleft", "extendleft", "popleft", "rotate", "fill", "resize", "put", "itemset", "setflags",
})  # fmt: skip
"""Methods of builtin containers and of arrays that change them. Not of other objects: what those do is not known."""


def changed_in_place(raw_cell: str, transform: Callable[[str], str]) -> frozenset[str]:
    """Names at a cell's level whose objects it can be seen to change, rather than to bind anew.

    Parameters
    ----------
    raw_cell : str
    transform : callable
        See `names_of`.

    Examples
    --------
    >>> sorted(changed_in_place("a.append(1); b['x'] = 2; c = []; c.append(3); del d[0]; e.x = 1", str))
    ['a', 'b', 'c', 'd', 'e']
    """
    finder = _Finder()
    finder.visit(ast.parse(transform(raw_cell)))
    return frozenset(finder.names)


class _Finder(ast.NodeVisitor):
    def __init__(self) -> None:
        self.names: set[str] = set()

    def _change(self, target: ast.AST) -> None:
        """A part of what the innermost name stands for is set or deleted."""
        while isinstance(target, ast.Subscript | ast.Attribute):
            target = target.value
            if isinstance(target, ast.Name):
                self.names.add(target.id)

    def _targets(self, targets: list[ast.expr]) -> None:
        for target in targets:
            if isinstance(target, ast.Tuple | ast.List):
                self._targets(target.elts)
            else:
                self._change(target)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._targets(node.targets)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._change(node.target)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._targets(node.targets)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        is_inplace = any(
            keyword.arg == "inplace" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            for keyword in node.keywords
        )
        if isinstance(function, ast.Attribute) and (is_inplace or function.attr in _CHANGING):
            self._change(function)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Not in functions: their names may be others."""

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """The same."""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """The same."""
