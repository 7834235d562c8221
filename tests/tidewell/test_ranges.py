"""Rules X1 to X3 of `function-semantics.md` 9: which calls on `q` make a range."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidewell.errors import InvalidRange, InvalidValue
from tidewell.ranges import Bound, IndexRange, RangeBuilder
from tidewell.values import MISSING

FIELDS = ("author", "likes", "_creationTime")


def build(*steps: tuple[str, str, object]) -> IndexRange:
    builder = RangeBuilder("by_author", FIELDS)
    for operation, field, value in steps:
        call: Callable[[str, object], RangeBuilder] = getattr(builder, operation)
        assert call(field, value) is builder
    return builder.finish()


def test_no_calls_are_the_whole_index() -> None:
    assert build() == IndexRange()


def test_equalities_may_be_written_in_any_order() -> None:
    expected = IndexRange(equal=("ann", 3))
    assert build(("eq", "author", "ann"), ("eq", "likes", 3)) == expected
    assert build(("eq", "likes", 3), ("eq", "author", "ann")) == expected


def test_bounds_apply_to_the_field_after_the_equalities() -> None:
    assert build(("eq", "author", "ann"), ("gt", "likes", 1), ("lte", "likes", 5)) == IndexRange(
        ("ann",), Bound(1, inclusive=False), Bound(5, inclusive=True)
    )
    assert build(("gte", "author", "a")) == IndexRange((), Bound("a", inclusive=True), None)
    assert build(("eq", "author", 1), ("eq", "likes", 2), ("lt", "_creationTime", 9)).upper == Bound(
        9, inclusive=False
    )


def test_missing_may_be_compared_with() -> None:
    assert build(("eq", "author", MISSING)).equal == (MISSING,)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([("eq", "likes", 1)], "'author' is missing"),
        ([("gt", "likes", 1)], "a bound on 'likes'"),
        ([("eq", "author", 1), ("eq", "author", 2)], "two equalities"),
        ([("gt", "author", 1), ("gte", "author", 2)], "two lower bounds"),
        ([("lt", "author", 1), ("lte", "author", 2)], "two upper bounds"),
        ([("gt", "author", 1), ("lt", "likes", 2)], "bounds on two fields"),
        ([("lt", "author", 1), ("gt", "author", 0)], "lower bound first"),
        ([("gt", "author", 1), ("eq", "likes", 0)], "equalities first"),
        ([("eq", "place", 1)], "not a field of the index"),
    ],
)
def test_a_broken_rule_is_named_with_the_fields_of_the_index(
    steps: list[tuple[str, str, object]], words: str
) -> None:
    with pytest.raises(InvalidRange) as caught:
        build(*steps)
    assert words in str(caught.value)
    assert "(author, likes, _creationTime)" in str(caught.value)


def test_an_operand_must_be_a_value() -> None:
    with pytest.raises(InvalidValue, match=r"q\.author"):
        build(("eq", "author", {1, 2}))
