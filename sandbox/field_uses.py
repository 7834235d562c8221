"""Which fields of its documents a function looks at, found by reading it (function-semantics S14).

    for post in ctx.db.query("posts").collect():
        titles.append(post["title"])

takes `title` and nothing else, whatever it does with the titles. Where the text shows
that much, the place that reads is marked, and the read is recorded as one of these fields:
a commit that changes others does not concern the query. Everything else is a read of whole
documents, as it would be without this file. So what is not understood here costs reruns, and
never a result that should have changed; what is wrongly understood would be a stale result.

The question is where documents can go. A *flow* follows a document, a list of documents or
a page of them from the call that read it: through a local name, a loop, a comprehension, a
few builtins, a helper function of the same module. It ends well in a constant field
(`post["title"]`, `post.get("title")`, `"title" in post`), in a test, or in nothing; anywhere
else the document is out of sight, and all of it counts.

Rules that keep it sound:

* names are followed through the whole outermost function, nested functions and lambdas
  included, without regard to scopes: every load of the name has to end well;
* a function with `global`, `nonlocal` or a class inside is left alone;
* a builtin or a helper is one only if the module binds that name nowhere else.

Roads not taken: handing out documents that note what is asked of them. Every guard,
builtin and facade that knows dicts would have to know these as well, and one that forgets
would be a hole; and each access would cost what the interpreter now does for free.
"""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

MARK: Final = "touches_"  # attribute of the marked node: the names of the fields, sorted

_LISTS: Final = frozenset({"collect", "take"})
_ROWS: Final = frozenset({"first", "unique"})
_CHAIN: Final = frozenset({"query", "with_index", "order", "filter"})  # what gives a query
_BUILTINS: Final = frozenset(
    {"bool", "enumerate", "len", "list", "max", "min", "reversed", "sorted", "tuple"}
)
_NOTHING: Final[frozenset[str]] = frozenset()
_NAMES_MAX: Final = 100  # followed from one call; also a bound on recursion
_WIDE_MAX: Final = 100  # operands beside a document: with more, every one of them would be compared with it
_LOADS_MAX: Final = 20_000  # looked at for one module: the time this takes is bounded, whatever the source

Fields = frozenset[str] | None  # None: out of sight
Flow = Callable[[ast.expr], Fields]


def mark_field_uses(tree: ast.Module, bindings: Counter[str]) -> None:
    """Mark every expression of `tree` that reads documents of which only some fields are looked at.

    Args:
      bindings: how often the module binds each name, in all scopes together.
    """
    module = _Module(tree, bindings)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            _Function(node, module).mark()


class _Module:
    def __init__(self, tree: ast.Module, bindings: Counter[str]) -> None:
        self.builtins = {name for name in _BUILTINS if not bindings[name]}
        self.helpers = {
            node.name: node
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and not node.decorator_list and bindings[node.name] == 1
        }
        self._functions: dict[str, _Function] = {}
        self._loads_left = _LOADS_MAX
        self._followed: set[tuple[_Function, str, str]] = set()

    def begin(self) -> None:
        """The next flow starts."""
        self._followed.clear()

    def follow(self, function: _Function, name: str, flow: Flow, loads: list[ast.expr]) -> Fields:
        """Return what becomes of `name`; nothing more if it has been followed since `begin`.

        Nothing is kept from one flow for the next: what was found in the middle of a cycle is not all
        there is, and only the flow as a whole has met every part of it.
        """
        place = function, name, flow.__name__
        if place in self._followed:
            return _NOTHING
        self._followed.add(place)
        self._loads_left -= len(loads)
        if len(self._followed) > _NAMES_MAX or self._loads_left < 0:
            return None
        return _union(flow(load) for load in loads)

    def function(self, name: str) -> _Function:
        if name not in self._functions:
            self._functions[name] = _Function(self.helpers[name], self)
        return self._functions[name]


