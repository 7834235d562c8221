"""A database that passes everything on to another: for those that listen to some of what a call does.

What listens is a subclass with its own version of the methods that it cares about. The
database beneath is asked exactly what the guest asked, or the read set would not be that
of the call.
"""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.transaction import Database, Document, Packs, Usage
from tidewell.ranges import IndexRange


class PassingDatabase:
    """Implements `sandbox.transaction.Database`."""

    __slots__ = ("_inner", "begin_ts", "usage")

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.begin_ts = inner.begin_ts
        self.usage: Usage = inner.usage

    def table_number(self, name: str) -> int | None:
        return self._inner.table_number(name)

    def table_name(self, number: int) -> str | None:
        return self._inner.table_name(number)

    def index_fields(self, table: str, index: str) -> tuple[str, ...]:
        return self._inner.index_fields(table, index)

    def get(self, id: str, *, for_write: bool = False) -> Document | None:  # noqa: A002  # the name in ctx.db
        return self._inner.get(id, for_write=for_write)

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
        return self._inner.scan_rows(
            table, index, range, reverse=reverse, start_after=start_after, stop_at=stop_at
        )

    def count(self, table: str, index: str, range: IndexRange) -> int:  # noqa: A002  # as above
        return self._inner.count(table, index, range)

    def insert(self, table: str, body: Document, internal_id: bytes, creation_time: float) -> str:
        return self._inner.insert(table, body, internal_id, creation_time)

    def replace(self, id: str, body: Document) -> None:  # noqa: A002  # as above
        self._inner.replace(id, body)

    def delete(self, id: str) -> None:  # noqa: A002  # as above
        self._inner.delete(id)

    def push_savepoint(self) -> None:
        self._inner.push_savepoint()

    def release_savepoint(self) -> None:
        self._inner.release_savepoint()

    def rollback_savepoint(self) -> None:
        self._inner.rollback_savepoint()

    def read_set(self) -> Packs:
        return self._inner.read_set()

    def write_set(self) -> Packs:
        return self._inner.write_set()
