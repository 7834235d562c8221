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
from typing import Final

import attrs

from sandbox.inline import is_number

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


@attrs.frozen
class Integers:
    """Local names of one function.

    Args:
      names: hold integers only.
      small: of these, the ones that arithmetic never makes: a sum grows by each as by a literal.
    """

    names: frozenset[str] = frozenset()
    small: frozenset[str] = frozenset()


NO_INTEGERS: Final = Integers()


def needed_names(node: ast.expr, shadowed: frozenset[str]) -> list[str] | None:
    """Return the names that have to hold integers for `node` to be one; None if it may be something else."""
    needed: list[str] = []
    pending = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, ast.Constant):
            if type(part.value) is not int:
                return None
        elif isinstance(part, ast.Name):
            needed.append(part.id)
        elif isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub):
            pending.append(part.operand)
        elif isinstance(part, ast.BinOp) and isinstance(part.op, _ARITHMETIC):
            pending += (part.left, part.right)
        elif isinstance(part, ast.IfExp):
            pending += (part.body, part.orelse)
        elif not _calls(part, "len", shadowed):
            return None
    return needed


def is_integer(node: ast.expr, known: frozenset[str], shadowed: frozenset[str]) -> bool:
    """Whether the value of `node` is an `int` if the names in `known` are."""
    needed = needed_names(node, shadowed)
    return needed is not None and known.issuperset(needed)


def is_small(node: ast.expr, known: frozenset[str], shadowed: frozenset[str]) -> bool:
    """Whether the value of `node` is a literal, a length, or a name in `known`."""
    if isinstance(node, ast.Name):
        return node.id in known
    return is_number(node, int) or _calls(node, "len", shadowed)


def _has_star(nodes: list[ast.expr]) -> bool:
    return any(isinstance(node, ast.Starred) for node in nodes)


class _Bindings:
    """Everything that binds a name in one function's own frame."""

    def __init__(self, shadowed: frozenset[str]) -> None:
        self._shadowed = shadowed
        self.sources: dict[str, list[ast.expr]] = {}
        self.unbounded: set[str] = set()  # counted from, or by, what may be a large integer
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
        """Scopes inside: their own names are others, and what they bind of ours is in `rebound`."""
        name = getattr(node, "name", None)
        if name is not None:
            self.unknown.add(name)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.sources.setdefault(target.id, []).append(value)
        elif (
            isinstance(target, ast.Tuple)
            and isinstance(value, ast.Tuple)
            and len(target.elts) == len(value.elts)
            and not _has_star([*target.elts, *value.elts])
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
            assert isinstance(node.iter, ast.Call)
            args = node.iter.args
            start_and_step = args[::2] if len(args) > 1 else []
            if _has_star(args) or not all(is_number(arg, int) for arg in start_and_step):
                self.unbounded.add(node.target.id)
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
            if _has_star(node.iter.args):
                self.unbounded.add(node.target.elts[0].id)
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


def rebound_names(node: ast.FunctionDef) -> frozenset[str]:
    """Return the names that a scope inside `node` may bind for one around it."""
    names: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Nonlocal):
            names.update(part.names)
        elif isinstance(part, ast.NamedExpr) and isinstance(part.target, ast.Name):
            names.add(part.target.id)
    return frozenset(names)


def integer_names(node: ast.FunctionDef, shadowed: frozenset[str], rebound: frozenset[str]) -> Integers:
    """Return the local names of `node` that only ever hold integers.

    A name falls with the first source that is no integer, and takes with it the names whose
    sources need it: each is looked at once, however long the chain.

    Args:
      shadowed: names that the module binds anywhere; `len`, `range` and `enumerate` among them mean nothing.
      rebound: `rebound_names` of the outermost function around `node`. Asked for once, not at each level.
    """
    bindings = _Bindings(shadowed)
    bindings.collect(node.body)
    bindings.unknown |= rebound
    args = node.args
    parameters = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    bindings.unknown.update(arg.arg for arg in parameters if arg is not None)
    needs: dict[ast.expr, list[str] | None] = {}  # one source may be that of many names: `a = b = c = ...`
    dependants: dict[ast.expr | str, list[ast.expr | str]] = {}  # sources by names, names by sources
    fallen: list[ast.expr | str] = list(bindings.unknown)
    for name, sources in bindings.sources.items():
        for source in sources:
            dependants.setdefault(source, []).append(name)
            if source in needs:
                continue
            needed = needs[source] = needed_names(source, shadowed)
            if needed is None:
                fallen.append(source)
            else:
                for other in needed:
                    dependants.setdefault(other, []).append(source)
                    if other not in bindings.sources:
                        fallen.append(other)
    lost: set[ast.expr | str] = set()
    while fallen:
        item = fallen.pop()
        if item not in lost:
            lost.add(item)
            fallen += dependants.get(item, ())
    names = frozenset(name for name in bindings.sources if name not in lost)
    small = (
        name
        for name in names - bindings.unbounded
        if all(is_small(source, frozenset(), shadowed) for source in bindings.sources[name])
    )
    return Integers(names, frozenset(small))
