"""What a transaction wants to write, and what a commit writes.

`WriteSet` is the proposal of a transaction, possibly from an untrusted worker.
`Commit` is the decision of the engine: a timestamp, the writes, and its own records,
made durable together. Both speak of documents alone; index entries follow from
them and are worked out by the store, never taken from a worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import attrs
import msgspec

from storage.catalog import TABLE_NUMBER_MAX, CatalogChange
from storage.errors import Timestamp
from tidewell.errors import InvalidValue
from tidewell.ids import INTERNAL_ID_BYTES, encode_id
from tidewell.values import stamp, unpack

WRITES_MAX: Final = (
    1_000_000  # documents in one write set; far above the limit on transactions, against nonsense
)


@attrs.frozen
class DocumentWrite:
    """The final state of one document."""

    table: int
    internal_id: bytes  # 16 bytes
    body: bytes | None  # packed document, `_id` and `_creationTime` included; None deletes

    @property
    def id(self) -> str:
        return encode_id(self.table, self.internal_id)


@attrs.frozen
class Commit:
    ts: Timestamp
    writes: tuple[DocumentWrite, ...] = ()  # no document twice
    catalog: CatalogChange | None = None
    record: bytes = b""  # the execution record; opaque to the store
    private: tuple[tuple[bytes, bytes | None], ...] = ()  # the engine's own rows; None deletes


@attrs.frozen
class WriteSet:
    """A transaction's writes: one entry per changed document, and the tables it created."""

    documents: tuple[DocumentWrite, ...] = ()
    new_tables: tuple[tuple[str, int], ...] = ()  # name, number

    def __bool__(self) -> bool:
        return bool(self.documents or self.new_tables)

    @property
    def catalog_change(self) -> CatalogChange | None:
        return CatalogChange(create_tables=self.new_tables) if self.new_tables else None

    def stamped(self, ts: Timestamp) -> WriteSet:
        """Return the writes with `ts` where documents wait for the timestamp of their commit."""
        bodies = [None if write.body is None else stamp(write.body, ts) for write in self.documents]
        if all(body is write.body for body, write in zip(bodies, self.documents, strict=True)):
            return self
        stamped = zip(self.documents, bodies, strict=True)
        return WriteSet(tuple(attrs.evolve(write, body=body) for write, body in stamped), self.new_tables)

    def commit(
        self, ts: Timestamp, *, record: bytes = b"", private: Sequence[tuple[bytes, bytes | None]] = ()
    ) -> Commit:
        """Return the commit of these writes; documents that wait for its timestamp get it."""
        return Commit(ts, self.stamped(ts).documents, self.catalog_change, record, tuple(private))

    def digest(self) -> bytes:
        return blake2b(self.pack(), digest_size=16).digest()

    def pack(self) -> bytes:
        rows = [(write.table, write.internal_id, write.body) for write in self.documents]
        return _packer.encode((rows, self.new_tables))

    @classmethod
    def unpack(cls, data: bytes) -> WriteSet:
        """Return the write set in `data`, which may come from an untrusted process.

        Every body is checked to be a canonical document under its own id.

        Raises:
          InvalidValue: malformed in any way.
        """
        try:
            rows, new_tables = _unpacker.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise InvalidValue("write_set", f"malformed bytes: {error}") from None
        if len(rows) > WRITES_MAX:
            raise InvalidValue("write_set", f"more than {WRITES_MAX} documents")
        writes = tuple(DocumentWrite(table, internal_id, body) for table, internal_id, body in rows)
        for write in writes:
            _check(write)
        if len({(write.table, write.internal_id) for write in writes}) != len(writes):
            raise InvalidValue("write_set", "a document is written twice")
        return cls(writes, new_tables)


_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(tuple[list[tuple[int, bytes, bytes | None]], tuple[tuple[str, int], ...]])


def _check(write: DocumentWrite) -> None:
    if not 1 <= write.table <= TABLE_NUMBER_MAX or len(write.internal_id) != INTERNAL_ID_BYTES:
        raise InvalidValue("write_set", "a malformed document id")
    if write.body is None:
        return
    document = unpack(stamp(write.body, 0))  # it may wait for a timestamp, and be canonical otherwise
    if type(document) is not dict or document.get("_id") != write.id:
        raise InvalidValue("write_set", f"the document {write.id} holds another id")
    if type(document.get("_creationTime")) not in (int, float):
        raise InvalidValue("write_set", f"the document {write.id} has no creation time")
