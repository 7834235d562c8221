"""Reading stretches of an index from one LMDB view, in exact order, a chunk at a time.

Chunks, because a scan outlives a view: each chunk is read from one view and says how
far it reaches, the next one begins there, perhaps in another view of the same
snapshot. Nothing here records reads; who consumes rows does (`transaction.py`).

Entries longer than `KEY_WHOLE_MAX` share a cut key with their neighbours and stand in
digest order among them. Such a run is always read whole and sorted by full key, so
that a chunk never ends inside one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter

import attrs

from storage.environment import Cursor, Db, View, Writer
from storage.errors import StoreDamaged, Timestamp
from storage.keys import Interval, successor
from storage.layout import DIGEST_BYTES, KEY_WHOLE_MAX, index_prefix, pack_ts, read_ts

PREFIX_BYTES = 7
RUN_BYTES = PREFIX_BYTES + KEY_WHOLE_MAX  # of an LMDB key, that the members of a run have in common
LONG_BYTES = RUN_BYTES + DIGEST_BYTES
_AFTER_RUN = b"\xff" * (DIGEST_BYTES + 1)

Entry = tuple[bytes, bytes]  # full key, value; the value begins with the timestamp


@attrs.frozen
class Chunk:
    """Entries in scan order: all those with keys in `span`. There are none after it if `is_last`."""

    entries: list[Entry]
    span: Interval
    is_last: bool


def read_chunk(view: View | Writer, index_id: int, interval: Interval, *, reverse: bool, size: int) -> Chunk:
    """Return about the first `size` latest entries of an interval, in scan order."""
    with view.cursor(view.dbs.index) as cursor:
        if reverse:
            return _read_descending(cursor, index_prefix(index_id), interval, size)
        return _read_ascending(cursor, index_prefix(index_id), interval, size)


def _read_ascending(cursor: Cursor, prefix: bytes, interval: Interval, size: int) -> Chunk:
    low, high = key_bounds(prefix, interval)
    while cursor.set_range(low):
        rows, is_last = _take(cursor.iternext(), size)
        seen = rows[-1][0]
        if seen >= high:
            rows = rows[: bisect_left(rows, high, key=_physical)]
            is_last = True
        entries = _in_order(rows, interval)
        if is_last:
            return Chunk(entries, interval, True)
        if entries:
            return Chunk(entries, Interval(interval.start, successor(entries[-1][0])), False)
        low = successor(seen)  # a run all of which lies before the interval
    return Chunk([], interval, True)


def _read_descending(cursor: Cursor, prefix: bytes, interval: Interval, size: int) -> Chunk:
    low, high = key_bounds(prefix, interval)
    while cursor.prev() if cursor.set_range(high) else cursor.last():
        rows, is_last = _take(cursor.iterprev(), size)
        seen = rows[-1][0]
        rows.reverse()
        if seen < low:
            rows = rows[bisect_left(rows, low, key=_physical) :]
            is_last = True
        entries = _in_order(rows, interval)
        entries.reverse()
        if is_last:
            return Chunk(entries, interval, True)
        if entries:
            return Chunk(entries, Interval(entries[-1][0], interval.end), False)
        high = seen
    return Chunk([], interval, True)


def _take(rows: Iterator[Entry], size: int) -> tuple[list[Entry], bool]:
    """Return `size` rows, and those left of the last one's run; and whether there are no more."""
    taken = list(islice(rows, size))
    if len(taken) < size:
        return taken, True
    if len(taken[-1][0]) == LONG_BYTES:
        run = taken[-1][0][:RUN_BYTES]
        for row in rows:
            if row[0][:RUN_BYTES] != run:
                return taken, False
            taken.append(row)
        return taken, True
    return taken, False


_physical = itemgetter(0)


