"""A snapshot: the database as of one commit.

A snapshot is a number, `ts`; the object adds a way to read. It shows exactly the
commits at or below `ts`, for documents, index ranges and the catalog alike,
whichever commits the file has seen since:

    commits   ──10────20────30────40──►        snapshot(25), file at 40
    document A   v1─────────v2                 A as v1: `documents` says ts 30, so look in history
    document B         v1                      B as v1: `documents` says ts 20, done

How a range is read depends on how far the file is ahead:

* not at all: the latest entries are the answer;
* a little (`_NEAR_COMMITS`): the latest entries without those of documents changed since,
  which the log names, plus these documents' versions as of `ts`;
* a lot: the latest entries that are old enough, plus the ended ones from the history (`old_entries.py`).

So a reader a few commits behind, which is what running transactions are, does
not pay for a long history of the range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Protocol

import attrs

from storage import scan
from storage.catalog import Catalog, IndexInfo
from storage.commit_log import far_behind, read_changes
from storage.environment import View
from storage.errors import NotYetCommitted, OutOfRetention, Timestamp
from storage.handles import Handle
from storage.keys import Interval, id_in, id_interval, index_key, point, successor
from storage.layout import BY_ID, document_key, index_id_of, read_ts, row_body, table_of, table_prefix
from storage.old_entries import OldScan
from tidewell.ranges import WHOLE
from tidewell.values import unpack_trusted

_NEAR_COMMITS: Final = 256  # beyond that many, walking the history is the better bet
_CHUNK_SIZES: Final = (
    4,
    32,
    256,
)  # entries per chunk: little wasted on first(), little overhead on collect()

Row = tuple[bytes, bytes, bytes]  # index key, internal id, packed document


class Readable(Protocol):
    """What a transaction reads: a snapshot, or a snapshot with accepted writes over it."""

    @property
    def ts(self) -> Timestamp: ...

    @property
    def catalog(self) -> Catalog: ...

    def get(self, table: int, internal_id: bytes) -> bytes | None: ...

    def scan(self, index: IndexInfo, interval: Interval, *, reverse: bool = False) -> Iterator[Row]: ...

    def count(self, index: IndexInfo, interval: Interval) -> int: ...


@attrs.define
class _Changed:
    """What commits after the snapshot changed, as seen by one view. None: too many to list."""

    view: View
    documents: dict[int, set[bytes]] | None
    rows: dict[int, list[Row]] = attrs.field(factory=dict)  # per index, their versions as of the snapshot


@attrs.define(eq=False)
class Snapshot:
    """Reads as of `ts`. Not for several threads at a time; close it, or use it in a `with` block."""

    ts: Timestamp
    _handle: Handle
    _load_catalog: Callable[[View, Timestamp], Catalog]
    _on_close: Callable[[Snapshot], None] | None = None
    _catalog: Catalog | None = attrs.field(default=None, init=False)
    _changed: _Changed | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        with self._handle as view:
            if self.ts > view.state.head:
                raise NotYetCommitted(self.ts, view.state.head)
            self._check(view)

    @property
    def catalog(self) -> Catalog:
        if self._catalog is None:
            with self._handle as view:
                self._check(view)
                self._catalog = self._load_catalog(view, self.ts)
        return self._catalog

    def get(self, table: int, internal_id: bytes) -> bytes | None:
        """Return the packed document, or None if there is none at `ts`."""
        key = document_key(table, internal_id)
        with self._handle as view:
            if self.ts == view.state.head:
                row = view.get(view.dbs.documents, key)
            else:
                self._check(view)
                row = scan.version_row(view, key, self.ts)
        return None if row is None else row_body(key, row)

    def version(self, table: int, internal_id: bytes) -> Timestamp | None:
        """Return the commit that wrote the document as it is at `ts`."""
        with self._handle as view:
            self._check(view)
            row = scan.version_row(view, document_key(table, internal_id), self.ts)
        return None if row is None else read_ts(row, 1)

    def scan(self, index: IndexInfo, interval: Interval, *, reverse: bool = False) -> Iterator[Row]:
        """Yield the rows of an interval in index order. Reads ahead, so reads are recorded elsewhere."""
        attempt = 0
        old = OldScan(index.index_id, interval, self.ts, reverse)
        while not interval.is_empty:
            size = _CHUNK_SIZES[min(attempt, len(_CHUNK_SIZES) - 1)]
            with self._handle as view:
                rows, span, is_last = self._chunk(view, index, old, interval, reverse, size)
            yield from rows
            if is_last:
                return
            interval = Interval(interval.start, span.start) if reverse else Interval(span.end, interval.end)
            attempt += 1

    def documents(self, table: int) -> Iterator[bytes]:
        """Yield all packed documents of a table, in id order."""
        info = self.catalog.by_number[table]
        return (body for _, _, body in self.scan(info.by_id, id_interval(table, WHOLE)))

    def document_under(self, index_id: int, key: bytes) -> bytes | None:
        """Return the packed document that stands under a full index key, or None."""
        table = table_of(index_id)
        if index_id == index_id_of(table, BY_ID):
            return self.get(table, key)
        index = self.catalog.index(index_id)
        if index is None:
            return None
        return next((body for _, _, body in self.scan(index, point(key))), None)

    def count(self, index: IndexInfo, interval: Interval) -> int:
        """Return the number of rows in an interval, without reading documents where the index suffices."""
        if interval.is_empty:
            return 0
        with self._handle as view:
            self._check(view)
            if self.ts == view.state.head:
                if index.index_id == index_id_of(index.table, BY_ID):
                    low, high = _id_bounds(index.table, interval)
                    return scan.count_keys(view, view.dbs.documents, low, high)
                return scan.count_latest(view, index.index_id, interval)
        return sum(1 for _ in self.scan(index, interval))

    def close(self) -> None:
        self._handle.close()
        if self._on_close is not None:
            self._on_close(self)

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- one chunk, from one view ----------------------------------------------------

    def _check(self, view: View) -> None:
        if self.ts < view.state.horizon:
            raise OutOfRetention(self.ts, view.state.horizon)

    def _chunk(
        self, view: View, index: IndexInfo, old: OldScan, interval: Interval, reverse: bool, size: int
    ) -> tuple[list[Row], Interval, bool]:
        is_by_id = index.index_id == index_id_of(index.table, BY_ID)
        if self.ts == view.state.head:
            read = _latest_by_id if is_by_id else _latest
            return read(view, index, interval, reverse, size)
        self._check(view)
        changed = self._changes(view)
        if changed is None:
            if is_by_id:
                return self._old_by_id(view, index, interval, reverse, size)
            return self._old(view, old, interval, size)
        read = _latest_by_id if is_by_id else _latest
        rows, span, is_last = read(view, index, interval, reverse, size)
        touched = changed.get(index.table)
        if touched:
            rows = [row for row in rows if row[1] not in touched]
            rows += [
                row for row in self._rows_before(view, index, touched) if span.start <= row[0] < span.end
            ]
            rows.sort(reverse=reverse)
        return rows, span, is_last

    def _changes(self, view: View) -> dict[int, set[bytes]] | None:
        if self.ts <= view.far_ts:
            return None
        if self._changed is None or self._changed.view is not view:
            self._changed = _Changed(view, read_changes(view, self.ts, _NEAR_COMMITS))
            if self._changed.documents is None:
                # Once is enough: whoever reads many old snapshots need not walk the log for each.
                view.far_ts = far_behind(view, _NEAR_COMMITS)
        return self._changed.documents

    def _rows_before(self, view: View, index: IndexInfo, touched: set[bytes]) -> list[Row]:
        """Return the rows in `index` that documents changed since had at `ts`."""
        assert self._changed is not None
        rows = self._changed.rows.get(index.index_id)
        if rows is None:
            rows = self._changed.rows[index.index_id] = []
            for internal_id in touched:
                key = document_key(index.table, internal_id)
                row = scan.version_row(view, key, self.ts)
                if row is not None:
                    body = row_body(key, row)
                    rows.append((key_of(index, internal_id, body), internal_id, body))
        return rows

    def _old(
        self, view: View, old: OldScan, interval: Interval, size: int
    ) -> tuple[list[Row], Interval, bool]:
        keys, span, is_last = old.chunk(view, interval, max(1, size // _CHUNK_SIZES[0]))
        table = table_of(old.index_id)
        rows = []
        for key in keys:
            internal_id = id_in(key)
            name = document_key(table, internal_id)
            row = scan.version_row(view, name, self.ts)
            assert row is not None, f"entry {key.hex()} of index {old.index_id} has no document at {self.ts}"
            rows.append((key, internal_id, row_body(name, row)))
        return rows, span, is_last

    def _old_by_id(
        self, view: View, index: IndexInfo, interval: Interval, reverse: bool, size: int
    ) -> tuple[list[Row], Interval, bool]:
        latest, span, is_last = _latest_by_id(view, index, interval, reverse, size)
        ids = {internal_id for _, internal_id, _ in latest}
        prefix = table_prefix(index.table)
        with view.cursor(view.dbs.documents_history) as cursor:
            found = cursor.set_range(prefix + span.start)
            while found and prefix <= (key := cursor.key()[:-8]) < prefix + span.end:
                # A row's key is longer than its id, so the seek may meet the id just before the span.
                if key[4:] >= span.start:
                    ids.add(key[4:])
                found = cursor.set_range(key + b"\xff" * 8)
        rows = []
        for internal_id in sorted(ids, reverse=reverse):
            key = document_key(index.table, internal_id)
            row = scan.version_row(view, key, self.ts)
            if row is not None:
                rows.append((internal_id, internal_id, row_body(key, row)))
        return rows, span, is_last


def key_of(index: IndexInfo, internal_id: bytes, body: bytes) -> bytes:
    """Return the full key of a packed document in an index."""
    if index.index_id == index_id_of(table_of(index.index_id), BY_ID):
        return internal_id
    return index_key(index.paths, unpack_trusted(body), internal_id)


def _latest(
    view: View, index: IndexInfo, interval: Interval, reverse: bool, size: int
) -> tuple[list[Row], Interval, bool]:
    chunk = scan.read_chunk(view, index.index_id, interval, reverse=reverse, size=size)
    prefix = table_prefix(index.table)
    names = [prefix + key[-16:] for key, _ in chunk.entries]
    rows = [
        (entry[0], name[4:], row_body(name, row))
        for entry, name, row in zip(chunk.entries, names, scan.rows_of(view, names), strict=True)
    ]
    return rows, chunk.span, chunk.is_last


def _latest_by_id(
    view: View, index: IndexInfo, interval: Interval, reverse: bool, size: int
) -> tuple[list[Row], Interval, bool]:
    low, high = _id_bounds(index.table, interval)
    rows: list[Row] = []
    with view.cursor(view.dbs.documents) as cursor:
        if reverse:
            found = cursor.prev() if cursor.set_range(high) else cursor.last()
        else:
            found = cursor.set_range(low)
        if not found:
            return [], interval, True
        for key, row in cursor.iterprev() if reverse else cursor.iternext():
            if not low <= key < high:
                return rows, interval, True
            rows.append((key[4:], key[4:], row_body(key, row)))
            if len(rows) == size:
                span = (
                    Interval(key[4:], interval.end)
                    if reverse
                    else Interval(interval.start, successor(key[4:]))
                )
                return rows, span, False
    return rows, interval, True


def _id_bounds(table: int, interval: Interval) -> tuple[bytes, bytes]:
    """Return the LMDB keys of an interval of internal ids. No bound reaches into the next table."""
    prefix = table_prefix(table)
    return prefix + interval.start, prefix + interval.end
