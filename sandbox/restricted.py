"""The door to RestrictedPython: its transformer with our names, our messages and our refusals.

What we keep of it is its default: a node type that nobody has reviewed is
refused. Every construct is then decided by the subclasses in `expressions` and
`transformer`, which lower it or refuse it with a row of `policy`.

One check serves every way a name can be bound or mentioned: `check_name`.
Names that the compiler injects start and end with exactly one underscore, so
guests cannot spell them, and class bodies do not mangle them.
"""

# ruff: noqa: N802  (visitor methods are named for the nodes they visit)

from __future__ import annotations

import ast
from typing import Any, TypeVar

import attrs
from RestrictedPython.transformer import RestrictingNodeTransformer

from sandbox import policy

N = TypeVar("N", bound=ast.AST)


@attrs.frozen
class Problem:
    line: int
    column: int
    message: str


def call(name: str, *args: ast.expr, at: ast.AST) -> ast.Call:
    """Return a call of the injected function `name`."""
    return located(ast.Call(func=ast.Name(name, ast.Load()), args=list(args), keywords=[]), at)


def located(node: N, at: ast.AST) -> N:
    """Give a new node, and the new nodes inside it, the place of the one it stands for.

    Stops at nodes that have a place, so that the whole costs one visit per new node.
    """
    ast.copy_location(node, at)
    pending: list[ast.AST] = list(ast.iter_child_nodes(node))
    while pending:
        child = pending.pop()
        if "lineno" in child._attributes:
            if getattr(child, "lineno", None) is not None:
                continue
            ast.copy_location(child, at)
        pending.extend(ast.iter_child_nodes(child))
    return node


# Node types that are refused as a whole, and the row of `policy.CONSTRUCTS` that says why.
_REFUSED_NODES = {
    "AsyncFunctionDef": "async",
    "AsyncFor": "async",
    "AsyncWith": "with",
    "Await": "await",
    "With": "with",
    "TryStar": "except*",
    "MatMult": "@ between values",
    "TypeAlias": "type alias",
    "TypeVar": "type parameter",
    "ParamSpec": "type parameter",
    "TypeVarTuple": "type parameter",
    "TemplateStr": "template string",
    "Interpolation": "template string",
}


class PolicyTransformer(RestrictingNodeTransformer):
    """Names, and the refusal of whole node types. `problems` holds what was found."""

    def __init__(self, bound_names: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.problems: list[Problem] = []
        self.bound_names = bound_names  # every name the module binds anywhere
        self._temporaries = 0

    # ---- problems ----------------------------------------------------------------

    def error(self, node: ast.AST, info: str) -> None:
        self.problems.append(Problem(getattr(node, "lineno", 0), getattr(node, "col_offset", -1) + 1, info))

    def refuse(self, node: ast.AST, construct: str, what: str | None = None) -> None:
        self.error(node, policy.CONSTRUCTS[construct].text(what or construct))

    def not_allowed(self, node: ast.AST) -> None:
        kind = type(node).__name__
        construct = _REFUSED_NODES.get(kind)
        if construct is None:
            self.error(node, f"{kind} is not part of the language of functions")
        else:
            self.refuse(node, construct)

    def visit(self, node: ast.AST) -> Any:
        if type(node).__name__ in _REFUSED_NODES:
            self.not_allowed(node)
            return node
        return super().visit(node)

    # ---- names -------------------------------------------------------------------

    def check_name(self, node: ast.AST, name: str | None, allow_magic_methods: bool = False) -> None:
        if name is None or name == "_" or not name.startswith("_"):
            return
        self.refuse(node, "name with a leading underscore", f"the name {name}")

    def check_attribute(self, node: ast.AST, name: str) -> None:
        if name.startswith("_"):
            self.refuse(node, "attribute with a leading underscore", f"the attribute {name}")
        elif name in policy.DENIED_ATTRIBUTES:
            self.error(node, policy.DENIED_ATTRIBUTES[name].text(f"the attribute {name}"))

    def temporary(self, stem: str) -> str:
        self._temporaries += 1
        return f"_{stem}{self._temporaries}_"

    def inject_print_collector(self, node: ast.AST, position: int = 0) -> None:
        """`print` is an ordinary function here."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        self.check_name(node, node.id)
        if (
            isinstance(node.ctx, ast.Load)
            and node.id in policy.REFUSED_NAMES
            and node.id not in self.bound_names
        ):
            self.error(node, policy.REFUSED_NAMES[node.id].text(node.id))
        return node
