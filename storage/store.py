"""The store: the one writer of a folder.

Synchronous, and usable from a plain script:

    with Store.open("data") as store:
        transaction = Transaction(store.snapshot())
        ...
        store.commit([transaction.write_set().commit(ts=store.head_ts + 1)])

`commit` is one blocking call on one thread, for any number of commits: one LMDB
transaction, one sync. Everything else may be called from other threads at the same time.
Nothing here looks at a clock: timestamps come with the commits, and what retention
takes for now is passed in.

**The commit point** is inside `Environment.write`: when it returns, all of the batch is
durable; when it raises, none of it happened, except for `CommitOutcomeUnknown`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import attrs

from storage import retention
from storage.accepted import Overlay, changes_of
from storage.apply import apply_commit, put_private
from storage.backfill import Backfill
from storage.catalog import Catalog, CatalogChange
from storage.catalog_rows import CatalogReader
from storage.commit_log import HeadMoved, LogEntry, commit_of, entry_of, read_rows
from storage.commits import Commit, WriteSet
from storage.environment import Environment, View, Writer
from storage.errors import NewerFormat, OutOfRetention, Timestamp
from storage.field_reads import Changes
from storage.folder import Folder, check_length, sync_folder
from storage.handles import LocalHandle
from storage.layout import FORMAT, document_key, pack_ts, read_ts, row_body
from storage.pins import Pin
from storage.retention import RetentionPolicy, RetentionStep
from storage.scan import version_rows
from storage.snapshot import Snapshot
from storage.state import State
from storage.versions import Version
from tidewell.ids import decode_id

_T = TypeVar("_T")

_FORMAT_KEY = b"format"
_LOG_BATCH = 256  # log rows read under one view


@attrs.define(eq=False)
class Store:
    path: Path
    _folder: Folder
    _environment: Environment
    _catalogs: CatalogReader
    _head: State
    _open: weakref.WeakSet[Snapshot] = attrs.field(factory=weakref.WeakSet, init=False)
    _watchers: list[Callable[[Timestamp], None]] = attrs.field(factory=list, init=False)
    _overlay: Overlay | None = attrs.field(default=None, init=False)
    _overlay_lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @classmethod
    def open(cls, path: str | Path, *, create: bool = True, **options: Any) -> Store:
        """Open the store in a folder, made if need be.

        Args:
          options: of `Environment.open`: `map_size` to begin with, `sync=False` to give up
            durability on power loss, `writer` for tests.

        Raises:
          StoreError: one of its kinds, in one line that says what to do.
        """
        folder = Folder.open(Path(path), create=create)
        try:
            environment = Environment.open(folder.path, **options)
            try:
                return cls._open_environment(folder, environment)
            except BaseException:
                environment.close()
                raise
        except BaseException:
            folder.close()
            raise

    @classmethod
    def _open_environment(cls, folder: Folder, environment: Environment) -> Store:
        check_length(folder.path, environment.last_page() + 1, environment.page_size)
        with environment.view() as view:
            stored = view.get(view.dbs.meta, _FORMAT_KEY)
        if stored is None:
            environment.write(_write_format)
        elif int.from_bytes(stored, "big") > FORMAT:
            raise NewerFormat(
                f"{folder.path} has format {int.from_bytes(stored, 'big')}, and this version reads up to "
                f"{FORMAT}; use a newer version"
            )
        if folder.id is None:
            sync_folder(folder.path)
            folder.write_marker()
        return cls(folder.path, folder, environment, CatalogReader(), environment.state())

    # ---- where it stands ---------------------------------------------------------------

    @property
    def id(self) -> str:
        """The store's identity, kept by backups."""
        assert self._folder.id is not None
        return self._folder.id

    @property
    def head_ts(self) -> Timestamp:
        """The newest durable commit; 0 before the first."""
        return self._head.head

    @property
    def horizon(self) -> Timestamp:
        """The oldest readable timestamp."""
        return self._environment.state().horizon

    def catalog(self) -> Catalog:
        """Return the catalog as of the newest commit."""
        with self._environment.view() as view:
            return self._catalogs.at(view, view.state.head)

    # ---- reading -------------------------------------------------------------------------

    def snapshot(self, ts: Timestamp | None = None) -> Snapshot:
        """Return the database as of `ts`, by default of the newest commit. To be closed.

        Raises:
          OutOfRetention, NotYetCommitted
        """
        handle = LocalHandle(self._environment)
        try:
            with handle as view:
                at = view.state.head if ts is None else ts
            snapshot = Snapshot(at, handle, self._catalogs.at, self._open.discard)
        except BaseException:
            handle.close()
            raise
        self._open.add(snapshot)
        return snapshot

    def versions(self, id: str) -> list[Version]:  # noqa: A002 - as in ctx.db
        """Return what is kept of a document, oldest first; each version points at the commit that wrote it.

        Raises:
          InvalidId
        """
        key = document_key(*decode_id(id))
        with self._environment.view() as view:
            found = [
                Version(read_ts(row, 1), until, row_body(key, row)) for row, until in version_rows(view, key)
            ]
        return found

    def pin(self) -> Pin:
        """Keep the pages of the newest state, and of later ones, for lock-less readers. To be released."""
        return self._environment.pin()

    def private_get(self, key: bytes) -> bytes | None:
        with self._environment.view() as view:
            return view.get(view.dbs.private, key)

    def private_items(
        self, prefix: bytes, limit: int | None = None, *, start: bytes = b""
    ) -> list[tuple[bytes, bytes]]:
        """Return the engine's rows whose keys begin with `prefix`, in order; at most `limit` of them.

        Args:
          start: leave out those before this key.
        """
        items: list[tuple[bytes, bytes]] = []
        with self._environment.view() as view, view.cursor(view.dbs.private) as cursor:
            if cursor.set_range(max(prefix, start)):
                for key, value in islice(cursor.iternext(), limit):
                    if not key.startswith(prefix):
                        break
                    items.append((key, value))
        return items

    def private_last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        """Return the last of the engine's rows whose keys begin with `prefix` (ending below 0xff)."""
        behind = prefix[:-1] + bytes([prefix[-1] + 1])
        with self._environment.view() as view, view.cursor(view.dbs.private) as cursor:
            if not (cursor.prev() if cursor.set_range(behind) else cursor.last()):
                return None
            key, value = cursor.item()
            return (key, value) if key.startswith(prefix) else None

    # ---- the log -------------------------------------------------------------------------

    def log(self, after: Timestamp, until: Timestamp | None = None) -> Iterator[LogEntry]:
        """Yield the entries with after < ts <= until, oldest first.

        Raises:
          OutOfRetention: entries after `after` are gone.
        """
        return self._read_log(after, until, lambda view, ts, data: entry_of(ts, data))

    def log_entry(self, ts: Timestamp) -> LogEntry | None:
        with self._environment.view() as view:
            data = view.get(view.dbs.log, pack_ts(ts))
        return None if data is None else entry_of(ts, data)

    def read(self, after: Timestamp, until: Timestamp | None = None) -> Iterator[Commit]:
        """Yield whole commits (`CommitLog.read`)."""
        return self._read_log(after, until, commit_of)

    def _read_log(
        self, after: Timestamp, until: Timestamp | None, make: Callable[[View, Timestamp, bytes], _T]
    ) -> Iterator[_T]:
        while True:
            with self._environment.view() as view:
                if after < view.state.horizon:
                    raise OutOfRetention(after, view.state.horizon)
                end = view.state.head if until is None else until
                rows = list(islice(read_rows(view, after, end), _LOG_BATCH))
                items = [make(view, ts, data) for ts, data in rows]
            yield from items
            if len(rows) < _LOG_BATCH:
                return
            after = rows[-1][0]

    def watch(self, callback: Callable[[Timestamp], None]) -> Callable[[], None]:
        """Have `callback(head)` called after each commit, on the committing thread."""
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    # ---- writing ---------------------------------------------------------------------------

    def commit(self, commits: Sequence[Commit]) -> None:
        """Make a batch durable: all of it or, if this raises, none.

        Raises:
          InvalidCommit: one of them cannot follow what is before it.
          DiskFull: make room and try again.
          CommitOutcomeUnknown: stop and recover. The one error after which the batch may be there.
        """
        self._commit(commits, None)

    def append(self, commits: Sequence[Commit], *, after: Timestamp) -> None:
        """Commit if `after` is the newest commit (`CommitLog.append`)."""
        self._commit(commits, after)

    def _commit(self, commits: Sequence[Commit], after: Timestamp | None) -> None:
        if not commits:
            return
        catalog, state = self._environment.write(lambda writer: self._apply(writer, commits, after))
        self._catalogs.remember(state.catalog_ts, catalog)
        self._head = state
        with self._overlay_lock:
            self._drop_overlay()
        for callback in list(self._watchers):
            callback(state.head)

    def _apply(
        self, writer: Writer, commits: Sequence[Commit], after: Timestamp | None
    ) -> tuple[Catalog, State]:
        if after is not None and writer.state.head != after:
            raise HeadMoved(expected=after, head=writer.state.head)
        catalog = self._catalogs.at(writer, writer.state.head)
        for commit in commits:
            catalog = apply_commit(writer, commit, catalog)
        return catalog, writer.state

    def write_private(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Write private rows that belong to no commit, durably."""
        self._environment.write(lambda writer: put_private(writer, tuple(rows)))

    def changes(
        self,
        writes: WriteSet,
        layers: Sequence[tuple[Timestamp, WriteSet]] = (),
        catalog: CatalogChange | None = None,
    ) -> Changes:
        """Return all index keys that a write set changes: what the write log has to know.

        Args:
          layers: write sets accepted before it with their timestamps, oldest first. Those that have
            become durable meanwhile are in the file and are left out.
          catalog: a change that the commit makes besides the new tables of `writes`.

        Raises:
          InvalidCommit: it cannot be applied: a unique index, a table that does not exist, a delete
            of what is not there.
        """
        with self._overlay_lock:
            if self._overlay is None or not self._overlay.extends_to(layers):
                self._drop_overlay()
                self._overlay = Overlay(self.snapshot())
            base = self._overlay.over(layers)
            return changes_of(base, writes, catalog)

    def _drop_overlay(self) -> None:
        if self._overlay is not None:
            self._overlay.snapshot.close()
            self._overlay = None

    # ---- indexes, retention ------------------------------------------------------------------

    def backfill(self, index_id: int) -> Backfill:
        """Return the filling of an index that was added to a table with documents."""
        return Backfill(index_id, self._environment, self._catalogs)

    def retain(
        self,
        policy: RetentionPolicy,
        *,
        now_ns: int,
        keep_from: Timestamp | None = None,
        rows_max: int = 1000,
    ) -> RetentionStep:
        """Take one small step of retention, in one write transaction. Again until `is_done`.

        Args:
          keep_from: the oldest timestamp that anybody outside this process still reads.
        """
        floors = [snapshot.ts for snapshot in list(self._open)]
        if keep_from is not None:
            floors.append(keep_from)
        return retention.run_step(
            self._environment,
            self._catalogs,
            policy,
            now_ns=now_ns,
            keep_from=min(floors, default=self.head_ts),
            rows_max=rows_max,
        )

    def sizes_bytes(self) -> dict[str, int]:
        """Return the bytes in use by each of the databases of `layout.py`."""
        return self._environment.sizes_bytes()

    def close(self) -> None:
        """Close the file and give the folder up. What is committed is durable already."""
        with self._overlay_lock:
            self._drop_overlay()
        self._environment.close()
        self._folder.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_format(writer: Writer) -> None:
    writer.put(writer.dbs.meta, _FORMAT_KEY, FORMAT.to_bytes(4, "big"))
