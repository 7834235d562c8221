"""Filter expressions: `.filter(lambda q: q.gt(q.field("likes"), 3))`.

The lambda runs once and builds a tree; the host evaluates the tree for every row.
Comparisons use the one order of values across kinds; arithmetic takes two numbers
or two int64 and nothing else (function-semantics 8).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final, NoReturn

from sandbox.convert import Charge, take_in
from sandbox.host import HostObject
from sandbox.transaction import Document
from tidewell.errors import TidewellError
from tidewell.found import found_text
from tidewell.ordering import order_key
from tidewell.values import MISSING, Int64, Value, kind_of, number

NODES_MAX: Final = 256  # of one expression, as operators of a query are capped
LITERAL_BYTES_MAX: Final = 2**16


class InvalidFilter(TidewellError):
    """A filter that does not fit the documents it meets, or was not built with `q`."""

    code = "InvalidFilter"


class Expression(HostObject):
    """One node. Guests hold and combine expressions; only the host evaluates them.

    To Python every one of them is true and differs from everything, so that
    `q.field("n") == 3` and `a or b` would be answers to other questions. They are errors.
    """

    __slots__ = ("_evaluate", "_fields", "_nodes", "_text")

    def __init__(
        self, evaluate: Callable[[Document], Value], nodes: int, text: str, fields: frozenset[str]
    ) -> None:
        if nodes > NODES_MAX:
            raise InvalidFilter(f"a filter of more than {NODES_MAX} operations")
        self._evaluate = evaluate
        self._nodes = nodes
        self._text = text  # the same for the same expression; part of a cursor's fingerprint
        self._fields = fields  # at the top of the document, that it may look at

    def __bool__(self) -> NoReturn:
        raise InvalidFilter(
            "an expression has no truth in Python; combine them with q.and_(...), q.or_(...) and q.not_(...)"
        )

    def _refuse_comparison(self, _other: object) -> NoReturn:
        raise InvalidFilter(
            "an expression is not compared by Python; write q.eq(left, right), or ne, lt, lte, gt, gte of q"
        )

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse_comparison
    __hash__ = object.__hash__


class FilterBuilder(HostObject):
    """`q` in a filter."""

    __slots__ = ("_charge",)
    _exposed_ = frozenset(
        "field eq ne lt lte gt gte add sub mul div mod neg and_ or_ not_".split()  # noqa: SIM905  # read as a list
    )

    def __init__(self, charge: Charge) -> None:
        self._charge = charge

    def __getitem__(self, _key: object) -> NoReturn:
        raise InvalidFilter(
            "filter() gives its function no document, but q; write q.gt(q.field('a'), 1), "
            "or iterate over the query and test each document in Python"
        )

    def field(self, path: str) -> Expression:
        """The value at a dotted path, missing when there is none."""
        if type(path) is not str or not all(path.split(".")):
            raise InvalidFilter(f"q.field() takes the path of a field, found {found_text_of(path)}")
        steps = path.split(".")

        def evaluate(document: Document) -> Value:
            value: Value = document
            for step in steps:
                if type(value) is not dict or step not in value:
                    return MISSING
                value = value[step]
            return value

        return Expression(evaluate, 1, f"field({path!r})", frozenset(steps[:1]))

    def eq(self, left: object, right: object) -> Expression:
        return self._compare("eq", operator.eq, left, right)

    def ne(self, left: object, right: object) -> Expression:
        return self._compare("ne", operator.ne, left, right)

    def lt(self, left: object, right: object) -> Expression:
        return self._compare("lt", operator.lt, left, right)

    def lte(self, left: object, right: object) -> Expression:
        return self._compare("lte", operator.le, left, right)

    def gt(self, left: object, right: object) -> Expression:
        return self._compare("gt", operator.gt, left, right)

    def gte(self, left: object, right: object) -> Expression:
        return self._compare("gte", operator.ge, left, right)

    def add(self, left: object, right: object) -> Expression:
        return self._arithmetic("add", operator.add, operator.add, left, right)

    def sub(self, left: object, right: object) -> Expression:
        return self._arithmetic("sub", operator.sub, operator.sub, left, right)

    def mul(self, left: object, right: object) -> Expression:
        return self._arithmetic("mul", operator.mul, operator.mul, left, right)

    def div(self, left: object, right: object) -> Expression:
        """Of two int64, the quotient is rounded towards zero."""
        return self._arithmetic("div", operator.truediv, _quotient, left, right)

    def mod(self, left: object, right: object) -> Expression:
        """The remainder has the sign of the left operand."""
        return self._arithmetic("mod", _remainder, _int_remainder, left, right)

    def neg(self, operand: object) -> Expression:
        inner = self._operand(operand)

        def evaluate(document: Document) -> Value:
            value = inner._evaluate(document)
            if type(value) is Int64:
                return _int64(-value, "neg")
            if type(value) in (int, float):
                return number(-float(value))
            raise InvalidFilter(f"q.neg() takes a number or an int64, found {found_text(value)}")

        return Expression(evaluate, inner._nodes + 1, f"neg({inner._text})", inner._fields)

    def and_(self, *operands: object) -> Expression:
        return self._logic("and_", operands, stops_at=False)

    def or_(self, *operands: object) -> Expression:
        return self._logic("or_", operands, stops_at=True)

    def not_(self, operand: object) -> Expression:
        inner = self._operand(operand)
        return Expression(
            lambda document: not _truth(inner._evaluate(document), "not_"),
            inner._nodes + 1,
            f"not_({inner._text})",
            inner._fields,
        )

    def _operand(self, value: object) -> Expression:
        if isinstance(value, Expression):
            return value
        if value is MISSING:
            return Expression(lambda _: MISSING, 1, "MISSING", frozenset())
        literal = take_in(value, "q", self._charge, bytes_max=LITERAL_BYTES_MAX)
        return Expression(lambda _: literal, 1, repr(literal), frozenset())

    def _compare(
        self, name: str, compare: Callable[[Any, Any], bool], left: object, right: object
    ) -> Expression:
        first, second = self._operand(left), self._operand(right)

        def evaluate(document: Document) -> Value:
            return compare(order_key(first._evaluate(document)), order_key(second._evaluate(document)))

        return _of_two(evaluate, name, first, second)

    def _arithmetic(
        self,
        name: str,
        on_numbers: Callable[[float, float], float],
        on_int64: Callable[[int, int], int],
        left: object,
        right: object,
    ) -> Expression:
        first, second = self._operand(left), self._operand(right)

        def evaluate(document: Document) -> Value:
            a, b = first._evaluate(document), second._evaluate(document)
            kinds = {kind_of(a), kind_of(b)}
            try:
                if kinds == {"number"}:
                    return number(on_numbers(float(a), float(b)))
                if kinds == {"int64"}:
                    return _int64(on_int64(int(a), int(b)), name)
            except ZeroDivisionError:
                raise InvalidFilter(f"q.{name}(): division by zero") from None
            raise InvalidFilter(
                f"q.{name}() takes two numbers or two int64, found {found_text(a)} and {found_text(b)}"
            )

        return _of_two(evaluate, name, first, second)

    def _logic(self, name: str, operands: tuple[object, ...], *, stops_at: bool) -> Expression:
        inner = [self._operand(operand) for operand in operands]

        def evaluate(document: Document) -> Value:
            for expression in inner:
                if _truth(expression._evaluate(document), name) is stops_at:
                    return stops_at
            return not stops_at

        text = ",".join(expression._text for expression in inner)
        fields = frozenset[str]().union(*(each._fields for each in inner))
        return Expression(evaluate, sum(each._nodes for each in inner) + 1, f"{name}({text})", fields)


def _of_two(
    evaluate: Callable[[Document], Value], name: str, first: Expression, second: Expression
) -> Expression:
    text = f"{name}({first._text},{second._text})"
    return Expression(evaluate, first._nodes + second._nodes + 1, text, first._fields | second._fields)


def found_text_of(value: object) -> str:
    return found_text(value) if type(value) in (str, int, float, bool, type(None)) else type(value).__name__


def _truth(value: Value, name: str) -> bool:
    if type(value) is not bool:
        raise InvalidFilter(f"q.{name}() takes booleans, found {found_text(value)}")
    return value


def _int64(value: int, name: str) -> Int64:
    try:
        return Int64(value)
    except OverflowError:
        raise InvalidFilter(f"q.{name}(): the result does not fit in an int64") from None


def _quotient(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _remainder(left: float, right: float) -> float:
    if right == 0:
        raise ZeroDivisionError
    try:
        return math.fmod(left, right)
    except ValueError:  # an infinite dividend, or NaN in
        return math.nan


def _int_remainder(left: int, right: int) -> int:
    return left - right * _quotient(left, right)


def matches(predicate: Expression, document: Document) -> bool:
    """Whether a row passes. Raises `InvalidFilter` when the expression does not give a boolean."""
    return _truth(predicate._evaluate(document), "filter")


def build(function: object, charge: Charge) -> Expression:
    """Call the lambda of `.filter(...)` and return the expression it gives."""
    if not callable(function):
        raise InvalidFilter("filter() takes a function: .filter(lambda q: q.eq(q.field('a'), 1))")
    builder = FilterBuilder(charge)
    return builder._operand(function(builder))
