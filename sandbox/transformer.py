"""Functions, classes, imports and control flow: the last layer of the transformer.

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

from sandbox.field_uses import MARK
from sandbox.inference import NO_INTEGERS, integer_names, rebound_names
from sandbox.inline import Mode
from sandbox.nesting import is_leaf, leaving, stepping, with_ways_out, yielded, yielding, yields
from sandbox.patterns import PatternTransformer
from sandbox.restricted import call, located
from sandbox.weights import steps_of


class Transformer(PatternTransformer):
    """One per module. `visit` the tree, then look at `problems`."""

    function_depth = 0
    in_generator = False  # directly, not in a function inside
    try_depth = 0  # in the function being visited
    rebound: frozenset[str] = frozenset()  # by scopes inside the outermost function

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
        # On the line of what follows: a line of its own would be an instruction of its own.
        tried = located(ast.Try(body=body, handlers=[], orelse=[], finalbody=[leave]), body[0])
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

    def visit_Assign(self, node: ast.Assign) -> Any:
        if isinstance(node.value, ast.YieldFrom):
            delegated, node.value = self.delegating(node.value), located(ast.Constant(None), node)
            return [delegated, self.visit(node)]
        return super().visit_Assign(node)

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

    # ---- modules -----------------------------------------------------------------

    def visit_Module(self, node: ast.Module) -> ast.AST:
        body = self.visit_body(node.body)
        place = 1 if ast.get_docstring(node, clean=False) is not None else 0
        if body:
            body[place:place] = self.charging(node, node.body[0])
        node.body = body
        node.type_ignores = []
        return node
