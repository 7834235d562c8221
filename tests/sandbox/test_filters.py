"""Filter expressions: the order of values, arithmetic by kind, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.filters import Expression, FilterBuilder, InvalidFilter, matches
from tidewell.ordering import order_key
from tidewell.values import MISSING, Int64

from .guest_app import GuestApp

q = FilterBuilder(lambda steps: None)

# Every kind in order, and within the kinds.
IN_ORDER = [
    MISSING, None, Int64(-(2**63)), Int64(-1), Int64(0), Int64(7), -math.inf, -1.5, -0.0, 0, 0.5, 1, 2**53,
    math.inf, math.nan, False, True, "", "a", "a\0", "ab", "b", "\uffff", "\U0001f600", b"", b"a", b"b",
    [], [None], [1], [1, 2], [2], ["a"], {}, {"a": 1}, {"a": 1, "b": 1}, {"a": 2}, {"b": 0},
]  # fmt: skip


def test_values_have_one_order_across_kinds() -> None:
    keys = [order_key(value) for value in IN_ORDER]
    assert keys == sorted(keys)
    assert all(first < second for first, second in pairwise(keys))


places = st.integers(0, len(IN_ORDER) - 1)


@given(places, places)
def test_comparisons_follow_that_order(left: int, right: int) -> None:
    document = {} if IN_ORDER[left] is MISSING else {"a": IN_ORDER[left]}
    field, other = q.field("a"), IN_ORDER[right]
    expected = {
        q.eq: left == right, q.ne: left != right, q.lt: left < right,
        q.lte: left <= right, q.gt: left > right, q.gte: left >= right,
    }  # fmt: skip
    assert {compare: matches(compare(field, other), document) for compare in expected} == expected


@pytest.mark.parametrize(
    ("build", "result"),
    [
        (lambda: q.add(1, 2), 3),
        (lambda: q.sub(1, 2.5), -1.5),
        (lambda: q.mul(2**53, 2), 2.0**54),
        (lambda: q.div(10, 2), 5),
        (lambda: q.mod(-7, 3), -1),
        (lambda: q.neg(3), -3),
        (lambda: q.add(Int64(1), Int64(2)), Int64(3)),
        (lambda: q.div(Int64(-7), Int64(2)), Int64(-3)),
        (lambda: q.mod(Int64(-7), Int64(2)), Int64(-1)),
        (lambda: q.neg(Int64(3)), Int64(-3)),
        (lambda: q.mul(1e308, 10), math.inf),
        (lambda: q.field("a.b"), 5),
        (lambda: q.field("a.x.y"), MISSING),
        (lambda: q.and_(), True),
        (lambda: q.or_(), False),
        (lambda: q.not_(q.eq(1, 2)), True),
        (lambda: q.and_(False, q.div(1, 0)), False),
        (lambda: q.or_(True, q.field("nope")), True),
    ],
)
def test_an_expression_has_a_value(build: Callable[[], Expression], result: Any) -> None:
    found = build()._evaluate({"a": {"b": 5}})
    assert (type(found), found) == (type(result), result)


@pytest.mark.parametrize(
    "build",
    [
        lambda: q.add(1, Int64(2)),
        lambda: q.add("a", "b"),
        lambda: q.div(1, 0),
        lambda: q.mod(1.0, 0),
        lambda: q.div(Int64(1), Int64(0)),
        lambda: q.add(Int64(2**63 - 1), Int64(1)),
        lambda: q.neg(Int64(-(2**63))),
        lambda: q.neg("a"),
        lambda: q.and_(1),
        lambda: q.not_(None),
    ],
)
def test_a_mistake_raises_when_a_row_is_evaluated(build: Callable[[], Expression]) -> None:
    expression = build()
    with pytest.raises(InvalidFilter):
        expression._evaluate({})


def test_an_expression_has_at_most_256_operations() -> None:
    expression = q.field("a")
    for _ in range(255):
        expression = q.not_(expression)
    with pytest.raises(InvalidFilter, match="256"):
        q.not_(expression)


def test_what_is_no_expression_is_refused() -> None:
    with pytest.raises(InvalidFilter, match=r"q\.filter\(\) takes booleans"):
        matches(q.add(1, 2), {})
    with pytest.raises(InvalidFilter, match="path of a field"):
        q.field("")
    with pytest.raises(InvalidFilter, match="path of a field"):
        q.field(3)  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ('q.field("n") == 3', "write q.eq(left, right)"),
        ('q.field("n") != 3', "write q.eq(left, right)"),
        ('3 == q.field("n")', "write q.eq(left, right)"),
        ('q.field("n") > 3', "write q.eq(left, right)"),
        ('q.field("n") in [3]', "write q.eq(left, right)"),
        ('q.eq(q.field("n"), 3) or q.eq(q.field("n"), 4)', "q.or_(...)"),
        ('q.eq(q.field("n"), 3) and q.eq(q.field("n"), 4)', "q.and_(...)"),
        ('not q.eq(q.field("n"), 3)', "q.not_(...)"),
        ('q["n"] > 3', "no document, but q"),
        ('q.neq(q.field("n"), 3)', "it is called ne"),
    ],
)
def test_what_python_would_answer_itself_is_an_error_and_not_another_filter(
    condition: str, message: str
) -> None:
    source = f"""
        from tidewell import query

        @query
        def some(ctx):
            return ctx.db.query("posts").filter(lambda q: {condition}).collect()
        """
    assert message in GuestApp({"m.py": source}).outcome("query", "m:some").error
