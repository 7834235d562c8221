"""Assignments: targets and annotated names, and `x += y` as one read, one operation and one write."""

# ruff: noqa: N802  (visitor methods are named for the nodes they visit)

from __future__ import annotations

import ast
from typing import Any

from sandbox.expressions import BINARY_GUARDS, ExpressionTransformer
from sandbox.inline import Inliner, is_pure
from sandbox.restricted import call, located

_INPLACE_GUARDS = {**BINARY_GUARDS, ast.Add: "_iadd_", ast.Mult: "_imul_"}
_INPLACE_GUARDS |= {ast.BitOr: "_ior_", ast.BitAnd: "_iand_", ast.Sub: "_isub_", ast.BitXor: "_ixor_"}

_INTEGER_OPERATORS = (ast.Add, ast.Sub, ast.Mult)


class AssignmentTransformer(ExpressionTransformer):
    class_fields: list[str] | None = None  # annotated names of the class body being visited

    def visit_Assign(self, node: ast.Assign) -> Any:
        node.type_comment = None
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
