"""A `Database` in a dict, for tests of what stands on one: sorting and filtering by brute force.

It has the laziness and the counters of the real one, and none of its cleverness:
ranges are decided by comparing values, not keys.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import attrs
import msgspec

from storage.keys import encode
from tidewell.errors import InvalidId, NotFound, UniqueViolated, UnknownIndex
from tidewell.ids import USER_TABLE_FIRST, decode_id, encode_id
from tidewell.ordering import order_key
from tidewell.ranges import WHOLE, Bound, IndexRange
from tidewell.schema import Schema
from tidewell.values import MISSING, Value, object_of, pack, size_bytes, unpack

Document = dict[str, Any]


@attrs.define
class MemoryUsage:
    documents_read: int = 0
    bytes_read: int = 0
    intervals: int = 0
    documents_written: int = 0
    bytes_written: int = 0
    bytes_before: int = 0
    contents: int = 0


@attrs.define
class MemoryIndex:
    fields: tuple[str, ...]
    unique: bool = False


@attrs.define
class MemoryState:
    """All there is. Copied for every transaction, and for every savepoint."""

    tables: dict[str, int] = attrs.field(factory=dict)
    indexes: dict[str, dict[str, MemoryIndex]] = attrs.field(factory=dict)
    documents: dict[str, Document] = attrs.field(factory=dict)  # by id

    def create_table(self, name: str, **indexes: tuple[str, ...]) -> None:
        first = 1 if name.startswith("_") else USER_TABLE_FIRST
        taken = [number for number in self.tables.values() if (number >= USER_TABLE_FIRST) == (first != 1)]
        self.tables[name] = max([first - 1, *taken]) + 1
        self.indexes[name] = {index: MemoryIndex(fields) for index, fields in indexes.items()}


@attrs.frozen
class Packed:
    content: list[Any]

    def __bool__(self) -> bool:
        return any(self.content)

    def pack(self) -> bytes:
        return msgspec.msgpack.encode(self.content)


class MemoryDatabase:
    """One transaction over a `MemoryState`; `commit` puts its writes there."""

    def __init__(self, base: MemoryState, overlay: list[bytes] | None = None) -> None:
        self.begin_ts = 0
        self.usage = MemoryUsage()
        self.reads: list[tuple[str, ...]] = []
        self._base = base
        self._state = copy.deepcopy(base)
        self._written: dict[str, Document | None] = {}
        self._savepoints: list[tuple[MemoryState, dict[str, Document | None]]] = []
        for packed in overlay or []:
            tables, documents = msgspec.msgpack.decode(packed)
            self._state.tables.update(tables)
            for name in tables:
                self._state.indexes.setdefault(name, {})
            for document_id, document in documents.items():
                self._put(document_id, None if document is None else unpack(document))

    # ---- the catalog ---------------------------------------------------------------

    def table_number(self, name: str) -> int | None:
        self.reads.append(("table", name))
        return self._state.tables.get(name)

    def table_name(self, number: int) -> str | None:
        return next((name for name, each in self._state.tables.items() if each == number), None)

    def index_fields(self, table: str, index: str) -> tuple[str, ...]:
        if index == "by_id":
            return ("_id",)
        if index == "by_creation_time":
            return ("_creationTime",)
        if index not in self._state.indexes.get(table, {}):
            raise UnknownIndex(f"no index {index!r} on {table!r}")
        return (*self._state.indexes[table][index].fields, "_creationTime")

    def narrowed(self, fields: frozenset[str]) -> MemoryDatabase:
        self.reads.append(("fields", *sorted(fields)))
        return self

    def split_reads(self) -> tuple[Packed, Packed]:
        return self.read_set(), Packed([])

    # ---- reading -------------------------------------------------------------------

    def get(self, id: str, *, for_write: bool = False) -> Document | None:  # noqa: A002  # the protocol's name
        if self.table_name(decode_id(id)[0]) is None:
            raise InvalidId(id)
        self.usage.intervals += not for_write
        self.reads.append(("get", id))
        document = self._state.documents.get(id)
        if document is None:
            return None
        if for_write:
            self.usage.bytes_before += size_bytes(document)
            return copy.deepcopy(document)
        return self._handed_out(document)

    def _handed_out(self, document: Document) -> Document:
        self.usage.documents_read += 1
        self.usage.bytes_read += size_bytes(document)
        return copy.deepcopy(document)

    def scan_rows(
        self,
        table: str,
        index: str,
        range: IndexRange,  # noqa: A002  # the protocol's name
        *,
        reverse: bool = False,
        start_after: bytes | None = None,
        stop_at: bytes | None = None,
    ) -> Iterator[tuple[bytes, Document]]:
        self.usage.intervals += 1
        self.reads.append(("scan", table, index))
        position = start_after
        while True:  # looks again for every row, so that it sees what the transaction has written meanwhile
            rows = self._rows(table, index, range, reverse, position, stop_at)
            if not rows:
                self.reads.append(("exhausted", table, index))
                return
            position, document = rows[0]
            self.reads.append(("row", document["_id"]))
            yield position, self._handed_out(document)

    def _rows(
        self,
        table: str,
        index: str,
        range: IndexRange,  # noqa: A002  # the protocol's name
        reverse: bool,
        after: bytes | None,
        stop_at: bytes | None,
    ) -> list[tuple[bytes, Document]]:
        fields = self.index_fields(table, index)
        number = self._state.tables.get(table)
        rows = [
            (self._key(document, fields), document)
            for document_id, document in self._state.documents.items()
            if decode_id(document_id)[0] == number and _is_in(document, fields, range)
        ]
        if reverse:
            rows = [
                row
                for row in rows
                if (after is None or row[0] < after) and (stop_at is None or row[0] >= stop_at)
            ]
        else:
            rows = [
                row
                for row in rows
                if (after is None or row[0] > after) and (stop_at is None or row[0] <= stop_at)
            ]
        return sorted(rows, key=lambda row: row[0], reverse=reverse)

    def _key(self, document: Document, fields: tuple[str, ...]) -> bytes:
        return b"".join(encode(_at(document, field)) for field in (*fields, "_id"))

    def count(self, table: str, index: str, range: IndexRange) -> int:  # noqa: A002  # as above
        self.usage.intervals += 1
        return len(self._rows(table, index, range, False, None, None))

    # ---- writing -------------------------------------------------------------------

    def insert(self, table: str, body: Document, internal_id: bytes, creation_time: float) -> str:
        if table not in self._state.tables:
            self._state.create_table(table)
        document_id = encode_id(self._state.tables[table], internal_id)
        assert document_id not in self._state.documents
        self._check_unique(table, body, document_id)
        self._write(document_id, object_of({**body, "_id": document_id, "_creationTime": creation_time}))
        return document_id

    def replace(self, id: str, body: Document) -> None:  # noqa: A002  # as above
        before = self._state.documents.get(id)
        if before is None:
            raise NotFound(id)
        after = object_of({**body, "_id": id, "_creationTime": before["_creationTime"]})
        self._check_unique(self.table_name(decode_id(id)[0]) or "", body, id)
        if after != before:
            self._write(id, after)

    def delete(self, id: str) -> None:  # noqa: A002  # as above
        if id not in self._state.documents:
            raise NotFound(id)
        self._write(id, None)

    def _write(self, document_id: str, document: Document | None) -> None:
        self.usage.documents_written += 1
        self.usage.bytes_written += 0 if document is None else size_bytes(document)
        self._written[document_id] = document
        self._put(document_id, document)

    def _put(self, document_id: str, document: Document | None) -> None:
        if document is None:
            self._state.documents.pop(document_id, None)
        else:
            self._state.documents[document_id] = document

    def _check_unique(self, table: str, body: Document, document_id: str) -> None:
        for name, index in self._state.indexes.get(table, {}).items():
            if index.unique:
                equal = IndexRange(tuple(_at(body, field) for field in index.fields))
                rows = self._rows(table, name, equal, False, None, None)
                if any(row["_id"] != document_id for _, row in rows):
                    raise UniqueViolated(f"index {name!r} of {table!r}")

    # ---- the end -------------------------------------------------------------------

    def push_savepoint(self) -> None:
        self._savepoints.append((copy.deepcopy(self._state), dict(self._written)))

    def release_savepoint(self) -> None:
        self._savepoints.pop()

    def rollback_savepoint(self) -> None:
        self._state, self._written = self._savepoints.pop()

    def read_set(self) -> Packed:
        return Packed(self.reads)

    def write_set(self) -> Packed:
        new = {name: number for name, number in self._state.tables.items() if name not in self._base.tables}
        documents = {
            document_id: None if document is None else pack(document)
            for document_id, document in self._written.items()
        }
        return Packed([new, documents])

    def commit(self) -> None:
        assert not self._savepoints
        self._base.tables = self._state.tables
        self._base.indexes = self._state.indexes
        self._base.documents = self._state.documents


class MemoryBacking:
    """What a `GuestApp` keeps its documents in, here a `MemoryState`."""

    def __init__(self) -> None:
        self.state = MemoryState()

    def prepare(self, schema: Schema) -> None:
        """Make the tables and indexes of a schema."""
        for name, table in schema.tables.items():
            if name not in self.state.tables:
                self.state.create_table(name)
            self.state.indexes[name] = {
                index.name: MemoryIndex(index.fields, index.unique) for index in table.indexes
            }

    def open(self, overlay: list[bytes]) -> MemoryDatabase:
        return MemoryDatabase(self.state, overlay)

    def commit(self, writes: bytes) -> None:
        MemoryDatabase(self.state, [writes]).commit()


def _at(document: Document, path: str) -> Value:
    value: Value = document
    for step in path.split("."):
        if type(value) is not dict or step not in value:
            return MISSING
        value = value[step]
    return value


def _is_in(document: Document, fields: tuple[str, ...], range_: IndexRange = WHOLE) -> bool:
    """Whether a document is in a range, straight from the words of function-semantics 9."""
    values = [order_key(_at(document, field)) for field in fields]
    count = len(range_.equal)
    if any(order_key(wanted) != found for wanted, found in zip(range_.equal, values, strict=False)):
        return False

    def holds(bound: Bound | None, sign: int) -> bool:
        if bound is None:
            return True
        wanted, found = order_key(bound.value), values[count]
        is_beyond: bool = found > wanted if sign > 0 else found < wanted
        return is_beyond or (bound.inclusive and bool(wanted == found))

    return holds(range_.lower, 1) and holds(range_.upper, -1)
