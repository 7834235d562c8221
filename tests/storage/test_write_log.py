"""The write log against a list of everything that was ever written."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import Entry, OutOfRetention, ReadSet, WriteLog
from storage import write_log as module

keys = st.tuples(st.integers(1, 2), st.binary(max_size=2))


@given(
    commits=st.lists(st.lists(keys, max_size=6, unique=True), max_size=20),
    reads=st.lists(st.tuples(st.integers(1, 2), st.binary(max_size=2), st.binary(max_size=2)), max_size=5),
    begin=st.integers(0, 25),
    horizon=st.integers(0, 25),
    bucket=st.sampled_from([1, 2, 512]),
)
@settings(max_examples=300)
def test_conflicts_are_those_of_a_plain_list(
    commits: list[list[tuple[int, bytes]]],
    reads: list[tuple[int, bytes, bytes]],
    begin: int,
    horizon: int,
    bucket: int,
) -> None:
    original = module._BUCKET_KEYS_MAX
    module._BUCKET_KEYS_MAX = bucket  # type: ignore[misc]  # small buckets reach the edges that large ones hide
    try:
        log = WriteLog(horizon=0)
        for ts, written in enumerate(commits, start=1):
            log.append(Entry(ts, tuple(written)))
        log.trim(horizon)
        read_set = ReadSet.of(reads)
        if begin < horizon:
            with pytest.raises(OutOfRetention):
                log.find_conflict(read_set, begin)
            return
        expected = next(
            (
                (ts, key)
                for ts, written in enumerate(commits, start=1)
                if ts > begin
                for key in written
                if any(key[0] == index_id and start <= key[1] < end for index_id, start, end in reads)
            ),
            None,
        )
        found = log.find_conflict(read_set, begin)
        assert (found and (found.ts, (found.index_id, found.key))) == expected
        kept = {key for ts, written in enumerate(commits, start=1) if ts > horizon for key in written}
        assert log.key_count == len(kept)
        assert [entry.ts for entry in log.entries_after(max(begin, horizon))] == [
            ts for ts in range(1, len(commits) + 1) if ts > max(begin, horizon)
        ]
    finally:
        module._BUCKET_KEYS_MAX = original  # type: ignore[misc]  # as above


def test_a_long_life_of_appends_and_trims_agrees_with_a_plain_list() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    source = random.Random(seed)
    log = WriteLog(horizon=0)
    entries: list[Entry] = []
    for ts in range(1, 6001):
        entry = Entry(ts, tuple({(1, source.randbytes(2)) for _ in range(3)}))
        entries.append(entry)
        log.append(entry)
        if ts % 500 == 0:
            log.trim(ts - 2500)
        if ts % 97 == 0:
            begin = max(log.horizon, ts - source.randrange(1, 3000))
            start = source.randbytes(2)
            reads = ReadSet.of(
                [(1, start, start + b"\x01"), (1, b"\x10", source.choice([b"\x10\x10", b"\x60"]))]
            )
            expected = next(
                (
                    each.ts
                    for each in entries
                    if each.ts > begin and any(reads.covers(*key) for key in each.keys)
                ),
                None,
            )
            found = log.find_conflict(reads, begin)
            assert (found and found.ts) == expected


def test_a_log_with_a_hole_refuses_to_answer() -> None:
    log = WriteLog(horizon=10)
    with pytest.raises(OutOfRetention, match="asked about 9"):
        log.find_conflict(ReadSet(), 9)
    with pytest.raises(OutOfRetention):
        log.entries_after(9)
    assert log.find_conflict(ReadSet(), 10) is None


def test_a_conflict_carries_its_evidence() -> None:
    log = WriteLog(horizon=0)
    log.append(Entry(5, ((1, b"m"),)))
    conflict = log.find_conflict(ReadSet.of([(1, b"a", b"z")]), 4)
    assert conflict is not None
    assert (conflict.ts, conflict.index_id, conflict.key) == (5, 1, b"m")
    assert (conflict.interval.start, conflict.interval.end) == (b"a", b"z")
    assert log.find_conflict(ReadSet.of([(1, b"a", b"z")]), 5) is None
