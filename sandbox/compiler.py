"""From source text to code that may run in a worker, or a `CompileError` with a place.

Asked by the loader, inside a locked worker. Every failure of the parser, the
transformer or the compiler, its exhaustion included, becomes a `CompileError`.

A `CompiledModule` has two pieces of code. `code` is the module's body: it runs
for every call, in a fresh namespace of `GuestRuntime.namespace`. Annotations are
not in it: they are dropped, so that they are never evaluated in a call.

`annotations` is the *analysis form*, or None when there is nothing to analyse: a
thunk under the same policy that the loader evaluates at push time, through
`GuestRuntime.annotations(compiled, namespace)`, in the namespace that the body has
run in. It gives `{name: {parameter or field: annotation}}` with an entry for

* every decorated function of the module: its annotated parameters in order, and
  `"return"` when the return is annotated;
* every class of the module with annotated fields, in order.

Annotations written as text (`"Post"`) are parsed under the same policy. Names
of builtin types evaluate to the guest's faces of them; `GuestRuntime.annotations`
turns the result into ordinary typing objects (`list[str]`, `int | None`), so the
deriving of validators does not know where an annotation came from.

`dump` and `load` are for the cache: opaque bytes for the engine, read only inside
a worker of the same tenant, and only under the same policy and interpreter.
"""

from __future__ import annotations

import ast
import marshal
import sys
import warnings
from collections import Counter
from types import CodeType
from typing import Any, Final

import attrs

from sandbox import meter, policy
from sandbox.faults import CompileError
from sandbox.field_uses import mark_field_uses
from sandbox.restricted import located
from sandbox.transformer import Transformer
from sandbox.weights import mark_steps

__all__ = ["CACHE_TAG", "CompileError", "CompiledModule", "Import", "compile_module", "dump", "load"]

FILENAME_PREFIX: Final = "<guest>/"
CACHE_TAG: Final = (
    f"{policy.DIGEST}:{meter.COST_VERSION}:{sys.implementation.cache_tag}:{sys.hexversion:x}".encode()
)
FINALLY_NODES_MAX: Final = 200_000
_LEAVING: Final = (ast.Return, ast.Break, ast.Continue)
_CONTAINERS: Final = frozenset(
    {"list", "dict", "tuple", "set", "frozenset", "Optional", "Union", "NotRequired"}
)


@attrs.frozen
class Import:
    module: str  # as written, dotted
    line: int


@attrs.frozen
class CompiledModule:
    """Args:
    module: dotted name, as in `from admin.reports import x`.
    filename: as the author knows it, `admin/reports.py`.
    functions: (name, line) of every function at the top of the module.
    """

    module: str
    filename: str
    code: CodeType
    annotations: CodeType | None
    imports: tuple[Import, ...]
    functions: tuple[tuple[str, int], ...]
    source: str


def compile_module(
    source: str, filename: str, module: str, user_modules: frozenset[str] | None = None
) -> CompiledModule:
    """Compile one module under the policy.

    Args:
      user_modules: dotted names of the app's own modules, which come before facades
        of the same name. With None, a module nobody knows is left to the import hook.

    Raises:
      CompileError: for the first problem in the order of lines.
    """
    if type(source) is not str:
        raise CompileError("the source is not text", filename, 0, 0)
    try:
        # A warning would be printed with its source line, which the interpreter looks for in files.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _compile(source, filename, module, user_modules)
    except CompileError:
        raise
    except SyntaxError as error:
        text = (error.msg or "invalid syntax").replace(FILENAME_PREFIX, "")
        raise CompileError(f"syntax error: {text}", filename, error.lineno or 0, error.offset or 0) from None
    except (RecursionError, MemoryError):
        raise CompileError("the source is nested too deeply", filename, 0, 0) from None
    except (ValueError, OverflowError, TypeError) as error:
        raise CompileError(f"the source cannot be read: {error}", filename, 0, 0) from None


