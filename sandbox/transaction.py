"""The database as an execution sees it: one snapshot, and a buffer of its own writes.

`ctx.db` is written against this protocol, which has the shape of
`storage.Transaction`; the composition of the worker supplies the real one, because
the sandbox knows no storage. What is read is recorded by the other side, as it
is handed out, in the one place that knows keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from tidewell.ranges import IndexRange
from tidewell.values import Value

Document = dict[str, Value]


class Packs(Protocol):
    def pack(self) -> bytes: ...


class Usage(Protocol):
    """What the execution has used so far; the names are those of `limits=` (function-semantics 19.2)."""

    @property
    def documents_read(self) -> int: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def intervals(self) -> int: ...
    @property
    def documents_written(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...
    @property
    def bytes_before(self) -> int:
        """Bytes of what writes looked up. They cost fuel and count against no limit."""

    @property
    def contents(self) -> int:
        """A running CRC of the packed documents handed out, in order."""


class Database(Protocol):
    """One transaction. Documents are canonical values and private copies of the caller."""

    @property
    def begin_ts(self) -> int: ...

    @property
    def usage(self) -> Usage: ...

    def table_number(self, name: str) -> int | None:
        """Return a table's number, None when there is none; the answer becomes part of the read set."""

    def table_name(self, number: int) -> str | None:
        """Return the name of a numbered table, None when there is none."""

    def index_fields(self, table: str, index: str) -> tuple[str, ...]:
        """Return the fields of an index in order, `_creationTime` last.

        Raises:
          UnknownIndex: the table has no such index.
          IndexNotReady: its backfill has not finished.
        """

    def get(self, id: str, *, for_write: bool = False) -> Document | None:  # noqa: A002  # the name in ctx.db
        """Return a document, None when there is none. Raises `InvalidId` for what is no id of a table.

        Args:
          for_write: a write needs it; it is a read, and counts as none, because the write counts.
        """

    def scan_rows(
        self,
        table: str,
        index: str,
        range: IndexRange,  # noqa: A002  # the field's word
        *,
        reverse: bool = False,
        start_after: bytes | None = None,
        stop_at: bytes | None = None,
    ) -> Iterator[tuple[bytes, Document]]:
        """Yield (full index key, document) in index order, own writes merged in.

        Lazy: the read set and the usage grow with each row that is handed out, and
        reach the end of the range only when the iterator is exhausted.

        Args:
          start_after: a key; rows up to it, in the direction of the scan, are left out.
          stop_at: a key; the range ends with it, in the direction of the scan.
        """

    def count(self, table: str, index: str, range: IndexRange) -> int:  # noqa: A002  # as above
        """Return the number of documents in the range; the whole range becomes part of the read set."""

    def insert(self, table: str, body: Document, internal_id: bytes, creation_time: float) -> str:
        """Add a document and return its id; the table is created when it is new."""

    def replace(self, id: str, body: Document) -> None:  # noqa: A002  # as above
        """Replace a document, system fields left as they are. Raises `NotFound`."""

    def delete(self, id: str) -> None:  # noqa: A002  # as above
        """Remove a document. Raises `NotFound`."""

    def push_savepoint(self) -> None:
        """Begin a sub-transaction. They nest."""

    def release_savepoint(self) -> None:
        """End the innermost sub-transaction and keep what it wrote."""

    def rollback_savepoint(self) -> None:
        """End the innermost sub-transaction and undo what it wrote; its reads and its usage stay."""

    def read_set(self) -> Packs: ...

    def write_set(self) -> Packs:
        """Return what was written; false when that is nothing in the end."""


class PlacedDatabase(Database, Protocol):
    """A transaction that can tell which lines its reads and writes came from."""

    def trace_places(self, locate: Callable[[], tuple[str, int] | None]) -> None:
        """Keep the file and line, as `locate` tells them, of each read and each write from now on."""

    def places(self) -> Packs:
        """Return what has been kept since `trace_places`."""


class NarrowDatabase(Database, Protocol):
    """A database that can tell which reads looked at a few fields of documents only."""

    def narrowed(self, fields: frozenset[str]) -> Database:
        """Return the same transaction, for reads that look at no more than `fields` of documents."""

    def split_reads(self) -> tuple[Packs, Packs]:
        """Return what was read whole, and what for some fields. `read_set` is both together, as whole."""


class OpenedDatabase(PlacedDatabase, NarrowDatabase, Protocol):
    """What a call begins with."""


class CannotServe(Exception):
    """This worker cannot run the request, for a reason of its own; the engine takes another one."""

    def __init__(self, reason: Literal["map_outgrown", "stale_snapshot", "out_of_retention"]) -> None:
        super().__init__(reason)
        self.reason: Literal["map_outgrown", "stale_snapshot", "out_of_retention"] = reason


# (begin_ts, LMDB transaction id, overlay of packed write sets, oldest first) -> a new transaction.
# Raises `CannotServe`.
OpenDatabase = Callable[[int, int, list[bytes]], OpenedDatabase]
