"""Forks: a new deployment folder in the state that another one had at some commit.

Documents, tables, indexes, files, environment and the code that was active, as of that commit; the
numbers of tables and indexes too, so that ids and later commits of the original mean the
same in the fork. What is not taken along: the history before it, the memory of requests
that were answered, and the keys of the original, so that whoever may use the fork cannot
use the original.

A fork is complete or not there at all: it is written beside its place and renamed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import attrs

from engine.catalog_copy import copy_catalog
from engine.conditions import PREFIX as CONDITIONS_PREFIX
from engine.push import ACTIVE_KEY, CODE_PREFIX, EVERYTHING
from sandbox.file_links import FILES_TABLE
from storage import (
    Commit,
    DocumentWrite,
    SharedStore,
    Snapshot,
    Store,
    StoreError,
    TableInfo,
    Timestamp,
)

BATCH_DOCUMENTS: Final = 1_000  # of one commit
STORE_FOLDER: Final = "store"
FILES_FOLDER: Final = "files"

OnProgress = Callable[[str, int, int], None]  # table, documents done, documents in all


@attrs.frozen
class ForkReport:
    ts: Timestamp  # of the commit whose state it is
    tables: int
    documents: int


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, which takes the place of `folder` when all went well.

    Raises:
      StoreError: there is something already.
    """
    if folder.exists():
        raise StoreError(f"{folder} exists already; choose another folder for the fork")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(folder)
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: {error.strerror}; choose another folder") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def fork_state(source: SharedStore, ts: Timestamp, folder: Path, on_progress: OnProgress) -> ForkReport:
    """Write the state of `source` as of `ts`, which is a commit, to a store in the empty `folder`.

    Raises:
      StoreError: history does not reach so far, or there is no room.
    """
    snapshot = source.snapshot(ts)
    counts = {table: snapshot.count(table.by_id, EVERYTHING) for table in snapshot.catalog.tables.values()}
    commits = 2 + sum(1 + count // BATCH_DOCUMENTS for count in counts.values())
    if ts < commits:
        raise StoreError(f"{ts} is too early for a fork; take a later commit")
    with Store.open(folder / STORE_FOLDER) as fork:
        # The last of them has the timestamp of the original, so what comes after it fits on.
        stamps = iter(range(ts - commits + 1, ts + 1))
        # An index that was still being filled counts as one that was removed.
        made, kept = copy_catalog(snapshot.catalog, lambda index: index.is_ready)
        private = tuple(_private_rows(source, snapshot.catalog.schema))
        fork.commit([Commit(next(stamps), catalog=made, private=private)])
        for table, count in counts.items():
            for done, batch in _batches(snapshot, table):
                fork.commit([Commit(next(stamps), batch)])
                on_progress(table.name, done, count)
        fork.commit([Commit(ts, catalog=kept)])
    return ForkReport(ts, len(counts), sum(counts.values()))


def fork_files(source: Path, folder: Path) -> int:
    """Copy the files that a fork in `folder` has rows of; return how many are not there any more.

    Args:
      source: the folder of files of the original.
    """
    missing = 0
    with SharedStore.open(folder / STORE_FOLDER) as fork, fork.snapshot() as snapshot:
        table = snapshot.catalog.tables.get(FILES_TABLE)
        if table is None:
            return 0
        target = folder / FILES_FOLDER
        for _, internal_id, _ in snapshot.scan(table.by_id, EVERYTHING):
            target.mkdir(mode=0o700, exist_ok=True)
            try:
                shutil.copy(source / internal_id.hex(), target / internal_id.hex())
            except FileNotFoundError:
                missing += 1
    return missing


def _batches(snapshot: Snapshot, table: TableInfo) -> Iterator[tuple[int, tuple[DocumentWrite, ...]]]:
    rows = snapshot.scan(table.by_id, EVERYTHING)
    done = 0
    while batch := tuple(
        DocumentWrite(table.number, internal_id, body)
        for _, internal_id, body in islice(rows, BATCH_DOCUMENTS)
    ):
        done += len(batch)
        yield done, batch


def _private_rows(source: SharedStore, active: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield all code versions and conditions, which records name, and which version is active."""
    yield from source.private_items(CODE_PREFIX)
    yield from source.private_items(CONDITIONS_PREFIX)
    if active:
        yield ACTIVE_KEY, active.encode()
