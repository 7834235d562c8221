"""Places in the count of nested calls: who needs one, and how it is taken and given back.

What is running holds a place: a function from its entry to its end, a generator from
each time it is resumed to its next `yield`. So the count says how deep the interpreter
is in guest code, and ends the call long before the interpreter would, which differs
between versions. What can call nobody holds none.

A generator expression cannot hold one while it pulls from what it iterates over. It
holds one for what is called inside, and where it iterates over another, that one is
pulled through something of the host that holds a place (`Lazies.counted`).

A place that an exception passes by is given back by the next handler (`_caught_`), and
by `finally` in functions; generators have no `finally`, which could run after the call.
"""

from __future__ import annotations

import ast
from typing import Any

from sandbox.restricted import call, located

# A function made of these alone calls nobody and resumes nobody, so it needs no place in the count of calls.
_LEAF_NODES = (
    ast.Return, ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.If, ast.Pass, ast.While, ast.Break,
    ast.Continue, ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Tuple, ast.List,
    ast.Dict,
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.JoinedStr, ast.FormattedValue,
    ast.expr_context,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip


def is_leaf(body: list[ast.AST]) -> bool:
    for statement in body:
        for node in ast.walk(statement):
            if not isinstance(node, _LEAF_NODES) or isinstance(node, (ast.In, ast.NotIn)):
                return False
            if isinstance(node, (ast.Tuple, ast.List)) and isinstance(node.ctx, ast.Store):
                return False
    return True


def own_nodes(body: list[Any]) -> list[ast.AST]:
    """Return the nodes that run in the same frame as `body`: nested functions and classes are left out."""
    found: list[ast.AST] = []
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        found.append(node)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            pending.extend(ast.iter_child_nodes(node))
    return found


def with_ways_out(body: list[ast.stmt]) -> tuple[list[ast.stmt], int]:
    """Return the body, and with how many ways out it begins: `if test: return value`, with nothing called.

    On those the function calls nobody, so they need no place in the count of calls. A
    recursion takes one in half of its calls or more. `return a if test else b` is
    written as the two statements that it is when only one of its sides calls.
    """
    first = body[0].value if isinstance(body[0], ast.Expr) else None
    head = body[:1] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
    rest = body[len(head) :]
    count = 0
    while count < len(rest):
        statement = rest[count]
        if isinstance(statement, ast.Return) and isinstance(statement.value, ast.IfExp):
            split = _sides(statement, statement.value)
            if split is None:
                break
            rest[count : count + 1] = split
        elif isinstance(statement, ast.If) and not statement.orelse:
            if not (len(statement.body) == 1 and isinstance(statement.body[0], ast.Return)):
                break
            if not is_leaf([statement]):
                break
            count += 1
        else:
            break
    return [*head, *rest], count


def _sides(statement: ast.Return, value: ast.IfExp) -> list[ast.stmt] | None:
    """Return `if test: return a` and `return b` for `return a if test else b` whose side b calls."""
    if not is_leaf([value.test, value.body]) or is_leaf([value.orelse]):
        return None
    first = ast.If(test=value.test, body=[ast.Return(value=value.body)], orelse=[])
    return [located(first, statement), located(ast.Return(value=value.orelse), statement)]


def stepping(units: ast.expr, at: ast.AST) -> ast.stmt:
    """Return what takes a step: a loop that is left at once, which is cheaper than any call.

    Its variable is the one that guards in place keep results in: another would be one more to set up.
    """
    step = ast.For(target=ast.Name("_r_", ast.Store()), iter=units, body=[ast.Break()], orelse=[])
    return located(step, at)


def leaving(at: ast.AST) -> ast.expr:
    """Return what gives the place in the count of calls back.

    It stands on the first line alone: the interpreter moves a method call that spans
    lines to the last of them, where a debugger would stop at something nobody wrote.
    """
    append = ast.Attribute(value=ast.Name("_calls_", ast.Load()), attr="append", ctx=ast.Load())
    given = ast.Call(func=append, args=[ast.Name("_budget_", ast.Load())], keywords=[])
    given = located(given, at)
    for part in ast.walk(given):
        if isinstance(part, ast.expr):
            part.end_lineno, part.end_col_offset = part.lineno, part.col_offset + 1
    return given


def yields(body: list[Any]) -> bool:
    return any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own_nodes(body))


def calling(node: ast.GeneratorExp) -> None:
    """Evaluate the element, which calls somebody, in a place. A loop over one item is an assignment.

    Python allows no assignment expression in what a comprehension iterates over: an
    element with one, be it a guard's, is held as any other expression.
    """
    if any(isinstance(part, ast.NamedExpr) for part in ast.walk(node.elt)):
        node.elt = held(node.elt, node)
        return
    given_back = located(ast.UnaryOp(op=ast.Not(), operand=leaving(node)), node)
    element = ast.List([node.elt], ast.Load())
    node.generators[-1].ifs.append(call("_enter_", at=node))
    held_element = ast.comprehension(ast.Name("_e_", ast.Store()), element, ifs=[given_back], is_async=0)
    node.generators.append(located(held_element, node))
    node.elt = located(ast.Name("_e_", ast.Load()), node)


def held(value: ast.expr, at: ast.AST) -> ast.expr:
    """Return an expression that evaluates `value`, which calls somebody, in a place of its own."""
    pair = ast.Tuple([value, leaving(at)], ast.Load())
    kept = ast.Subscript(value=pair, slice=ast.Constant(0), ctx=ast.Load())
    return located(ast.BoolOp(op=ast.And(), values=[call("_enter_", at=at), kept]), at)


def yielded(value: ast.expr, at: ast.AST) -> ast.expr:
    """Return `yield value` inside an expression. Nothing is sent, so it is None."""
    pair = ast.Tuple([value, leaving(at)], ast.Load())
    given = ast.Subscript(value=pair, slice=ast.Constant(0), ctx=ast.Load())
    again = ast.BoolOp(op=ast.And(), values=[call("_enter_", at=at), ast.Constant(None)])
    return located(ast.BoolOp(op=ast.Or(), values=[ast.Yield(value=given), again]), at)


def yielding(value: ast.expr, at: ast.AST, *, leaf: bool) -> list[ast.stmt]:
    """Return `yield value` as a statement: the place is given back before it, and taken after it."""
    made: list[ast.stmt] = []
    if not leaf:
        made.append(ast.Assign(targets=[ast.Name("_y_", ast.Store())], value=value))
        value = ast.Name("_y_", ast.Load())
    made += [ast.Expr(leaving(at)), ast.Expr(ast.Yield(value=value))]
    again = ast.UnaryOp(op=ast.Not(), operand=call("_enter_", at=at))
    made.append(ast.If(test=again, body=[ast.Pass()], orelse=[]))
    return [located(statement, at) for statement in made]
