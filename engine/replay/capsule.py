"""A capsule: one recorded call with all it needs to be run again, in one small file.

It holds the record, the code, the names of tables and indexes, the documents in the call's read
set, and what the call wrote. Opened, it becomes a data folder of its own, with two commits:
the documents at the call's snapshot, and the call. So whatever runs recorded calls
runs capsules, and a capsule needs no database to be there.

Documents are those whose keys lie in the read set, so also those that a range was asked for
and that a filter then passed over; without them the call would read something else.

A capsule may come from anybody. Its bytes are decoded strictly, its documents go through the
same checks as a worker's, and its code runs where all guest code runs.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import msgspec

from engine.catalog_copy import copy_catalog
from engine.code import CodeVersion, decode_version, encode_version
from engine.conditions import PREFIX as CONDITIONS_PREFIX
from engine.conditions import Conditions, pack_conditions, unpack_conditions
from engine.push import ACTIVE_KEY, CODE_PREFIX
from engine.records import Record, unpack_record
from engine.replay.recorded import RecordedCall
from engine.replay.source import CURSOR_KEY, STORE
from storage import (
    Catalog,
    CatalogChange,
    Commit,
    DocumentWrite,
    IndexInfo,
    Interval,
    ReadSet,
    SharedStore,
    Snapshot,
    Store,
    StoreError,
    Timestamp,
    WriteSet,
)
from storage.layout import BY_ID, index_id_of, table_of
from tidewell.errors import TidewellError
from tidewell.values import unpack

CAPSULE_VERSION: Final = 1
MAGIC: Final = b"tidewell capsule\n"
BYTES_MAX: Final = 256 * 2**20  # unpacked
NO_KEY: Final = bytes(32)  # seals cursors and links inside a capsule; the real key stays at home


class InvalidCapsule(StoreError):
    """The file is no capsule, or one that this version cannot open."""


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    version: int
    ts: Timestamp
    record: bytes
    code: bytes
    conditions: bytes
    catalog: bytes  # as of the call's snapshot
    change: bytes | None  # of the catalog, by the call
    read: bytes  # the documents in the read set, packed as a write set
    written: bytes  # what the call wrote, packed as a write set
    redacted: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


@attrs.frozen
class Capsule:
    ts: Timestamp
    record: Record
    code: CodeVersion
    conditions: Conditions
    catalog: Catalog
    change: CatalogChange | None
    read: tuple[DocumentWrite, ...]
    written: tuple[DocumentWrite, ...]
    redacted: bool = False

    # ---- as a file ---------------------------------------------------------------------

    def pack(self) -> bytes:
        stored = _Stored(
            version=CAPSULE_VERSION,
            ts=self.ts,
            record=self.record.pack(),
            code=encode_version(self.code),
            conditions=pack_conditions(self.conditions),
            catalog=self.catalog.pack(),
            change=None if self.change is None else self.change.pack(),
            read=WriteSet(self.read).pack(),
            written=WriteSet(self.written).pack(),
            redacted=self.redacted,
        )
        return MAGIC + zlib.compress(_encoder.encode(stored), 9)

    @classmethod
    def unpack(cls, data: bytes) -> Capsule:
        """Return the capsule in `data`, which anybody may have made. Raises `InvalidCapsule`."""
        if not data.startswith(MAGIC):
            raise InvalidCapsule("this is no capsule; `tidewell capsule` makes one")
        unpacker = zlib.decompressobj()
        try:
            plain = unpacker.decompress(data[len(MAGIC) :], BYTES_MAX)
            if not unpacker.eof:
                raise InvalidCapsule("the capsule is cut short, or too large")
            stored = _decoder.decode(plain)
            if stored.version != CAPSULE_VERSION:
                raise InvalidCapsule(f"the capsule has version {stored.version}; use a newer Tidewell")
            record = unpack_record(stored.record)
            unpack(record.args), unpack(record.identity)  # they are trusted from here on
            return cls(
                ts=stored.ts,
                record=record,
                code=decode_version(stored.code),
                conditions=unpack_conditions(stored.conditions),
                catalog=Catalog.unpack(stored.catalog),
                change=None if stored.change is None else CatalogChange.unpack(stored.change),
                read=WriteSet.unpack(stored.read).documents,
                written=WriteSet.unpack(stored.written).documents,
                redacted=stored.redacted,
            )
        except InvalidCapsule:
            raise
        except (zlib.error, msgspec.DecodeError, TidewellError, StoreError, ValueError) as error:
            raise InvalidCapsule(f"the capsule cannot be read: {error}") from None

    @classmethod
    def read_file(cls, path: Path) -> Capsule:
        """Return the capsule in a file. Raises `InvalidCapsule`, which names the file."""
        try:
            return cls.unpack(path.read_bytes())
        except OSError as error:
            raise InvalidCapsule(f"{path}: {error.strerror}") from None
        except InvalidCapsule as error:
            raise InvalidCapsule(f"{path}: {error}") from None

    @property
    def begin_ts(self) -> Timestamp:
        return self.record.begin_ts

    # ---- as a data folder --------------------------------------------------------------

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Give a data folder that holds what the capsule does, for as long as the block runs.

        Raises:
          InvalidCapsule: its parts do not fit together.
        """
        with tempfile.TemporaryDirectory(prefix="tidewell-capsule-") as folder:
            self.unfold(Path(folder))
            yield Path(folder)

    def unfold(self, data: Path) -> None:
        """Make `data`, an empty folder, a data folder that holds what the capsule does."""
        (data / CURSOR_KEY).write_text(NO_KEY.hex())
        try:
            before, after = copy_catalog(self.catalog)
            with Store.open(data / STORE, sync=False) as store:
                store.write_private(
                    [
                        (CODE_PREFIX + self.code.hash.encode(), encode_version(self.code)),
                        (ACTIVE_KEY, self.code.hash.encode()),
                        (CONDITIONS_PREFIX + self.record.conditions, pack_conditions(self.conditions)),
                    ]
                )
                call = Commit(self.ts, self.written, self.change, self.record.pack())
                store.commit(
                    [Commit(self.begin_ts - 1, catalog=before), Commit(self.begin_ts, self.read, after), call]
                )
        except StoreError as error:
            raise InvalidCapsule(f"the parts of the capsule do not fit together: {error}") from None


