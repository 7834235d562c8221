"""The write log: index keys written by recent commits, in memory.

The committer asks whether a transaction's reads were overtaken; the query cache and
subscriptions ask what they have not seen yet. One log serves them all, so a query
is rerun for exactly the writes that would have made a mutation conflict. Pure: no
clock, no I/O.

Two views of the same commits are kept. In time order, to find *which* commit came
first. And per index in key order, each key with the newest commit that wrote it, to
find out *whether* one did without looking at every key.

Invariants:

* Timestamps rise strictly from one entry to the next.
* Every entry is newer than `horizon`, and none newer than `horizon` is missing.
* A key stands in key order exactly if an entry holds it, with the newest such entry's timestamp.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from itertools import chain, islice
from typing import Final

import attrs

from storage.errors import OutOfRetention, Timestamp
from storage.field_reads import Change
from storage.keys import Interval
from storage.read_set import IndexKey, ReadSet

_BUCKET_KEYS_MAX: Final = (
    512  # memmove of half a bucket per insert; with a tree above, the rest is logarithmic
)
_KEY_OVERHEAD_BYTES: Final = 150  # what an index key costs besides its own bytes, measured
_TRIM_SLACK: Final = 1024  # entries trimmed before the list is really cut, so that trimming is amortised


@attrs.frozen
class Entry:
    """One commit. A document that moves gives its old key and its new one,
    because leaving a range changes that range as surely as entering it."""

    ts: Timestamp
    keys: tuple[IndexKey, ...]  # no repeats
    in_place: Mapping[IndexKey, Change] = attrs.field(factory=dict)  # of keys that stayed the same

    @property
    def size_bytes(self) -> int:
        """About the memory that it takes in a log."""
        return sum(len(key) + _KEY_OVERHEAD_BYTES for _, key in self.keys)


@attrs.frozen
class Conflict:
    """A write inside a read set, with the evidence."""

    ts: Timestamp
    index_id: int
    key: bytes
    interval: Interval  # the read it fell into


@attrs.define(eq=False)
class WriteLog:
    horizon: Timestamp
    _entries: list[Entry] = attrs.field(factory=list, init=False)
    _trimmed: int = attrs.field(default=0, init=False)  # entries at the front that are gone already
    _indexes: dict[int, _KeyTimes] = attrs.field(factory=dict, init=False)

    @property
    def newest(self) -> Timestamp:
        return self._entries[-1].ts if len(self._entries) > self._trimmed else self.horizon

    def __len__(self) -> int:
        """Return the number of commits."""
        return len(self._entries) - self._trimmed

    @property
    def key_count(self) -> int:
        """The number of distinct keys."""
        return sum(map(len, self._indexes.values()))

    def append(self, entry: Entry) -> None:
        """Add a commit that is newer than all before it."""
        assert entry.ts > self.newest, (entry.ts, self.newest)
        self._entries.append(entry)
        for index_id, key in entry.keys:
            times = self._indexes.get(index_id)
            if times is None:
                times = self._indexes[index_id] = _KeyTimes()
            times.set(key, entry.ts)

    def find_conflict(self, reads: ReadSet, begin_ts: Timestamp) -> Conflict | None:
        """Return the earliest write inside `reads` after `begin_ts`.

        Args:
          reads: every index range looked at, those that came back empty included.
          begin_ts: the snapshot read from. Exclusive, since that commit's own writes were seen.

        Raises:
          OutOfRetention: `begin_ts` is below `horizon`. Finding nothing in a log
            with a hole in it would pass for "no conflict".

        Finding that there is none takes logarithmic time per interval, however long the log.
        Naming the first one takes a walk over the keys written between `begin_ts` and it.
        """
        if begin_ts < self.horizon:
            raise OutOfRetention(asked=begin_ts, horizon=self.horizon)
        if begin_ts >= self.newest:
            return None
        indexes = self._indexes
        for index_id, start, end in reads.intervals():
            times = indexes.get(index_id)
            if times is not None and times.is_newer_in(start, end, begin_ts):
                return self._first_conflict(reads, begin_ts)
        return None

    def _first_conflict(self, reads: ReadSet, begin_ts: Timestamp) -> Conflict:
        first = bisect_right(self._entries, begin_ts, key=lambda entry: entry.ts)
        for entry in islice(self._entries, first, None):
            for index_id, key in entry.keys:
                if reads.covers(index_id, key):
                    return Conflict(entry.ts, index_id, key, reads.interval_around(index_id, key))
        raise AssertionError(f"the key order knows a write after {begin_ts} that no entry holds")

    def entries_after(self, ts: Timestamp) -> list[Entry]:
        """Return the commits after `ts`, oldest first. Raises `OutOfRetention` like `find_conflict`."""
        if ts < self.horizon:
            raise OutOfRetention(asked=ts, horizon=self.horizon)
        first = bisect_right(self._entries, ts, lo=self._trimmed, key=lambda entry: entry.ts)
        return self._entries[first:]

    def trim(self, horizon: Timestamp) -> None:
        """Forget the commits up to and including `horizon`. Never moves back."""
        if horizon <= self.horizon:
            return
        self.horizon = horizon
        entries = self._entries
        while self._trimmed < len(entries) and entries[self._trimmed].ts <= horizon:
            entry = entries[self._trimmed]
            for index_id, key in entry.keys:
                times = self._indexes[index_id]
                times.discard(key, entry.ts)
                if not times:
                    del self._indexes[index_id]
            self._trimmed += 1
        if self._trimmed == len(entries) or self._trimmed >= _TRIM_SLACK:
            del entries[: self._trimmed]
            self._trimmed = 0


class _KeyTimes:
    """The keys of one index in order, each with the newest commit that wrote it.

    Sorted buckets of bounded size, and over them a tree of maxima: node i holds the
    larger of nodes 2i and 2i+1, bucket b is leaf `size + b`. Since every new
    timestamp is the largest so far, a write lifts its leaf's ancestors to it. Taking
    keys out leaves maxima alone, which only makes them too high for keys that a
    caller still within the horizon cannot ask about.
    """

    __slots__ = ("_count", "_firsts", "_keys", "_size", "_tree", "_ts")

    def __init__(self) -> None:
        self._firsts: list[bytes] = []  # the first key of each bucket when it was made; b"" for bucket 0
        self._keys: list[list[bytes]] = []
        self._ts: list[list[Timestamp]] = []
        self._size = 1
        self._tree: list[Timestamp] = [0, 0]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def set(self, key: bytes, ts: Timestamp) -> None:
        if not self._keys:
            self._firsts, self._keys, self._ts = [b""], [[]], [[]]
        bucket = bisect_right(self._firsts, key) - 1
        keys, times = self._keys[bucket], self._ts[bucket]
        place = bisect_left(keys, key)
        if place < len(keys) and keys[place] == key:
            times[place] = ts
        else:
            keys.insert(place, key)
            times.insert(place, ts)
            self._count += 1
            if len(keys) > _BUCKET_KEYS_MAX:
                self._split(bucket)
                return
        node = self._size + bucket
        tree = self._tree
        while node:
            tree[node] = ts
            node >>= 1

    def discard(self, key: bytes, ts: Timestamp) -> None:
        """Take `key` out, unless a commit after `ts` has written it again."""
        bucket = bisect_right(self._firsts, key) - 1
        keys, times = self._keys[bucket], self._ts[bucket]
        place = bisect_left(keys, key)
        if times[place] != ts:
            return
        del keys[place], times[place]
        self._count -= 1
        if not keys and len(self._keys) > 1:
            leaves = self._leaves()
            del self._firsts[bucket], self._keys[bucket], self._ts[bucket], leaves[bucket]
            self._firsts[0] = b""
            self._grow_tree(leaves)

    def is_newer_in(self, start: bytes, end: bytes, ts: Timestamp) -> bool:
        """Whether a key in [start, end) was written after `ts`."""
        if self._tree[1] <= ts:
            return False
        firsts = self._firsts
        first = bisect_right(firsts, start) - 1
        if first + 1 == len(firsts) or end <= firsts[first + 1]:
            return self._is_newer_within(first, start, end, ts)
        last = bisect_left(firsts, end, lo=first) - 1  # the last bucket with keys below `end`
        return (
            self._max(first + 1, last) > ts
            or self._is_newer_within(first, start, None, ts)
            or self._is_newer_within(last, b"", end, ts)
        )

    def _is_newer_within(self, bucket: int, start: bytes, end: bytes | None, ts: Timestamp) -> bool:
        if self._tree[self._size + bucket] <= ts:
            return False  # without a look at the keys: most buckets are older than most snapshots
        keys = self._keys[bucket]
        low = bisect_left(keys, start)
        if end is None:
            high = len(keys)
        elif low == len(keys) or keys[low] >= end:
            return False
        else:
            high = bisect_left(keys, end, lo=low)
        return max(self._ts[bucket][low:high], default=0) > ts

    def _max(self, low: int, high: int) -> Timestamp:
        """Return the newest timestamp in the buckets [low, high)."""
        low += self._size
        high += self._size
        newest = 0
        while low < high:
            if low & 1:
                newest = max(newest, self._tree[low])
                low += 1
            if high & 1:
                high -= 1
                newest = max(newest, self._tree[high])
            low >>= 1
            high >>= 1
        return newest

    def _split(self, bucket: int) -> None:
        keys, times = self._keys[bucket], self._ts[bucket]
        half = len(keys) // 2
        leaves = self._leaves()
        leaves[bucket : bucket + 1] = [max(times[:half]), max(times[half:])]
        self._firsts.insert(bucket + 1, keys[half])
        self._keys[bucket : bucket + 1] = [keys[:half], keys[half:]]
        self._ts[bucket : bucket + 1] = [times[:half], times[half:]]
        self._grow_tree(leaves)

    def _leaves(self) -> list[Timestamp]:
        return self._tree[self._size : self._size + len(self._keys)]

    def _grow_tree(self, leaves: list[Timestamp]) -> None:
        self._size = 1 << (len(leaves) - 1).bit_length()
        level = leaves + [0] * (self._size - len(leaves))
        levels = [level]
        while len(level) > 1:
            level = list(map(max, level[::2], level[1::2]))
            levels.append(level)
        self._tree = [0, *chain.from_iterable(reversed(levels))]
