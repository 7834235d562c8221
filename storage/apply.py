"""Writing one commit into an LMDB write transaction.

Everything a commit changes is put here: documents and their history, index entries and
theirs, the catalog, the log row, the engine's private rows. Index entries are worked
out from the documents, under the indexes of the catalog at that moment, so whatever a
worker believed about indexes does not matter.

A commit that cannot follow the ones before it raises `InvalidCommit`; the caller aborts
the LMDB transaction, so nothing of the batch is written.
"""

from __future__ import annotations

import attrs

from storage import catalog_rows
from storage.backfill import BackfillRow, note_violation, other_holder
from storage.catalog import Catalog, CatalogChange, IndexInfo, TableInfo
from storage.commit_log import LOG_FORMAT, LoggedRow, LogRow, WriteKind, log_row
from storage.commits import Commit, DocumentWrite
from storage.environment import Writer
from storage.errors import InvalidCommit, StoreDamaged, Timestamp, UniqueConflict
from storage.field_reads import Change, Changes, changed_fields
from storage.keys import fields_part, index_key
from storage.layout import (
    GARBAGE_INDEX,
    GARBAGE_TABLE,
    LMDB_KEY_MAX,
    document_key,
    document_row,
    index_prefix,
    index_value,
    pack_ts,
    physical_key,
    row_body,
    row_checksum,
    table_prefix,
)
from storage.read_set import IndexKey
from tidewell.ids import INTERNAL_ID_BYTES, encode_id
from tidewell.values import Value, unpack_trusted

Document = dict[str, Value]


def apply_commit(writer: Writer, commit: Commit, catalog: Catalog) -> Catalog:
    """Write `commit` and return the catalog after it."""
    state = writer.state
    if commit.ts <= state.head:
        raise InvalidCommit(f"commit {commit.ts} does not come after {state.head}")
    if commit.catalog:
        after = catalog.apply(commit.catalog)
        _check_catalog_change(writer, commit.catalog, catalog)
        catalog_rows.write_change(writer, commit.ts, commit.catalog, after)
        _note_dropped(writer, commit.ts, commit.catalog, catalog)
        catalog = after
    if len({(write.table, write.internal_id) for write in commit.writes}) != len(commit.writes):
        raise InvalidCommit(f"commit {commit.ts} writes a document twice")
    logged: list[LoggedRow] = []
    added: list[_Added] = []
    for write in commit.writes:
        table = catalog.by_number.get(write.table)
        if table is None:
            raise InvalidCommit(f"commit {commit.ts} writes to table {write.table}, which does not exist")
        logged.append(_apply_write(writer, commit.ts, table, write, added))
    for entry in added:
        _check_unique(writer, entry)
    row = LogRow(
        format=LOG_FORMAT,
        previous_ts=state.head,
        previous_digest=state.digest,
        writes=logged,
        catalog=commit.catalog.pack() if commit.catalog else None,
        record=commit.record,
    )
    digest, data = log_row(commit.ts, row)
    writer.put(writer.dbs.log, pack_ts(commit.ts), data)
    put_private(writer, commit.private)
    writer.state = attrs.evolve(writer.state, head=commit.ts, digest=digest)
    return catalog


def put_private(writer: Writer, rows: tuple[tuple[bytes, bytes | None], ...]) -> None:
    for key, value in rows:
        if not 1 <= len(key) <= LMDB_KEY_MAX:
            raise InvalidCommit(f"a private key has {len(key)} bytes; 1 to {LMDB_KEY_MAX} are possible")
        if value is None:
            writer.delete(writer.dbs.private, key)
        else:
            writer.put(writer.dbs.private, key, value)


# ---- documents -----------------------------------------------------------------------


@attrs.frozen
class _Added:
    """An entry of a unique index that a commit added; to be checked when all its writes are in."""

    table: TableInfo
    index: IndexInfo
    part: bytes
    internal_id: bytes


def _apply_write(
    writer: Writer, ts: Timestamp, table: TableInfo, write: DocumentWrite, added: list[_Added]
) -> LoggedRow:
    dbs = writer.dbs
    if len(write.internal_id) != INTERNAL_ID_BYTES:
        raise InvalidCommit(f"commit {ts} writes a document with an id of {len(write.internal_id)} bytes")
    key = document_key(write.table, write.internal_id)
    old_row = writer.get(dbs.documents, key)
    old: Document | None = None
    if old_row is not None:
        old = unpack_trusted(row_body(key, old_row))
        writer.put(dbs.documents_history, key + pack_ts(ts), old_row)
    elif write.body is None:
        raise InvalidCommit(f"commit {ts} deletes {write.id}, which does not exist")
    if write.body is None:
        writer.delete(dbs.documents, key)
        _move_entries(writer, ts, table, write.internal_id, old, None, added)
        return LoggedRow(write.table, write.internal_id, "delete", 0)
    row = document_row(key, ts, write.body)
    writer.put(dbs.documents, key, row)
    _move_entries(writer, ts, table, write.internal_id, old, unpack_trusted(write.body), added)
    kind: WriteKind = "insert" if old is None else "update"
    return LoggedRow(write.table, write.internal_id, kind, row_checksum(row))


