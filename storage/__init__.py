"""A versioned document store on LMDB that loses nothing and can go back in time.

Synchronous, single-writer, usable from a plain script; knows nothing of the rest of
the project but `tidewell`'s values. From the bottom up:

    errors, layout, keys      what can go wrong; where things are; order
    environment, folder       the one door to LMDB; whose folder it is
    state, pins, handles      the row about the whole file; protecting and finding views
    catalog, catalog_rows     tables, indexes, schema, and their versions
    read_set, write_log       what was read, what was written, and whether they meet
    field_reads               the same by single fields of documents
    commits, commit_log       what a commit is, and the record of it
    scan, zones, old_entries, reading as of a timestamp
      snapshot, versions
    buffer, selection,        writes over a snapshot, and what a read selects
      transaction
    places                    which line of code each read and write came from
    apply, accepted, store    writing commits; judging them before; the writer of a folder
    reader, shared            a worker's side; that of tools in other processes
    backfill, retention       filling new indexes; forgetting old versions
    verify, verify_process,   checking a file; copying it; moving documents in and out
      checks, probe, report,
      backup, transfer

What a command line wires up:

* `verify(path, on_progress)` checks a store, in use or not; its `Report` prints itself, has
  `is_sound` for the exit code and `to_json()`;
* `backup(path, destination)` copies a store, in use or not, to a new folder;
* `export_store(path, destination, private=..., on_progress=...)` writes the open format of
  `docs/storage-export.md`, of a store in use or not;
* `import_store(store, folder, now_ns=..., on_progress=...)` reads it into an open, empty store.

All raise `StoreError` in one line that says what to do. The first three open the file
themselves, so they must not be called in the process that has the store open.
"""

from storage.backup import BackupReport, backup
from storage.buffer import Buffer
from storage.catalog import (
    Catalog,
    CatalogChange,
    CatalogPlan,
    IndexInfo,
    InvalidCatalogChange,
    TableInfo,
)
from storage.commit_log import CommitLog, HeadMoved, LogEntry, LoggedWrite
from storage.commits import Commit, DocumentWrite, WriteSet
from storage.errors import (
    CommitOutcomeUnknown,
    DiskFull,
    InvalidCommit,
    MapOutgrown,
    NewerFormat,
    NotYetCommitted,
    OutOfRetention,
    ReaderStale,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreMissing,
    StoreNotWritable,
    Timestamp,
    UniqueConflict,
)
from storage.field_reads import NO_FIELD_READS, Change, Changes, FieldReads
from storage.keys import Interval
from storage.keys import decode as decode_key
from storage.pins import Pin
from storage.places import Place, Places
from storage.read_set import IndexKey, ReadSet
from storage.reader import SnapshotReader
from storage.report import Report
from storage.retention import RetentionPolicy, RetentionStep
from storage.shared import SharedStore
from storage.snapshot import Readable, Snapshot
from storage.store import Store
from storage.transaction import IdCollision, Transaction, Usage
from storage.transfer import InvalidExport, TransferReport, export_store, import_store
from storage.verify import verify
from storage.versions import Version
from storage.write_log import Conflict, Entry, WriteLog

__all__ = [
    "NO_FIELD_READS",
    "BackupReport",
    "Buffer",
    "Catalog",
    "CatalogChange",
    "CatalogPlan",
    "Change",
    "Changes",
    "Commit",
    "CommitLog",
    "CommitOutcomeUnknown",
    "Conflict",
    "DiskFull",
    "DocumentWrite",
    "Entry",
    "FieldReads",
    "HeadMoved",
    "IdCollision",
    "IndexInfo",
    "IndexKey",
    "Interval",
    "InvalidCatalogChange",
    "InvalidCommit",
    "InvalidExport",
    "LogEntry",
    "LoggedWrite",
    "MapOutgrown",
    "NewerFormat",
    "NotYetCommitted",
    "OutOfRetention",
    "Pin",
    "Place",
    "Places",
    "ReadSet",
    "Readable",
    "ReaderStale",
    "Report",
    "RetentionPolicy",
    "RetentionStep",
    "SharedStore",
    "Snapshot",
    "SnapshotReader",
    "Store",
    "StoreBusy",
    "StoreClosed",
    "StoreDamaged",
    "StoreError",
    "StoreMissing",
    "StoreNotWritable",
    "TableInfo",
    "Timestamp",
    "Transaction",
    "TransferReport",
    "UniqueConflict",
    "Usage",
    "Version",
    "WriteLog",
    "WriteSet",
    "backup",
    "decode_key",
    "export_store",
    "import_store",
    "verify",
]
