"""The store as a worker sees it: a map of the file, and no system calls.

`SnapshotReader.open` comes before the worker confines itself. After that `refresh` and all
reads go through memory alone. There is no lock: whoever sends work to the worker holds a
`Pin` meanwhile and passes its transaction number to `refresh`.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from storage.catalog_rows import CatalogReader
from storage.environment import ReaderEnvironment
from storage.errors import Timestamp
from storage.handles import Shared
from storage.snapshot import Snapshot


@attrs.define(eq=False)
class SnapshotReader:
    """Reads a store that another process writes. For one thread."""

    _environment: ReaderEnvironment
    _catalogs: CatalogReader = attrs.field(factory=CatalogReader, init=False)

    @classmethod
    def open(cls, path: str | Path, *, map_size: int = 0) -> SnapshotReader:
        """Map the store in a folder and read once.

        Args:
          map_size: address space in bytes, which bounds how far the file may grow before this
            reader must be replaced; by default several times what it holds now.

        Raises:
          StoreError: there is no usable store.
        """
        return cls(ReaderEnvironment.open(Path(path), map_size=map_size))

    def refresh(self, at_least: int = 0) -> int:
        """Look at the newest state, or go on with one that `at_least` allows; return its LMDB transaction.

        Snapshots taken before stay usable, as long as retention has not passed them.

        Raises:
          MapOutgrown: replace this reader.
          ReaderStale: the state that `at_least` names is not visible.
        """
        view = self._environment.view
        if view is not None and at_least and view.state.txn_id >= at_least:
            # What is pinned is not newer than what is looked at, so nothing was committed since, or the
            # same pin is held still: the pages looked at are there.
            return view.state.txn_id
        return self._environment.refresh(at_least)

    @property
    def head_ts(self) -> Timestamp:
        """The newest commit in the state that was last looked at."""
        with self._environment as view:
            return view.state.head

    def snapshot(self, ts: Timestamp | None = None) -> Snapshot:
        """Return the database as of `ts`. Need not be closed.

        Raises:
          OutOfRetention, NotYetCommitted
        """
        return Snapshot(self.head_ts if ts is None else ts, Shared(self._environment), self._catalogs.at)

    def close(self) -> None:
        self._environment.close()
