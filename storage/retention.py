"""Retention: moving the horizon, and dropping what no readable snapshot needs.

The log says which versions each commit ended, so the horizon moves commit by commit,
oldest first: the versions that commit T ended are needed by snapshots before T alone, and
go when the horizon reaches T. A step is one small write transaction; horizon
and rows move in it together, so a crash leaves nothing half dropped and a
reader never finds a timestamp readable whose versions are gone.

What a table or an index that was dropped leaves behind is cleared in steps too,
once the horizon has passed its end.
"""

from __future__ import annotations

from typing import Final

import attrs

from storage import catalog_rows
from storage.catalog import Catalog
from storage.catalog_rows import CatalogReader
from storage.commit_log import decode_row
from storage.environment import Db, Environment, Writer
from storage.errors import Timestamp
from storage.keys import index_key
from storage.layout import (
    GARBAGE_INDEX,
    document_key,
    index_prefix,
    pack_ts,
    physical_key,
    read_ts,
    row_body,
    table_prefix,
)
from tidewell.values import unpack_trusted

STEP_ROWS: Final = 1000  # per write transaction: some 10 ms, which commits wait for at most
_HISTORY: Final = ("documents_history", "index_history", "log")


@attrs.frozen
class RetentionPolicy:
    """How far back to remember. The horizon moves when either limit asks, never past an open snapshot."""

    age_ns: int = 14 * 24 * 3600 * 10**9
    size_bytes: int = 1 << 62  # of history and log together, by whole pages


@attrs.frozen
class RetentionStep:
    horizon: Timestamp
    commits: int  # passed by the horizon
    rows: int  # dropped
    is_done: bool  # nothing more to drop for now


def run_step(
    environment: Environment,
    catalogs: CatalogReader,
    policy: RetentionPolicy,
    *,
    now_ns: int,
    keep_from: Timestamp,
    rows_max: int = STEP_ROWS,
) -> RetentionStep:
    """Drop a little. Call again until `is_done`.

    Args:
      keep_from: the oldest timestamp somebody still reads.
    """
    sizes = environment.sizes_bytes()
    is_too_large = sum(sizes[name] for name in _HISTORY) > policy.size_bytes
    target = min(keep_from if is_too_large else now_ns - policy.age_ns, keep_from)
    if not _has_work(environment, target):
        return RetentionStep(environment.state().horizon, 0, 0, True)
    return environment.write(lambda writer: _step(writer, catalogs, target, rows_max))


def _has_work(environment: Environment, target: Timestamp) -> bool:
    with (
        environment.view() as view,
        view.cursor(view.dbs.log) as log,
        view.cursor(view.dbs.garbage) as garbage,
    ):
        if log.first() and read_ts(log.key()) <= target:
            return True
        return garbage.first() and read_ts(garbage.key()) <= view.state.horizon


def _step(writer: Writer, catalogs: CatalogReader, target: Timestamp, rows_max: int) -> RetentionStep:
    catalog = catalogs.at(writer, writer.state.head)
    commits = rows = 0
    with writer.cursor(writer.dbs.log) as log:
        while rows < rows_max and log.first() and (ts := read_ts(log.key())) <= target:
            rows += 1 + _drop_ended(writer, catalog, ts, log.value())
            log.delete()
            commits += 1
            writer.state = attrs.evolve(writer.state, horizon=ts)
        is_done = not (log.first() and read_ts(log.key()) <= target)
    rows += catalog_rows.forget_before(writer, writer.state.horizon)
    if rows < rows_max:
        rows += _clear_garbage(writer, rows_max - rows)
    with writer.cursor(writer.dbs.garbage) as garbage:
        is_done = is_done and not (garbage.first() and read_ts(garbage.key()) <= writer.state.horizon)
    return RetentionStep(writer.state.horizon, commits, rows, is_done)


def _drop_ended(writer: Writer, catalog: Catalog, ts: Timestamp, log_data: bytes) -> int:
    """Drop the versions and index entries that commit `ts` ended."""
    rows = 0
    for write in decode_row(ts, log_data).writes:
        if write.kind == "insert":
            continue
        key = document_key(write.table, write.internal_id)
        row = writer.pop(writer.dbs.documents_history, key + pack_ts(ts))
        table = catalog.by_number.get(write.table)
        if row is None or table is None:
            continue  # of a table that was dropped and is being cleared as a whole
        rows += 1
        document = unpack_trusted(row_body(key, row))
        for index in table.kept:
            stem = index_prefix(index.index_id) + physical_key(
                index_key(index.paths, document, write.internal_id)
            )
            rows += writer.delete(writer.dbs.index_history, stem + pack_ts(ts))
    return rows


def _clear_garbage(writer: Writer, rows_max: int) -> int:
    """Drop rows of tables and indexes that no readable snapshot shows any more."""
    rows = 0
    with writer.cursor(writer.dbs.garbage) as garbage:
        while rows < rows_max and garbage.first() and read_ts(garbage.key()) <= writer.state.horizon:
            key = garbage.key()
            kind, number = key[8:9], int.from_bytes(key[9:], "big")
            if kind == GARBAGE_INDEX:
                dbs = (writer.dbs.index, writer.dbs.index_history)
                prefix = index_prefix(number)
            else:
                dbs = (writer.dbs.documents, writer.dbs.documents_history)
                prefix = table_prefix(number)
            for db in dbs:
                rows += _delete_prefix(writer, db, prefix, rows_max - rows)
            if rows < rows_max:
                writer.delete(writer.dbs.garbage, key)
    return rows


def _delete_prefix(writer: Writer, db: Db, prefix: bytes, rows_max: int) -> int:
    rows = 0
    with writer.cursor(db) as cursor:
        while rows < rows_max and cursor.set_range(prefix) and cursor.key()[: len(prefix)] == prefix:
            cursor.delete()
            rows += 1
    return rows
