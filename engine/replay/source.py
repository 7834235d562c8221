"""Where recorded calls come from: the store of a deployment, live or not, or a backup of one.

A source is read in this process and, through their own mapping of the same file, by the
workers. What this process looks at is kept for them: LMDB reuses no page that a reader in its
table may see, and the view here is the oldest one. So a source shows one moment: what is
committed meanwhile is not replayed, and a server beside it is not held up (its file may grow
until the source is closed).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

import attrs
import msgspec

from engine.records import unpack_record
from engine.replay.compare import Documents
from engine.replay.recorded import CodeVersions, RecordedCall
from sandbox.file_links import FILES_TABLE
from storage import DocumentWrite, LogEntry, SharedStore, StoreError, Timestamp

STORE: Final = "store"
CURSOR_KEY: Final = "cursor-key"


@attrs.frozen
class ViewPin:
    """The view of a `SharedStore` as a pin. It is held for as long as the store is open."""

    txn_id: int
    lost: bool = False

    def __enter__(self) -> ViewPin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to release."""


@attrs.define(eq=False)
class Source:
    """Implements `engine.runner.Pins`."""

    store: SharedStore
    versions: CodeVersions
    cursor_key: str  # hex; what cursors in results are sealed with

    @classmethod
    @contextmanager
    def open(cls, data: Path) -> Iterator[Source]:
        """Open the data folder of a deployment, or of a backup.

        Raises:
          StoreError: there is nothing to be replayed; one line says why.
        """
        with SharedStore.open(data / STORE) as store:
            try:
                cursor_key = (data / CURSOR_KEY).read_text().strip()
            except FileNotFoundError:
                raise StoreError(f"{data / CURSOR_KEY} is missing; copy the whole data folder") from None
            yield cls(store, CodeVersions(store), cursor_key)

    @property
    def worker_argument(self) -> str:
        return json.dumps({"store": str(self.store.path.resolve()), "cursor_key": self.cursor_key})

    def files_table(self) -> int | None:
        """The system table whose rows a mutation may remove, if there have been files."""
        info = self.store.catalog().tables.get(FILES_TABLE)
        return None if info is None else info.number

    def pin(self) -> ViewPin:
        return ViewPin(self.store.txn_id)

    def recorded(
        self, since: Timestamp | None = None, until: Timestamp | None = None
    ) -> Iterator[RecordedCall | Unreadable]:
        """Yield the calls with since <= ts <= until, oldest first. The engine's own commits have none.

        Raises:
          StoreError: the log itself cannot be read.
        """
        after = self.store.horizon if since is None else max(self.store.horizon, since - 1)
        for entry in self.store.log(after, until):
            if not entry.record:
                continue
            try:
                record = unpack_record(entry.record, self.versions.claims)
                yield self.versions.recorded(entry, record)
            except (msgspec.DecodeError, StoreError) as error:
                yield Unreadable(entry.ts, _function_in(entry.record), str(error))

    def documents(self, entry: LogEntry) -> Documents:
        """Return what a commit wrote."""
        snapshot = self.store.snapshot(entry.ts)
        return Documents.of(
            DocumentWrite(
                write.table,
                write.internal_id,
                None if write.kind == "delete" else snapshot.get(write.table, write.internal_id),
            )
            for write in entry.writes
        )


def _function_in(data: bytes) -> str:
    try:
        return unpack_record(data).function
    except msgspec.DecodeError:
        return "?"


@attrs.frozen
class Unreadable:
    """A commit whose record cannot be read, or something that it names."""

    ts: Timestamp
    function: str
    problem: str
