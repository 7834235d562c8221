"""Read sets: half-open, merged, and one answer to one question."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.keys import Interval
from storage.read_set import ReadSet, Recorder
from tidewell.errors import InvalidValue

keys = st.binary(max_size=3)
intervals = st.lists(st.tuples(st.integers(0, 2), keys, keys), max_size=12)


@given(raw=intervals, index_id=st.integers(0, 2), key=keys)
def test_covers_says_what_the_unmerged_intervals_say(
    raw: list[tuple[int, bytes, bytes]], index_id: int, key: bytes
) -> None:
    expected = any(each == index_id and start <= key < end for each, start, end in raw)
    reads = ReadSet.of(raw)
    assert reads.covers(index_id, key) == expected
    if expected:
        found = reads.interval_around(index_id, key)
        assert found.start <= key < found.end


@given(raw=intervals)
def test_intervals_come_out_sorted_and_apart(raw: list[tuple[int, bytes, bytes]]) -> None:
    merged = list(ReadSet.of(raw).intervals())
    assert len(merged) == len(ReadSet.of(raw))
    for before, after in itertools.pairwise(merged):
        assert before[0] < after[0] or before[2] < after[1]
    assert all(start < end for _, start, end in merged)


@given(raw=intervals)
def test_a_read_set_survives_being_packed(raw: list[tuple[int, bytes, bytes]]) -> None:
    reads = ReadSet.of(raw)
    assert ReadSet.unpack(reads.pack()) == reads


@given(first=intervals, second=intervals, key=keys)
def test_a_union_covers_what_either_covers(
    first: list[tuple[int, bytes, bytes]], second: list[tuple[int, bytes, bytes]], key: bytes
) -> None:
    a, b = ReadSet.of(first), ReadSet.of(second)
    assert a.union(b).covers(1, key) == (a.covers(1, key) or b.covers(1, key))


@given(data=st.binary(max_size=60))
def test_random_bytes_are_refused_or_are_a_read_set(data: bytes) -> None:
    try:
        reads = ReadSet.unpack(data)
    except InvalidValue:
        return
    assert ReadSet.unpack(reads.pack()) == reads


@pytest.mark.parametrize(
    "rows",
    [
        [(1, [b"a"], [b"a"])],
        [(1, [b"b"], [b"a"])],
        [(1, [b"a", b"b"], [b"b", b"c"])],
        [(1, [b"a"], [])],
        [(1, [], [])],
        [(2, [b"a"], [b"b"]), (1, [b"a"], [b"b"])],
        [(-1, [b"a"], [b"b"])],
        [(1 << 60, [b"a"], [b"b"])],
    ],
)
def test_a_read_set_that_pack_would_not_write_is_refused(rows: list[object]) -> None:
    with pytest.raises(InvalidValue):
        ReadSet.unpack(msgspec.msgpack.encode(rows))


def test_an_open_interval_covers_only_what_was_passed() -> None:
    recorder = Recorder()
    scan = recorder.open(7, b"b")
    assert len(recorder.read_set()) == 0
    scan.end = b"c"
    recorder.add(7, Interval(b"x", b"x"))
    recorder.add_point(7, b"p")
    reads = recorder.read_set()
    assert reads.covers(7, b"b")
    assert not reads.covers(7, b"c")
    assert reads.covers(7, b"p")
    assert not reads.covers(7, b"p\x00")
    assert not reads.covers(7, b"x")
