"""Which local names of a function certainly hold plain integers, whatever the input.

Tight loops count and sum; there the test of a class costs more than the sum. This
finds, without following the flow, the names whose every binding in the function is
an integer by its form: a literal, `len(...)`, a target of `range(...)` or of the count
of `enumerate(...)`, and arithmetic over such. One other binding, of any form, or one
use of the name in a nested scope's `nonlocal`, and the name is out.

It must never say yes wrongly: what it says lets a guard be left out. Sizes are still
checked, since integers grow.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod)
_OWN_SCOPES = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
)  # fmt: skip


def _calls(node: ast.expr, name: str, shadowed: frozenset[str]) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == name
        and name not in shadowed
    )


def is_integer(node: ast.expr, known: set[str] | frozenset[str], shadowed: frozenset[str]) -> bool:
    """Whether the value of `node` is an `int` if the names in `known` are."""
    if isinstance(node, ast.Constant):
        return type(node.value) is int
    if isinstance(node, ast.Name):
        return node.id in known
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and is_integer(node.operand, known, shadowed)
    if isinstance(node, ast.BinOp):
        return (
            isinstance(node.op, _ARITHMETIC)
            and is_integer(node.left, known, shadowed)
            and is_integer(node.right, known, shadowed)
        )
    if isinstance(node, ast.IfExp):
        return is_integer(node.body, known, shadowed) and is_integer(node.orelse, known, shadowed)
    return _calls(node, "len", shadowed)


class _Bindings:
    """Everything that binds a name in one function's own frame."""

    def __init__(self, shadowed: frozenset[str]) -> None:
        self._shadowed = shadowed
        self.sources: dict[str, list[ast.expr]] = {}
        self.unknown: set[str] = set()

    def collect(self, body: Iterable[ast.AST]) -> None:
        pending = list(body)
        while pending:
            node = pending.pop()
            if isinstance(node, _OWN_SCOPES):
                self._nested(node)
                continue
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._assign(target, node.value)
                pending.append(node.value)
            elif isinstance(node, ast.AugAssign):
                self._augment(node)
                pending.append(node.value)
            elif isinstance(node, ast.For):
                self._loop(node)
                pending += [node.iter, *node.body, *node.orelse]
            else:
                self._other(node)
                pending.extend(ast.iter_child_nodes(node))

    def _nested(self, node: ast.AST) -> None:
        """Scopes inside: their own names are others, but assignment expressions and `nonlocal` reach out."""
        name = getattr(node, "name", None)
        if name is not None:
            self.unknown.add(name)
        for part in ast.walk(node):
            if isinstance(part, ast.Nonlocal):
                self.unknown.update(part.names)
            elif isinstance(part, ast.NamedExpr) and isinstance(part.target, ast.Name):
                self.unknown.add(part.target.id)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.sources.setdefault(target.id, []).append(value)
        elif (
            isinstance(target, ast.Tuple)
            and isinstance(value, ast.Tuple)
            and len(target.elts) == len(value.elts)
            and not any(isinstance(item, ast.Starred) for item in (*target.elts, *value.elts))
        ):
            for inner, source in zip(target.elts, value.elts, strict=True):
                self._assign(inner, source)
        else:
            self._unknown_names(target)

    def _augment(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            here = ast.Name(node.target.id, ast.Load())
            source = ast.BinOp(left=here, op=node.op, right=node.value)
            self.sources.setdefault(node.target.id, []).append(source)
        else:
            self._unknown_names(node.target)  # `xs[(n := key)] += 1` binds as well

    def _loop(self, node: ast.For) -> None:
        if isinstance(node.target, ast.Name) and _calls(node.iter, "range", self._shadowed):
            self.sources.setdefault(node.target.id, []).append(ast.Constant(0))
        elif (
            isinstance(node.target, ast.Tuple)
            and len(node.target.elts) == 2
            and isinstance(node.target.elts[0], ast.Name)
            and _calls(node.iter, "enumerate", self._shadowed)
            and isinstance(node.iter, ast.Call)
            and len(node.iter.args) == 1
            and not node.iter.keywords
        ):
            self.sources.setdefault(node.target.elts[0].id, []).append(ast.Constant(0))
            self._unknown_names(node.target.elts[1])
        else:
            self._unknown_names(node.target)

    def _other(self, node: ast.AST) -> None:
        """Any other form that binds: the name is out."""
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            self.unknown.add(node.id)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            self.unknown.update(node.names)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            self.unknown.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            self.unknown.add(node.rest)
        elif isinstance(node, ast.alias):
            self.unknown.add(node.asname or node.name)

    def _unknown_names(self, target: ast.AST) -> None:
        for part in ast.walk(target):
            if isinstance(part, ast.Name):
                self.unknown.add(part.id)


def integer_names(node: ast.FunctionDef, shadowed: frozenset[str]) -> frozenset[str]:
    """Return the local names of `node` that only ever hold integers.

    Args:
      shadowed: names that the module binds anywhere; `len`, `range` and `enumerate` among them mean nothing.
    """
    bindings = _Bindings(shadowed)
    bindings.collect(node.body)
    args = node.args
    parameters = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    bindings.unknown.update(arg.arg for arg in parameters if arg is not None)
    known = set(bindings.sources) - bindings.unknown
    while True:
        wrong = {
            name
            for name in known
            if not all(is_integer(source, known, shadowed) for source in bindings.sources[name])
        }
        if not wrong:
            return frozenset(known)
        known -= wrong
