"""A store for looking only: from a process of its own, while a server writes it, or when none does.

What the tools on a data folder stand on (the log, histories, replays, forks). It takes part in
LMDB's reader table, so what it reads needs no pin, and it never takes the folder's lock: a
server beside it does not notice, a backup serves as well as the original. It shows the
state of its last `refresh`, and of `open` at first.

One process must not open a store twice: not beside a `Store` of the same folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType

import attrs

from storage.backup import open_shared
from storage.catalog import Catalog
from storage.catalog_rows import CatalogReader
from storage.commit_log import LogEntry, entry_of, read_rows, read_rows_backwards
from storage.environment import ReaderEnvironment
from storage.errors import MapOutgrown, OutOfRetention, Timestamp
from storage.handles import Shared
from storage.layout import document_key, pack_ts, read_ts, row_body
from storage.scan import version_rows
from storage.snapshot import Snapshot
from storage.versions import Version
from tidewell.ids import decode_id


@attrs.define(eq=False)
class SharedStore:
    path: Path
    _environment: ReaderEnvironment
    _catalogs: CatalogReader = attrs.field(factory=CatalogReader, init=False)

    @classmethod
    def open(cls, path: str | Path) -> SharedStore:
        """Open the store in a folder for reading.

        Raises:
          StoreError: there is none, or it cannot be read; one line says what to do.
        """
        return cls(Path(path), open_shared(Path(path)))

    def refresh(self) -> Timestamp:
        """Look at the newest state and return its head. Snapshots taken before must not be used again."""
        try:
            self._environment.refresh()
        except MapOutgrown:
            self._environment.close()
            self._environment = open_shared(self.path)
        return self.head_ts

    # ---- where it stands ---------------------------------------------------------------

    @property
    def head_ts(self) -> Timestamp:
        """The newest commit; 0 before the first."""
        with self._environment as view:
            return view.state.head

    @property
    def horizon(self) -> Timestamp:
        """The oldest readable timestamp."""
        with self._environment as view:
            return view.state.horizon

    @property
    def txn_id(self) -> int:
        """The LMDB transaction that is looked at. Its pages, and those of later ones, stay as they are
        until `refresh` or `close`, also for readers without a lock: what a `Pin` is to the writer."""
        with self._environment as view:
            return view.state.txn_id

    def catalog(self) -> Catalog:
        """Return the catalog as of the newest commit."""
        with self._environment as view:
            return self._catalogs.at(view, view.state.head)

    # ---- reading -------------------------------------------------------------------------

    def snapshot(self, ts: Timestamp | None = None) -> Snapshot:
        """Return the database as of `ts`, by default of the newest commit. Need not be closed.

        Raises:
          OutOfRetention, NotYetCommitted
        """
        return Snapshot(self.head_ts if ts is None else ts, Shared(self._environment), self._catalogs.at)

    def versions(self, id: str) -> list[Version]:  # noqa: A002 - as in ctx.db
        """Return what is kept of a document, oldest first; each version points at the commit that wrote it.

        Raises:
          InvalidId
        """
        key = document_key(*decode_id(id))
        with self._environment as view:
            return [
                Version(read_ts(row, 1), until, row_body(key, row)) for row, until in version_rows(view, key)
            ]

    def private_get(self, key: bytes) -> bytes | None:
        with self._environment as view:
            return view.get(view.dbs.private, key)

    def private_items(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """Return the engine's rows whose keys begin with `prefix`, in order."""
        items: list[tuple[bytes, bytes]] = []
        with self._environment as view, view.cursor(view.dbs.private) as cursor:
            if cursor.set_range(prefix):
                for key, value in cursor.iternext():
                    if not key.startswith(prefix):
                        break
                    items.append((key, value))
        return items

    # ---- the log -------------------------------------------------------------------------

    def log(self, after: Timestamp, until: Timestamp | None = None) -> Iterator[LogEntry]:
        """Yield the entries with after < ts <= until, oldest first.

        Raises:
          OutOfRetention: entries after `after` are gone.
        """
        with self._environment as view:
            if after < view.state.horizon:
                raise OutOfRetention(after, view.state.horizon)
            end = view.state.head if until is None else min(until, view.state.head)
            for ts, data in read_rows(view, after, end):
                yield entry_of(ts, data)

    def log_backwards(self, until: Timestamp | None = None) -> Iterator[LogEntry]:
        """Yield the entries with ts <= until, newest first, down to the horizon."""
        with self._environment as view:
            end = view.state.head if until is None else until
            for ts, data in read_rows_backwards(view, end):
                yield entry_of(ts, data)

    def log_entry(self, ts: Timestamp) -> LogEntry | None:
        with self._environment as view:
            data = view.get(view.dbs.log, pack_ts(ts)) if 0 <= ts < 1 << 64 else None
        return None if data is None else entry_of(ts, data)

    def commit_before(self, ts: Timestamp) -> Timestamp | None:
        """Return the newest commit below `ts` that the log has; None if there is none."""
        with self._environment as view:
            found = next(islice(read_rows_backwards(view, ts - 1), 1), None)
        return None if found is None else found[0]

    def commit_after(self, ts: Timestamp) -> Timestamp | None:
        """Return the oldest commit above `ts`; None if there is none."""
        with self._environment as view:
            found = next(islice(read_rows(view, ts, view.state.head), 1), None)
        return None if found is None else found[0]

    def close(self) -> None:
        self._environment.close()

    def __enter__(self) -> SharedStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