def _compile(source: str, filename: str, module: str, user_modules: frozenset[str] | None) -> CompiledModule:
    if len(source) > policy.SOURCE_BYTES_MAX or len(source.encode()) > policy.SOURCE_BYTES_MAX:
        raise CompileError(
            f"the file is larger than {policy.SOURCE_BYTES_MAX // 1024} KiB; split it", filename, 0, 0
        )
    inner = FILENAME_PREFIX + filename
    source = source.removeprefix("\ufeff")
    tree = ast.parse(source, inner, "exec", type_comments=False)
    _check_size(tree, filename)
    _check_finally(tree, filename)
    bindings = _bindings(tree)
    mark_field_uses(tree, bindings)
    mark_steps(tree)
    transformer = Transformer(frozenset(bindings))
    functions = tuple((node.name, node.lineno) for node in tree.body if isinstance(node, ast.FunctionDef))
    imports = _imports(tree)
    thunk = _annotations(tree, transformer, filename)
    tree = transformer.visit(tree)
    _check_imports(imports, user_modules, filename)
    if transformer.problems:
        first = min(transformer.problems, key=lambda problem: (problem.line, problem.column))
        raise CompileError(first.message, filename, first.line, first.column)
    code = compile(tree, inner, "exec", dont_inherit=True, optimize=0)
    analysis = None if thunk is None else compile(thunk, inner, "exec", dont_inherit=True, optimize=0)
    return CompiledModule(module, filename, code, analysis, imports, functions, source)


def _check_size(tree: ast.AST, filename: str) -> None:
    """Cap nodes and nesting, without recursion."""
    count = 0
    level: list[ast.AST] = [tree]
    depth = 0
    while level:
        depth += 1
        count += len(level)
        if depth > policy.NESTING_MAX:
            line = next((node.lineno for node in level if hasattr(node, "lineno")), 0)
            raise CompileError(f"nested deeper than {policy.NESTING_MAX} levels; split it", filename, line, 0)
        if count > policy.NODES_MAX:
            raise CompileError("the file is too large; split it", filename, 0, 0)
        level = [child for node in level for child in ast.iter_child_nodes(node)]


def _check_finally(tree: ast.Module, filename: str) -> None:
    """The compiler writes a `finally` out once per way of leaving its `try`, and again inside another."""
    found = list(ast.walk(tree))  # parents before children
    if not any(isinstance(node, ast.Try) and node.finalbody for node in found):
        return
    leaving: Counter[ast.AST] = Counter()  # how often a node and what is in it leaves a block
    for node in reversed(found):
        leaving[node] += isinstance(node, _LEAVING)
        for child in ast.iter_child_nodes(node):
            leaving[node] += leaving[child]
    total = 0
    for node in found:
        if isinstance(node, ast.Try) and node.finalbody:
            ways = 2 + sum(leaving[statement] for statement in node.body)
            parts = [part for statement in node.finalbody for part in ast.walk(statement)]
            depth = sum(isinstance(part, ast.Try) and bool(part.finalbody) for part in parts)
            total += ways * len(parts) * 2 ** min(depth, 20)
            if depth > 3 or total > FINALLY_NODES_MAX:
                raise CompileError(
                    "finally blocks are too large or nested too deeply", filename, node.lineno, 1
                )


def _bindings(tree: ast.Module) -> Counter[str]:
    """Return every name that the module binds in any scope, by any form, and how often."""
    names: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names[node.id] += 1
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names[node.name] += 1
        elif isinstance(node, ast.arg):
            names[node.arg] += 1
        elif isinstance(node, ast.alias):
            names[node.asname or node.name] += 1
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            names[node.name] += 1
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names[node.rest] += 1
    return names


def _imports(tree: ast.Module) -> tuple[Import, ...]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append(Import(node.module, node.lineno))
    return tuple(sorted(found, key=lambda item: item.line))


def _check_imports(imports: tuple[Import, ...], user_modules: frozenset[str] | None, filename: str) -> None:
    for item in imports:
        problem = policy.module_problem(item.module)
        if problem is None or (user_modules is not None and item.module in user_modules):
            continue
        if user_modules is not None or item.module.partition(".")[0] in policy.REFUSED_MODULES:
            raise CompileError(problem, filename, item.line, 1)


