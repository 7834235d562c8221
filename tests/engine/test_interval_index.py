from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.interval_index import IntervalIndex

keys = st.binary(max_size=4) | st.binary(min_size=6, max_size=6).map(lambda tail: b"shared" + tail)
intervals = st.tuples(st.integers(0, 1), keys, keys).filter(lambda each: each[1] < each[2])


@given(st.lists(st.tuples(intervals, st.integers(0, 3)), max_size=12), st.data())
def test_a_key_finds_exactly_the_owners_whose_intervals_hold_it(
    registered: list[tuple[tuple[int, bytes, bytes], int]], data: st.DataObject
) -> None:
    index: IntervalIndex[int] = IntervalIndex()
    kept = set(registered)
    for (index_id, start, end), owner in registered:
        index.add(index_id, start, end, owner)
    for each in data.draw(st.lists(st.sampled_from(sorted(kept)), unique=True)) if kept else []:
        (index_id, start, end), owner = each
        index.discard(index_id, start, end, owner)
        kept.discard(each)
    ends = [bound for (_, start, end), _ in registered for bound in (start, end, start + b"\0")]
    for key in [*ends, data.draw(keys)]:
        for index_id in (0, 1):
            expected = {
                owner for (where, start, end), owner in kept if where == index_id and start <= key < end
            }
            assert set(index.stab(index_id, key)) == expected


def test_what_is_taken_back_leaves_nothing_behind() -> None:
    index: IntervalIndex[str] = IntervalIndex()
    index.add(1, b"a", b"b", "x")
    index.add(1, b"a", b"b", "y")
    index.discard(1, b"a", b"b", "x")
    assert set(index.stab(1, b"a")) == {"y"}
    index.discard(1, b"a", b"b", "y")
    assert len(index) == 0
    assert not index._trees
    assert not index._lengths
