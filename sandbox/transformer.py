"""Statements, functions, classes and patterns: the last layer of the transformer.

What it adds to a program, and nothing else:

* a step on entry of every function and lambda (after the tests that lead right out
  of a function again, since those paths need no place in the count of calls), a step for every test of a
  `while`, and, through `_getiter_`, a step for every item of every loop;
* a count of nested calls, kept by taking from a list and giving back to it. A function
  that calls nothing and iterates over nothing is left out of it: it cannot nest;
* the host hook at the head of every handler, which ends the call on memory and
  recursion errors and restores the count of nested calls;
* guarded writes, imports and classes.

Generators give their place back at every `yield`, and take one when they come back.
"""

# ruff: noqa: N802  (visitor methods are named for the nodes they visit)

from __future__ import annotations

import ast
from typing import Any

from sandbox import policy
from sandbox.expressions import BINARY_GUARDS, ExpressionTransformer
from sandbox.field_uses import MARK
from sandbox.inference import NO_INTEGERS, integer_names, rebound_names
from sandbox.inline import Inliner, Mode, is_pure
from sandbox.nesting import is_leaf, leaving, stepping, with_ways_out, yielded, yielding, yields
from sandbox.restricted import call, located
from sandbox.weights import steps_of

_INPLACE_GUARDS = {**BINARY_GUARDS, ast.Add: "_iadd_", ast.Mult: "_imul_"}
_INPLACE_GUARDS |= {ast.BitOr: "_ior_", ast.BitAnd: "_iand_", ast.Sub: "_isub_", ast.BitXor: "_ixor_"}

_INTEGER_OPERATORS = (ast.Add, ast.Sub, ast.Mult)


