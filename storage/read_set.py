"""Read sets: which parts of which indexes a transaction has looked at.

The committer asks for conflicts, the query cache for validity, subscriptions for
invalidation; all of them ask `ReadSet.covers`. While a transaction runs, reads are
recorded in one place, `Recorder`, before the row is handed out.

Invariants of a `ReadSet`:

* Per index the intervals are half-open, not empty, sorted, and neither overlap nor touch.
* Keys are full logical keys, never cut ones (K7).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

import attrs
import msgspec

from storage.keys import Interval
from tidewell.errors import InvalidValue

IndexKey = tuple[int, bytes]  # index id, full logical key

READ_INTERVALS_MAX = 1_000_000  # in one packed read set; far above any limit on queries, against nonsense


@attrs.frozen
class _Ranges:
    starts: tuple[bytes, ...]
    ends: tuple[bytes, ...]


@attrs.frozen
class ReadSet:
    """Everything a transaction depends on."""

    _ranges: Mapping[int, _Ranges] = attrs.field(factory=dict)

    @classmethod
    def of(cls, intervals: Iterable[tuple[int, bytes, bytes]]) -> ReadSet:
        """Return the read set of (index id, start, end) in any order, overlapping or empty ones included."""
        by_index: dict[int, list[tuple[bytes, bytes]]] = {}
        for index_id, start, end in intervals:
            if start < end:
                by_index.setdefault(index_id, []).append((start, end))
        return cls({index_id: _merged(pairs) for index_id, pairs in sorted(by_index.items())})

    def covers(self, index_id: int, key: bytes) -> bool:
        """Whether a write of `key` in that index changes what was read. THE question, asked nowhere else."""
        ranges = self._ranges.get(index_id)
        if ranges is None:
            return False
        place = bisect_right(ranges.starts, key) - 1
        return place >= 0 and key < ranges.ends[place]

    def interval_around(self, index_id: int, key: bytes) -> Interval:
        """Return the recorded interval that holds a covered key."""
        ranges = self._ranges[index_id]
        place = bisect_right(ranges.starts, key) - 1
        return Interval(ranges.starts[place], ranges.ends[place])

    def intervals(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield (index id, start, end) in order."""
        for index_id, ranges in self._ranges.items():
            for start, end in zip(ranges.starts, ranges.ends, strict=True):
                yield index_id, start, end

    def __len__(self) -> int:
        """Return the number of intervals."""
        return sum(len(ranges.starts) for ranges in self._ranges.values())

    def union(self, other: ReadSet) -> ReadSet:
        return ReadSet.of((*self.intervals(), *other.intervals()))

    def pack(self) -> bytes:
        return _packer.encode(
            [(index_id, ranges.starts, ranges.ends) for index_id, ranges in self._ranges.items()]
        )

    @classmethod
    def unpack(cls, data: bytes) -> ReadSet:
        """Return the read set in `data`, which may come from an untrusted process.

        Raises:
          InvalidValue: malformed, or not exactly what `pack` writes.
        """
        try:
            rows = _unpacker.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise InvalidValue("read_set", f"malformed bytes: {error}") from None
        if sum(len(starts) for _, starts, _ in rows) > READ_INTERVALS_MAX:
            raise InvalidValue("read_set", f"more than {READ_INTERVALS_MAX} intervals")
        ranges: dict[int, _Ranges] = {}
        previous_id = -1
        for index_id, starts, ends in rows:
            if not previous_id < index_id < 1 << 56:
                raise InvalidValue("read_set", f"index {index_id} out of place")
            _check(starts, ends)
            ranges[index_id] = _Ranges(starts, ends)
            previous_id = index_id
        return cls(ranges)


_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(list[tuple[int, tuple[bytes, ...], tuple[bytes, ...]]])


def _merged(pairs: list[tuple[bytes, bytes]]) -> _Ranges:
    pairs.sort()
    starts, ends = [pairs[0][0]], [pairs[0][1]]
    for start, end in pairs:
        if start > ends[-1]:
            starts.append(start)
            ends.append(end)
        elif end > ends[-1]:
            ends[-1] = end
    return _Ranges(tuple(starts), tuple(ends))


def _check(starts: tuple[bytes, ...], ends: tuple[bytes, ...]) -> None:
    if not starts or len(starts) != len(ends):
        raise InvalidValue("read_set", "an index without intervals, or a start without an end")
    previous: bytes | None = None
    for start, end in zip(starts, ends, strict=True):
        if start >= end or (previous is not None and start <= previous):
            raise InvalidValue("read_set", "intervals out of order")
        previous = end


@attrs.define
class OpenInterval:
    """One scan's interval while rows are being consumed. Grows from one side only."""

    index_id: int
    start: bytes
    end: bytes


@attrs.define
class Recorder:
    """The one place where a running transaction records its reads.

    A scan takes an `OpenInterval`, empty at first, and moves its edge past each row before
    that row is handed out; so what was only prefetched is never part of it, and what was
    handed out always is, wherever the scan is abandoned.
    """

    _intervals: list[OpenInterval] = attrs.field(factory=list)
    _points: set[IndexKey] = attrs.field(factory=set)

    def add_point(self, index_id: int, key: bytes) -> None:
        """Record one key, present or not."""
        self._points.add((index_id, key))

    def add(self, index_id: int, interval: Interval) -> None:
        self._intervals.append(OpenInterval(index_id, interval.start, interval.end))

    def open(self, index_id: int, at: bytes) -> OpenInterval:
        """Begin a scan at the edge `at`; nothing is covered yet."""
        interval = OpenInterval(index_id, at, at)
        self._intervals.append(interval)
        return interval

    def read_set(self) -> ReadSet:
        return ReadSet.of(
            [(interval.index_id, interval.start, interval.end) for interval in self._intervals]
            + [(index_id, key, key + b"\x00") for index_id, key in self._points]
        )