class _Function:
    """One function at the top of a module, with everything inside it."""

    def __init__(self, root: ast.FunctionDef, module: _Module) -> None:
        self._root = root
        self._module = module
        self._parents: dict[ast.AST, ast.AST] = {}
        self._loads: dict[str, list[ast.expr]] = {}
        self._is_clear = True
        for parent in ast.walk(root):
            for child in ast.iter_child_nodes(parent):
                self._parents[child] = parent
            if isinstance(parent, ast.Name) and isinstance(parent.ctx, ast.Load):
                self._loads.setdefault(parent.id, []).append(parent)
            elif isinstance(parent, ast.AugAssign) and isinstance(parent.target, ast.Name):
                self._loads.setdefault(parent.target.id, []).append(parent.target)
            elif isinstance(parent, (ast.Global, ast.Nonlocal, ast.ClassDef)):
                self._is_clear = False
        # Of the statements of the body, by their place in it: found once, since every load asks.
        self._places: dict[ast.AST, int] = {statement: i for i, statement in enumerate(root.body)}
        self._stores: dict[str, list[int]] = {}  # where a name is bound
        self._pages_replaced: dict[str, list[int]] = {}  # where `name["page"] = ...` stands
        for i, statement in enumerate(root.body):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                    self._stores.setdefault(node.id, []).append(i)
            match statement:
                case ast.Assign(
                    targets=[ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value="page"))]
                ):
                    self._pages_replaced.setdefault(name, []).append(i)

    def mark(self) -> None:
        if not self._is_clear:
            return
        for node in ast.walk(self._root):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            self._module.begin()
            marked, method = node.func.value, node.func.attr
            if method in _LISTS:
                fields = self._of_list(node)
            elif method in _ROWS or (method == "get" and _is_database(marked)):
                fields = self._of_row(node)
            elif method == "paginate":
                fields = self._of_page(node)
            elif method in _CHAIN:
                marked, fields = node, self._of_list(node)
            else:
                continue
            if fields is not None:
                setattr(marked, MARK, tuple(sorted(fields)))

    # ---- names and parameters ------------------------------------------------------

    def _of_name(self, name: str, flow: Flow) -> Fields:
        return self._module.follow(self, name, flow, self._loads.get(name, []))

    def _of_target(self, target: ast.expr, flow: Flow) -> Fields:
        return self._of_name(target.id, flow) if isinstance(target, ast.Name) else None

    def of_parameter(self, place: int | str, flow_name: str) -> Fields:
        """Return what becomes of an argument, by its position or its keyword."""
        args = self._root.args
        if not self._is_clear or args.vararg or args.kwarg or args.posonlyargs or args.kwonlyargs:
            return None
        names = [arg.arg for arg in args.args]
        if isinstance(place, int):
            if place >= len(names):
                return None
            place = names[place]
        return self._of_name(place, getattr(self, flow_name)) if place in names else None

    def _of_argument(self, node: ast.expr, call: ast.Call, flow: Flow) -> Fields:
        """What becomes of `node`, an argument of a call of a helper."""
        func = call.func
        if not (isinstance(func, ast.Name) and func.id in self._module.helpers):
            return None
        if len(call.args) > _WIDE_MAX:
            return None
        if any(isinstance(arg, ast.Starred) for arg in call.args) or node not in call.args:
            return None
        return self._module.function(func.id).of_parameter(call.args.index(node), flow.__name__)

    # ---- flows ---------------------------------------------------------------------

    def _of_row(self, node: ast.expr) -> Fields:
        """A document, or None in its place."""
        parent = self._parents[node]
        match parent:
            case ast.Subscript(slice=ast.Constant(value=str(name)), ctx=ast.Load()) if parent.value is node:
                return frozenset({name})
            case ast.Attribute(attr="get", ctx=ast.Load()):
                match self._parents[parent]:
                    case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]) if func is parent:
                        return frozenset({name})
            case ast.Compare(left=ast.Constant(value=str(name)), ops=[ast.In() | ast.NotIn()]):
                return frozenset({name})
            case ast.Compare(ops=[ast.Is() | ast.IsNot()]):
                return _NOTHING  # the language has `is` with None and its like alone
            case ast.Call() if parent.func is not node:
                return self._of_argument(node, parent, self._of_row)
        return self._of_anything(node, parent, self._of_row)

    def _of_list(self, node: ast.expr) -> Fields:
        """A list of documents, or a query that gives one."""
        parent = self._parents[node]
        match parent:
            case ast.For() | ast.comprehension() if parent.iter is node:
                return self._of_target(parent.target, self._of_row)
            case ast.Subscript(ctx=ast.Load()) if parent.value is node:
                if isinstance(parent.slice, ast.Slice):
                    return self._of_list(parent)
                return self._of_row(parent) if _is_number(parent.slice) else None
            case ast.Call() if parent.func is not node:
                return self._of_list_in_call(node, parent)
        return self._of_anything(node, parent, self._of_list)

    def _of_list_in_call(self, node: ast.expr, call: ast.Call) -> Fields:
        func = call.func
        if not (isinstance(func, ast.Name) and func.id in self._module.builtins):
            return self._of_argument(node, call, self._of_list)
        if not call.args or call.args[0] is not node:
            return None
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        match func.id:
            case "len" | "bool":
                return _NOTHING
            case "list" | "tuple" | "reversed":
                return self._of_list(call) if len(call.args) == 1 else None
            case "enumerate":
                return self._of_numbered(call)
            case "sorted" if len(call.args) == 1 and keywords.keys() <= {"key", "reverse"}:
                return _union([self._of_key(keywords.get("key")), self._of_list(call)])
            case "min" | "max" if len(call.args) == 1 and keywords.keys() <= {"key", "default"}:
                return _union([self._of_key(keywords.get("key")), self._of_row(call)])
        return None

    def _of_numbered(self, call: ast.Call) -> Fields:
        match self._parents[call]:
            case ast.For(target=target, iter=source) | ast.comprehension(target=target, iter=source):
                if source is call and isinstance(target, ast.Tuple) and len(target.elts) == 2:
                    return self._of_target(target.elts[1], self._of_row)
        return None

    def _of_key(self, key: ast.expr | None) -> Fields:
        """A function of one document that is written in place."""
        match key:
            case ast.Lambda(args=ast.arguments(posonlyargs=[], args=[ast.arg(arg=name)], vararg=None)):
                return self._of_name(name, self._of_row)
        return None

    def _of_page(self, node: ast.expr) -> Fields:
        """What `paginate` returns."""
        parent = self._parents[node]
        match parent:
            case ast.Subscript(slice=ast.Constant(value=str(key))) if parent.value is node:
                if key != "page" or isinstance(parent.ctx, ast.Store):
                    return _NOTHING  # a new page in its place, which does not touch the old one
                return self._of_list(parent) if isinstance(parent.ctx, ast.Load) else None
            case ast.Dict() if (
                len(parent.keys) <= _WIDE_MAX and None in parent.keys and node in parent.values
            ):
                place = parent.values.index(node)
                later = [key.value for key in parent.keys[place + 1 :] if isinstance(key, ast.Constant)]
                return _NOTHING if parent.keys[place] is None and "page" in later else None
        if isinstance(node, ast.Name) and self._is_replaced_before(node):
            return _NOTHING
        return self._of_anything(node, parent, self._of_page)

    def _is_replaced_before(self, load: ast.Name) -> bool:
        """Whether `name["page"] = ...` stands between the only binding of the name and this load of it."""
        statement: ast.AST = load
        while self._parents[statement] is not self._root:
            statement = self._parents[statement]
        place = self._places.get(statement)
        stores = self._stores.get(load.id, ())
        if place is None or len(stores) != 1:
            return False
        replaced = self._pages_replaced.get(load.id, [])
        after = bisect_right(replaced, stores[0])
        return after < len(replaced) and replaced[after] < place

    def _of_anything(self, node: ast.expr, parent: ast.AST, flow: Flow) -> Fields:
        """What all flows have in common."""
        if self._is_test(node, parent) or isinstance(parent, ast.Expr):
            return _NOTHING
        match parent:
            case ast.Assign(targets=targets):
                return _union(self._of_target(target, flow) for target in targets)
            case ast.AnnAssign(target=target):
                return self._of_target(target, flow)
            case ast.IfExp():
                return flow(parent)
        return None

    def _is_test(self, node: ast.AST, parent: ast.AST) -> bool:
        """Whether all that is asked of `node` is if it is true."""
        match parent:
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) | ast.Assert(test=test):
                return test is node
            case ast.UnaryOp(op=ast.Not()):
                return True
            case ast.comprehension(ifs=conditions):
                return len(conditions) <= _WIDE_MAX and node in conditions
            case ast.BoolOp(op=operator, values=values):
                if self._is_test(parent, self._parents[parent]):
                    return True
                # A document is true, so `row and x` is x where there is a row.
                return isinstance(operator, ast.And) and values[-1] is not node
        return False


def _union(all_fields: Iterator[Fields] | list[Fields]) -> Fields:
    result: set[str] = set()
    for fields in all_fields:
        if fields is None:
            return None
        result |= fields
    return frozenset(result)


def _is_database(node: ast.expr) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "db") or (
        isinstance(node, ast.Name) and node.id == "db"
    )


def _is_number(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=int()) | ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int())):
            return True
    return False
