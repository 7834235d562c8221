"""Expressions: each lowered to itself or to a call of a guard.

A guard is called where the cost or the reach of an operation depends on values.
Where the text of the program already decides it (a constant index, a comparison
with a number, a plain attribute) the expression stays as it is.
"""

# ruff: noqa: N802  (visitor methods are named for the nodes they visit)

from __future__ import annotations

import ast
from typing import Any

from sandbox import costs, policy
from sandbox.inference import NO_INTEGERS, Integers, is_integer, is_small
from sandbox.inline import Inliner, Mode, is_number, is_pure, never_tuple
from sandbox.nesting import calling, held, is_leaf
from sandbox.restricted import PolicyTransformer, call, located
from sandbox.weights import steps_of

BINARY_GUARDS = {
    ast.Add: "_add_",
    ast.Sub: "_sub_",
    ast.Mult: "_mul_",
    ast.Mod: "_mod_",
    ast.FloorDiv: "_floordiv_",
    ast.Pow: "_pow_",
    ast.LShift: "_lshift_",
    ast.BitOr: "_or_",
    ast.BitAnd: "_and_",
    ast.BitXor: "_xor_",
}
PLAIN_OPERATORS = (ast.RShift,)
COMPARE_GUARDS = {
    ast.Eq: "_eq_",
    ast.NotEq: "_ne_",
    ast.Lt: "_lt_",
    ast.LtE: "_le_",
    ast.Gt: "_gt_",
    ast.GtE: "_ge_",
}
_IDENTITIES = (None, True, False, Ellipsis)
_EDGE_SIZE = 64  # characters: comparing so many with the beginning of a text takes no time
_SOUGHT_SIZE = 8  # nor does looking for so many in a short text
_FEW_EDGES = 8
_FEW_ITEMS = 64  # compared one by one, nor this
_FIELDS = 8  # of an f-string: each may be as long as a text may be


def names_functions(node: ast.Attribute) -> bool:
    """Whether this reads like `api.messages.send`: functions may have names that are denied elsewhere.

    The text decides only which error a mistake gets. What the attribute is taken
    from is checked when it is loaded (`host.named`).
    """
    root: ast.expr = node
    while isinstance(root, ast.Attribute):
        root = root.value
    return isinstance(node.ctx, ast.Load) and isinstance(root, ast.Name) and root.id in ("api", "internal")


