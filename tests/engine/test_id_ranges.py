"""The set of request ids agrees with a plain set, and stays small."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.id_ranges import IdRanges


@given(st.lists(st.integers(0, 40)))
def test_agrees_with_a_set(numbers: list[int]) -> None:
    ranges, model = IdRanges(), set[int]()
    for number in numbers:
        assert ranges.add(number) is (number not in model)
        model.add(number)
    assert [number for number in range(42) if number in ranges] == sorted(model)
    gaps = sum(number + 1 not in model for number in model)
    assert len(ranges) == gaps


def test_counting_up_is_one_range() -> None:
    ranges = IdRanges()
    for number in range(7, 10_000):
        assert ranges.add(number)
    assert len(ranges) == 1
