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

from engine.conditions import PREFIX as CONDITIONS_PREFIX
from engine.push import ACTIVE_KEY, CODE_PREFIX, EVERYTHING
from sandbox.file_links import FILES_TABLE
from storage import (
    Catalog,
    CatalogPlan,
    Commit,
    DocumentWrite,
    SharedStore,
    Snapshot,
    Store,
    StoreError,
    TableInfo,
    Timestamp,
)
from storage.layout import INDEX_NUMBER_FIRST, index_id_of
from tidewell.ids import USER_TABLE_FIRST

BATCH_DOCUMENTS: Final = 1_000  # of one commit
STORE_FOLDER: Final = "store"
FILES_FOLDER: Final = "files"
_PLACEHOLDER: Final = "placeholder_{}"  # of what was removed; it keeps the number and is gone again

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
        made, kept = _catalog_commits(snapshot.catalog)
        private = tuple(_private_rows(source, snapshot.catalog.schema))
        fork.commit([attrs.evolve(made, ts=next(stamps), private=private)])
        for table, count in counts.items():
            for done, batch in _batches(snapshot, table):
                fork.commit([Commit(next(stamps), batch)])
                on_progress(table.name, done, count)
        fork.commit([attrs.evolve(kept, ts=ts)])
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


def _catalog_commits(catalog: Catalog) -> tuple[Commit, Commit]:
    """Return two commits that make the catalog in an empty store, numbers included.

    The first makes everything, with placeholders for what was removed in the original; the second
    removes these. An index that was still being filled counts as one that was removed.
    """
    plan = Catalog().plan()
    placeholders: list[int] = []
    for table in sorted(catalog.tables.values(), key=lambda table: table.number):
        plan.create_table(table.name, table.number)
        placeholders += _add_indexes(plan, table)
    dropped = _use_up_numbers(plan, catalog)
    plan.set_schema(catalog.schema)
    after = plan.catalog.plan()
    for index_id in placeholders:
        after.remove_index(index_id)
    for name in dropped:
        after.drop_table(name)
    return Commit(0, catalog=plan.change()), Commit(0, catalog=after.change())


def _add_indexes(plan: CatalogPlan, table: TableInfo) -> list[int]:
    """Add the indexes of a table under their numbers; return the placeholders among them."""
    ready = {index.index_id: index for index in table.indexes if index.is_ready}
    placeholders = []
    for number in range(table.indexes_made):
        index = ready.get(index_id_of(table.number, INDEX_NUMBER_FIRST + number))
        if index is not None:
            plan.add(index)
        else:
            name = _PLACEHOLDER.format(number)
            placeholders.append(plan.add_index(table.name, name, (name,), state="ready").index_id)
    return placeholders


def _use_up_numbers(plan: CatalogPlan, catalog: Catalog) -> list[str]:
    """Make the next new table get the number it would get in the original; return what is to be dropped."""
    made = (
        ("_" + _PLACEHOLDER, catalog.system_tables_made, plan.catalog.system_tables_made),
        (_PLACEHOLDER, catalog.user_tables_made, plan.catalog.user_tables_made),
    )
    dropped = []
    for name, wanted, so_far in made:
        if wanted > so_far:
            number = wanted if name[0] == "_" else USER_TABLE_FIRST + wanted - 1
            plan.create_table(name.format(number), number)
            dropped.append(name.format(number))
    return dropped