def is_constant(node: ast.expr) -> bool:
    """Whether `node` is a number, a short text or the like, a sign included: compared in no time."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    if not isinstance(node, ast.Constant):
        return False
    return not isinstance(node.value, (str, bytes)) or len(node.value) <= costs.COPY_BYTES


def is_short(node: ast.expr, size: int) -> bool:
    """Whether `node` is a literal of at most `size` characters, or a few literals of as many together."""
    items = node.elts if isinstance(node, ast.Tuple) else [node]
    if len(items) > _FEW_EDGES:
        return False
    for item in items:
        if not isinstance(item, ast.Constant) or not isinstance(item.value, (str, bytes)):
            return False
        size -= len(item.value)
    return size >= 0


def seeks_little(node: ast.Call) -> bool:
    """Whether `node` is a call of a text method for nothing or for a short literal."""
    if not isinstance(node.func, ast.Attribute):
        return False
    if node.func.attr in policy.EDGE_ATTRIBUTES:
        return bool(node.args) and is_short(node.args[0], _EDGE_SIZE)
    if node.func.attr in policy.SOUGHT_ATTRIBUTES:
        few = all(keyword.arg == "maxsplit" for keyword in node.keywords)
        return few and (not node.args or is_short(node.args[0], _SOUGHT_SIZE))
    return False


class ExpressionTransformer(PolicyTransformer):
    mode = Mode.LOCAL  # whether and how guards may be written out in place
    integers: Integers = NO_INTEGERS  # local names that only hold integers
    in_class_body = False  # directly, not in a function inside
    super_scope: tuple[str, str] | None = None  # token of the class, name of the first parameter

    # ---- literals ----------------------------------------------------------------

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, complex):
            self.error(node, policy.REFUSED_NAMES["complex"].text("a complex number"))
        elif isinstance(node.value, int) and node.value.bit_length() > policy.INTEGER_BITS_MAX:
            self.error(node, f"an integer of more than {policy.INTEGER_BITS_MAX} bits; use a smaller number")
        return node

    def visit_List(self, node: ast.List) -> ast.AST:
        return self.display(node)

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        return self.display(node)

    def display(self, node: ast.List | ast.Tuple) -> ast.expr:
        """Each star adds as many items as a container may have: together they are looked at."""
        stars = self.share(node.elts)
        visited: ast.expr = self.node_contents_visit(node)
        if stars > 1 and isinstance(node.ctx, ast.Load):
            return call("_sum_", visited, at=node)
        return visited

    def share(self, nodes: list[ast.expr]) -> int:
        """Tell each star among `nodes` how many there are."""
        stars = [item for item in nodes if isinstance(item, ast.Starred)]
        for item in stars:
            item.stars_ = len(stars)  # type: ignore[attr-defined]  # a note for `visit_Starred`
        return len(stars)

    def visit_Set(self, node: ast.Set) -> ast.AST:
        items = self.display(located(ast.List(elts=node.elts, ctx=ast.Load()), node))
        return call("_set_", items, at=node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        node = self.node_contents_visit(node)
        for i, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            if key is None:
                node.values[i] = call("_mapping_", value, at=value)
            else:
                node.keys[i] = self.stored_key(key)
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.AST:
        node = self.node_contents_visit(node)
        if isinstance(node.ctx, ast.Load):
            stars = getattr(node, "stars_", 1)
            if stars > 1:
                node.value = call("_portion_", node.value, ast.Constant(stars), at=node)
            else:
                node.value = call("_star_", node.value, at=node)
        return node

    def key(self, node: ast.expr) -> ast.expr:
        """What is hashed: tuples are walked with fuel first."""
        if never_tuple(node) or self.is_integer(node):
            return node
        if self.mode is Mode.CALL and not is_pure(node):
            return call("_key_", node, at=node)
        return Inliner(self.mode, node).key(node)

    def stored_key(self, node: ast.expr) -> ast.expr:
        """What is hashed and stored: counted as well, if its hash can be chosen."""
        if isinstance(node, ast.Constant) and type(node.value) is not int:
            return node
        if is_number(node, int) or isinstance(node, (ast.JoinedStr, ast.Compare)):
            return node
        if self.mode is Mode.CALL and not is_pure(node):
            return call("_stored_", node, at=node)
        return Inliner(self.mode, node).stored_key(node, integer=self.is_integer(node))

    # ---- text --------------------------------------------------------------------

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return self.text(self.joined(node))

    def text(self, node: ast.JoinedStr) -> ast.expr:
        """Return what looks at the size of a text that is put together: in parts, if it has many fields."""
        values = node.values
        while len(values) > _FIELDS:
            values = [self.part(values[i : i + _FIELDS], node) for i in range(0, len(values), _FIELDS)]
        joined = located(ast.JoinedStr(values=values), node)
        if self.mode is Mode.CALL:
            return call("_text_", joined, at=node)
        return Inliner(self.mode, node).text(joined)

    def part(self, values: list[ast.expr], at: ast.AST) -> ast.expr:
        text = self.text(located(ast.JoinedStr(values=values), at))
        return located(ast.FormattedValue(value=text, conversion=-1, format_spec=None), at)

    def joined(self, node: ast.JoinedStr) -> ast.JoinedStr:
        values: list[ast.expr] = []
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                values.append(self.field(value))
            elif isinstance(value, ast.Constant):
                values.append(value)
            else:
                self.not_allowed(value)
        return located(ast.JoinedStr(values=values), node)

    def field(self, node: ast.FormattedValue) -> ast.FormattedValue:
        args: list[ast.expr] = [self.visit(node.value)]
        if node.format_spec is not None or node.conversion != -1:
            args.append(ast.Constant(node.conversion))
        if isinstance(node.format_spec, ast.JoinedStr):
            spec = self.joined(node.format_spec)
            args.append(spec if len(spec.values) <= _FIELDS else self.text(spec))
        text: ast.expr
        if len(args) == 1 and (self.mode is not Mode.CALL or is_pure(args[0])):
            text = Inliner(self.mode, node).field(args[0])
        else:
            text = call("_format_", *args, at=node)
        return located(ast.FormattedValue(value=text, conversion=-1, format_spec=None), node)

    # ---- attributes and items ----------------------------------------------------

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if node.attr in policy.DENIED_ATTRIBUTES and names_functions(node):
            return call("_named_", self.visit(node.value), ast.Constant(node.attr), at=node)
        self.check_attribute(node, node.attr)
        node = self.node_contents_visit(node)
        if isinstance(node.ctx, ast.Load):
            if node.attr in policy.SCANNING_ATTRIBUTES and (
                self.mode is not Mode.CALL or is_pure(node.value)
            ):
                return Inliner(self.mode, node).text_method(node)
            if node.attr in policy.COSTED_ATTRIBUTES:
                return call("_getattr_", node.value, ast.Constant(node.attr), at=node)
        else:
            node.value = self.writable_attributes(node.value)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        node = self.node_contents_visit(node)
        index = node.slice
        if isinstance(index, ast.Tuple) and any(isinstance(item, ast.Slice) for item in index.elts):
            self.refuse(node, "slice inside a tuple", "a slice inside a tuple")
            return node
        if isinstance(node.ctx, ast.Load):
            if isinstance(index, ast.Slice):
                parts = [part or ast.Constant(None) for part in (index.lower, index.upper, index.step)]
                return call("_slice_", node.value, *parts, at=node)
            node.slice = self.key(index)
            return node
        if isinstance(index, ast.Slice):
            node.value = call("_slices_", node.value, at=node.value)
        else:
            if isinstance(node.ctx, ast.Del):
                node.value = call("_deletable_", node.value, at=node.value)
                node.slice = self.key(index)
            else:
                node.value = self.writable_items(node.value)
                node.slice = self.stored_key(index)
        return node

    def writable_items(self, node: ast.expr) -> ast.expr:
        if self.mode is Mode.CALL and not is_pure(node):
            return call("_items_", node, at=node)
        return Inliner(self.mode, node).writable_items(node)

    def writable_attributes(self, node: ast.expr) -> ast.expr:
        if self.mode is Mode.CALL and not is_pure(node):
            return call("_attributes_", node, at=node)
        return Inliner(self.mode, node).writable_attributes(node)

    # ---- calls -------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.share(node.args)
        for keyword in node.keywords:
            self.check_name(keyword.value, keyword.arg)
        func = node.func
        if (
            isinstance(func, ast.Attribute)
            and isinstance(func.value, ast.Call)
            and isinstance(func.value.func, ast.Name)
            and func.value.func.id == "super"
            and "super" not in self.bound_names
        ):
            return self.super_call(node, func, func.value)
        if isinstance(func, ast.Attribute) and seeks_little(node) and self.mode is not Mode.CALL:
            func.value = self.visit(func.value)
            node.func = Inliner(self.mode, func).text_method(func)
            node.args = [self.visit(arg) for arg in node.args]
            node.keywords = [self.visit(keyword) for keyword in node.keywords]
        elif isinstance(func, ast.Attribute) and func.attr == "pop" and not node.args and not node.keywords:
            func.value = self.visit(func.value)
        elif (
            isinstance(func, ast.Attribute)
            and func.attr in policy.KEYED_ATTRIBUTES
            and not any(isinstance(arg, ast.Starred) for arg in node.args)
            and not any(keyword.arg is None for keyword in node.keywords)
        ):
            func.value = self.visit(func.value)
            node.args = [self.visit(arg) for arg in node.args]
            checked = self.stored_key if func.attr == "setdefault" else self.key
            node.args[:1] = [checked(arg) for arg in node.args[:1]]
            node.keywords = [self.visit(keyword) for keyword in node.keywords]
        else:
            node = self.node_contents_visit(node)
        if isinstance(func, ast.Name) and func.id in policy.MAKERS and func.id not in self.bound_names:
            node.func = located(ast.Name(f"_make_{func.id}_", ast.Load()), func)
            if func.id == "range" and not node.keywords:
                self.check_ends(node)
        for keyword in node.keywords:
            if keyword.arg is None:
                keyword.value = call("_keywords_", keyword.value, at=keyword.value)
        return node

    def check_ends(self, node: ast.Call) -> None:
        """`range(...)` of small ends needs no guard, which looks at their size."""
        unknown = [end for end in node.args if not self.is_small(end)]
        if not unknown:
            node.func = located(ast.Name("_range_", ast.Load()), node.func)
        elif self.mode is not Mode.CALL and all(map(is_pure, unknown)):
            node.func = Inliner(self.mode, node).range_of(unknown, node.func)

    def super_call(self, node: ast.Call, method: ast.Attribute, inner: ast.Call) -> ast.AST:
        """`super().method(...)` in a method: found by the host in the tenant's own classes."""
        if self.super_scope is None or inner.args or inner.keywords:
            self.error(node, policy.REFUSED_NAMES["super"].text("super"))
            return node
        if method.attr != "__init__":
            self.check_attribute(method, method.attr)
        token, receiver = self.super_scope
        bound = call(
            "_super_",
            ast.Constant(token),
            ast.Name(receiver, ast.Load()),
            ast.Constant(method.attr),
            at=method,
        )
        rest = located(ast.Call(func=ast.Constant(None), args=node.args, keywords=node.keywords), node)
        rest = self.visit(rest)
        rest.func = bound
        return rest  # type: ignore[no-any-return]  # what visit_Call returns for this shape

    def is_integer(self, node: ast.expr) -> bool:
        """Whether a visited operand is certainly an integer: a known name, a literal, or a sum of those."""
        return self.mode is Mode.LOCAL and (
            getattr(node, "is_integer_", False) or is_integer(node, self.integers.names, self.bound_names)
        )

    def is_small(self, node: ast.expr) -> bool:
        """Whether a sum with a visited operand grows by a constant at most. Text or a list is a TypeError."""
        if is_number(node):
            return True
        return self.mode is Mode.LOCAL and is_small(node, self.integers.small, self.bound_names)

    def noted(self, node: ast.BinOp) -> ast.expr:
        """Return `node`, a plain sum, with a note for what it is part of if it is an integer."""
        if self.is_integer(node.left) and self.is_integer(node.right):
            node.is_integer_ = True  # type: ignore[attr-defined]  # as `Inliner.integers` notes it
        return node

    # ---- operators ---------------------------------------------------------------

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if isinstance(node.op, ast.MatMult):
            self.refuse(node, "@ between values")
            return node
        if isinstance(node.op, ast.Mod) and isinstance(node.left, (ast.JoinedStr, ast.Constant)):
            left = node.left
            if isinstance(left, ast.JoinedStr) or isinstance(left.value, (str, bytes)):
                self.refuse(node, "% on text")
                return node
        node = self.node_contents_visit(node)
        return self.operation(node)

    def operation(self, node: ast.BinOp) -> ast.expr:
        """Return what stands for `node`, whose operands have been visited."""
        if isinstance(node.op, PLAIN_OPERATORS):
            return node
        if isinstance(node.op, ast.Div):
            return self.true_division(node)
        if isinstance(node.op, (ast.Add, ast.Sub)) and any(map(self.is_small, (node.left, node.right))):
            return self.noted(node)
        if isinstance(node.op, ast.Mult) and (is_number(node.left, float) or is_number(node.right, float)):
            return node
        if self.mode is not Mode.CALL:
            inliner = Inliner(self.mode, node)
            inlined: ast.expr | None = None
            if self.is_integer(node.left) and self.is_integer(node.right):
                if isinstance(node.op, (ast.Mod, ast.FloorDiv)):
                    inlined = inliner.divide(node, BINARY_GUARDS[type(node.op)], integers=True)
                    if inlined is not None:
                        return inlined
                if isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)):
                    return inliner.integers(node)
            if isinstance(node.op, ast.Add):
                inlined = inliner.add(node)
            elif isinstance(node.op, ast.Sub):
                inlined = inliner.subtract(node)
            elif isinstance(node.op, ast.Mult):
                inlined = inliner.multiply(node)
            elif isinstance(node.op, (ast.Mod, ast.FloorDiv)):
                inlined = inliner.divide(node, BINARY_GUARDS[type(node.op)])
            if inlined is not None:
                return inlined
        return call(BINARY_GUARDS[type(node.op)], node.left, node.right, at=node)

    def true_division(self, node: ast.BinOp) -> ast.expr:
        """`a / b`: only two long integers take time."""
        if self.is_small(node.left) or self.is_small(node.right):
            return node
        inlined = None if self.mode is Mode.CALL else Inliner(self.mode, node).true_divide(node, "_truediv_")
        return inlined or call("_truediv_", node.left, node.right, at=node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        membership = [isinstance(op, (ast.In, ast.NotIn)) for op in node.ops]
        if any(membership) and len(node.ops) > 1:
            self.refuse(node, "a chain with in")
            return node
        operands = [node.left, *node.comparators]
        for i, op in enumerate(node.ops):
            if isinstance(op, (ast.Is, ast.IsNot)) and not any(
                isinstance(side, ast.Constant) and any(side.value is allowed for allowed in _IDENTITIES)
                for side in operands[i : i + 2]
            ):
                self.refuse(node, "is", "is between values")
                return node
        node = self.node_contents_visit(node)
        if membership[0]:
            name = "_in_" if isinstance(node.ops[0], ast.In) else "_not_in_"
            holder = node.comparators[0]
            if (
                isinstance(holder, (ast.Tuple, ast.List))
                and len(holder.elts) <= _FEW_ITEMS
                and all(is_constant(item) for item in holder.elts)
            ):
                return node
            if self.mode is not Mode.CALL or is_pure(holder):
                inlined = Inliner(self.mode, node).contains(node, name)
                if inlined is not None:
                    return inlined
            return call(name, node.left, node.comparators[0], at=node)
        operands = [node.left, *node.comparators]
        if all(self.is_cheap(op, *operands[i : i + 2]) for i, op in enumerate(node.ops)):
            return node
        if len(node.ops) == 1:
            guard = COMPARE_GUARDS[type(node.ops[0])]
            if self.mode is not Mode.CALL or is_pure(node.left):
                inlined = Inliner(self.mode, node).compare(node, guard)
                if inlined is not None:
                    return inlined
            return call(COMPARE_GUARDS[type(node.ops[0])], *operands, at=node)
        return self.chain(node, operands)

    def is_cheap(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> bool:
        if isinstance(op, (ast.Is, ast.IsNot)) or is_constant(left) or is_constant(right):
            return True
        return self.is_integer(left) or self.is_integer(right)

    def chain(self, node: ast.Compare, operands: list[ast.expr]) -> ast.AST:
        """`a < b < c` as the host evaluates it: the third and later operands only when needed."""
        late = operands[2:]
        for operand in late:
            if any(isinstance(part, (ast.NamedExpr, ast.Yield, ast.YieldFrom)) for part in ast.walk(operand)):
                self.refuse(operand, "assignment inside a chain of comparisons")
                return node
        names = [
            COMPARE_GUARDS.get(type(op), "_is_" if isinstance(op, ast.Is) else "_is_not_") for op in node.ops
        ]
        guards = ast.Tuple([ast.Name(name, ast.Load()) for name in names], ast.Load())
        empty = ast.arguments(
            posonlyargs=[], args=[], vararg=None, kwonlyargs=[], kw_defaults=[], kwarg=None, defaults=[]
        )
        thunks = [located(ast.Lambda(args=empty, body=operand), operand) for operand in late]
        return call("_chain_", located(guards, node), *operands[:2], *thunks, at=node)

    # ---- comprehensions ----------------------------------------------------------

    def guard_iter(self, node: Any) -> Any:
        """Every iterated expression pulls a unit with each item."""
        starred = [item for item in ast.walk(node.target) if isinstance(item, ast.Starred)]
        guard = "_getiter_"
        if starred:
            if not isinstance(node.target, (ast.Tuple, ast.List)) or starred[0] not in node.target.elts:
                self.refuse(node.target, "star inside a nested target", "a star inside a nested target")
            guard = "_unpacked_"
        if getattr(node, "is_async", 0):
            self.refuse(node.iter, "async")
        outer = self.mode
        resumed = getattr(node, "resumed_", None)  # whether in a generator expression; and if each time
        calls = resumed and not is_leaf([node.iter])
        if isinstance(node, ast.comprehension):
            node.target = self.visit(node.target)
            node.ifs = [self.condition(test, in_place=resumed is None) for test in node.ifs]
            if steps := steps_of(node):
                charged = call("_charge_", ast.Constant(steps), at=node.iter)  # returns None
                node.ifs.insert(0, located(ast.UnaryOp(op=ast.Not(), operand=charged), node.iter))
            self.mode = Mode.CALL
            node.iter = self.visit(node.iter)
            self.mode = outer
        else:
            node = self.node_contents_visit(node)
        if calls:
            node.iter = held(node.iter, node.iter)
        if resumed is not None:
            node.iter = call("_counted_", node.iter, at=node.iter)
        node.iter = call(guard, node.iter, at=node.iter)
        return node

    def condition(self, test: ast.expr, *, in_place: bool) -> ast.expr:
        if in_place or is_leaf([test]):
            return self.visit(test)  # type: ignore[no-any-return]  # an expression for an expression
        return held(self.visit(test), test)

    def comprehended(self, node: Any) -> Any:
        """Visit a comprehension, in which temporaries have other names, or none in the body of a class."""
        outer = self.mode
        if outer is Mode.LOCAL:
            self.mode = Mode.CALL if self.in_class_body else Mode.COMPREHENSION
        node = self.node_contents_visit(node)
        if isinstance(node, ast.DictComp):
            node.key = self.stored_key(node.key)
        self.mode = outer
        return node

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        if isinstance(node.elt, ast.Starred):
            self.refuse(node, "unpacking in a comprehension")
        visited: ast.AST = self.comprehended(node)
        return visited

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.AST:
        if isinstance(node.elt, ast.Starred):
            self.refuse(node, "unpacking in a comprehension")
        for clause in node.generators:
            clause.resumed_ = clause is not node.generators[0]  # type: ignore[attr-defined]  # for `guard_iter`
        leaf = is_leaf([node.elt])
        visited: ast.GeneratorExp = self.comprehended(node)
        if not leaf:
            calling(visited)
        return visited

    def visit_SetComp(self, node: ast.SetComp) -> ast.AST:
        listed = located(ast.ListComp(elt=node.elt, generators=node.generators), node)
        return call("_set_", self.visit(listed), at=node)

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        if node.value is None:
            self.refuse(node, "unpacking in a comprehension")  # type: ignore[unreachable]  # Python 3.15
            return node
        visited: ast.AST = self.comprehended(node)
        return visited

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.AST:
        return self.node_contents_visit(node)
