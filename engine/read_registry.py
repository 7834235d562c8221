"""Who has read what a commit writes: the read sets of all queries that hold, in one interval index.

Each committed key is looked up once, however many queries there are (S1). A query that
looked at a few fields of a document is passed over by a commit which left the document in
its place and changed other fields alone (S14). What was committed while a query ran is asked of
the write log, by the same rules.
"""

from __future__ import annotations

import attrs

from engine.interval_index import IntervalIndex
from engine.query_entries import Ended, Entry, QueryRun
from storage import Changes, IndexKey, OutOfRetention, ReadSet, Timestamp, WriteLog


@attrs.define(eq=False)
class _Interest:
    """One read set of an entry."""

    entry: Entry
    reads: ReadSet
    fields: frozenset[str] | None = None  # None: all of them
    room_bytes: int = 0  # see `QueryRun`

    def is_touched(self, key: IndexKey, changes: Changes) -> bool:
        if self.fields is None:
            return True
        change = changes.in_place.get(key)
        if change is None or not self.fields.isdisjoint(change.fields):
            return True
        self.room_bytes -= max(0, change.growth)
        return self.room_bytes < 0


@attrs.define(eq=False)
class ReadRegistry:
    _intervals: IntervalIndex[_Interest] = attrs.field(factory=IntervalIndex, init=False)
    _interests: dict[Entry, list[_Interest]] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        """The number of distinct intervals."""
        return len(self._intervals)

    def add(self, entry: Entry, run: QueryRun) -> None:
        """Register what `run` read; `entry` is not registered yet."""
        assert entry not in self._interests
        assert run.reads is not None
        interests = [_Interest(entry, run.reads)]
        interests += [_Interest(entry, reads, fields, run.room_bytes) for fields, reads in run.fields]
        self._interests[entry] = interests
        for interest in interests:
            for index_id, start, end in interest.reads.intervals():
                self._intervals.add(index_id, start, end, interest)

    def discard(self, entry: Entry) -> None:
        """Forget `entry`, registered or not."""
        for interest in self._interests.pop(entry, ()):
            for index_id, start, end in interest.reads.intervals():
                self._intervals.discard(index_id, start, end, interest)

    def touched(self, changes: Changes) -> dict[Entry, IndexKey]:
        """Return the entries that a commit makes stale, each with the first key that does, in a
        reproducible order."""
        touched: dict[Entry, IndexKey] = {}
        for key in changes.keys:
            for interest in self._intervals.stab(*key):
                if interest.entry not in touched and interest.is_touched(key, changes):
                    touched[interest.entry] = key
        return touched


def overtaken(run: QueryRun, log: WriteLog, head: Timestamp) -> Ended | None:
    """Return the end that the first durable commit after the snapshot of `run` made of its outcome."""
    if run.reads is None:
        return None
    reads = run.reads.union(run.fields.whole()) if run.fields else run.reads
    try:
        conflict = log.find_conflict(reads, run.outcome.ts)
        while conflict is not None and run.fields and not _is_touched(run, log, conflict.ts):
            conflict = log.find_conflict(reads, conflict.ts)
    except OutOfRetention:
        return Ended("commit", run.outcome.ts + 1)
    # A commit that is accepted and not yet durable is announced when it is.
    if conflict is None or conflict.ts > head:
        return None
    return Ended("commit", conflict.ts, (conflict.index_id, conflict.key))


def _is_touched(run: QueryRun, log: WriteLog, ts: Timestamp) -> bool:
    """Whether the commit at `ts` changed more than fields that `run` did not look at."""
    assert run.reads is not None
    entry = log.entries_after(ts - 1)[0]
    for key in entry.keys:
        if run.reads.covers(*key):
            return True
        change = entry.in_place.get(key)
        for fields, reads in run.fields:
            if reads.covers(*key) and (
                change is None or change.growth > 0 or not fields.isdisjoint(change.fields)
            ):
                return True
    return False
