"""The commit log: what was committed, in order, and the interface behind which it is kept.

`CommitLog` is the narrow end of the write path: append a batch if the head is still
where the caller thinks, read from a position, watch. `Store` is its implementation on
LMDB. Another one could keep the log elsewhere and let every node materialise it
into its own store through `Store.commit`; nothing above would notice.

A log row holds `digest:16` and a MessagePack array: the previous commit's timestamp
and digest, the documents written, the catalog change, the execution record. The digest
covers all of that and the row's own timestamp, so each row vouches for all before
it; and since the checksums of the written document rows are part of it, for the
documents too. Bodies are not repeated: the version that a commit wrote is found
under its timestamp.

Invariants: one row per commit, written in the transaction that writes the data;
rows from the horizon on have no gap; a row never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Final, Literal, Protocol

import attrs
import msgspec

from storage.catalog import CatalogChange
from storage.commits import Commit, DocumentWrite
from storage.environment import View
from storage.errors import StoreDamaged, StoreError, Timestamp
from storage.layout import document_key, pack_ts, read_ts, row_body
from storage.scan import version_row
from tidewell.ids import encode_id

LOG_FORMAT: Final = 1

_TS_LAST: Final = 2**64 - 2  # to be asked about, with one to come after it; people mistype what they copy

WriteKind = Literal["insert", "update", "delete"]


@attrs.define(eq=False)
class HeadMoved(StoreError):
    """The log does not end where the caller thought; what was to be appended was not."""

    expected: Timestamp
    head: Timestamp

    def __str__(self) -> str:
        return f"expected the log to end at {self.expected}, it ends at {self.head}"


class CommitLog(Protocol):
    @property
    def head_ts(self) -> Timestamp:
        """The newest durable commit; 0 before the first."""

    def append(self, commits: Sequence[Commit], *, after: Timestamp) -> None:
        """Make `commits` durable, all or none, if the newest one before them is `after`.

        Raises:
          HeadMoved: somebody else has appended. Nothing was written.
          CommitOutcomeUnknown: stop and recover.
        """

    def read(self, after: Timestamp, until: Timestamp | None = None) -> Iterator[Commit]:
        """Yield the commits with after < ts <= until, oldest first, with everything they wrote to documents.

        Raises:
          OutOfRetention: `after` is below the horizon, so some of them are gone.
        """

    def watch(self, callback: Callable[[Timestamp], None]) -> Callable[[], None]:
        """Have `callback(head)` called after each append, on the appending thread; returns how to stop it."""


@attrs.frozen
class LoggedWrite:
    table: int
    internal_id: bytes
    kind: WriteKind

    @property
    def id(self) -> str:
        return encode_id(self.table, self.internal_id)


@attrs.frozen
class LogEntry:
    """One commit as the log tells it."""

    ts: Timestamp
    previous_ts: Timestamp
    writes: tuple[LoggedWrite, ...]
    catalog: CatalogChange | None
    record: bytes
    digest: bytes


class LoggedRow(msgspec.Struct, array_like=True, frozen=True):
    table: int
    internal_id: bytes
    kind: WriteKind
    checksum: int  # of the document row; 0 for a delete


class LogRow(msgspec.Struct, array_like=True, frozen=True):
    format: int
    previous_ts: Timestamp
    previous_digest: bytes
    writes: list[LoggedRow]
    catalog: bytes | None
    record: bytes


_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(LogRow)


def log_row(ts: Timestamp, row: LogRow) -> tuple[bytes, bytes]:
    """Return (digest, stored bytes) of a row."""
    payload = _packer.encode(row)
    digest = _digest(ts, payload)
    return digest, digest + payload


def _digest(ts: Timestamp, payload: bytes) -> bytes:
    return blake2b(payload, digest_size=16, key=pack_ts(ts)).digest()


def decode_row(ts: Timestamp, data: bytes) -> LogRow:
    """Return a row read back. Raises `StoreDamaged` if it is not what was written."""
    digest, payload = data[:16], data[16:]
    if _digest(ts, payload) != digest:
        raise StoreDamaged(
            f"the log row of commit {ts} does not match its digest; run verify and restore a backup"
        )
    row = _unpacker.decode(payload)
    if row.format != LOG_FORMAT:
        raise StoreDamaged(f"the log row of commit {ts} has the unknown format {row.format}")
    return row


def entry_of(ts: Timestamp, data: bytes) -> LogEntry:
    row = decode_row(ts, data)
    return LogEntry(
        ts=ts,
        previous_ts=row.previous_ts,
        writes=tuple(LoggedWrite(write.table, write.internal_id, write.kind) for write in row.writes),
        catalog=None if row.catalog is None else CatalogChange.unpack(row.catalog),
        record=row.record,
        digest=data[:16],
    )


def read_rows(view: View, after: Timestamp, until: Timestamp) -> Iterator[tuple[Timestamp, bytes]]:
    """Yield (ts, stored bytes) of the rows with after < ts <= until."""
    if after > _TS_LAST:
        return
    with view.cursor(view.dbs.log) as cursor:
        if cursor.set_range(pack_ts(after + 1)):
            for key, data in cursor.iternext():
                ts = read_ts(key)
                if ts > until:
                    return
                yield ts, data


def read_rows_backwards(view: View, until: Timestamp) -> Iterator[tuple[Timestamp, bytes]]:
    """Yield (ts, stored bytes) of the rows with ts <= until, newest first."""
    if until < 0:
        return
    until = min(until, _TS_LAST)
    with view.cursor(view.dbs.log) as cursor:
        found = cursor.prev() if cursor.set_range(pack_ts(until + 1)) else cursor.last()
        if found:
            for key, data in cursor.iterprev():
                yield read_ts(key), data


def read_changes(view: View, after: Timestamp, commits_max: int) -> dict[int, set[bytes]] | None:
    """Return the ids written after `after` by table; None if by more than `commits_max` commits."""
    changed: dict[int, set[bytes]] = {}
    for count, (ts, data) in enumerate(read_rows(view, after, view.state.head)):
        if count == commits_max:
            return None
        for write in decode_row(ts, data).writes:
            changed.setdefault(write.table, set()).add(write.internal_id)
    return changed


def far_behind(view: View, commits: int) -> Timestamp:
    """Return the newest commit that at least `commits` others follow; -1 if there is none."""
    with view.cursor(view.dbs.log) as cursor:
        if not cursor.last():
            return -1
        for _ in range(commits):
            if not cursor.prev():
                return -1
        return read_ts(cursor.key())


def commit_of(view: View, ts: Timestamp, data: bytes) -> Commit:
    """Return a commit with the versions it wrote. The engine's private rows are not in the log."""
    entry = entry_of(ts, data)
    writes = []
    for write in entry.writes:
        body = None
        if write.kind != "delete":
            key = document_key(write.table, write.internal_id)
            row = version_row(view, key, ts)
            if row is None or read_ts(row, 1) != ts:
                raise StoreDamaged(f"the version of {write.id} that commit {ts} wrote is missing; run verify")
            body = row_body(key, row)
        writes.append(DocumentWrite(write.table, write.internal_id, body))
    return Commit(ts, tuple(writes), entry.catalog, entry.record)