def key_bounds(prefix: bytes, interval: Interval) -> tuple[bytes, bytes]:
    """Return LMDB keys that enclose an interval, whole runs at either end included."""
    low = prefix + interval.start[:KEY_WHOLE_MAX]
    high = prefix + interval.end[:KEY_WHOLE_MAX]
    return low, high + _AFTER_RUN if len(interval.end) > KEY_WHOLE_MAX else high


def _in_order(rows: list[Entry], interval: Interval) -> list[Entry]:
    """Return the (full key, value) of ascending rows, sorted exactly and cut to the interval."""
    if max(map(len, map(_physical, rows)), default=0) < LONG_BYTES:
        entries = [(key[PREFIX_BYTES:], value) for key, value in rows]
    else:
        entries = _sort_runs(rows)
    if len(interval.start) > KEY_WHOLE_MAX or len(interval.end) > KEY_WHOLE_MAX:
        entries = [entry for entry in entries if interval.start <= entry[0] < interval.end]
    return entries


def _sort_runs(rows: list[Entry]) -> list[Entry]:
    entries: list[Entry] = []
    run: list[Entry] = []
    run_prefix = b""
    for key, value in rows:
        if len(key) < LONG_BYTES:
            if run:
                entries += sorted(run)
                run = []
            entries.append((key[PREFIX_BYTES:], value))
            continue
        if run and key[:RUN_BYTES] != run_prefix:
            entries += sorted(run)
            run = []
        run_prefix = key[:RUN_BYTES]
        run.append((value[8:], value))
    if run:
        entries += sorted(run)
    return entries


def count_latest(view: View, index_id: int, interval: Interval) -> int:
    """Return the number of latest entries in an interval. Reads keys, no documents."""
    if len(interval.start) > KEY_WHOLE_MAX or len(interval.end) > KEY_WHOLE_MAX:
        chunk = read_chunk(view, index_id, interval, reverse=False, size=1 << 62)
        return len(chunk.entries)
    low, high = key_bounds(index_prefix(index_id), interval)
    return count_keys(view, view.dbs.index, low, high)


def count_keys(view: View, db: Db, low: bytes, high: bytes) -> int:
    """Return the number of rows with low <= key < high."""
    with view.cursor(db) as cursor:
        if not cursor.set_range(low):
            return 0
        keys = cursor.iternext(keys=True, values=False)
        count = 0
        while batch := list(islice(keys, 4096)):
            if batch[-1] >= high:
                return count + bisect_left(batch, high)
            count += len(batch)
        return count


def version_row(view: View, key: bytes, ts: Timestamp) -> bytes | None:
    """Return the row of the version of a document that was current at `ts`, or None."""
    row = view.get(view.dbs.documents, key)
    if row is not None and read_ts(row, 1) <= ts:
        return row
    with view.cursor(view.dbs.documents_history) as cursor:
        if cursor.set_range(key + pack_ts(ts + 1)):
            row_key, row = cursor.item()
            if row_key[:-8] == key and read_ts(row, 1) <= ts:
                return row
    return None


def version_rows(view: View, key: bytes) -> list[tuple[bytes, Timestamp | None]]:
    """Return (row, until) of all kept versions of a document, oldest first."""
    rows: list[tuple[bytes, Timestamp | None]] = []
    with view.cursor(view.dbs.documents_history) as cursor:
        found = cursor.set_range(key)
        while found and cursor.key()[:-8] == key:
            rows.append((cursor.value(), read_ts(cursor.key(), len(key))))
            found = cursor.next()
    current = view.get(view.dbs.documents, key)
    if current is not None:
        rows.append((current, None))
    return rows


def rows_of(view: View, keys: list[bytes]) -> list[bytes]:
    """Return the latest rows of documents that an index says exist."""
    with view.cursor(view.dbs.documents) as cursor:
        rows = [row for _, row in cursor.getmulti(keys)]
    if len(rows) != len(keys):
        raise StoreDamaged("an index entry has no document; run verify and restore a backup")
    return rows