def _move_entries(
    writer: Writer,
    ts: Timestamp,
    table: TableInfo,
    internal_id: bytes,
    old: Document | None,
    new: Document | None,
    added: list[_Added],
) -> None:
    """Move a document's entries in all indexes from its old keys to its new ones."""
    for index in table.kept:
        old_key = None if old is None else index_key(index.paths, old, internal_id)
        new_key = None if new is None else index_key(index.paths, new, internal_id)
        if old_key == new_key:
            continue
        prefix = index_prefix(index.index_id)
        if old_key is not None:
            _end_entry(writer, ts, index, prefix + physical_key(old_key))
        if new_key is not None:
            value = index_value(ts, new_key)
            if not writer.put_new(writer.dbs.index, prefix + physical_key(new_key), value):
                raise StoreDamaged(
                    f"index {index.name!r} of table {table.name!r} already has an entry for a key of "
                    f"{encode_id(table.number, internal_id)}; run verify and restore a backup"
                )
            if index.unique:
                assert new is not None
                part = fields_part(index.paths, new)
                if part is not None:
                    added.append(_Added(table, index, part, internal_id))


def _end_entry(writer: Writer, ts: Timestamp, index: IndexInfo, key: bytes) -> None:
    value = writer.pop(writer.dbs.index, key)
    if value is not None:
        writer.put(writer.dbs.index_history, key + pack_ts(ts), value)
    elif index.is_ready:
        raise StoreDamaged(
            f"index {index.index_id} lacks the entry of a document that was changed; "
            "run verify and restore a backup"
        )  # while an index is being filled, a document may simply not have been reached yet


def _check_unique(writer: Writer, entry: _Added) -> None:
    """See that no other document has the key. Its own entry is in already; a second one stands beside it."""
    other = other_holder(writer, entry.index, entry.part, entry.internal_id)
    if other is None:
        return
    holder = encode_id(entry.table.number, other)
    newcomer = encode_id(entry.table.number, entry.internal_id)
    text = (
        f"the index {entry.index.name!r} on the table {entry.table.name!r} is unique, and "
        f"{holder} already has the key of {newcomer}"
    )
    if entry.index.is_ready:
        raise UniqueConflict(text)
    note_violation(writer, entry.index.index_id, text)


# ---- the catalog -----------------------------------------------------------------------


def _check_catalog_change(writer: Writer, change: CatalogChange, before: Catalog) -> None:
    """See that what a change claims about the data is so, and keep the backfills in step with it."""
    for index in change.add_indexes:
        if not index.is_ready:
            BackfillRow().save(writer, index.index_id)
        elif _has_documents(writer, index.table):
            raise InvalidCommit(f"index {index.name!r} cannot be ready at once: its table has documents")
    for index_id in change.enable_indexes:
        row = BackfillRow.load(writer, index_id)
        if row is None or not row.is_complete:
            raise InvalidCommit(f"index {index_id} cannot be enabled: its backfill is not complete")
        if row.violation is not None:
            raise UniqueConflict(row.violation)
        writer.delete(writer.dbs.backfill, index_prefix(index_id))
    for index_id in change.remove_indexes + _indexes_of(before, change.drop_tables):
        writer.delete(writer.dbs.backfill, index_prefix(index_id))


def _has_documents(writer: Writer, table: int) -> bool:
    prefix = table_prefix(table)
    with writer.cursor(writer.dbs.documents) as cursor:
        return cursor.set_range(prefix) and cursor.key()[: len(prefix)] == prefix


def _note_dropped(writer: Writer, ts: Timestamp, change: CatalogChange, before: Catalog) -> None:
    """Remember what retention may remove once no readable snapshot shows it."""
    for index_id in change.remove_indexes + _indexes_of(before, change.drop_tables):
        writer.put(writer.dbs.garbage, pack_ts(ts) + GARBAGE_INDEX + index_prefix(index_id), b"")
    for name in change.drop_tables:
        number = before.tables[name].number
        writer.put(writer.dbs.garbage, pack_ts(ts) + GARBAGE_TABLE + number.to_bytes(7, "big"), b"")


def _indexes_of(catalog: Catalog, tables: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(
        index.index_id for name in tables if name in catalog.tables for index in catalog.tables[name].kept
    )


# ---- which keys a commit writes ------------------------------------------------------------


def written_keys(catalog: Catalog, write: DocumentWrite, old_body: bytes | None) -> Changes:
    """Return the keys of a write in all indexes, old and new ones.

    A key that stays the same is among them: whoever read it has seen the old body, or a part of it.
    """
    table = catalog.by_number.get(write.table)
    if table is None:
        raise InvalidCommit(f"a write to table {write.table}, which does not exist")
    keys: list[IndexKey] = [(table.by_id.index_id, write.internal_id)]
    documents = [unpack_trusted(body) for body in (old_body, write.body) if body is not None]
    staying = list(keys)
    for index in table.kept:
        found = {index_key(index.paths, document, write.internal_id): None for document in documents}
        keys += [(index.index_id, key) for key in found]
        if len(found) == 1:
            staying.append(keys[-1])
    if old_body is None or write.body is None:
        return Changes(tuple(keys))
    change = Change(changed_fields(*documents), len(write.body) - len(old_body))
    return Changes(tuple(keys), dict.fromkeys(staying, change))
