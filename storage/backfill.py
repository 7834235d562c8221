"""Filling a new index with the documents that were there before it.

From the commit that adds an index, every commit maintains it. A backfill walks the
table's documents in id order, a batch per write transaction, and adds the entries that
are missing. A document is either written after the index was added, and then the
commit put its entry, or it is as it was, and the walk meets it. Where the walk has got to is
stored with each batch, so a crash costs at most one batch.

A unique index that finds two documents under one key does not stop the writes of a
running app: the violation is noted in the progress row, and the index cannot be
enabled any more.

The life of the progress row: made by the commit that adds the index, moved by `step`,
complete when the walk is through, gone with the commit that enables or removes it.
"""

from __future__ import annotations

from typing import Final

import attrs
import msgspec

from storage.catalog import IndexInfo
from storage.catalog_rows import CatalogReader
from storage.environment import Environment, View, Writer
from storage.errors import InvalidCommit, StoreDamaged, UniqueConflict
from storage.keys import Interval, fields_part, id_in, index_key, successor
from storage.layout import index_prefix, index_value, physical_key, read_ts, row_body, table_prefix
from storage.scan import read_chunk
from tidewell.ids import encode_id
from tidewell.values import unpack_trusted

STEP_DOCUMENTS: Final = 1000  # per write transaction: some 10 ms, which commits wait for at most


class BackfillRow(msgspec.Struct, array_like=True):
    """The progress row. `position` is the internal id to go on from."""

    position: bytes = b""
    documents: int = 0
    is_complete: bool = False
    violation: str | None = None

    @classmethod
    def load(cls, source: View | Writer, index_id: int) -> BackfillRow | None:
        data = source.get(source.dbs.backfill, index_prefix(index_id))
        if data is None:
            return None
        try:
            return _unpacker.decode(data)
        except msgspec.DecodeError as error:
            raise StoreDamaged(f"the progress of index {index_id} is unreadable: {error}") from None

    def save(self, writer: Writer, index_id: int) -> None:
        writer.put(writer.dbs.backfill, index_prefix(index_id), _packer.encode(self))


_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(BackfillRow)


@attrs.frozen
class Progress:
    index: str
    documents: int  # walked so far
    is_complete: bool

    def __str__(self) -> str:
        return f"{self.index}: {self.documents:,} documents" + (", complete" if self.is_complete else "")


@attrs.define(eq=False)
class Backfill:
    """One index's backfill. Any number of these objects may exist; the file remembers where it is."""

    index_id: int
    _environment: Environment
    _catalogs: CatalogReader

    @property
    def is_complete(self) -> bool:
        with self._environment.view() as view:
            row = BackfillRow.load(view, self.index_id)
            index = self._catalogs.at(view, view.state.head).index(self.index_id)
        return row.is_complete if row is not None else index is not None and index.is_ready

    def step(self, documents: int = STEP_DOCUMENTS) -> Progress:
        """Walk the next documents, in one write transaction.

        Raises:
          UniqueConflict: two documents have the same key; the index can only be removed now.
          InvalidCommit: there is no such index.
        """
        progress, violation = self._environment.write(lambda writer: self._step(writer, documents))
        if violation is not None:
            raise UniqueConflict(violation)
        return progress

    def run(self, documents: int = STEP_DOCUMENTS) -> Progress:
        """Walk all that is left."""
        progress = self.step(documents)
        while not progress.is_complete:
            progress = self.step(documents)
        return progress

    def _step(self, writer: Writer, documents: int) -> tuple[Progress, str | None]:
        index = self._catalogs.at(writer, writer.state.head).index(self.index_id)
        if index is None:
            raise InvalidCommit(f"index {self.index_id} does not exist; it was removed")
        row = BackfillRow.load(writer, self.index_id)
        if row is None:
            return Progress(index.name, 0, True), None
        if not row.is_complete and row.violation is None:
            self._walk(writer, index, row, documents)
            # Noted by _walk, or by a commit before.
            noted = BackfillRow.load(writer, self.index_id)
            assert noted is not None, self.index_id
            row.violation = noted.violation
            row.save(writer, self.index_id)
        return Progress(index.name, row.documents, row.is_complete), row.violation

    def _walk(self, writer: Writer, index: IndexInfo, row: BackfillRow, documents: int) -> None:
        table = table_prefix(index.table)
        prefix = index_prefix(index.index_id)
        with writer.cursor(writer.dbs.documents) as cursor:
            found = cursor.set_range(table + row.position)
            for _ in range(documents):
                if not found or cursor.key()[:4] != table:
                    row.is_complete = True
                    return
                name, stored = cursor.item()
                internal_id = name[4:]
                document = unpack_trusted(row_body(name, stored))
                key = index_key(index.paths, document, internal_id)
                value = index_value(read_ts(stored, 1), key)
                is_new = writer.put_new(writer.dbs.index, prefix + physical_key(key), value)
                if is_new and index.unique:
                    part = fields_part(index.paths, document)
                    other = None if part is None else other_holder(writer, index, part, internal_id)
                    if other is not None:
                        holder, newcomer = encode_id(index.table, other), encode_id(index.table, internal_id)
                        note_violation(
                            writer,
                            index.index_id,
                            f"the index {index.name!r} is to be unique, and {holder} and {newcomer} "
                            "have the same key",
                        )
                row.documents += 1
                row.position = successor(internal_id)
                found = cursor.next()


def note_violation(writer: Writer, index_id: int, text: str) -> None:
    row = BackfillRow.load(writer, index_id)
    if row is not None and row.violation is None:
        row.violation = text
        row.save(writer, index_id)


def other_holder(source: View | Writer, index: IndexInfo, part: bytes, internal_id: bytes) -> bytes | None:
    """Return the id of another document whose entry in a unique index begins with `part`, or None."""
    chunk = read_chunk(source, index.index_id, Interval(part, part + b"\xff"), reverse=False, size=2)
    return next((id_in(key) for key, _ in chunk.entries if id_in(key) != internal_id), None)
