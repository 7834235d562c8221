"""Where an app's source names an index, found by reading it: for the warning that an index goes away.

An index may also be named by a variable, or reached through a helper of another
module; this finds what is written out, which is nearly all of it, and claims no more.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from sandbox.analysis import IndexUse
from sandbox.compiler import CompiledModule


def index_uses(compiled: CompiledModule) -> Iterator[IndexUse]:
    """Yield every `...query("table")....with_index("name", ...)` of a module, function by function."""
    with warnings.catch_warnings():  # as in `compiler.compile_module`
        warnings.simplefilter("ignore")
        tree = ast.parse(compiled.source)
    for node in tree.body:
        function = node.name if isinstance(node, ast.FunctionDef) else ""
        for inner in ast.walk(node):
            index = _text_argument(inner, "with_index") or _text_argument(inner, "with_search_index")
            if index is not None and isinstance(inner, ast.Call):
                yield IndexUse(
                    table=_table_of(inner),
                    index=index,
                    function=function,
                    file=compiled.filename,
                    line=inner.lineno,
                )


def _text_argument(node: ast.AST, method: str) -> str | None:
    """Return the text that `node` passes first, if it calls a method of this name."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == method
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ):
        return node.args[0].value
    return None


def _table_of(call: ast.Call) -> str:
    """Return the table that the chain before a call begins with; empty when it is not written there."""
    node: ast.expr = call
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        table = _text_argument(node, "query")
        if table is not None:
            return table
        node = node.func.value
    return ""