# ---- the analysis form -------------------------------------------------------------


def _annotations(tree: ast.Module, transformer: Transformer, filename: str) -> ast.Module | None:
    table: dict[str, list[tuple[str, ast.expr]]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            args = node.args
            every = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
            rows = [
                (arg.arg, arg.annotation) for arg in every if arg is not None and arg.annotation is not None
            ]
            if node.returns is not None:
                rows.append(("return", node.returns))
            table[node.name] = rows
        elif isinstance(node, ast.ClassDef):
            table[node.name] = [
                (item.target.id, item.annotation)
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            ]
    table = {name: rows for name, rows in table.items() if rows}
    if not table:
        return None
    outer = ast.Dict(keys=[], values=[])
    for name, rows in table.items():
        values = [transformer.visit(_parsed(annotation, filename)) for _, annotation in rows]
        inner = ast.Dict(keys=[ast.Constant(key) for key, _ in rows], values=values)
        outer.keys.append(ast.Constant(name))
        outer.values.append(inner)
    assign = ast.Assign(targets=[ast.Name("_annotations_", ast.Store())], value=outer)
    return ast.Module(body=[located(assign, ast.Constant(None, lineno=1, col_offset=0))], type_ignores=[])


def _parsed(node: ast.expr, filename: str) -> ast.expr:
    """Return the annotation with annotations inside text parsed, as a copy of its own."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = ast.parse(node.value.strip(), mode="eval").body
        for part in ast.walk(text):
            if hasattr(part, "lineno"):
                ast.copy_location(part, node)
        _check_size(text, filename)
        return _parsed(text, filename) if not isinstance(text, ast.Constant) else text
    if isinstance(node, ast.BinOp):
        left, right = _parsed(node.left, filename), _parsed(node.right, filename)
        return located(ast.BinOp(left=left, op=node.op, right=right), node)
    if isinstance(node, ast.Subscript):
        head = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
        index = node.slice
        if head not in _CONTAINERS:
            index = _copied(index)
        elif isinstance(index, ast.Tuple):
            items = [_parsed(item, filename) for item in index.elts]
            index = located(ast.Tuple(items, ast.Load()), index)
        else:
            index = _parsed(index, filename)
        return located(ast.Subscript(value=_copied(node.value), slice=index, ctx=ast.Load()), node)
    return _copied(node)


def _copied(node: ast.expr) -> ast.expr:
    """Return a copy, because the transformer changes nodes in place and drops the original."""
    fields: dict[str, Any] = {}
    for name, value in ast.iter_fields(node):
        if isinstance(value, list):
            fields[name] = [_copied(item) if isinstance(item, ast.expr) else item for item in value]
        else:
            fields[name] = _copied(value) if isinstance(value, ast.expr) else value
    return ast.copy_location(type(node)(**fields), node)


# ---- the cache -----------------------------------------------------------------------


def dump(compiled: CompiledModule) -> bytes:
    """Return bytes for the cache, tied to this policy, cost table and interpreter."""
    fields = (
        compiled.module,
        compiled.filename,
        compiled.code,
        compiled.annotations,
        tuple((item.module, item.line) for item in compiled.imports),
        compiled.functions,
        compiled.source,
    )
    return CACHE_TAG + b"\n" + marshal.dumps(fields)


def load(data: bytes) -> CompiledModule:
    """Read what `dump` wrote. Raises `ValueError` when policy or interpreter are others. Only ever
    called inside a locked worker: the bytes stand for code of the tenant."""
    tag, _, body = data.partition(b"\n")
    if tag != CACHE_TAG:
        raise ValueError("compiled under another policy or interpreter")
    module, filename, code, annotations, imports, functions, source = marshal.loads(body)
    listed = tuple(Import(*item) for item in imports)
    return CompiledModule(module, filename, code, annotations, listed, functions, source)
