from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import interval_tree
from engine.interval_tree import IntervalTree

keys = st.binary(min_size=1, max_size=2)
intervals = st.tuples(keys, keys).filter(lambda each: each[0] < each[1])


@given(st.lists(st.tuples(st.booleans(), intervals, st.integers(0, 2)), max_size=60), st.lists(keys))
def test_a_key_finds_what_a_list_of_all_intervals_would(
    steps: list[tuple[bool, tuple[bytes, bytes], int]], asked: list[bytes]
) -> None:
    tree: IntervalTree[int] = IntervalTree()
    kept: set[tuple[bytes, bytes, int]] = set()
    for adds, (start, end), owner in steps:
        if adds:
            tree.add(start, end, owner)
            kept.add((start, end, owner))
        elif (start, end, owner) in kept:
            tree.discard(start, end, owner)
            kept.discard((start, end, owner))
        else:
            with pytest.raises(KeyError):
                tree.discard(start, end, owner)
    assert len(tree) == len({(start, end) for start, end, _ in kept})
    assert bool(tree) == bool(kept)
    for key in [*asked, *(bound for each in kept for bound in each[:2])]:
        assert sorted(tree.stab(key)) == sorted(owner for start, end, owner in kept if start <= key < end)


@pytest.fixture
def visited() -> Iterator[list[int]]:
    """The number of nodes that lookups have looked at, in its only item."""
    count = [0]
    code = interval_tree._collect.__code__

    def count_calls(frame: FrameType, event: str, _: object) -> None:
        count[0] += event == "call" and frame.f_code is code

    before = sys.getprofile()
    sys.setprofile(count_calls)
    yield count
    sys.setprofile(before)


def test_wide_intervals_that_do_not_hold_a_key_are_passed_over(visited: list[int]) -> None:
    tree: IntervalTree[int] = IntervalTree()
    size = 20_000
    order = list(range(size))
    random.Random(3).shuffle(order)
    for number in order:  # each ends soon after it begins, and half of all begin before the key
        tree.add(number.to_bytes(4, "big"), (number + 3).to_bytes(4, "big"), number)
    visited[0] = 0
    assert tree.stab((size // 2).to_bytes(4, "big")) == [size // 2 - 2, size // 2 - 1, size // 2]
    assert visited[0] < 200
