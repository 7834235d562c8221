"""A transaction: reads recorded, writes buffered, nothing visible to others.

What `ctx.db` stands on. It never touches the file's writer: at the end it is a
read set and a write set, and somebody else decides (`Store.commit`).

Invariants:

* Every read is recorded before its result is handed out; a scan's record ends at
  the last row handed out, or at the end of the range once that was reached.
* Rolling back a savepoint takes back writes and new tables, never reads and never usage.
* The write set holds a document only if its final state differs from the snapshot's.
"""

# ruff: noqa: A002 - `id` and `range` are what these are called in ctx.db

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from zlib import crc32

import attrs

from storage.buffer import Buffer
from storage.catalog import Catalog, IndexInfo, TableInfo, TooManyTables
from storage.commits import WriteSet
from storage.errors import StoreError, Timestamp
from storage.field_reads import FieldReads
from storage.keys import Interval, fields_part
from storage.layout import BY_ID, CATALOG_INDEXES, CATALOG_SCHEMA, CATALOG_TABLES, index_id_of, table_prefix
from storage.places import PLACES_MAX, Locate, PlacedRecorder, Places, WritePlace
from storage.read_set import ReadSet, Recorder
from storage.selection import creation_time_filter, page_of, selected
from storage.snapshot import Readable, Row
from tidewell.errors import IndexNotReady, LimitExceeded, NotFound, UniqueViolated, UnknownIndex
from tidewell.ids import decode_id, encode_id
from tidewell.ranges import WHOLE, IndexRange
from tidewell.values import Value, number, object_of, pack, unpack_trusted

Document = dict[str, Value]


class IdCollision(StoreError):
    """An insert under an id that is taken: a fault of the source of ids. Another seed gives another id."""


@attrs.define
class Usage:
    """What a transaction has cost so far (`function-semantics.md` 19.2). Bytes are of packed documents."""

    intervals: int = 0
    documents_read: int = 0
    bytes_read: int = 0
    documents_written: int = 0
    bytes_written: int = 0
    bytes_before: int = 0  # of documents that writes were about, as they were
    contents: int = 0  # a running CRC of the packed documents that were read, in order


@attrs.frozen
class _Undo:
    table: int
    internal_id: bytes
    was_buffered: bool
    body: bytes | None


