"""Guards written out in place: the common case of small numbers without a call.

A guard that is called costs several times what it guards. These forms test exact
classes in place and call the guard only when the test fails, so they decide nothing
on their own: whatever they let through, the guard would let through unchanged and
without a charge.

An intermediate result is kept by an assignment expression in a temporary of the
enclosing function, and used before anything of the guest can run, so one name per
kind is enough. Inside comprehensions the temporaries have names of their own: they
are cells of the enclosing function there, which would slow its other uses down.
Python allows no assignment expression in the iterable of a comprehension, nor in a
comprehension of a class body: there (`Mode.CALL`) the guards are called.
"""

from __future__ import annotations

import ast
import enum
from typing import Final

from sandbox.costs import SHORT_TEXT
from sandbox.restricted import call, located

SMALL: Final = 1_000_000_000  # one digit of CPython's integers: comparisons with it are specialised
_SMALL_TEXT: Final = 512
_FEW_ITEMS: Final = 64


class Mode(enum.Enum):
    LOCAL = ""
    COMPREHENSION = "c"
    CALL = "-"


def is_number(node: ast.expr, *kinds: type) -> bool:
    """Whether `node` is a literal number of a small size, a sign included."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    if not isinstance(node, ast.Constant) or type(node.value) not in (kinds or (int, float)):
        return False
    return not isinstance(node.value, int) or -SMALL < node.value < SMALL


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and type(node.value) is str)


def is_pure(node: ast.expr) -> bool:
    """Whether `node` can be evaluated twice: a name or a constant."""
    return isinstance(node, (ast.Name, ast.Constant))


def never_tuple(node: ast.expr) -> bool:
    """Whether the value of `node` is certainly no tuple."""
    if isinstance(node, ast.IfExp):
        return never_tuple(node.body) and never_tuple(node.orelse)
    if isinstance(node, ast.BinOp):
        return is_number(node.left) or is_number(node.right)
    return isinstance(node, (ast.Constant, ast.JoinedStr, ast.Compare)) or is_number(node)


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _is(value: ast.expr, kind: str, *, negated: bool = False) -> ast.Compare:
    """Return `value.__class__ is kind`. No class of a guest or of the host says another `__class__` than
    its type, and looking at it costs less than calling `type`.
    """
    tested = ast.Attribute(value=value, attr="__class__", ctx=ast.Load())
    return ast.Compare(left=tested, ops=[ast.IsNot() if negated else ast.Is()], comparators=[_name(kind)])


def _type(value: ast.expr) -> ast.Call:
    return ast.Call(func=_name("_type_"), args=[value], keywords=[])


class Inliner:
    """Builds the forms for one place in the program."""

    def __init__(self, mode: Mode, at: ast.AST) -> None:
        self._mode = mode
        self._at = at

    def _kept(self, stem: str, value: ast.expr) -> tuple[ast.expr, ast.expr]:
        """Return (`_r_ := value`, `_r_`), or `value` itself twice when it is pure."""
        if is_pure(value):
            assert isinstance(value, (ast.Name, ast.Constant))
            return value, _name(value.id) if isinstance(value, ast.Name) else ast.Constant(value.value)
        name = f"_{stem}{self._mode.value}_"
        return ast.NamedExpr(target=ast.Name(name, ast.Store()), value=value), _name(name)

    def _result(self, value: ast.expr) -> tuple[ast.expr, ast.expr]:
        name = f"_r{self._mode.value}_"
        return ast.NamedExpr(target=ast.Name(name, ast.Store()), value=value), _name(name)

    @staticmethod
    def _small(first: ast.expr, again: ast.expr) -> list[ast.expr]:
        return [
            ast.Compare(left=first, ops=[ast.Lt()], comparators=[ast.Constant(SMALL)]),
            ast.Compare(left=again, ops=[ast.Gt()], comparators=[ast.Constant(-SMALL)]),
        ]

    @staticmethod
    def _short_text(first: ast.expr, again: ast.expr, size: int = _SMALL_TEXT) -> ast.expr:
        length = ast.Call(func=_name("_len_"), args=[again], keywords=[])
        short = ast.Compare(left=length, ops=[ast.Lt()], comparators=[ast.Constant(size)])
        return ast.BoolOp(op=ast.And(), values=[_is(first, "_str_"), short])

    def _choice(self, test: ast.expr, body: ast.expr, orelse: ast.expr) -> ast.expr:
        return located(ast.IfExp(test=test, body=body, orelse=orelse), self._at)

    def add(self, node: ast.BinOp) -> ast.expr:
        """`a + b`: the sum is made first, since it is at most twice as large as what exists."""
        first, again = self._result(node)
        if is_text(node.left) or is_text(node.right):
            return self._choice(self._short_text(first, again), again, call("_sum_", again, at=self._at))
        small = ast.BoolOp(op=ast.And(), values=[_is(first, "_int_"), *self._small(again, again)])
        exact = ast.IfExp(test=_is(again, "_float_"), body=again, orelse=call("_sum_", again, at=self._at))
        return self._choice(small, again, exact)

    def subtract(self, node: ast.BinOp) -> ast.expr | None:
        """`a - b` of names; anything but numbers is computed again by the guard."""
        if not (is_pure(node.left) and is_pure(node.right)):
            return None
        left, left_again = self._kept("a", node.left)
        right, right_again = self._kept("b", node.right)
        first, again = self._result(ast.BinOp(left=left, op=node.op, right=right))
        guarded = call("_sub_", left_again, right_again, at=self._at)
        small = ast.BoolOp(op=ast.And(), values=[_is(first, "_int_"), *self._small(again, again)])
        return self._choice(small, again, ast.IfExp(test=_is(again, "_float_"), body=again, orelse=guarded))

    def multiply(self, node: ast.BinOp) -> ast.expr | None:
        """`a * b`: classes are tested first, since text or a list would be repeated."""
        left, right = node.left, node.right
        if is_number(left):
            left, right = right, left  # numbers commute, and a repeated sequence is the same either way
        constant = is_number(right)
        if not constant and not (is_pure(left) and is_pure(right)):
            return None
        first, again = self._kept("a", left)
        other, other_again = self._kept("b", right) if not constant else (right, right)
        product, result = self._result(ast.BinOp(left=again, op=node.op, right=other))
        tests: list[ast.expr] = [_is(first, "_int_")]
        if not constant:
            tests.append(_is(other_again, "_int_"))
        small = ast.BoolOp(op=ast.And(), values=[*tests, *self._small(product, result)])
        plain = ast.BinOp(left=again, op=node.op, right=other_again)
        guarded = call("_mul_", again, other_again, at=self._at)
        return self._choice(small, result, ast.IfExp(test=_is(again, "_float_"), body=plain, orelse=guarded))

    def range_of(self, ends: list[ast.expr], guard: ast.expr) -> ast.expr:
        """Return what makes a range: without the guard when `ends`, which are names, hold small integers."""
        tests: list[ast.expr] = []
        for end in ends:
            first, again = self._kept("a", end)
            tests += [_is(first, "_int_"), *self._small(again, again)]
        return self._choice(ast.BoolOp(op=ast.And(), values=tests), _name("_range_"), guard)

    def integers(self, node: ast.BinOp) -> ast.expr:
        """Arithmetic of what is certainly integers: only the size is looked at. The result is one, too."""
        first, again = self._result(node)
        small = ast.BoolOp(op=ast.And(), values=self._small(first, again))
        guard = "_product_" if isinstance(node.op, ast.Mult) else "_whole_"
        chosen = self._choice(small, again, call(guard, again, at=self._at))
        chosen.is_integer_ = True  # type: ignore[attr-defined]  # a note to the transformer, on its own node
        return chosen

    def in_place(self, node: ast.BinOp, guard: str) -> ast.expr:
        """`x += y` and `x *= y` of names: small ints in place, everything else by the guard."""
        assert isinstance(node.left, ast.Name)
        assert isinstance(node.right, (ast.Name, ast.Constant))
        left, right = _name(node.left.id), self._kept("b", node.right)[1]
        product, result = self._result(ast.BinOp(left=left, op=node.op, right=right))
        tests: list[ast.expr] = [_is(left, "_int_")]
        if isinstance(node.op, ast.Mult):  # a text on the right would be repeated
            tests.append(_is(right, "_int_"))
        small = ast.BoolOp(op=ast.And(), values=[*tests, *self._small(product, result)])
        return self._choice(small, result, call(guard, left, right, at=self._at))

    def divide(self, node: ast.BinOp, guard: str, *, integers: bool = False) -> ast.expr | None:
        """`a % b` and `a // b`: an int on the left is no format, and a small one is divided in no time.

        So is a long one by a small literal.
        """
        literal = is_number(node.right)
        if not literal and not (is_pure(node.left) and is_pure(node.right)):
            return None
        first, again = self._kept("a", node.left)
        plain = ast.BinOp(left=again, op=node.op, right=node.right)
        tests: list[ast.expr] = [] if integers else [_is(first, "_int_")]
        if not literal:
            tests += self._small(first if integers else again, again)
        if not tests:
            return node
        test = tests[0] if len(tests) == 1 else ast.BoolOp(op=ast.And(), values=tests)
        chosen = self._choice(test, plain, call(guard, again, node.right, at=self._at))
        if integers:
            chosen.is_integer_ = True  # type: ignore[attr-defined]  # as above
        return chosen

    def true_divide(self, node: ast.BinOp, guard: str) -> ast.expr | None:
        """`a / b`: a float or a small int on the left is divided in no time, whatever is on the right."""
        if not is_pure(node.right):
            return None
        first, again = self._kept("a", node.left)
        plain = ast.BinOp(left=again, op=node.op, right=node.right)
        small = ast.BoolOp(op=ast.And(), values=[_is(again, "_int_"), *self._small(again, again)])
        test = ast.BoolOp(op=ast.Or(), values=[_is(first, "_float_"), small])
        return self._choice(test, plain, call(guard, again, node.right, at=self._at))

    def compare(self, node: ast.Compare, guard: str) -> ast.expr | None:
        """`a < b`: with an int on the left the other side is compared in one step."""
        right = node.comparators[0]
        if not is_pure(right):
            return None
        first, again = self._kept("a", node.left)
        plain = ast.Compare(left=again, ops=node.ops, comparators=[right])
        return self._choice(_is(first, "_int_"), plain, call(guard, again, right, at=self._at))

    def contains(self, node: ast.Compare, guard: str) -> ast.expr | None:
        """`item in holder`: a dict or a short list finds a constant in no time."""
        if not isinstance(node.left, ast.Constant) or len(repr(node.left.value)) > _SMALL_TEXT:
            return None
        first, again = self._kept("a", node.comparators[0])
        plain = ast.Compare(left=node.left, ops=node.ops, comparators=[again])
        length = ast.Call(func=_name("_len_"), args=[again], keywords=[])
        short = ast.Compare(left=length, ops=[ast.Lt()], comparators=[ast.Constant(_FEW_ITEMS)])
        short_list = ast.BoolOp(op=ast.And(), values=[_is(first, "_list_"), short])
        test = ast.BoolOp(op=ast.Or(), values=[short_list, _is(again, "_dict_")])  # what takes longer first
        return self._choice(test, plain, call(guard, node.left, again, at=self._at))

    def text_method(self, node: ast.Attribute) -> ast.expr:
        """`text.method`: a short text is read in no time. The method's name stays what the guest wrote."""
        first, again = self._kept("m", node.value)
        test = self._short_text(first, again, SHORT_TEXT)
        plain = ast.Attribute(value=again, attr=node.attr, ctx=ast.Load())
        guarded = call("_getattr_", again, ast.Constant(node.attr), at=self._at)
        return self._choice(test, plain, guarded)

    def key(self, node: ast.expr) -> ast.expr:
        first, again = self._kept("k", node)
        return self._choice(_is(first, "_tuple_", negated=True), again, call("_key_", again, at=self._at))

    def stored_key(self, node: ast.expr, *, integer: bool) -> ast.expr:
        """A key that is about to be stored: texts and small integers hash in no time and apart."""
        first, again = self._kept("k", node)
        if integer:
            small = self._small(first, again)
            test: ast.expr = ast.BoolOp(op=ast.And(), values=small)
        else:
            small = [_is(again, "_int_"), *self._small(again, again)]
            both = ast.BoolOp(op=ast.And(), values=small)
            test = ast.BoolOp(op=ast.Or(), values=[_is(first, "_str_"), both])
        return self._choice(test, again, call("_stored_", again, at=self._at))

    def writable_items(self, node: ast.expr) -> ast.expr:
        first, again = self._kept("w", node)
        return self._choice(_is(first, "_dict_"), again, call("_items_", again, at=self._at))

    def writable_attributes(self, node: ast.expr) -> ast.expr:
        first, again = self._kept("w", node)
        kind = _type(_type(first))  # of a class, `__class__` is the slower one
        test = ast.Compare(left=kind, ops=[ast.Is()], comparators=[_name("_mutable_")])
        return self._choice(test, again, call("_attributes_", again, at=self._at))

    def text(self, node: ast.expr) -> ast.expr:
        """An f-string: its length is looked at, and charged when it is long."""
        name = f"_t{self._mode.value}_"
        kept = ast.NamedExpr(target=ast.Name(name, ast.Store()), value=node)
        length = ast.Call(func=_name("_len_"), args=[kept], keywords=[])
        short = ast.Compare(left=length, ops=[ast.Lt()], comparators=[ast.Constant(_SMALL_TEXT)])
        return self._choice(short, _name(name), call("_text_", _name(name), at=self._at))

    def field(self, node: ast.expr) -> ast.expr:
        first, again = self._kept("a", node)
        small = ast.BoolOp(op=ast.And(), values=[_is(again, "_int_"), *self._small(again, again)])
        plain = ast.BoolOp(op=ast.Or(), values=[_is(first, "_str_"), small])
        return self._choice(plain, again, call("_format_", again, at=self._at))