def gather(store: SharedStore, recorded: RecordedCall, reads: ReadSet) -> Capsule:
    """Return the capsule of a committed call.

    Args:
      reads: what it read; the record has only a digest of that, a replay gives the rest.
    """
    entry = recorded.entry
    assert entry is not None, "an attempt was not committed"
    snapshot, after = store.snapshot(recorded.begin_ts), store.snapshot(entry.ts)
    written = tuple(
        DocumentWrite(
            write.table,
            write.internal_id,
            None if write.kind == "delete" else after.get(write.table, write.internal_id),
        )
        for write in entry.writes
    )
    return Capsule(
        ts=recorded.ts,
        record=recorded.record,
        code=recorded.code,
        conditions=recorded.conditions,
        catalog=snapshot.catalog,
        change=entry.catalog,
        read=tuple(_documents(snapshot, reads)),
        written=written,
    )


def _documents(snapshot: Snapshot, reads: ReadSet) -> Iterator[DocumentWrite]:
    """Yield the documents in a read set, each once."""
    seen: set[tuple[int, bytes]] = set()
    for index_id, start, end in reads.intervals():
        index = _index(snapshot.catalog, index_id)
        if index is None:
            continue  # the catalog's own, or of a table that was not there
        for _, internal_id, body in snapshot.scan(index, Interval(start, end)):
            if (index.table, internal_id) not in seen:
                seen.add((index.table, internal_id))
                yield DocumentWrite(index.table, internal_id, body)


def _index(catalog: Catalog, index_id: int) -> IndexInfo | None:
    table = catalog.by_number.get(table_of(index_id))
    if table is None:
        return None
    return table.by_id if index_id == index_id_of(table.number, BY_ID) else catalog.index(index_id)