@attrs.define(eq=False)
class Transaction:
    snapshot: Readable
    usage: Usage = attrs.field(factory=Usage, init=False)
    _buffer: Buffer = attrs.field(init=False)
    _recorder: Recorder = attrs.field(factory=Recorder, init=False)
    _new_tables: list[tuple[str, int]] = attrs.field(factory=list, init=False)
    _undo: list[_Undo] = attrs.field(factory=list, init=False)
    _savepoints: list[tuple[int, int, int, Catalog]] = attrs.field(factory=list, init=False)
    _write_places: list[WritePlace] = attrs.field(factory=list, init=False)
    _narrow: dict[frozenset[str], Transaction] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._buffer = Buffer(self.snapshot)

    @property
    def begin_ts(self) -> Timestamp:
        return self.snapshot.ts

    def trace_places(self, locate: Locate) -> None:
        """Keep where each read and each write comes from. To be called before the first of them."""
        self._recorder = PlacedRecorder(locate=locate)

    def narrowed(self, fields: frozenset[str]) -> Transaction:
        """Return this transaction for reads of which no more than `fields` of documents are looked at."""
        narrow = self._narrow.get(fields)
        if narrow is None:
            narrow = self._narrow[fields] = copy(self)  # all of it is shared, but for what it records
            narrow._recorder = Recorder()
        return narrow

    # ---- the catalog -----------------------------------------------------------------

    def table_exists(self, name: str) -> bool:
        return self._table(name) is not None

    def table_number(self, name: str) -> int | None:
        table = self._table(name)
        return None if table is None else table.number

    def table_name(self, number: int) -> str | None:
        """Return the name of a numbered table. Numbers never change their table, so nothing is recorded."""
        table = self._buffer.catalog.by_number.get(number)
        return None if table is None else table.name

    def schema(self) -> str:
        self._recorder.add_point(CATALOG_SCHEMA, b"")
        return self._buffer.catalog.schema

    def index_fields(self, table: str, index: str) -> tuple[str, ...]:
        """Return an index's field paths, `_creationTime` included.

        Raises:
          UnknownIndex, IndexNotReady
        """
        info = self._table(table)
        if info is None:
            if index == "by_id":
                return ("_id", "_creationTime")
            if index == "by_creation_time":
                return ("_creationTime",)
            raise UnknownIndex(f"there is no index {index!r}: the table {table!r} does not exist")
        return (*self._index(info, index).fields, "_creationTime")

    def _table(self, name: str) -> TableInfo | None:
        self._recorder.add_point(CATALOG_TABLES, name.encode())
        return self._buffer.catalog.tables.get(name)

    def _index(self, table: TableInfo, name: str) -> IndexInfo:
        self._recorder.add_point(CATALOG_INDEXES, table_prefix(table.number))
        index = table.index(name)
        if index is None:
            names = ", ".join(["by_id", *(each.name for each in table.kept)])
            raise UnknownIndex(f"there is no index {name!r} on the table {table.name!r}, only {names}")
        if not index.is_ready:
            raise IndexNotReady(f"the index {name!r} on the table {table.name!r} is still being filled")
        return index

    # ---- reading ---------------------------------------------------------------------

    def get(self, id: str, *, for_write: bool = False) -> Document | None:
        """Return a private copy of a document, or None. Raises `InvalidId` for what is not an id.

        Args:
          for_write: the caller is going to write it. That counts, so reading it does not.
        """
        body = self._read(*decode_id(id), is_counted=not for_write)
        return None if body is None else unpack_trusted(body)

    def _read(self, table: int, internal_id: bytes, *, is_counted: bool) -> bytes | None:
        self.usage.intervals += is_counted
        self._recorder.add_point(index_id_of(table, BY_ID), internal_id)
        self._recorder.add_point(CATALOG_INDEXES, table_prefix(table))
        if table not in self._buffer.catalog.by_number:
            return None
        body = self._buffer.get(table, internal_id)
        if body is not None:
            if is_counted:
                self.usage.documents_read += 1
                self.usage.bytes_read += len(body)
            else:
                self.usage.bytes_before += len(body)
            self.usage.contents = crc32(body, self.usage.contents)
        return body

    def scan(
        self,
        table: str,
        index: str = "by_creation_time",
        range: IndexRange = WHOLE,
        *,
        reverse: bool = False,
    ) -> Iterator[Document]:
        """Yield the documents of a range in index order. Lazy: what is not taken is not read."""
        return (document for _, document in self.scan_rows(table, index, range, reverse=reverse))

    def scan_rows(
        self,
        table: str,
        index: str = "by_creation_time",
        range: IndexRange = WHOLE,
        *,
        reverse: bool = False,
        start_after: bytes | None = None,
        stop_at: bytes | None = None,
    ) -> Iterator[tuple[bytes, Document]]:
        """Yield (full index key, document).

        Args:
          start_after: a key to continue behind, in the direction of the scan.
          stop_at: the last key that may be handed out.
        """
        info = self._table(table)
        if info is None:
            self.index_fields(table, index)
            return iter(())
        found = self._index(info, index)
        interval = page_of(selected(found, range), start_after, stop_at, reverse=reverse)
        if interval.is_empty:
            return iter(())
        accept = creation_time_filter(found, range)
        return self._consume(found, interval, reverse, accept)

    def _consume(
        self, index: IndexInfo, interval: Interval, reverse: bool, accept: Callable[[Document], bool] | None
    ) -> Iterator[tuple[bytes, Document]]:
        usage = self.usage
        usage.intervals += 1
        seen = self._recorder.open(index.index_id, interval.end if reverse else interval.start)
        for key, _, body in self._buffer.scan(index, interval, reverse=reverse):
            if reverse:
                seen.start = key
            else:
                seen.end = key + b"\x00"
            usage.documents_read += 1
            usage.bytes_read += len(body)
            usage.contents = crc32(body, usage.contents)
            document = unpack_trusted(body)
            if accept is None or accept(document):
                yield key, document
        seen.start, seen.end = interval.start, interval.end

    def count(self, table: str, index: str = "by_creation_time", range: IndexRange = WHOLE) -> int:
        """Return the number of documents in a range, reading the index alone."""
        info = self._table(table)
        if info is None:
            self.index_fields(table, index)
            return 0
        found = self._index(info, index)
        interval = selected(found, range)
        if interval.is_empty:
            return 0
        self.usage.intervals += 1
        self._recorder.add(found.index_id, interval)
        accept = creation_time_filter(found, range)
        if accept is not None:
            rows = self._buffer.scan(found, interval)
            return sum(accept(unpack_trusted(body)) for _, _, body in rows)
        return self._buffer.count(found, interval)

    # ---- writing ---------------------------------------------------------------------

    def insert(self, table: str, body: Document, internal_id: bytes, creation_time: float) -> str:
        """Add a document and return its id. The first insert into an unknown table creates it.

        Args:
          body: canonical fields, system fields ignored.
        """
        info = self._table(table) or self._create_table(table)
        self._recorder.add_point(CATALOG_INDEXES, table_prefix(info.number))
        document_id = encode_id(info.number, internal_id)
        if self._buffer.get(info.number, internal_id) is not None:
            raise IdCollision(f"the id {document_id} is taken")
        document = object_of({**body, "_id": document_id, "_creationTime": number(float(creation_time))})
        self._check_unique(info, internal_id, document)
        self._write(info.number, internal_id, pack(document))
        self._note_write(info.number, internal_id, document.keys())
        return document_id

    def _create_table(self, name: str) -> TableInfo:
        # The number depends on which tables there are, so all of them are read.
        self._recorder.add(CATALOG_TABLES, Interval(b"", b"\xff"))
        plan = self._buffer.catalog.plan()
        try:
            number = plan.create_table(name)
        except TooManyTables as error:
            raise LimitExceeded("TooManyTables", f"TooManyTables: {error}") from None
        self._buffer.catalog = plan.catalog
        self._new_tables.append((name, number))
        return plan.catalog.tables[name]

    def replace(self, id: str, body: Document) -> None:
        """Give a document a new body under its id and creation time. Writes nothing if it is the same."""
        table, internal_id = decode_id(id)
        old = self._existing(id, table, internal_id)
        before = unpack_trusted(old)
        document = object_of({**body, "_id": id, "_creationTime": before["_creationTime"]})
        new = pack(document)
        if new == old:
            return
        self._check_unique(self._buffer.catalog.by_number[table], internal_id, document)
        self._write(table, internal_id, new)
        self._note_write(
            table, internal_id, [name for name in {**before, **document} if _differ(name, before, document)]
        )

    def delete(self, id: str) -> None:
        table, internal_id = decode_id(id)
        self._existing(id, table, internal_id)
        self._write(table, internal_id, None)
        self._note_write(table, internal_id, ())

    def _existing(self, document_id: str, table: int, internal_id: bytes) -> bytes:
        body = self._read(table, internal_id, is_counted=False)
        if body is None:
            raise NotFound(f"there is no document {document_id}")
        return body

    def _write(self, table: int, internal_id: bytes, body: bytes | None) -> None:
        self._recorder.add_point(CATALOG_SCHEMA, b"")  # what may be written depends on it
        self.usage.documents_written += 1
        self.usage.bytes_written += len(body or b"")
        was_buffered = self._buffer.holds(table, internal_id)
        old = self._buffer.get(table, internal_id) if was_buffered else None
        self._undo.append(_Undo(table, internal_id, was_buffered, old))
        self._buffer.put(table, internal_id, body)

    def _note_write(self, table: int, internal_id: bytes, fields: Iterable[str]) -> None:
        if isinstance(self._recorder, PlacedRecorder) and len(self._write_places) < PLACES_MAX:
            place = self._recorder.locate()
            if place is not None:
                self._write_places.append(WritePlace(table, internal_id, tuple(fields), place))

    def _check_unique(self, table: TableInfo, internal_id: bytes, document: Document) -> None:
        for index in table.indexes:
            if not (index.unique and index.is_ready):
                continue
            part = fields_part(index.paths, document)
            if part is None:
                continue
            interval = Interval(part, part + b"\xff")
            self._recorder.add(index.index_id, interval)
            other: Row | None = next(
                (row for row in self._buffer.scan(index, interval) if row[1] != internal_id), None
            )
            if other is not None:
                holder, newcomer = encode_id(table.number, other[1]), encode_id(table.number, internal_id)
                raise UniqueViolated(
                    f"the index {index.name!r} on the table {table.name!r} is unique, and {holder} already "
                    f"has the key of {newcomer}"
                )

    # ---- sub-transactions --------------------------------------------------------------

    def push_savepoint(self) -> None:
        lengths = len(self._undo), len(self._new_tables), len(self._write_places)
        self._savepoints.append((*lengths, self._buffer.catalog))

    def release_savepoint(self) -> None:
        """Keep what was written since the savepoint."""
        self._savepoints.pop()

    def rollback_savepoint(self) -> None:
        """Take back what was written since the savepoint; reads and usage stay."""
        undo_length, tables_length, places_length, catalog = self._savepoints.pop()
        while len(self._undo) > undo_length:
            undo = self._undo.pop()
            if undo.was_buffered:
                self._buffer.put(undo.table, undo.internal_id, undo.body)
            else:
                self._buffer.forget(undo.table, undo.internal_id)
        del self._new_tables[tables_length:]
        del self._write_places[places_length:]
        self._buffer.catalog = catalog

    # ---- the outcome ---------------------------------------------------------------------

    def read_set(self) -> ReadSet:
        """Return everything that was read, as if whole documents had been."""
        reads, fields = self.split_reads()
        return reads.union(fields.whole()) if fields else reads

    def split_reads(self) -> tuple[ReadSet, FieldReads]:
        """Return what was read whole, and what for some fields only."""
        narrow = (
            (fields, interval)
            for fields, transaction in self._narrow.items()
            for interval in transaction._recorder.read_set().intervals()
        )
        return self._recorder.read_set(), FieldReads.of(narrow)

    def places(self) -> Places:
        """Return where reads and writes came from; nothing unless `trace_places` was called."""
        if not isinstance(self._recorder, PlacedRecorder):
            return Places()
        return Places(self._recorder.places(), tuple(self._write_places))

    def write_set(self) -> WriteSet:
        writes = tuple(
            write
            for write in self._buffer.writes()
            if write.body != self.snapshot.get(write.table, write.internal_id)
        )
        return WriteSet(writes, tuple(self._new_tables))


def _differ(name: str, before: Document, after: Document) -> bool:
    if name not in before or name not in after:
        return True
    old, new = before[name], after[name]
    if old != new or type(old) is not type(new):
        return True
    return type(old) in (list, dict) and pack(old) != pack(new)  # 1 and True are equal inside
