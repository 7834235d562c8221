"""What a call does to documents: a database that tells of it and changes nothing, and the latest it told.

It asks the database beneath nothing that the guest has not asked: a look at the name
of a table would become part of the read set, and the run would no longer be the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Literal, Protocol

import msgspec

from sandbox.passing import PassingDatabase
from sandbox.tracing.look import look, name_of
from sandbox.tracing.shape import TOUCH_BYTES_MAX, TOUCHES_MAX, Touch, encode_row
from sandbox.transaction import Database, Document
from tidewell.errors import InvalidId
from tidewell.ids import decode_id
from tidewell.ranges import IndexRange

TouchKind = Literal["read", "missing", "count", "insert", "replace", "delete", "undo"]


WRITES: Final = frozenset({"insert", "replace", "delete"})
_READS: Final = frozenset({"read", "missing"})


class Touches:
    """The latest touches, encoded, and how many there were in all."""

    def __init__(self, text_max: int) -> None:
        self._text_max = text_max
        self._bytes = 0
        self.names: dict[int, str] = {}  # of tables by number, as far as the call has said them
        self.rows: deque[bytes] = deque()
        self.before = 0  # rows that had to make room
        self.reads = self.writes = 0

    def count(self, kind: TouchKind, table: str, document_id: str) -> tuple[int, str]:
        """Count a touch; return its table's number and name, as far as they are known."""
        self.reads += kind in _READS
        self.writes += kind in WRITES
        number = _table_number(document_id)
        if table and number:
            self.names[number] = table
        return number, table or self.names.get(number, "")

    def text(self, document: object) -> str:
        return "" if document is None else look(document, self._text_max)

    def keep(self, touch: Touch) -> None:
        short = msgspec.structs.replace(touch, name=name_of(touch.name), document=name_of(touch.document))
        row = encode_row(short)
        self.rows.append(row)
        self._bytes += len(row)
        while len(self.rows) > TOUCHES_MAX or self._bytes > TOUCH_BYTES_MAX:
            self._bytes -= len(self.rows.popleft())
            self.before += 1


def _table_number(document_id: str) -> int:
    try:
        return decode_id(document_id)[0] if document_id else 0
    except InvalidId:
        return 0


class Listener(Protocol):
    def touched(
        self, kind: TouchKind, table: str, document_id: str = "", document: object = None
    ) -> None: ...

    def named(self, table: str, number: int) -> None: ...


class WatchedDatabase(PassingDatabase):
    """A database whose listener hears of it."""

    __slots__ = ("_named", "_tell", "_written")

    def __init__(self, database: Database, listener: Listener) -> None:
        super().__init__(database)
        self._tell = listener.touched
        self._named = listener.named
        self._written = [0]  # writes since each savepoint that is open

    def table_number(self, name: str) -> int | None:
        number = self._inner.table_number(name)
        if number is not None:
            self._named(name, number)
        return number

    def table_name(self, number: int) -> str | None:
        name = self._inner.table_name(number)
        if name is not None:
            self._named(name, number)
        return name

    def get(self, id: str, *, for_write: bool = False) -> Document | None:  # noqa: A002  # the name in ctx.db
        document = self._inner.get(id, for_write=for_write)
        self._tell("missing" if document is None else "read", "", id, document)
        return document

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
        rows = self._inner.scan_rows(
            table, index, range, reverse=reverse, start_after=start_after, stop_at=stop_at
        )
        for key, document in rows:
            self._tell("read", table, str(document["_id"]), document)
            yield key, document

    def count(self, table: str, index: str, range: IndexRange) -> int:  # noqa: A002  # as above
        found = self._inner.count(table, index, range)
        self._tell("count", table, "", found)
        return found

    def insert(self, table: str, body: Document, internal_id: bytes, creation_time: float) -> str:
        inserted = self._inner.insert(table, body, internal_id, creation_time)
        self._wrote("insert", table, inserted, body)
        return inserted

    def replace(self, id: str, body: Document) -> None:  # noqa: A002  # as above
        self._inner.replace(id, body)
        self._wrote("replace", "", id, body)

    def delete(self, id: str) -> None:  # noqa: A002  # as above
        self._inner.delete(id)
        self._wrote("delete", "", id, None)

    def _wrote(self, kind: TouchKind, table: str, document_id: str, body: Document | None) -> None:
        self._written[-1] += 1
        self._tell(kind, table, document_id, body)

    def push_savepoint(self) -> None:
        self._inner.push_savepoint()
        self._written.append(0)

    def release_savepoint(self) -> None:
        self._inner.release_savepoint()
        kept = self._written.pop()
        self._written[-1] += kept

    def rollback_savepoint(self) -> None:
        self._inner.rollback_savepoint()
        undone = self._written.pop()
        if undone:
            self._tell("undo", "", "", undone)