class Transformer(ExpressionTransformer):
    """One per module. `visit` the tree, then look at `problems`."""

    function_depth = 0
    in_generator = False  # directly, not in a function inside
    try_depth = 0  # in the function being visited
    rebound: frozenset[str] = frozenset()  # by scopes inside the outermost function
    class_fields: list[str] | None = None  # annotated names of the class body being visited
    in_attribute_pattern = False  # of an instance, whose size `_subject_` has not seen
    in_class_pattern = False  # where `match` compares attributes, which `_subject_` has not walked

    def visit(self, node: ast.AST) -> Any:
        """What reads documents for some of their fields is told so (`field_uses`)."""
        fields = getattr(node, MARK, None)
        visited = super().visit(node)
        return visited if fields is None else call("_touching_", visited, ast.Constant(fields), at=node)

    # ---- functions ---------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if getattr(node, "type_params", None):
            self.refuse(node, "type parameter")
        is_method = self.class_fields is not None
        if node.name.startswith("__") and node.name.endswith("__"):
            if not (is_method and node.name == "__init__"):
                self.refuse(node, "special method", f"the special method {node.name}")
        else:
            self.check_name(node, node.name)
        self.check_function_argument_names(node)
        node.decorator_list = [self.visit(item) for item in node.decorator_list]
        self.visit_defaults(node.args)
        node.returns = None
        node.type_comment = None
        generator, leaf = yields(node.body), is_leaf(list(node.body))
        ways_out = 0
        if not generator and not leaf and not steps_of(node):
            node.body, ways_out = with_ways_out(node.body)
        outer = self.class_fields, self.super_scope, self.function_depth, self.mode, self.in_class_body
        outer_tries, self.try_depth = self.try_depth, 0
        outer_generator, self.in_generator = self.in_generator, generator
        parameters = [*node.args.posonlyargs, *node.args.args]
        if not is_method or not parameters:
            self.super_scope = None
        elif self.super_scope is not None:
            self.super_scope = (self.super_scope[0], parameters[0].arg)
        self.class_fields = None
        self.function_depth += 1
        self.mode, self.in_class_body = Mode.LOCAL, False
        if self.function_depth == 1:
            self.rebound = rebound_names(node)
        outer_integers = self.integers
        self.integers = integer_names(node, self.bound_names, self.rebound)
        body = self.visit_body(node.body)
        self.integers, self.try_depth, self.in_generator = outer_integers, outer_tries, outer_generator
        self.class_fields, self.super_scope, self.function_depth, self.mode, self.in_class_body = outer
        node.body = self.metered(node, body, ways_out, counted=generator or not leaf, generator=generator)
        if generator:
            node.decorator_list.append(located(ast.Name("_generator_", ast.Load()), node))
        return node

    def metered(
        self, node: ast.FunctionDef, body: list[ast.stmt], ways_out: int, *, counted: bool, generator: bool
    ) -> list[ast.stmt]:
        head: list[ast.stmt] = []
        if ast.get_docstring(node, clean=False) is not None:
            head, body = body[:1], body[1:]
        body = [*self.charging(node, node), *body]
        if not counted:
            return [*head, stepping(ast.Name("_budget_", ast.Load()), node), *body]
        early, body = body[:ways_out], body[ways_out:]
        for way_out in early:
            assert isinstance(way_out, ast.If)
            way_out.body.insert(0, stepping(ast.Name("_budget_", ast.Load()), node))
        leave = located(ast.Expr(leaving(node)), node)
        if generator:
            return [*head, stepping(call("_enter_", at=node), node), *body, leave]
        body = body or [located(ast.Pass(), node)]
        tried = located(ast.Try(body=body, handlers=[], orelse=[], finalbody=[leave]), node)
        return [*head, *early, stepping(call("_enter_", at=node), node), tried]

    def charging(self, node: ast.AST, at: ast.AST) -> list[ast.stmt]:
        """Return what charges for the body of `node`, if that is a heavy one."""
        steps = steps_of(node)
        return [located(ast.Expr(call("_charge_", ast.Constant(steps), at=at)), at)] if steps else []

    def visit_body(self, body: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        for statement in body:
            visited = self.visit(statement)
            if isinstance(visited, list):
                result.extend(visited)
            elif visited is not None:
                result.append(visited)
        return result

    def visit_defaults(self, args: ast.arguments) -> None:
        args.defaults = [self.visit(default) for default in args.defaults]
        args.kw_defaults = [default and self.visit(default) for default in args.kw_defaults]
        for arg in [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]:
            if arg is not None:
                arg.annotation = None
                arg.type_comment = None

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self.check_function_argument_names(node)
        self.visit_defaults(node.args)
        leaf, generator = is_leaf([node.body]), yields([node.body])
        outer = self.class_fields, self.super_scope, self.mode, self.in_class_body
        self.class_fields, self.super_scope, self.in_class_body = None, None, False
        if self.mode is not Mode.CALL:  # in the iterable of a comprehension Python looks into lambdas, too
            self.mode = Mode.LOCAL
        outer_integers, self.integers = self.integers, NO_INTEGERS
        outer_tries, self.try_depth = self.try_depth, 0
        body = self.visit(node.body)
        self.integers, self.try_depth = outer_integers, outer_tries
        self.class_fields, self.super_scope, self.mode, self.in_class_body = outer
        if steps := steps_of(node):
            charged = call("_charge_", ast.Constant(steps), at=node)  # returns None
            body = located(ast.BoolOp(op=ast.Or(), values=[charged, body]), node)
        if leaf and not generator:
            entered = call("_next_", ast.Name("_budget_", ast.Load()), at=node)
        else:
            entered = call("_next_", call("_enter_", at=node), at=node)
            pair = ast.Tuple([body, leaving(node)], ast.Load())
            body = located(ast.Subscript(value=pair, slice=ast.Constant(0), ctx=ast.Load()), node)
        node.body = located(ast.BoolOp(op=ast.And(), values=[entered, body]), node)
        return node

    def visit_Global(self, node: ast.Global) -> ast.AST:
        for name in node.names:
            self.check_name(node, name)
        return node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        for name in node.names:
            self.check_name(node, name)
        return node

    # ---- classes -----------------------------------------------------------------

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.check_name(node, node.name)
        if getattr(node, "type_params", None):
            self.refuse(node, "type parameter")
        for keyword in node.keywords:
            if keyword.arg not in ("total", "frozen") or not isinstance(keyword.value, ast.Constant):
                self.refuse(node, "class keyword", f"the class keyword {keyword.arg}")
        node.decorator_list = [self.visit(item) for item in node.decorator_list]
        node.bases = [self.visit(base) for base in node.bases]
        outer = self.class_fields, self.super_scope, self.in_class_body
        token = f"{node.name}:{node.lineno}:{node.col_offset}"
        self.class_fields, self.super_scope, self.in_class_body = [], (token, ""), True
        outer_integers, self.integers = self.integers, NO_INTEGERS
        body = self.visit_body(node.body)
        self.integers = outer_integers
        fields, (self.class_fields, self.super_scope, self.in_class_body) = self.class_fields, outer
        listed = ast.Tuple([ast.Constant(name) for name in fields], ast.Load())
        injected: list[ast.stmt] = [
            ast.Assign(targets=[ast.Name("_token_", ast.Store())], value=ast.Constant(token)),
            ast.Assign(targets=[ast.Name("_fields_", ast.Store())], value=listed),
        ]
        position = 1 if ast.get_docstring(node, clean=False) is not None else 0
        node.body = [*body[:position], *(located(item, node) for item in injected), *body[position:]]
        metaclass = ast.keyword(arg="metaclass", value=ast.Name("_class_", ast.Load()))
        node.keywords = [*node.keywords, located(metaclass, node)]
        return node

    # ---- assignment --------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> Any:
        node.type_comment = None
        if isinstance(node.value, ast.YieldFrom):
            delegated, node.value = self.delegating(node.value), located(ast.Constant(None), node)
            return [delegated, self.visit(node)]
        starred = [target for target in node.targets if self.has_star(target)]
        node = self.node_contents_visit(node)
        if starred:
            node.value = call("_star_", node.value, at=node.value)
        return node

    def has_star(self, target: ast.AST) -> bool:
        if not isinstance(target, (ast.Tuple, ast.List)):
            return False
        for item in target.elts:
            if not isinstance(item, ast.Starred) and any(isinstance(n, ast.Starred) for n in ast.walk(item)):
                self.refuse(item, "star inside a nested target", "a star inside a nested target")
        return any(isinstance(item, ast.Starred) for item in target.elts)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        target = self.visit(node.target)
        if self.class_fields is not None and isinstance(target, ast.Name):
            marker = ast.unparse(node.annotation)
            if not marker.startswith(("ClassVar", "typing.ClassVar")):
                self.class_fields.append(target.id)
        if node.value is None:
            return located(ast.Pass(), node)
        value = self.visit(node.value)
        return located(ast.Assign(targets=[target], value=value), node)

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        """Evaluate object and key once, operate through the guard, write through the guard."""
        if isinstance(node.op, ast.MatMult):
            self.refuse(node, "@ between values")
            return node
        value, target = self.visit(node.value), node.target
        if isinstance(target, ast.Name):
            self.check_name(target, target.id)
            now = ast.Name(target.id, ast.Load())
            return located(ast.Assign(targets=[target], value=self.operate(node, now, value)), node)
        owner = self.temporary("owner")
        held: list[ast.stmt] = [self.hold(owner, self.visit(target.value), node)]
        if isinstance(target, ast.Attribute):
            self.check_attribute(target, target.attr)
            now = self.current(
                held, ast.Attribute(ast.Name(owner, ast.Load()), target.attr, ast.Load()), node
            )
            write = self.writable_attributes(ast.Name(owner, ast.Load()))
            store: ast.expr = ast.Attribute(write, target.attr, ast.Store())
        elif isinstance(target.slice, ast.Slice):
            self.refuse(node, "augmented assignment to a slice")
            return node
        else:
            key = self.temporary("key")
            held.append(self.hold(key, self.stored_key(self.visit(target.slice)), node))
            item = ast.Subscript(ast.Name(owner, ast.Load()), ast.Name(key, ast.Load()), ast.Load())
            now = self.current(held, item, node)
            write = self.writable_items(ast.Name(owner, ast.Load()))
            store = ast.Subscript(write, ast.Name(key, ast.Load()), ast.Store())
        result = ast.Assign(targets=[store], value=self.operate(node, now, value))
        return [*held, located(result, node)]

    def current(self, held: list[ast.stmt], value: ast.expr, node: ast.AST) -> ast.Name:
        """Hold what the target is now, before the right side runs, as Python does."""
        name = self.temporary("now")
        held.append(self.hold(name, located(value, node), node))
        return located(ast.Name(name, ast.Load()), node)

    def operate(self, node: ast.AugAssign, now: ast.expr, value: ast.expr) -> ast.expr:
        plain = located(ast.BinOp(left=now, op=node.op, right=value), node)
        if isinstance(node.op, ast.Div):
            return self.true_division(plain)
        guard = _INPLACE_GUARDS.get(type(node.op))
        if guard is None:
            return plain
        if isinstance(node.op, (ast.Add, ast.Sub)) and self.is_small(value):
            return self.noted(plain)
        if isinstance(node.op, _INTEGER_OPERATORS) and self.is_integer(now) and self.is_integer(value):
            return Inliner(self.mode, node).integers(plain)
        if isinstance(node.op, (ast.Mod, ast.FloorDiv)):
            integers = self.is_integer(now) and self.is_integer(value)
            divided = Inliner(self.mode, node).divide(plain, guard, integers=integers)
            if divided is not None:
                return divided
        if isinstance(node.op, (ast.Add, ast.Mult)) and is_pure(now) and is_pure(value):
            return Inliner(self.mode, node).in_place(plain, guard)
        return call(guard, now, value, at=node)

    def hold(self, name: str, value: ast.expr, at: ast.AST) -> ast.stmt:
        return located(ast.Assign(targets=[ast.Name(name, ast.Store())], value=value), at)

    # ---- imports -----------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> Any:
        statements = []
        for alias in node.names:
            if "." in alias.name and not alias.asname:
                self.refuse(node, "import of a dotted module", f"import {alias.name}")
            statements.append(self.imported(node, alias.name, None, alias.asname or alias.name))
        return statements

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        if node.level or not node.module:
            self.refuse(node, "relative import")
            return node
        if node.module == "__future__":
            return located(ast.Pass(), node)
        statements = []
        for alias in node.names:
            if alias.name == "*":
                self.refuse(node, "import *")
                continue
            self.check_name(node, alias.name)
            statements.append(self.imported(node, node.module, alias.name, alias.asname or alias.name))
        return statements

    def imported(self, node: ast.stmt, module: str, name: str | None, bound: str) -> ast.stmt:
        if self.function_depth or self.class_fields is not None:
            self.refuse(node, "import inside a function")
        for part in module.split("."):
            self.check_name(node, part)
        self.check_name(node, bound)
        value = call("_import_", ast.Constant(module), ast.Constant(name), at=node)
        return located(ast.Assign(targets=[ast.Name(bound, ast.Store())], value=value), node)

    # ---- control flow ------------------------------------------------------------

    def visit_For(self, node: ast.For) -> ast.AST:
        node.type_comment = None
        visited: ast.For = self.guard_iter(node)
        visited.body = [*self.charging(node, visited.body[0]), *visited.body]
        return visited

    def visit_While(self, node: ast.While) -> ast.AST:
        """`while test` takes a unit for every test: a loop over the budget, left when the test fails."""
        if node.orelse:
            self.refuse(node, "while … else")
            return node
        test = self.visit(node.test)
        body = self.visit_body(node.body)
        negated = located(ast.UnaryOp(op=ast.Not(), operand=test), node.test)
        leave = located(ast.If(test=negated, body=[ast.Break()], orelse=[]), node.test)
        loop = ast.For(
            target=ast.Name("_unit_", ast.Store()),
            iter=ast.Name("_budget_", ast.Load()),
            body=[*self.charging(node, node.test), leave, *body],
            orelse=[],
        )
        return located(loop, node)

    def visit_Try(self, node: ast.Try) -> Any:
        self.check_finally(node.finalbody)
        self.try_depth += 1
        level = self.temporary("level") if node.handlers else ""
        node = self.node_contents_visit(node)
        self.try_depth -= 1
        if not node.handlers:
            return node
        for handler in node.handlers:
            caught = located(ast.Expr(call("_caught_", ast.Name(level, ast.Load()), at=handler)), handler)
            handler.body.insert(0, caught)
        return [self.hold(level, call("_level_", at=node), node), node]

    def visit_Yield(self, node: ast.Yield) -> ast.AST:
        """One inside an expression; those that stand alone are statements (`visit_Expr`)."""
        return yielded(self.given(node), node)

    def given(self, node: ast.Yield | ast.YieldFrom) -> ast.expr:
        if self.try_depth:
            self.refuse(node, "yield inside try")
        value: ast.expr = ast.Constant(None) if node.value is None else self.visit(node.value)
        return value

    def visit_YieldFrom(self, node: ast.YieldFrom) -> ast.AST:
        self.refuse(node, "yield from inside an expression")
        return node

    def delegating(self, node: ast.YieldFrom) -> ast.stmt:
        """`yield from` as the loop that it is: its value is None, since iterators of the host return none."""
        name = self.temporary("item")
        body = yielding(ast.Name(name, ast.Load()), node, leaf=True)
        source = call("_getiter_", self.given(node), at=node)
        return located(ast.For(ast.Name(name, ast.Store()), source, body=body, orelse=[]), node)

    def visit_Expr(self, node: ast.Expr) -> Any:
        if isinstance(node.value, ast.YieldFrom):
            return self.delegating(node.value)
        if isinstance(node.value, ast.Yield):
            leaf = node.value.value is None or is_leaf([node.value.value])
            return yielding(self.given(node.value), node, leaf=leaf)
        return self.node_contents_visit(node)

    def visit_Return(self, node: ast.Return) -> Any:
        """A generator gives its place back when it ends."""
        if not self.in_generator:
            return self.node_contents_visit(node)
        before: list[ast.stmt] = []
        if isinstance(node.value, ast.YieldFrom):
            before, node.value = [self.delegating(node.value)], ast.Constant(None)
        elif node.value is not None:
            name = self.temporary("value")
            before = [self.hold(name, self.visit(node.value), node)]
            node.value = ast.Name(name, ast.Load())
        return [*before, located(ast.Expr(leaving(node)), node), located(node, node)]

    def check_finally(self, body: list[ast.stmt], in_loop: bool = False) -> None:
        for node in body:
            loops = in_loop or isinstance(node, (ast.For, ast.While))
            if isinstance(node, ast.Return) or (isinstance(node, (ast.Break, ast.Continue)) and not in_loop):
                self.refuse(node, "return, break or continue inside finally")
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            for name in ("body", "orelse", "finalbody"):
                self.check_finally(getattr(node, name, []), loops if name == "body" else in_loop)
            for handler in getattr(node, "handlers", []):
                self.check_finally(handler.body, in_loop)
            for case in getattr(node, "cases", []):
                self.check_finally(case.body, in_loop)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.check_name(node, node.name)
        node = self.node_contents_visit(node)
        if node.type is None:
            node.type = located(ast.Name("_Exception_", ast.Load()), node)
        return node

    # ---- match -------------------------------------------------------------------

    def visit_Match(self, node: ast.Match) -> ast.AST:
        patterns = [part for case in node.cases for part in ast.walk(case.pattern)]
        rests = sum(
            bool(part.name if isinstance(part, ast.MatchStar) else part.rest)
            for part in patterns
            if isinstance(part, (ast.MatchStar, ast.MatchMapping))
        )
        node = self.node_contents_visit(node)
        counted = [ast.Constant(rests)] if rests else []
        node.subject = call("_subject_", node.subject, *counted, at=node.subject)
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        return self.node_contents_visit(node)

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.AST:
        if self.in_class_pattern and any(isinstance(part, ast.Attribute) for part in ast.walk(node.value)):
            self.refuse(node, "dotted name inside a class pattern", "a dotted name inside a class pattern")
        self.pattern_value(node.value)
        return node

    def pattern_value(self, value: ast.expr) -> None:
        """Literals and dotted names stay as they are: the interpreter reads them without any guard."""
        for part in ast.walk(value):
            if isinstance(part, ast.Attribute):
                self.pattern_attribute(part, part.attr)
            elif isinstance(part, ast.Name):
                self.visit_Name(part)
            elif isinstance(part, ast.Constant):
                self.visit_Constant(part)

    def pattern_attribute(self, node: ast.AST, name: str) -> None:
        self.check_attribute(node, name)
        if name in policy.COSTED_ATTRIBUTES:
            self.refuse(node, "costed attribute in a pattern", f"the attribute {name} in a pattern")

    def visit_MatchSingleton(self, node: ast.MatchSingleton) -> ast.AST:
        return node

    def visit_MatchSequence(self, node: ast.MatchSequence) -> ast.AST:
        return self.node_contents_visit(node)

    def visit_MatchOr(self, node: ast.MatchOr) -> ast.AST:
        return self.node_contents_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> ast.AST:
        if node.name and self.in_attribute_pattern:
            self.refuse(node, "star inside a class pattern", "a star inside a class pattern")
        self.check_name(node, node.name)
        return node

    def visit_MatchAs(self, node: ast.MatchAs) -> ast.AST:
        self.check_name(node, node.name)
        return self.node_contents_visit(node)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        if node.rest and self.in_attribute_pattern:
            self.refuse(node, "star inside a class pattern", "a star inside a class pattern")
        self.check_name(node, node.rest)
        for key in node.keys:
            if any(isinstance(part, ast.Attribute) for part in ast.walk(key)):
                self.refuse(key, "dotted name as a key of a pattern", "a dotted name as a key of a pattern")
            self.pattern_value(key)
        node.patterns = [self.visit(pattern) for pattern in node.patterns]
        return node

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        for name in node.kwd_attrs:
            self.pattern_attribute(node, name)
        self.pattern_value(node.cls)
        named = node.cls.id if isinstance(node.cls, ast.Name) else ""
        outer = self.in_class_pattern, self.in_attribute_pattern
        self.in_class_pattern = True
        if named in policy.BUILTIN_TYPES and named not in self.bound_names:
            node.cls = located(ast.Name(f"_{named}_type_", ast.Load()), node.cls)
            self.in_attribute_pattern |= bool(node.kwd_patterns)  # else the pattern is for the value itself
        else:
            self.in_attribute_pattern = True
        node.patterns = [self.visit(pattern) for pattern in node.patterns]
        node.kwd_patterns = [self.visit(pattern) for pattern in node.kwd_patterns]
        self.in_class_pattern, self.in_attribute_pattern = outer
        return node

    # ---- modules -----------------------------------------------------------------

    def visit_Module(self, node: ast.Module) -> ast.AST:
        body = self.visit_body(node.body)
        place = 1 if ast.get_docstring(node, clean=False) is not None else 0
        if body:
            body[place:place] = self.charging(node, node.body[0])
        node.body = body
        node.type_ignores = []
        return node
