"""What can go wrong with a store, sorted by what the caller should do next.

* `StoreError` and below: the folder, the disk or another process is in the way.
  The text is one line that says what to do. Nothing acknowledged is lost.
* `CommitOutcomeUnknown`: stop the process and open the store again. It alone
  leaves open whether the last batch is there; recovery finds out.
* `InvalidCommit`: the caller handed over something that cannot be applied; the
  whole batch was refused and nothing was written.
* `OutOfRetention`: begin again on a newer snapshot.
* `MapOutgrown`, `ReaderStale`: a worker's mapping or transaction is too old; replace or
  refresh it.
"""

from __future__ import annotations

import attrs

Timestamp = int  # nanoseconds since the epoch; strictly increasing from commit to commit


class StoreError(Exception):
    """Base of every error about a store's folder and file."""


class StoreMissing(StoreError):
    """There is no store in the folder, and none was to be created."""


class StoreBusy(StoreError):
    """Another process, or this one, writes to the folder already."""


class StoreNotWritable(StoreError):
    """The folder or the file cannot be written to."""


class StoreDamaged(StoreError):
    """The file is missing, truncated or holds what no commit has written."""


class NewerFormat(StoreError):
    """The store was written by a newer version than this one."""


class DiskFull(StoreError):
    """No room for a write. The write did not happen; the store is as it was before."""


class StoreClosed(StoreError):
    """Used after `close`, or after an outcome was unknown."""


class CommitOutcomeUnknown(StoreError):
    """The sync or the last page of a commit failed: it may be durable, or not.

    The process must stop and recover from the file. The store refuses everything after this.
    """


class InvalidCommit(StoreError):
    """A commit that cannot follow the ones before it."""


class UniqueConflict(InvalidCommit):
    """A commit would put a second document under one key of a unique index."""


class MapOutgrown(StoreError):
    """The file has grown past this reader's mapping; replace the reader."""


class ReaderStale(StoreError):
    """The reader could not begin on a transaction as new as the pinned one."""


@attrs.define(eq=False)
class OutOfRetention(Exception):
    """A timestamp that can no longer be answered for; begin again on a new snapshot."""

    asked: Timestamp
    horizon: Timestamp

    def __str__(self) -> str:
        return f"asked about {self.asked}, what is kept begins at {self.horizon}"


@attrs.define(eq=False)
class NotYetCommitted(StoreError):
    """A timestamp after the newest commit: what it will hold is not known."""

    asked: Timestamp
    head: Timestamp

    def __str__(self) -> str:
        return f"asked about {self.asked}, the newest commit is {self.head}"
