"""How much straight-line code stands between two steps, and what it is charged for.

A step is taken for every item, test and entry, so what an attacker can write between
two of them was free: thousands of statements, a list of ten thousand items, a test of
a thousand parts. The text decides how much that is, so the compiler counts it: nodes
of the tree, the costliest way through branches. A body of up to `costs.FREE_NODES`
stays free; a larger one charges for all its nodes at its head, each time it runs.

A body is that of a function, a lambda, a loop, one clause of a comprehension, or the
module. What is inside another body is counted there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Final

from sandbox import costs

STEPS: Final = "steps_"  # attribute of a node with a heavy body: what it charges

_COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FREE: Final = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.alias, ast.arg)


def mark_steps(tree: ast.Module) -> None:
    """Mark every node of `tree` whose body is heavy."""
    _mark(tree, _all(tree.body))


def steps_of(node: ast.AST) -> int:
    """Return what the body of `node` charges each time it runs."""
    return getattr(node, STEPS, 0)


def _mark(node: ast.AST, weight: int) -> None:
    if weight > costs.FREE_NODES:
        setattr(node, STEPS, weight // costs.NODES)


def _all(nodes: Iterable[ast.AST | None]) -> int:
    return sum(_weight(node) for node in nodes if node is not None)


def _weight(node: ast.AST) -> int:
    """Return how many nodes run when `node` does, and mark the bodies inside."""
    if isinstance(node, _FREE):
        return 0
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        _mark(node, _all(node.body) if isinstance(node, ast.FunctionDef) else _weight(node.body))
        defaults = _all([*node.args.defaults, *node.args.kw_defaults])
        return 1 + defaults + _all(getattr(node, "decorator_list", ()))
    if isinstance(node, ast.For):
        _mark(node, _weight(node.target) + _all(node.body))
        return 1 + _weight(node.iter) + _all(node.orelse)
    if isinstance(node, ast.While):
        test = _weight(node.test)
        _mark(node, test + _all(node.body))
        return 1 + test
    if isinstance(node, _COMPREHENSIONS):
        return _comprehension(node)
    if isinstance(node, ast.If):
        return 1 + _weight(node.test) + max(_all(node.body), _all(node.orelse))
    if isinstance(node, ast.IfExp):
        return 1 + _weight(node.test) + max(_weight(node.body), _weight(node.orelse))
    if isinstance(node, ast.Match):
        bodies = [_all(case.body) for case in node.cases]
        patterns = _all(part for case in node.cases for part in (case.pattern, case.guard))
        return 1 + _weight(node.subject) + patterns + max(bodies)
    if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant):
        return 1 + _compared(node.value)
    if isinstance(node, ast.Try):
        handlers = [_all([handler.type, *handler.body]) for handler in node.handlers]
        return 1 + _all([*node.body, *node.orelse, *node.finalbody]) + max(handlers, default=0)
    if isinstance(node, ast.AnnAssign):
        return 1 + _all([node.target, node.value])
    return 1 + _all(ast.iter_child_nodes(node))


def _comprehension(node: ast.expr) -> int:
    """Each clause runs once per item of its iterable: its conditions, and what the next one iterates over."""
    assert isinstance(node, _COMPREHENSIONS)
    made = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    for clause, following in zip(node.generators, [*node.generators[1:], None], strict=True):
        inside = made if following is None else [following.iter]
        _mark(clause, _all([clause.target, *clause.ifs, *inside]))
    return 1 + _weight(node.generators[0].iter)


def _compared(node: ast.Constant) -> int:
    """Text in a pattern is compared without a guard."""
    return len(node.value) // costs.SHORT_TEXT if isinstance(node.value, (str, bytes)) else 0
